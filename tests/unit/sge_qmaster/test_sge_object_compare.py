# SPDX-License-Identifier: BSD-3-Clause
"""How an existing object is compared with the requested object."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_compare import (
    differing,
    merge,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import KINDS
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    known_attributes,
    wire_attributes,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_values import wire_value

from fake_qconf import OBJECTS, recorded_object


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_requesting_an_object_as_qconf_prints_it_is_no_change(name: str) -> None:
    kind, attributes = OBJECTS[name], recorded_object(name)
    spec = KINDS[kind]
    wanted = {k: v for k, v in attributes.items() if k != spec.key and k not in spec.read_only}
    known = known_attributes(kind, name.split("_")[-1], attributes)
    wire = wire_attributes(kind, wanted, known, "global")
    assert merge(kind, attributes, wire) == (attributes, [])


SAME = [
    ("queue", "queue", "hostlist", ["exec2", "@workers"]),
    ("queue", "queue", "hostlist", "exec2,  @WORKERS"),
    ("queue", "queue", "slots", "1, [exec2=8], [@workers=4]"),
    ("queue", "queue", "slots", ["1", "[exec2=8]", "[@workers=04]"]),
    ("queue", "queue", "pe_list", ["[exec1=smp]", "NONE"]),
    ("queue", "queue", "complex_values", ["h_vmem=3G", "gpu=1.0", "[exec1=h_vmem=5G,gpu=2]"]),
    ("queue", "queue", "user_lists", "arusers,people"),
    ("queue", "queue", "qtype", ["INTERACTIVE", "BATCH"]),
    ("queue", "queue", "rerun", True),
    ("queue", "queue", "rerun", "yes"),
    ("queue", "queue", "h_rt", 28800),
    ("queue", "queue", "h_rt", "08:00:00"),
    ("queue", "queue", "s_rt", "infinity"),
    ("queue", "queue", "epilog", "none"),
    ("queue", "queue", "projects", []),
    ("queue", "queue", "seq_no", "00"),
    ("queue", "queue", "prolog", "root@/bin/true   $host, [exec1=/usr/bin/x y z]"),
    ("pe", "pe", "slots", 999),
    ("pe", "pe", "control_slaves", "no"),
    ("exec_host", "exec_host", "complex_values", "h_vmem=64G, gpu=2"),
    ("exec_host", "exec_host", "load_scaling", "np_load_avg=0.5"),
    ("exec_host", "exec_host", "report_variables", ["np_load_avg", "cpu"]),
    ("host_group", "host_group", "hostlist", ["qmaster", "exec2", "exec1"]),
    ("user_set", "user_set", "type", "DEPT ACL"),
    ("user_set", "user_set", "entries", [f"user{number:03}" for number in reversed(range(40))]),
    ("project", "project", "acl", "arusers people"),
    ("scheduler", "scheduler", "schedule_interval", 15),
    ("scheduler", "scheduler", "usage_weight_list", ["io=0", "mem=0", "cpu=1"]),
    ("scheduler", "scheduler", "compensation_factor", 5),
    ("scheduler", "scheduler", "share_override_tickets", True),
    ("configuration_global", "configuration", "enforce_project", False),
    ("configuration_global", "configuration", "login_shells", ["tcsh", "csh", "ksh", "sh", "bash"]),
    ("configuration_global", "configuration", "reporting_params",
     "joblog=false,reporting=false,accounting=true,sharelog=0:0:0,flush_time=0:0:15"),
    ("configuration_host", "configuration", "execd_params", ["B=2", "A=1"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "attribute", "value"), SAME)
def test_another_spelling_of_the_same_value_is_no_change(
    name: str, kind: str, attribute: str, value: Any
) -> None:
    wire = wire_value(kind, attribute, value)
    assert differing(kind, recorded_object(name), {attribute: wire}) == []


DIFFERENT = [
    ("queue", "queue", "hostlist", ["@workers"]),
    ("queue", "queue", "hostlist", ["@workers", "exec2.example.org"]),
    ("queue", "queue", "pe_list", "NONE,[exec1=SMP]"),
    ("project", "project", "acl", "People arusers"),
    ("queue", "queue", "slots", "1"),
    ("queue", "queue", "slots", "1,[@workers=4],[exec1=8]"),
    ("queue", "queue", "slots", "2,[@workers=4],[exec2=8]"),
    ("queue", "queue", "complex_values", "gpu=1,h_vmem=3G"),
    ("queue", "queue", "complex_values", "gpu=1,h_vmem=3g,[exec1=gpu=2,h_vmem=5G]"),
    ("queue", "queue", "rerun", False),
    ("queue", "queue", "h_rt", 28801),
    ("queue", "queue", "s_rt", "1:0:0"),
    ("queue", "queue", "user_lists", []),
    ("queue", "queue", "prolog", "NONE"),
    ("pe", "pe", "slots", 99),
    ("user_set", "user_set", "type", "ACL"),
    ("user_set", "user_set", "entries", ["USER000"]),
    ("scheduler", "scheduler", "usage_weight_list", "cpu=0,mem=0,io=1"),
    ("configuration_global", "configuration", "enforce_project", True),
    ("configuration_host", "configuration", "execd_params", "A=1"),
    ("configuration_host", "configuration", "xterm", "/bin/xterm"),
]


@pytest.mark.parametrize(("name", "kind", "attribute", "value"), DIFFERENT)
def test_another_value_changes_only_its_attribute(
    name: str, kind: str, attribute: str, value: Any
) -> None:
    wire = {attribute: wire_value(kind, attribute, value)}
    merged, changed = merge(kind, recorded_object(name), wire)
    assert changed == [attribute]
    assert merged.pop(attribute) == wire[attribute]
    assert merged == {k: v for k, v in recorded_object(name).items() if k != attribute}
    assert merge(kind, {**merged, **wire}, wire)[1] == []


def test_yes_in_a_configuration_is_not_equal_to_true() -> None:
    # In queues and parallel environments, Grid Engine stores "yes" and "true" as TRUE. In a
    # configuration, Grid Engine stores the word itself.
    assert differing("configuration", {"enforce_project": "yes"}, {"enforce_project": "true"})


@pytest.mark.parametrize(
    ("current", "wanted", "changed"),
    [
        ({"requestable": "YES"}, {"requestable": "y"}, []),
        ({"consumable": "JOB"}, {"consumable": "job"}, []),
        ({"consumable": "JOB"}, {"consumable": "YES"}, ["consumable"]),
        ({"type": "INT"}, {"type": "int"}, []),
        ({"type": "INT", "default": "0"}, {"default": "0.0"}, []),
        ({"type": "TIME", "default": "0:0:0"}, {"default": "0"}, []),
        ({"type": "STRING", "default": "01"}, {"default": "1"}, ["default"]),
        ({"type": "STRING", "default": "NONE"}, {"default": "none"}, []),
        ({"urgency": "10.5"}, {"urgency": "10.50"}, []),
    ],
)
def test_columns_of_a_complex_are_compared_by_meaning(
    current: dict[str, str], wanted: dict[str, str], changed: list[str]
) -> None:
    assert merge("complex", current, wanted)[1] == changed
