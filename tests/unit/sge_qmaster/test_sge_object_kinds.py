# SPDX-License-Identifier: BSD-3-Clause
"""What the module knows about each kind of object, compared with recorded objects."""

from __future__ import annotations

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    GLOBAL_CONFIGURATION,
    KINDS,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    known_attributes,
)

from fake_qconf import OBJECTS, recorded_object


def test_every_attribute_of_a_real_global_configuration_is_listed() -> None:
    assert set(recorded_object("configuration_global")) <= set(GLOBAL_CONFIGURATION)


@pytest.mark.parametrize(
    ("kind", "dialect", "name"),
    [
        ("pe", "sge", "pe"),
        ("pe", "ocs", "9.1.4/qconf_sp_smp.out"),
        ("pe", "ocs", "9.0.13/qconf_sp_make.out"),
        ("host_group", "", "host_group"),
        ("user_set", "", "user_set"),
        ("project", "", "project"),
    ],
)
def test_a_built_in_template_has_the_attributes_of_a_real_object(
    kind: str, dialect: str, name: str
) -> None:
    spec = KINDS[kind]
    real = list(recorded_object(name))
    assert real[0] == spec.key
    assert sorted(spec.templates[dialect]) == sorted(real[1:])


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_attributes_with_a_form_exist(name: str) -> None:
    spec = KINDS[OBJECTS[name]]
    known = known_attributes(OBJECTS[name], "global", recorded_object(name))
    others = {each for template in spec.templates.values() for each in template}
    assert set(spec.forms) | set(spec.checks) <= {*known, *others}
