# SPDX-License-Identifier: BSD-3-Clause
"""The module sge_object, on outputs recorded from qconf of Grid Engine 8.1.9."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "qconf"
MODULE = HERE.parents[1] / "roles" / "sge_qmaster" / "library" / "sge_object.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sge_object", MODULE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["sge_object"] = module
    spec.loader.exec_module(module)
    return module


sge = _load()


def recorded(name: str) -> str:
    return (DATA / f"{name}.txt").read_text(encoding="utf-8")


def held(name: str) -> dict[str, str]:
    return sge.parse_object(recorded(name))


OBJECTS = {
    "queue": "queue",
    "pe": "pe",
    "exec_host": "exec_host",
    "host_group": "host_group",
    "user_set": "user_set",
    "project": "project",
    "scheduler": "scheduler",
    "configuration_global": "configuration",
    "configuration_host": "configuration",
}


# --- Reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted([*OBJECTS, "queue_template", "exec_host_template"]))
def test_an_object_survives_parsing_rendering_and_parsing(name: str) -> None:
    first = held(name)
    assert len(first) >= 2
    assert sge.parse_object(sge.render_object(first)) == first


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
    table = sge.parse_complexes(recorded("complexes"))
    assert len(table) == sum(
        not line.startswith("#") for line in recorded("complexes").split("\n")[:-1]
    )
    assert table["gpu"] == {
        "shortcut": "gpu", "type": "INT", "relop": "<=", "requestable": "YES",
        "consumable": "JOB", "default": "0", "urgency": "10.5",
    }  # fmt: skip
    assert sge.parse_complexes(sge.render_complexes(table)) == table


def test_a_complex_line_that_cannot_be_read_is_refused_instead_of_lost() -> None:
    with pytest.raises(sge.BadRequestError, match="broken"):
        sge.parse_complexes(recorded("complexes") + "broken b INT\n")


def test_lists_of_hosts_are_read() -> None:
    assert sge.parse_names(recorded("admin_hosts")) == ["exec1", "exec2", "qmaster"]
    assert sge.parse_names(recorded("submit_hosts")) == ["exec1", "exec2"]


# --- Comparing ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_what_qconf_printed_is_what_was_asked_for(name: str) -> None:
    kind, attributes = OBJECTS[name], held(name)
    spec = sge.KINDS[kind]
    wanted = {k: v for k, v in attributes.items() if k != spec.key and k not in spec.read_only}
    known = sge.known_attributes(kind, name.split("_")[-1], attributes)
    wire = sge.wire_attributes(kind, wanted, known, "global")
    assert sge.merge(kind, attributes, wire) == (attributes, [])


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
def test_other_spelling_of_the_same_value_is_no_change(
    name: str, kind: str, attribute: str, value: Any
) -> None:
    wire = sge.wire_value(kind, attribute, value)
    assert sge.differing(kind, held(name), {attribute: wire}) == []


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
def test_another_value_is_a_change_and_changes_nothing_else(
    name: str, kind: str, attribute: str, value: Any
) -> None:
    wire = {attribute: sge.wire_value(kind, attribute, value)}
    merged, changed = sge.merge(kind, held(name), wire)
    assert changed == [attribute]
    assert merged.pop(attribute) == wire[attribute]
    assert merged == {k: v for k, v in held(name).items() if k != attribute}
    assert sge.merge(kind, {**merged, **wire}, wire)[1] == []


def test_yes_in_a_configuration_is_not_taken_for_true() -> None:
    # qconf -Mconf keeps the word as it is, other than in a queue or a parallel environment.
    assert sge.differing("configuration", {"enforce_project": "yes"}, {"enforce_project": "true"})


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
    assert sge.merge("complex", current, wanted)[1] == changed


# --- Rendering what was asked for -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "wire"),
    [
        ("queue", "pe_list", ["smp", "make"], "smp make"),
        ("queue", "complex_values", ["gpu=1", "h_vmem=3G"], "gpu=1,h_vmem=3G"),
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
    assert sge.wire_value(kind, attribute, value) == wire


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "says"),
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
        ("queue", "h_rt", ["1", "2"], "takes one value"),
        ("queue", "pe_list", ["smp make"], "blank or a comma"),
        ("queue", "pe_list", ["smp,make"], "blank or a comma"),
        ("queue", "pe_list", ["smp", "NONE"], "stand alone"),
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
def test_a_value_that_would_break_the_format_is_refused_by_name(
    kind: str, attribute: str, value: Any, says: str
) -> None:
    with pytest.raises(sge.BadRequestError, match=says) as caught:
        sge.wire_value(kind, attribute, value)
    assert attribute in str(caught.value)


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
def test_an_unknown_attribute_is_named_with_those_there_are(
    kind: str, name: str, attribute: str
) -> None:
    base = held(name) if name else {}
    known = sge.known_attributes(kind, "global", base)
    with pytest.raises(sge.BadRequestError, match=f"unknown attribute '{attribute}'") as caught:
        sge.wire_attributes(kind, {attribute: "1"}, known, "global")
    for other in (set(known) & set(base)) - {sge.KINDS[kind].key, "load_values", "processors"}:
        assert other in str(caught.value)


def test_what_a_host_reports_cannot_be_set() -> None:
    known = list(held("exec_host"))
    with pytest.raises(sge.BadRequestError, match="load_values is reported by the host"):
        sge.wire_attributes("exec_host", {"load_values": "a=1"}, known)


def test_the_name_is_no_attribute() -> None:
    with pytest.raises(sge.BadRequestError, match="use name instead"):
        sge.wire_attributes("queue", {"qname": "x"}, list(held("queue")))


def test_an_attribute_that_only_the_global_configuration_has_is_refused_for_a_host() -> None:
    known = sge.known_attributes("configuration", "exec1", held("configuration_host"))
    assert sge.wire_attributes("configuration", {"xterm": "/bin/x"}, known) == {"xterm": "/bin/x"}
    with pytest.raises(sge.BadRequestError, match="unknown attribute 'max_jobs'"):
        sge.wire_attributes("configuration", {"max_jobs": 1}, known)


def test_every_attribute_of_the_real_global_configuration_is_written_down() -> None:
    assert set(held("configuration_global")) <= set(sge.GLOBAL_CONFIGURATION)


@pytest.mark.parametrize("kind", ["pe", "host_group", "user_set", "project"])
def test_the_written_down_template_has_what_the_real_object_has(kind: str) -> None:
    spec = sge.KINDS[kind]
    assert [spec.key, *spec.template] == list(held(kind))


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_attributes_with_a_form_exist(name: str) -> None:
    spec = sge.KINDS[OBJECTS[name]]
    known = sge.known_attributes(OBJECTS[name], "global", held(name))
    assert set(spec.forms) | set(spec.checks) <= set(known)


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
def test_a_name_qconf_would_take_for_something_else_is_refused(kind: str, name: str | None) -> None:
    with pytest.raises(sge.BadRequestError):
        sge.check_name(kind, name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("queue", "all.q"), ("host_group", "@all-hosts"), ("exec_host", "global"), ("pe", "smp_1")],
)
def test_ordinary_names_are_taken(kind: str, name: str) -> None:
    assert sge.check_name(kind, name) == name


def test_a_new_complex_gets_defaults_that_fit_its_type() -> None:
    table = sge.parse_complexes(recorded("complexes"))
    made = sge.new_complex("site", {"type": "STRING"})
    assert made == table["site"]
    assert sge.new_complex("gpu", {"type": "int"})["relop"] == "<="
    assert sge.new_complex("t", {"type": "TIME"})["default"] == "0:0:0"


def test_a_new_complex_needs_a_type() -> None:
    with pytest.raises(sge.BadRequestError, match="type is needed"):
        sge.new_complex("gpu", {"consumable": "YES"})


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
        sge.check_complex(entry)
    else:
        with pytest.raises(sge.BadRequestError, match="default"):
            sge.check_complex(entry)


def test_a_default_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    qconf = FakeQconf((0, "complexes"))
    with pytest.raises(sge.BadRequestError, match="default of a complex of type INT"):
        present(qconf, "complex", "gpu", default="abc")
    assert len(qconf.calls) == 1


def test_every_complex_of_the_real_table_is_taken() -> None:
    for entry in sge.parse_complexes(recorded("complexes")).values():
        sge.check_complex(entry)


# --- Deciding, with a qconf that answers from recordings ------------------------------------


class FakeQconf(sge.Qconf):  # type: ignore[name-defined, misc]
    """Answers each call with what was recorded; keeps the calls and the files they read."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__("/usr/bin/qconf", "/nowhere", "default", 5, None)
        self.answers = list(answers)
        self.calls: list[list[str]] = []
        self.files: list[str] = []

    def call(self, *args: str) -> Any:
        self.calls.append(list(args))
        if len(args) > 1 and os.path.exists(args[1]):
            directory = os.stat(os.path.dirname(args[1]))
            assert stat.S_IMODE(directory.st_mode) == 0o700
            self.files.append(Path(args[1]).read_text(encoding="utf-8"))
            self.path_of_file = args[1]
        rc, name = self.answers.pop(0)
        text = recorded(name) if name else ""
        out, err = ("", text) if name.endswith(".err") else (text, "")
        return sge.Result(["qconf", *args], rc, out, err)


