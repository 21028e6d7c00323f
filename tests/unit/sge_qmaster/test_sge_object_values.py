# SPDX-License-Identifier: BSD-3-Clause
"""How Grid Engine reads values."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_values import wire_value


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "wire"),
    [
        ("queue", "pe_list", ["smp", "make"], "smp make"),
        ("queue", "complex_values", ["gpu=1", "h_vmem=3G"], "gpu=1,h_vmem=3G"),
        ("exec_host", "complex_values", "gpu=2, accel=2(a0  a1)", "gpu=2,accel=2(a0 a1)"),
        ("exec_host", "complex_values", ["accel=2(a0 a1)", "gpu=2"], "accel=2(a0 a1),gpu=2"),
        (
            "exec_host",
            "complex_values",
            "gpu=1(g0[device=/dev/nvidia0,memory=80G]),slots=4",
            "gpu=1(g0[device=/dev/nvidia0,memory=80G]),slots=4",
        ),
        ("queue", "slots", ["1", "[exec1=4]"], "1,[exec1=4]"),
        ("queue", "slots", "1 ,  [exec1= 4]", "1,[exec1=4]"),
        ("queue", "rerun", True, "TRUE"),
        ("queue", "subordinate_list", ["a.q=1", "b.q"], "a.q=1 b.q"),
        ("queue", "subordinate_list", "slots=2(a.q:1:sr, b.q)", "slots=2(a.q:1:sr, b.q)"),
        ("queue", "seq_no", 3, "3"),
        ("queue", "user_lists", [], "NONE"),
        ("queue", "prolog", "/bin/x a,b", "/bin/x a,b"),
        ("complex", "requestable", True, "YES"),
        ("complex", "consumable", False, "NO"),
        ("user_set", "entries", ["alice", "@staff"], "alice,@staff"),
        ("user_set", "entries", "alice  @staff", "alice,@staff"),
        ("project", "acl", "a,b", "a b"),
        ("scheduler", "usage_weight_list", "cpu=0.5, mem=0.5", "cpu=0.5,mem=0.5"),
        ("scheduler", "weight_user", 0.25, "0.25"),
        ("configuration", "enforce_user", True, "true"),
        ("configuration", "enforce_user", "auto", "auto"),
        ("configuration", "xprojects", [], "none"),
        ("configuration", "execd_params", ["A=1", "B=2"], "A=1 B=2"),
        ("configuration", "qlogin_command", "/usr/bin/ssh -X", "/usr/bin/ssh -X"),
    ],
)
def test_values_are_written_as_grid_engine_reads_them(
    kind: str, attribute: str, value: Any, wire: str
) -> None:
    assert wire_value(kind, attribute, value) == wire


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "message"),
    [
        ("queue", "prolog", "/bin/a\nslots 5", "newline"),
        ("queue", "pe_list", ["smp\nrerun TRUE"], "newline"),
        ("queue", "prolog", "/bin/a\x00", "control character"),
        ("queue", "prolog", "/bin/a \\", "backslash"),
        ("queue", "shell", "", "empty"),
        ("queue", "shell", "  ", "empty"),
        ("queue", "shell", None, "no value"),
        ("queue", "complex_values", {"gpu": 1}, "a dict"),
        ("queue", "h_rt", "1 2", "one word"),
        ("queue", "h_rt", "1,2", "one word"),
        ("queue", "h_rt", ["1", "2"], "must be one value"),
        ("queue", "pe_list", ["smp make"], "blank or a comma"),
        ("queue", "pe_list", ["smp,make"], "blank or a comma"),
        ("queue", "pe_list", ["smp", "NONE"], "only element"),
        ("queue", "pe_list", ",", "only separators"),
        ("queue", "complex_values", ["gpu"], "NAME=VALUE"),
        ("queue", "complex_values", "gpu=1 h_vmem=2G", "blank or a comma"),
        ("queue", "complex_values", ["a=1", True], "quote"),
        ("queue", "slots", "1 [exec1=2]", "default value"),
        ("queue", "slots", "[exec1=2]", "default value"),
        ("queue", "slots", ["[exec1=2]"], "default value"),
        ("queue", "slots", ["1", "[exec1]"], "default value"),
        ("queue", "slots", "1,[exec1=2],[EXEC1=3]", "twice"),
        ("queue", "slots", "1,[exec1=2 3]", "one word"),
        ("queue", "slots", "1,[exec1 exec2=2]", "blank or a comma"),
        ("pe", "allocation_rule", "pe_slots", r"\$pe_slots"),
        ("complex", "shortcut", "a b", "one word"),
        ("configuration", "max_jobs", "many", "whole number"),
        ("configuration", "load_report_time", "soon", "hours:minutes:seconds"),
        ("configuration", "enforce_project", "wibble", "true or false"),
    ],
)
def test_a_value_that_would_break_the_format_is_refused_with_its_attribute(
    kind: str, attribute: str, value: Any, message: str
) -> None:
    with pytest.raises(BadRequestError, match=message) as caught:
        wire_value(kind, attribute, value)
    assert attribute in str(caught.value)
