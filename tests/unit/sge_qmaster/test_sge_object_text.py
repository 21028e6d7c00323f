# SPDX-License-Identifier: BSD-3-Clause
"""qconf's text format."""

from __future__ import annotations

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    KINDS,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import (
    file_form,
    parse_complexes,
    parse_names,
    parse_object,
    render_complexes,
    render_object,
)

from fake_qconf import OBJECTS, recorded, recorded_object


@pytest.mark.parametrize("name", sorted([*OBJECTS, "queue_template", "exec_host_template"]))
def test_an_object_is_the_same_after_writing_and_parsing(name: str) -> None:
    first = recorded_object(name)
    assert len(first) >= 2
    assert parse_object(render_object(first)) == first


@pytest.mark.parametrize("name", ["user_set", "configuration_global", "queue"])
def test_lines_that_qconf_broke_are_parsed_like_whole_ones(name: str) -> None:
    assert recorded_object(f"{name}_broken_lines") == recorded_object(name)


def test_recorded_broken_lines_are_really_broken() -> None:
    for name in ("user_set", "configuration_global", "exec_host"):
        assert "\\\n" in recorded(f"{name}_broken_lines")
        assert "\\\n" not in recorded(name)


def test_load_values_in_broken_lines_contain_no_blank() -> None:
    values = recorded_object("exec_host_broken_lines")["load_values"]
    assert "np_load_long=" in values
    assert " " not in values
    assert "\\" not in values


def test_the_heading_of_a_configuration_is_not_an_attribute() -> None:
    assert recorded("configuration_host").startswith("#exec1:")
    assert recorded_object("configuration_host") == {
        "mailer": "/bin/true",
        "execd_params": "A=1 B=2",
    }


def test_values_with_blanks_are_parsed_completely() -> None:
    assert recorded_object("queue")["prolog"] == "root@/bin/true $host,[exec1=/usr/bin/x y z]"


def test_the_table_of_complexes_is_the_same_after_writing_and_parsing() -> None:
    table = parse_complexes(recorded("complexes"))
    assert len(table) == sum(
        not line.startswith("#") for line in recorded("complexes").split("\n")[:-1]
    )
    assert table["gpu"] == {
        "shortcut": "gpu", "type": "INT", "relop": "<=", "requestable": "YES",
        "consumable": "JOB", "default": "0", "urgency": "10.5",
    }  # fmt: skip
    assert parse_complexes(render_complexes(table)) == table


def test_a_complex_that_cannot_be_parsed_is_refused_and_not_dropped() -> None:
    with pytest.raises(BadRequestError, match="broken"):
        parse_complexes(recorded("complexes") + "broken b INT\n")


def test_lists_of_hosts_are_parsed() -> None:
    assert parse_names(recorded("admin_hosts")) == ["exec1", "exec2", "qmaster"]
    assert parse_names(recorded("submit_hosts")) == ["exec1", "exec2"]


def test_the_diff_omits_the_load_that_a_host_reports() -> None:
    text = file_form("exec_host", "qmaster", recorded_object("exec_host"))
    assert "complex_values" in text
    assert "load_values" not in text


def test_the_diff_of_a_complex_is_only_its_line() -> None:
    table = parse_complexes(recorded("complexes"))
    text = file_form("complex", "gpu", table["gpu"])
    assert parse_complexes(text) == {"gpu": table["gpu"]}


def test_an_absent_object_has_an_empty_diff() -> None:
    assert all(file_form(kind, "x", None) == "" for kind in KINDS)