def present(qconf: FakeQconf, kind: str, name: str, check: bool = False, **wanted: Any) -> Any:
    return sge.ensure_present(sge.Store(qconf, kind, name), wanted, check)


@pytest.mark.parametrize(
    ("kind", "name", "answer", "wanted"),
    [
        ("queue", "jupyter.q", "queue", {"slots": "1,[@workers=4],[exec2=8]"}),
        ("pe", "smp", "pe", {"slots": 999}),
        ("complex", "gpu", "complexes", {"consumable": "JOB", "type": "INT"}),
        ("exec_host", "qmaster", "exec_host", {"complex_values": ["gpu=2", "h_vmem=64G"]}),
        ("admin_host", "exec1", "admin_hosts", {}),
        ("submit_host", "EXEC2", "submit_hosts", {}),
        ("host_group", "@workers", "host_group", {"hostlist": "exec2 exec1 qmaster"}),
        ("user_set", "people", "user_set", {"type": ["DEPT", "ACL"]}),
        ("project", "lab", "project", {"fshare": 3}),
        ("scheduler", "scheduler", "scheduler", {"flush_submit_sec": 0}),
        ("configuration", "global", "configuration_global", {"max_jobs": 0}),
        ("configuration", "exec1", "configuration_host", {"mailer": "/bin/true"}),
    ],
)
def test_one_call_is_enough_when_nothing_changes(
    kind: str, name: str, answer: str, wanted: dict[str, Any]
) -> None:
    qconf = FakeQconf((0, answer))
    outcome = present(qconf, kind, name, **wanted)
    assert not outcome.changed
    assert len(qconf.calls) == 1


