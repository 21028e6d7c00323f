# SPDX-License-Identifier: BSD-3-Clause
"""Test the decisions of ``plugins/filter/patch_worker.py`` without a playbook."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from folders import OCS, ROOT

FILE = ROOT / "plugins/filter/patch_worker.py"
spec = importlib.util.spec_from_file_location("patch_worker", FILE)
assert spec is not None and spec.loader is not None
patch_worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(patch_worker)

#: The result of a task whose connection was lost.
LOST: dict[str, Any] = {"unreachable": True, "msg": "Connection reset"}


def ended(stdout: str = "", rc: int = 0, **more: object) -> dict[str, Any]:
    """Make a result in the form that ``ansible.builtin.command`` registers."""
    return {"rc": rc, "stdout": stdout, "stdout_lines": stdout.splitlines(), **more}


def loop(*results: dict[str, Any]) -> dict[str, Any]:
    return {"results": list(results)}


@pytest.mark.parametrize(
    ("queues", "disabled", "noted", "left_over", "kept", "to_disable"),
    [
        (ended("a@w\nb@w"), ended(rc=1), ended(rc=1), [], [], ["a@w", "b@w"]),
        # An administrator has disabled b@w.
        (ended("a@w\nb@w"), ended("b@w"), ended(rc=1), [], ["b@w"], ["a@w"]),
        # An earlier run disabled a@w. An administrator has disabled b@w.
        (ended("a@w\nb@w\nc@w"), ended("a@w\nb@w"), ended("a@w"), ["a@w"], ["b@w"], ["c@w"]),
        # An earlier run recorded a@w before it was killed. a@w has been enabled since then.
        (ended("a@w"), ended(rc=1), ended("a@w"), [], [], ["a@w"]),
        # The first query got no answer, so the other queries were skipped.
        (LOST, {}, {}, [], [], []),
    ],
)
def test_queues_that_an_earlier_run_or_an_administrator_has_disabled_are_told_apart(
    queues: dict[str, Any],
    disabled: dict[str, Any],
    noted: dict[str, Any],
    left_over: list[str],
    kept: list[str],
    to_disable: list[str],
) -> None:
    assert patch_worker.sort_queues(queues, disabled, noted) == {
        "left_over": left_over,
        "kept": kept,
        "ours": [*left_over, *to_disable],
        "to_disable": to_disable,
    }


@pytest.mark.parametrize(
    ("drain", "window", "left", "minutes"),
    [
        (None, None, 1e6, 60),
        (480, None, 1e6, 480),
        ("0.1", None, 1e6, 0.1),  # from the command line
        (None, 240, 170.5, 170.5),
        (60, 240, 170.5, 60),
        (60, "240", "10", 10),
        (0, 240, 170, 0),
        (60, 0, -0.1, -0.1),
    ],
)
def test_a_drain_takes_an_hour_or_the_set_time_but_no_longer_than_the_window(
    drain: float | None, window: float | None, left: float, minutes: float
) -> None:
    assert patch_worker.drain_limit(drain, window, left) == minutes


@pytest.mark.parametrize(
    ("minutes", "pause", "retries"), [(60, 10, 360), ("0.1", "4", 2), (0, 10, 0), (-5, 10, 0)]
)
def test_the_number_of_queries_follows_from_the_minutes(
    minutes: float, pause: float, retries: int
) -> None:
    assert patch_worker.retries(minutes, pause) == retries


@pytest.mark.parametrize(
    ("jobs", "left", "words"),
    [
        (ended(), 10, ""),
        (ended("42 of alice"), 10, "42 of alice"),
        (ended("42 of alice"), -1, "42 of alice"),
        (ended(), 0, "the window is over"),
        (ended(rc=1, stderr="cannot reach the qmaster"), 10, "cannot reach the qmaster"),
        (LOST, 10, "Connection reset"),
        ({}, 10, "the window is over"),
    ],
)
def test_a_worker_is_busy_unless_grid_engine_reports_that_it_has_no_jobs(
    jobs: dict[str, Any], left: float, words: str
) -> None:
    assert patch_worker.busy(jobs, left) == words
    assert patch_worker.without_jobs(jobs) is (jobs == ended())


def test_the_port_of_the_daemon_comes_from_the_hosts_services() -> None:
    assert patch_worker.daemon_port(ended("sge-execd            537/tcp sge_execd"), {}) == "537"
    for unknown in (ended(rc=2), LOST, {}):
        assert patch_worker.daemon_port(unknown, {}) == "6445"


def test_the_port_of_the_cells_settings_comes_first() -> None:
    ports = {"SGE_QMASTER_PORT": 17000, "SGE_EXECD_PORT": 17001}
    for service in (ended("sge-execd            537/tcp sge_execd"), ended(rc=2)):
        assert patch_worker.daemon_port(service, ports) == "17001"
    assert patch_worker.daemon_port(ended(rc=2), {"SGE_QMASTER_PORT": 17000}) == "6445"


@pytest.mark.parametrize(
    ("daemon", "works"),
    [
        (ended("info:                     sge_execd_process_messages: R (0.54) | OK"), True),
        # The daemon runs, but the qmaster has not accepted it.
        (ended("info:                     OK"), False),
        (ended("endpoint w/execd/1: cannot find connection", rc=1), False),
        (LOST, False),
        ({"skipped": True}, False),
    ],
)
def test_a_daemon_is_at_work_when_the_qmaster_has_accepted_it(
    daemon: dict[str, Any], works: bool
) -> None:
    for dialect in ("sge", "ocs", "age"):
        assert patch_worker.daemon_at_work(daemon, dialect) is works


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("9.1.4/qping_execd", "W"),
        ("9.1.4/qping_execd_after_12_min", "E"),
        ("9.0.13/qping_execd", "W"),
        ("9.0.13/qping_execd_2", "W"),
    ],
)
def test_a_healthy_daemon_of_open_cluster_scheduler_may_show_warnings(
    name: str, letter: str
) -> None:
    shown = (OCS / f"{name}.out").read_text("utf-8")
    assert f"sge_execd_process_messages: {letter} (" in shown
    assert patch_worker.daemon_at_work(ended(shown), "ocs")
    # With 8.1.9, these letters mean that the daemon's loop hangs.
    assert not patch_worker.daemon_at_work(ended(shown), "sge")


def test_a_daemon_of_open_cluster_scheduler_that_is_stopped_is_not_at_work() -> None:
    # qping got no answer from a daemon that was stopped with SIGSTOP, until `timeout` ended it.
    shown = (OCS / "9.1.4/not_reporting_qping.out").read_text("utf-8")
    assert not patch_worker.daemon_at_work(ended(shown, rc=124), "ocs")
    assert not patch_worker.daemon_at_work(ended(shown), "ocs")


QHOST = "HOSTNAME ARCH NCPU NSOC NCOR NTHR LOAD MEMTOT\nglobal - - - - - - -\n"


@pytest.mark.parametrize(
    ("load", "reported"),
    [
        (ended(f"{QHOST}w lx-amd64 2 1 2 2 0.10 7.8G"), True),
        (ended(f"{QHOST}w lx-amd64 2 1 2 2 - 7.8G"), False),
        (ended(f"{QHOST}w lx-amd64 2 1 2 2 0.10 7.8G", rc=1), False),
        (ended("denied"), False),
        (ended(), False),
        (LOST, False),
    ],
)
def test_a_host_without_a_load_does_not_report(load: dict[str, Any], reported: bool) -> None:
    assert patch_worker.with_load(load) is reported


def test_queues_that_are_or_may_be_disabled_are_enabled() -> None:
    off = loop(
        ended(item="a@w"),
        ended(item="b@w", rc=1),  # Grid Engine refused
        LOST | {"item": "c@w"},
        LOST,
    )
    queues = {"left_over": ["l@w"]}
    assert patch_worker.to_enable(off, queues, maintained=True) == ["l@w", "a@w", "c@w"]
    # Nothing shows that jobs can run on a worker that an earlier run left disabled.
    assert patch_worker.to_enable(off, queues, maintained=False) == ["a@w", "c@w"]
    assert patch_worker.to_enable({}, queues, maintained=False) == []
    assert not patch_worker.all_answered(off)
    assert patch_worker.all_answered(loop(ended())) and patch_worker.all_answered({})


def shown(**values: object) -> dict[str, Any]:
    return ended(json.dumps(values))


FIRST = {"started": "2026-01-01", "phase": "checking"}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (shown(last=FIRST), shown(last={"started": "2026-02-01", "phase": "before"}), False),
        (shown(last=None), shown(last={"started": "2026-02-01", "phase": "before"}), False),
        (shown(last=FIRST), shown(last={"started": "2026-02-01", "phase": "updating"}), True),
        (shown(last=FIRST), shown(last={"started": "2026-02-01", "phase": "checking"}), True),
        # The last report is of an earlier maintenance.
        (shown(last=FIRST | {"phase": "before"}), shown(last=FIRST | {"phase": "before"}), True),
        (shown(last=None), shown(unfinished=True, last=None), True),
        (shown(last=FIRST), LOST, True),
        (shown(last=FIRST), ended("Traceback", rc=1), True),
    ],
)
def test_a_worker_is_unchanged_only_if_the_maintenance_ended_before_the_updates(
    before: dict[str, Any], after: dict[str, Any], changed: bool
) -> None:
    assert patch_worker.has_changed(before, after) is changed


def test_the_reason_is_the_output_of_a_command_or_of_ansible() -> None:
    assert patch_worker.trouble(ended("out", stderr="err"), "Maintain") == "Maintain: out"
    assert patch_worker.trouble(ended(stderr="err", msg="non-zero"), "Maintain") == "Maintain: err"
    assert patch_worker.trouble(LOST, "Maintain") == "Maintain: Connection reset"
    assert patch_worker.trouble({}, "Maintain") == "Maintain: "


PLANNED: dict[str, Any] = {
    "worker": "w",
    "at_once": "25%",
    "together": ["v", "w"],
    "minutes": 29.5,
    "reboot": "always",
}


def test_the_plan_names_queues_jobs_and_the_other_workers() -> None:
    queues = {"left_over": [], "kept": ["b@w"], "ours": ["a@w"]}
    assert patch_worker.plan(ended("41 of bob\n42 of alice"), queues, **PLANNED) == [
        "w: together with v (patch_at_once: 25%)",
        "takes no new jobs meanwhile: a@w",
        "disabled before, and stays so: b@w",
        "jobs to wait for, up to 30 minutes: ",
        "41 of bob",
        "42 of alice",
        "then: updates, a reboot (always), and new jobs again",
    ]
    nothing: dict[str, list[str]] = {"left_over": [], "kept": [], "ours": []}
    assert patch_worker.plan(ended(), nothing, **PLANNED | {"together": ["w"]})[:3] == [
        "w: alone (patch_at_once: 25%)",
        "takes no new jobs meanwhile: no queue",
        "jobs to wait for, up to 30 minutes: none",
    ]
    assert patch_worker.plan(LOST, nothing, **PLANNED)[2:4] == [
        "jobs to wait for, up to 30 minutes: ",
        "not known",
    ]


#: The last two queries' answers: no queue is disabled, and the worker's queues are a@w and b@w.
ENABLED = loop(ended(rc=1), ended("a@w\nb@w"))
STILL = loop(ended("a@w\nb@w"), ended("a@w\nb@w"))


@pytest.mark.parametrize(
    ("why", "now", "more", "words"),
    [
        ("", ENABLED, {}, ""),
        ("", {}, {}, ""),  # the worker has no queue
        # An administrator has disabled b@w.
        ("", loop(ended("b@w"), ended("a@w\nb@w")), {}, ""),
        ("", STILL, {}, "w; still disabled: a@w (qmod -e)"),
        ("", loop(ended(rc=1), ended(rc=1)), {}, "w; whether its queues are enabled"),
        ("", loop(LOST, ended("a@w")), {}, "w; whether its queues are enabled"),
        ("", LOST, {}, "w; whether its queues are enabled"),
        ("Maintain: no", {}, {}, "w was not maintained. Maintain: no"),
        (
            "Maintain: no",
            ENABLED,
            {},
            "w was not maintained; its queues are enabled again. Maintain: no",
        ),
        (
            "Maintain: no",
            STILL,
            {"failed": True},
            "w failed after its maintenance had begun, so it gets no new jobs, and no further "
            "worker was begun; still disabled: a@w (qmod -e). Maintain: no. Repair w. Then run the "
            "playbook again for the rest, with --limit w,x;",
        ),
        ("", {}, {"check_mode": True}, ""),
        ("Check: no", {}, {"check_mode": True}, "w would not be maintained. Check: no"),
    ],
)
def test_a_worker_that_was_not_maintained_or_takes_no_jobs_is_reported(
    why: str, now: dict[str, Any], more: dict[str, bool], words: str
) -> None:
    options: dict[str, Any] = {"failed": False, "check_mode": False} | more
    options |= {"unfinished": ["w", "x"], "worker": "w", "admin_host": "q"}
    message = patch_worker.report(why, now, {"kept": ["b@w"]}, **options)
    assert message.startswith(words)
    assert bool(message) is bool(words)


def test_the_names_of_the_filters_start_with_the_name_of_the_role() -> None:
    filters = patch_worker.FilterModule().filters()
    assert filters["patch_busy"] is patch_worker.busy
    assert all(name.startswith("patch_") for name in filters)
