# SPDX-License-Identifier: BSD-3-Clause
"""How the module decides what to do, tested with a fake qconf that replays recordings."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_apply import ensure_absent
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import RefusedError
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import parse_object

from fake_qconf import FakeQconf, present, recorded_object


def test_a_default_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    qconf = FakeQconf((0, "complexes"))
    with pytest.raises(BadRequestError, match="default of a complex of type INT"):
        present(qconf, "complex", "gpu", default="abc")
    assert len(qconf.calls) == 1


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
def test_removing_an_absent_object_is_no_change(kind: str, name: str, answer: str) -> None:
    ok = answer in ("admin_hosts", "complexes")
    answers = [(0, answer)] if ok else [(1, f"{answer}.err")]
    if answer.startswith("unresolved"):
        answers.append((1, "empty_configurations.err"))
    qconf = FakeQconf(*answers)
    outcome = ensure_absent(Store(qconf, kind, name), False)
    assert not outcome.changed
    assert qconf.answers == []


def test_a_host_that_no_longer_resolves_can_still_be_removed() -> None:
    qconf = FakeQconf(
        (1, "unresolved_exec_host.err"), (0, "admin_hosts"), (0, ""), (1, "missing_exec_host.err")
    )
    assert ensure_absent(Store(qconf, "exec_host", "exec2"), False).changed
    assert qconf.calls[1:3] == [["-sel"], ["-de", "exec2"]]


def test_a_host_that_does_not_resolve_cannot_be_created() -> None:
    with pytest.raises(RefusedError, match="can't resolve hostname"):
        present(FakeQconf((1, "unresolved_exec_host.err")), "exec_host", "nohost")


@pytest.mark.parametrize(
    ("kind", "name"), [("scheduler", "scheduler"), ("configuration", "global")]
)
def test_objects_that_every_cluster_has_cannot_be_removed(kind: str, name: str) -> None:
    with pytest.raises(BadRequestError, match="cannot be removed"):
        ensure_absent(Store(FakeQconf(), kind, name), False)


def test_check_mode_only_reads() -> None:
    qconf = FakeQconf((0, "queue"))
    outcome = present(qconf, "queue", "jupyter.q", check=True, slots=2, shell="/bin/bash")
    assert (outcome.changed, outcome.changed_attributes) == (True, ["slots", "shell"])
    assert outcome.msg == "would change queue jupyter.q (slots, shell)"
    assert outcome.before["slots"] != outcome.after["slots"] == "2"
    assert qconf.calls == [["-sq", "jupyter.q"]]
    qconf = FakeQconf((0, "queue"))
    assert ensure_absent(Store(qconf, "queue", "jupyter.q"), True).changed
    assert qconf.calls == [["-sq", "jupyter.q"]]


def test_a_new_queue_starts_from_the_template_without_its_parallel_environments() -> None:
    assert recorded_object("queue_template")["pe_list"] == "make smp mpi"
    qconf = FakeQconf(
        (1, "missing_queue.err"), (0, "queue_template"), (0, ""), (0, "queue"),
    )  # fmt: skip
    outcome = present(qconf, "queue", "jupyter.q", rerun=True, h_rt=28800)
    written = parse_object(qconf.files[0])
    expected = {
        **recorded_object("queue_template"),
        "qname": "jupyter.q",
        "pe_list": "NONE",
        "rerun": "TRUE",
        "h_rt": "28800",
    }
    assert written == expected
    assert [call[0] for call in qconf.calls] == ["-sq", "-sq", "-Aq", "-sq"]
    assert outcome.msg == "created queue jupyter.q (rerun, h_rt)"


def test_a_new_queue_gets_the_requested_parallel_environments() -> None:
    qconf = FakeQconf((1, "missing_queue.err"), (0, "queue_template"))
    outcome = present(qconf, "queue", "x.q", check=True, pe_list=["smp"])
    assert outcome.after["pe_list"] == "smp"


def test_an_empty_host_configuration_is_refused() -> None:
    with pytest.raises(BadRequestError, match="at least one attribute"):
        present(FakeQconf((1, "missing_configuration.err")), "configuration", "exec2")