@pytest.mark.parametrize(
    ("kind", "name", "answer"),
    [
        ("queue", "nosuch", "missing_queue"),
        ("pe", "nosuch", "missing_pe"),
        ("exec_host", "exec2", "missing_exec_host"),
        ("exec_host", "exec2", "unresolved_exec_host"),
        ("host_group", "@nosuch", "missing_host_group"),
        ("user_set", "nosuch", "missing_user_set"),
        ("project", "nosuch", "missing_project"),
        ("configuration", "exec2", "missing_configuration"),
        ("configuration", "exec2", "unresolved_configuration"),
        ("submit_host", "exec2", "empty_submit_hosts"),
        ("admin_host", "exec9", "admin_hosts"),
        ("complex", "nosuch", "complexes"),
    ],
)
def test_removing_what_is_missing_is_no_change(kind: str, name: str, answer: str) -> None:
    ok = answer in ("admin_hosts", "complexes")
    answers = [(0, answer)] if ok else [(1, f"{answer}.err")]
    if answer.startswith("unresolved"):
        answers.append((1, "empty_configurations.err"))
    qconf = FakeQconf(*answers)
    outcome = sge.ensure_absent(sge.Store(qconf, kind, name), False)
    assert not outcome.changed
    assert qconf.answers == []


def test_a_host_that_no_longer_resolves_can_still_be_removed() -> None:
    qconf = FakeQconf(
        (1, "unresolved_exec_host.err"), (0, "admin_hosts"), (0, ""), (1, "missing_exec_host.err")
    )
    assert sge.ensure_absent(sge.Store(qconf, "exec_host", "exec2"), False).changed
    assert qconf.calls[1:3] == [["-sel"], ["-de", "exec2"]]


def test_a_host_that_does_not_resolve_cannot_be_made() -> None:
    with pytest.raises(sge.RefusedError, match="can't resolve hostname"):
        present(FakeQconf((1, "unresolved_exec_host.err")), "exec_host", "nohost")


@pytest.mark.parametrize(
    ("kind", "name"), [("scheduler", "scheduler"), ("configuration", "global")]
)
def test_what_each_cluster_has_cannot_be_removed(kind: str, name: str) -> None:
    with pytest.raises(sge.BadRequestError, match="cannot be removed"):
        sge.ensure_absent(sge.Store(FakeQconf(), kind, name), False)


