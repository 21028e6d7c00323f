# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of objects, against recorded objects."""

from __future__ import annotations

import pytest
from ansible.module_utils.sge_object_kinds import GLOBAL_CONFIGURATION, KINDS
from ansible.module_utils.sge_object_request import known_attributes

from fake_qconf import OBJECTS, held


def test_every_attribute_of_the_real_global_configuration_is_written_down() -> None:
    assert set(held("configuration_global")) <= set(GLOBAL_CONFIGURATION)


@pytest.mark.parametrize("kind", ["pe", "host_group", "user_set", "project"])
def test_the_written_down_template_has_what_the_real_object_has(kind: str) -> None:
    spec = KINDS[kind]
    assert [spec.key, *spec.template] == list(held(kind))


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_attributes_with_a_form_exist(name: str) -> None:
    spec = KINDS[OBJECTS[name]]
    known = known_attributes(OBJECTS[name], "global", held(name))
    assert set(spec.forms) | set(spec.checks) <= set(known)
