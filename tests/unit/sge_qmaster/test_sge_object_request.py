# SPDX-License-Identifier: BSD-3-Clause
"""How a requested object is checked before Grid Engine is changed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    KINDS,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    check_complex,
    check_description,
    check_name,
    known_attributes,
    new_complex,
    wire_attributes,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import parse_complexes

from fake_qconf import recorded, recorded_object


@pytest.mark.parametrize(
    ("kind", "name", "attribute"),
    [
        ("queue", "queue", "slot"),
        ("exec_host", "exec_host", "processor"),
        ("scheduler", "scheduler", "bogus"),
        ("complex", "", "kind"),
        ("configuration", "configuration_global", "max_job"),
    ],
)
def test_an_unknown_attribute_is_named_together_with_the_known_ones(
    kind: str, name: str, attribute: str
) -> None:
    base = recorded_object(name) if name else {}
    known = known_attributes(kind, "global", base)
    with pytest.raises(BadRequestError, match=f"unknown attribute '{attribute}'") as caught:
        wire_attributes(kind, {attribute: "1"}, known, "global")
    for other in (set(known) & set(base)) - {KINDS[kind].key, "load_values", "processors"}:
        assert other in str(caught.value)


def test_an_attribute_that_a_host_reports_cannot_be_set() -> None:
    known = list(recorded_object("exec_host"))
    with pytest.raises(BadRequestError, match="load_values is reported by the host"):
        wire_attributes("exec_host", {"load_values": "a=1"}, known)


def test_the_name_cannot_be_set_as_an_attribute() -> None:
    with pytest.raises(BadRequestError, match="use name instead"):
        wire_attributes("queue", {"qname": "x"}, list(recorded_object("queue")))


def test_an_attribute_that_only_the_global_configuration_has_is_refused_for_a_host() -> None:
    known = known_attributes("configuration", "exec1", recorded_object("configuration_host"))
    assert wire_attributes("configuration", {"xterm": "/bin/x"}, known) == {"xterm": "/bin/x"}
    with pytest.raises(BadRequestError, match="unknown attribute 'max_jobs'"):
        wire_attributes("configuration", {"max_jobs": 1}, known)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("queue", "*"),
        ("queue", "all.q@host"),
        ("queue", "-sq"),
        ("queue", "a b"),
        ("queue", "a,b"),
        ("queue", "a\n"),
        ("configuration", "../global"),
        ("host_group", "workers"),
        ("exec_host", "template"),
        ("pe", "NONE"),
        ("pe", ""),
        ("pe", None),
        ("scheduler", "x"),
    ],
)
def test_a_name_that_qconf_would_misread_is_refused(kind: str, name: str | None) -> None:
    with pytest.raises(BadRequestError):
        check_name(kind, name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("queue", "all.q"), ("host_group", "@all-hosts"), ("exec_host", "global"), ("pe", "smp_1")],
)
def test_ordinary_names_are_accepted(kind: str, name: str) -> None:
    assert check_name(kind, name) == name


def test_a_new_complex_gets_defaults_that_fit_its_type() -> None:
    table = parse_complexes(recorded("complexes"))
    made = new_complex("site", {"type": "STRING"})
    assert made == table["site"]
    assert new_complex("gpu", {"type": "int"})["relop"] == "<="
    assert new_complex("t", {"type": "TIME"})["default"] == "0:0:0"


def test_a_new_complex_needs_a_type() -> None:
    with pytest.raises(BadRequestError, match="type is required"):
        new_complex("gpu", {"consumable": "YES"})


@pytest.mark.parametrize(
    ("type_", "default", "good"),
    [
        ("INT", "abc", False), ("INT", "1.5", False), ("INT", "3", True),
        ("DOUBLE", "1.5", True), ("MEMORY", "5Q", False), ("MEMORY", "1.5G", True),
        ("TIME", "0:0:0", True), ("TIME", "soon", False), ("STRING", "abc", True),
    ],
)  # fmt: skip
def test_a_default_must_fit_the_type_of_its_complex(type_: str, default: str, good: bool) -> None:
    entry = {"type": type_, "default": default}
    if good:
        check_complex(entry)
    else:
        with pytest.raises(BadRequestError, match="default"):
            check_complex(entry)


def test_every_complex_of_a_real_table_is_accepted() -> None:
    for entry in parse_complexes(recorded("complexes")).values():
        check_complex(entry)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "cue", "name": "all.q"}, "entry 3: kind is 'cue'"),
        ({"name": "all.q"}, "entry 3: kind is None"),
        ({"kind": "queue", "name": "all.q", "state": "gone"}, "state is 'gone'"),
        ({"kind": "queue", "name": "all.q", "slots": 4}, "unknown key 'slots'"),
        ({"kind": "queue", "name": "all.q", "attributes": "slots=4"}, "must be a dictionary"),
    ],
)
def test_a_wrong_entry_of_a_list_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=re.escape(message)):
        check_description(wrong, 3)