def test_check_mode_reads_and_writes_nothing() -> None:
    qconf = FakeQconf((0, "queue"))
    outcome = present(qconf, "queue", "jupyter.q", check=True, slots=2, shell="/bin/bash")
    assert (outcome.changed, outcome.changed_attributes) == (True, ["slots", "shell"])
    assert outcome.msg == "would change queue jupyter.q (slots, shell)"
    assert outcome.before["slots"] != outcome.after["slots"] == "2"
    assert qconf.calls == [["-sq", "jupyter.q"]]
    qconf = FakeQconf((0, "queue"))
    assert sge.ensure_absent(sge.Store(qconf, "queue", "jupyter.q"), True).changed
    assert qconf.calls == [["-sq", "jupyter.q"]]


def test_a_new_queue_starts_from_the_template_without_its_parallel_environments() -> None:
    assert held("queue_template")["pe_list"] == "make smp mpi"
    qconf = FakeQconf(
        (1, "missing_queue.err"), (0, "queue_template"), (0, ""), (0, "queue"),
    )  # fmt: skip
    outcome = present(qconf, "queue", "jupyter.q", rerun=True, h_rt=28800)
    written = sge.parse_object(qconf.files[0])
    expected = {
        **held("queue_template"), "qname": "jupyter.q", "pe_list": "NONE", "rerun": "TRUE",
        "h_rt": "28800",
    }  # fmt: skip
    assert written == expected
    assert [call[0] for call in qconf.calls] == ["-sq", "-sq", "-Aq", "-sq"]
    assert outcome.msg == "created queue jupyter.q (rerun, h_rt)"


def test_a_queue_keeps_the_parallel_environments_it_is_given() -> None:
    qconf = FakeQconf((1, "missing_queue.err"), (0, "queue_template"))
    outcome = present(qconf, "queue", "x.q", check=True, pe_list=["smp"])
    assert outcome.after["pe_list"] == "smp"


def test_a_host_is_written_without_what_it_reports() -> None:
    qconf = FakeQconf((0, "exec_host"), (0, ""), (0, "exec_host"))
    with pytest.raises(sge.RefusedError):
        present(qconf, "exec_host", "qmaster", user_lists=[])
    written = sge.parse_object(qconf.files[0])
    assert written["user_lists"] == "NONE"
    assert written["report_variables"] == "cpu,np_load_avg"
    assert not {"load_values", "processors"} & set(written)


def test_changing_one_complex_keeps_every_other_one() -> None:
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(sge.RefusedError):
        present(qconf, "complex", "gpu", urgency=3)
    before = sge.parse_complexes(recorded("complexes"))
    written = sge.parse_complexes(qconf.files[0])
    assert written.pop("gpu") == {**before.pop("gpu"), "urgency": "3"}
    assert written == before


def test_adding_and_removing_a_complex_keeps_every_other_one() -> None:
    before = sge.parse_complexes(recorded("complexes"))
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(sge.RefusedError, match="it is not there"):
        present(qconf, "complex", "fpga", type="INT")
    written = sge.parse_complexes(qconf.files[0])
    assert written.pop("fpga")["type"] == "INT"
    assert written == before
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(sge.RefusedError, match="still there"):
        sge.ensure_absent(sge.Store(qconf, "complex", "gpu"), False)
    del before["gpu"]
    assert sge.parse_complexes(qconf.files[0]) == before


def test_losing_another_complex_is_noticed() -> None:
    qconf = FakeQconf()
    store = sge.Store(qconf, "complex", "gpu")
    store.table = sge.parse_complexes(recorded("complexes"))
    store.table["fpga"] = store.table["gpu"]
    qconf.answers = [(0, "complexes")]
    with pytest.raises(sge.RefusedError, match="these complexes are gone: fpga"):
        store.confirm(sge.Result([], 0, "", ""), {"type": "INT"})


def test_a_value_the_qmaster_replaced_is_reported_although_qconf_exits_with_0() -> None:
    qconf = FakeQconf(
        (0, "scheduler"), (0, "replaced_scheduler_rc0.err"), (0, "scheduler_replaced")
    )
    with pytest.raises(sge.RefusedError) as caught:
        present(qconf, "scheduler", "scheduler", queue_sort_method="wibble")
    assert "exited with 0" in str(caught.value)
    assert "attribute queue_sort_method was not taken: asked for 'wibble', it holds 'load'" in str(
        caught.value
    )


