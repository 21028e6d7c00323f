# SPDX-License-Identifier: BSD-3-Clause
"""qconf's text format."""

from __future__ import annotations

import pytest
from ansible.module_utils.sge_object_kinds import KINDS, BadRequestError
from ansible.module_utils.sge_object_text import (
    file_form,
    parse_complexes,
    parse_names,
    parse_object,
    render_complexes,
    render_object,
)

from fake_qconf import OBJECTS, held, recorded


@pytest.mark.parametrize("name", sorted([*OBJECTS, "queue_template", "exec_host_template"]))
def test_an_object_survives_parsing_rendering_and_parsing(name: str) -> None:
    first = held(name)
    assert len(first) >= 2
    assert parse_object(render_object(first)) == first


@pytest.mark.parametrize("name", ["user_set", "configuration_global", "queue"])
def test_lines_broken_by_qconf_read_the_same_as_whole_ones(name: str) -> None:
    assert held(f"{name}_broken_lines") == held(name)


def test_recorded_broken_lines_are_really_broken() -> None:
    for name in ("user_set", "configuration_global", "exec_host"):
        assert "\\\n" in recorded(f"{name}_broken_lines")
        assert "\\\n" not in recorded(name)


def test_load_values_in_broken_lines_hold_no_blank() -> None:
    values = held("exec_host_broken_lines")["load_values"]
    assert "np_load_long=" in values
    assert " " not in values
    assert "\\" not in values


def test_heading_of_a_configuration_is_no_attribute() -> None:
    assert recorded("configuration_host").startswith("#exec1:")
    assert held("configuration_host") == {"mailer": "/bin/true", "execd_params": "A=1 B=2"}


def test_values_with_blanks_are_read_whole() -> None:
    assert held("queue")["prolog"] == "root@/bin/true $host,[exec1=/usr/bin/x y z]"


def test_the_table_of_complexes_survives_parsing_rendering_and_parsing() -> None:
    table = parse_complexes(recorded("complexes"))
    assert len(table) == sum(
        not line.startswith("#") for line in recorded("complexes").split("\n")[:-1]
    )
    assert table["gpu"] == {
        "shortcut": "gpu", "type": "INT", "relop": "<=", "requestable": "YES",
        "consumable": "JOB", "default": "0", "urgency": "10.5",
    }  # fmt: skip
    assert parse_complexes(render_complexes(table)) == table


def test_a_complex_line_that_cannot_be_read_is_refused_instead_of_lost() -> None:
    with pytest.raises(BadRequestError, match="broken"):
        parse_complexes(recorded("complexes") + "broken b INT\n")


def test_lists_of_hosts_are_read() -> None:
    assert parse_names(recorded("admin_hosts")) == ["exec1", "exec2", "qmaster"]
    assert parse_names(recorded("submit_hosts")) == ["exec1", "exec2"]


def test_the_diff_leaves_out_the_load_a_host_reports() -> None:
    text = file_form("exec_host", "qmaster", held("exec_host"))
    assert "complex_values" in text
    assert "load_values" not in text


def test_the_diff_of_a_complex_is_its_line_only() -> None:
    table = parse_complexes(recorded("complexes"))
    text = file_form("complex", "gpu", table["gpu"])
    assert parse_complexes(text) == {"gpu": table["gpu"]}


def test_an_absent_object_has_an_empty_diff() -> None:
    assert all(file_form(kind, "x", None) == "" for kind in KINDS)