def test_a_refusal_with_exit_status_0_is_reported_in_qconfs_words() -> None:
    qconf = FakeQconf(
        (1, "empty_submit_hosts.err"), (0, "refused_not_manager_rc0.err"),
        (1, "empty_submit_hosts.err"),
    )  # fmt: skip
    with pytest.raises(sge.RefusedError, match='"alice" must be manager'):
        present(qconf, "submit_host", "exec1")


def test_a_refusal_names_the_object_the_status_and_qconfs_words() -> None:
    qconf = FakeQconf((0, "queue"), (1, "refused_queue_pe.err"))
    with pytest.raises(sge.RefusedError) as caught:
        present(qconf, "queue", "jupyter.q", pe_list="nosuch")
    assert str(caught.value) == (
        "qconf refused to change queue jupyter.q (exit status 1): "
        'Parallel environment "nosuch" does not exist'
    )
    assert caught.value.result.rc == 1
    assert not os.path.exists(os.path.dirname(qconf.path_of_file))


def test_the_list_of_options_is_not_repeated_in_an_error() -> None:
    words = sge.Result([], 1, "", recorded("refused_usage.err")).words
    assert words.startswith('error: no option argument provided to "-sp"')
    assert "-aattr" not in words


def test_a_configuration_is_written_to_a_file_of_its_name() -> None:
    qconf = FakeQconf((0, "configuration_global"), (0, ""), (0, "configuration_global"))
    with pytest.raises(sge.RefusedError):
        present(qconf, "configuration", "global", max_jobs=3)
    assert qconf.calls[1] == ["-Mconf", qconf.path_of_file]
    assert os.path.basename(qconf.path_of_file) == "global"
    written = sge.parse_object(qconf.files[0])
    assert written == {**held("configuration_global"), "max_jobs": "3"}


def test_a_host_configuration_is_not_made_empty() -> None:
    with pytest.raises(sge.BadRequestError, match="at least one attribute"):
        present(FakeQconf((1, "missing_configuration.err")), "configuration", "exec2")


def test_the_diff_leaves_out_the_load_a_host_reports() -> None:
    text = sge.file_form("exec_host", "qmaster", held("exec_host"))
    assert "complex_values" in text
    assert "load_values" not in text


def test_the_diff_of_a_complex_is_its_line_only() -> None:
    table = sge.parse_complexes(recorded("complexes"))
    text = sge.file_form("complex", "gpu", table["gpu"])
    assert sge.parse_complexes(text) == {"gpu": table["gpu"]}


def test_an_absent_object_has_an_empty_diff() -> None:
    assert all(sge.file_form(kind, "x", None) == "" for kind in sge.KINDS)


# --- Running a command ----------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Any]:
    """Make a stand-in for qconf and a Qconf that runs it."""

    def make(body: str, timeout: int = 20) -> Any:
        path = tmp_path / "qconf"
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        common = tmp_path / "root" / "cell" / "common"
        common.mkdir(parents=True, exist_ok=True)
        (common / "act_qmaster").write_text("head1\n", encoding="utf-8")
        return sge.Qconf(str(path), str(tmp_path / "root"), "cell", timeout, str(tmp_path))

    return make


def test_qconf_runs_in_its_cell_and_in_english(
    script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SGE_CELL", "other")
    out = script('echo "$LC_ALL|$SGE_ROOT|$SGE_CELL|$SGE_SINGLE_LINE|$*"').call("-sq", "a b").out
    assert out == f"C|{tmp_path}/root|cell|1|-sq a b\n"


def test_a_hung_qmaster_is_given_up_with_its_name_even_behind_a_wrapper(
    script: Callable[..., Any],
) -> None:
    qconf = script("sleep 60 & wait", timeout=1)
    started = time.monotonic()
    with pytest.raises(sge.UnreachableError) as caught:
        qconf.call("-sq", "x")
    assert time.monotonic() - started < 30
    assert "cannot reach the qmaster head1: no answer to 'qconf -sq' within 1 seconds" in str(
        caught.value
    )
    assert "systemctl status gridengine-master" in str(caught.value)
    assert "may or may not" not in str(caught.value)


def test_a_change_that_got_no_answer_is_not_said_to_have_failed(
    script: Callable[..., Any],
) -> None:
    qconf = script("sleep 60", timeout=1)
    with pytest.raises(sge.UnreachableError, match="may or may not have been made"):
        qconf.change("remove it", "-dq", "x")


def test_no_process_is_left_after_a_timeout(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    body = f"sleep 60 & echo $! > {pid_file}; wait"
    with pytest.raises(subprocess.TimeoutExpired):
        sge.run_limited(["/bin/sh", "-c", body], os.environ, 1)
    pid = int(pid_file.read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            )
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running")


@pytest.mark.parametrize(
    "name",
    ["unreachable", "unreachable_no_act_qmaster", "unreachable_no_cell", "unreachable_no_root"],
)
def test_an_unreachable_qmaster_is_said_so(script: Callable[..., Any], name: str) -> None:
    qconf = script(f"cat {DATA / name}.err.txt >&2; exit 1")
    with pytest.raises(sge.UnreachableError) as caught:
        qconf.call("-ssconf")
    assert "cannot reach the qmaster head1: " in str(caught.value)
    assert recorded(f"{name}.err").splitlines()[-1].strip() in str(caught.value)


@pytest.mark.parametrize("name", ["missing_queue", "unresolved_exec_host", "refused_queue_pe"])
def test_an_ordinary_refusal_is_not_taken_for_an_unreachable_qmaster(
    script: Callable[..., Any], name: str
) -> None:
    assert script(f"cat {DATA / name}.err.txt >&2; exit 1").call("-sq").rc == 1


def test_the_temporary_file_is_private_and_removed(
    script: Callable[..., Any], tmp_path: Path
) -> None:
    qconf = script('stat -c %a "$(dirname "$2")"; cat "$2"; ls "$(dirname "$2")"')
    result = qconf.change_from_file("change it", "-Mconf", "global", "a 1\n")
    assert result.out == "700\na 1\nglobal\n"
    assert not os.path.exists(os.path.dirname(result.argv[2]))
    qconf = script("exit 1")
    with pytest.raises(sge.RefusedError, match="refused to change it"):
        qconf.change_from_file("change it", "-Mconf", "global", "a 1\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qconf", "root"]


def test_a_second_run_waits_for_the_first_and_gives_up_in_words(tmp_path: Path) -> None:
    first = sge.one_at_a_time(1, str(tmp_path))
    second = sge.one_at_a_time(0, str(tmp_path))
    with first, pytest.raises(sge.BadRequestError, match="another run"), second:
        pass
    with sge.one_at_a_time(0, str(tmp_path)):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "sge_object.lock").symlink_to(target)
    with sge.one_at_a_time(1, str(tmp_path)):
        assert not target.exists()


# --- Documentation --------------------------------------------------------------------------


def _documentation(block: str) -> Any:
    yaml = pytest.importorskip("yaml")
    for node in ast.parse(MODULE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == block:
            return yaml.safe_load(ast.literal_eval(node.value))
    pytest.fail(f"{block} is missing")


def test_every_kind_and_option_is_documented() -> None:
    documentation = _documentation("DOCUMENTATION")
    options = documentation["options"]
    assert options["kind"]["choices"] == list(sge.KINDS)
    assert set(options) == {
        "objects", "kind", "name", "attributes", "state",
        "sge_root", "sge_cell", "bin_dir", "timeout",
    }  # fmt: skip
    assert documentation["attributes"]["check_mode"]["support"] == "full"
    assert documentation["attributes"]["diff_mode"]["support"] == "full"


def test_the_examples_are_accepted() -> None:
    templates = {"queue": held("queue"), "pe": held("pe"), "exec_host": held("exec_host"),
                 "host_group": held("host_group"), "scheduler": held("scheduler")}  # fmt: skip
    examples = _documentation("EXAMPLES")
    assert len(examples) >= 5
    for task in examples:
        for args in task["sge_object"].get("objects", [task["sge_object"]]):
            sge.check_description(dict(args), 1)
            kind = args["kind"]
            assert sge.check_name(kind, args.get("name"))
            known = sge.known_attributes(kind, "global", templates.get(kind, {}))
            wanted = {k: v for k, v in args.get("attributes", {}).items() if "{{" not in str(v)}
            sge.wire_attributes(kind, wanted, known)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "cue", "name": "all.q"}, "entry 3: kind is 'cue'"),
        ({"name": "all.q"}, "entry 3: kind is None"),
        ({"kind": "queue", "name": "all.q", "state": "gone"}, "state is 'gone'"),
        ({"kind": "queue", "name": "all.q", "slots": 4}, "unknown key 'slots'"),
        ({"kind": "queue", "name": "all.q", "attributes": "slots=4"}, "must be a dictionary"),
    ],
)
def test_a_wrong_entry_of_a_list_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(sge.BadRequestError, match=re.escape(words)):
        sge.check_description(wrong, 3)
