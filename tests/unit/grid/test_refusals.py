# SPDX-License-Identifier: BSD-3-Clause
"""Each refusal of Grid Engine is told as what it is; the recorded ones are from 8.1.9."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from folders import DATA
from gridhub.grid.reasons import parse_reasons, refusal
from gridhub.menu.file import load_menu
from gridhub.menu.job import requested
from gridhub.spawner.forecast import why_never, why_refused

RECORDED = tomllib.loads((DATA / "qsub_refusals.toml").read_text(encoding="utf-8"))

#: What a person reads, by the name of the recorded situation.
WORDS = {
    "forced_resource": "is only for jobs that ask for force",
    "host_not_for_person": "may not use any worker or queue that could take it (exec1, exec2)",
    "jsv_rejects": "the cluster refuses it: Only jobs with a cost centre are allowed. Ask",
    "jsv_silent": "check of new jobs (JSV) does not work",
    "max_jobs": "the cluster takes at most 1 jobs at a time",
    "max_u_jobs": "your account may have at most 1 jobs at a time",
    "no_project_global": "it needs a project",
    "no_submit_host": "exec1, the host of this service, may not submit jobs",
    "not_requestable": "hidden cannot be requested",
    "pe_not_for_person": "may not use the parallel environment smp",
    "person_in_xuser_lists": "the account alice may not run jobs here",
    "person_not_in_user_lists": "the account alice may not run jobs here",
    "person_unknown": "the cluster does not know the account alice",
    "priority": "only operators may have",
    "project_excludes_person": "your account may not use the project p3",
    "project_in_xprojects": "the project p1 may not run jobs here",
    "project_mandatory": "it needs a project",
    "project_not_for_person": "your account may not use the project p2",
    "queue_excludes_project": "no queue that could take it is open to its project",
    "queue_not_for_person": "may not use any worker or queue that could take it (all.q)",
    "queue_wants_project": "no queue that could take it is open to its project",
    "queue_without_pe": "the parallel environment smp gives your account fewer CPU cores",
    "quota": "the parallel environment smp gives your account fewer CPU cores",
    "too_many_slots": "the parallel environment smp gives your account fewer CPU cores",
    "too_much_memory": "Memory (99 GB)",
    "unknown_complex": "the cluster does not know nope",
    "unknown_host": "there is no host nohost",
    "unknown_pe": "there is no parallel environment nope",
    "unknown_project": "there is no project nope",
    "unknown_queue": "there is no queue nope.q",
    "unknown_queue_host": "there is no queue all.q@nohost",
    "wrong_ar": "there is no reservation 99",
    "wrong_value": "the value of h_rt is wrong",
}

MENU = {
    "items": [
        {
            "name": "memory",
            "label": "Memory",
            "unit": "GB",
            "choices": [1, 99],
            "default": 99,
            "request": {"kind": "memory", "complex": "h_vmem", "per": "job"},
        }
    ]
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_person_reads_what_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "menu.json"
    path.write_text(json.dumps(MENU), encoding="utf-8")
    menu = load_menu(path)
    requests = tuple(requested(menu, menu.choose({}, frozenset())))
    told = RECORDED[name]
    checked = told.get("check", told["submit"])
    words = why_never(checked, menu, requests, None)
    assert WORDS[name] in words
    assert "no worker has all of this" not in words
    # What qsub says at once is told at once; for the rest, the hub asks with a dry run.
    at_once = why_refused(told["submit"], requests)
    if "no suitable queues" not in told["submit"] and name != "jsv_rejects":
        assert at_once.startswith("Grid Engine refused the session: ")
        assert WORDS[name] in at_once
    else:
        assert at_once == ""


@pytest.mark.parametrize(
    ("line", "name", "what"),
    [
        # Open Cluster Scheduler 9.1.4 ends its sentences with a full stop.
        (
            'Unable to run job: job rejected: the requested project "nosuch" does not exist.',
            "no_such_project",
            "nosuch",
        ),
        (
            "Unable to run job: job rejected: the requested parallel environment "
            '"nosuch" does not exist.',
            "no_such_pe",
            "nosuch",
        ),
        ('Unable to run job: unknown resource "nosuch"', "unknown", "nosuch"),
        (
            'Unable to run job: Job was rejected because job requests unknown queue "nosuch.q"',
            "no_such_queue",
            "nosuch.q",
        ),
    ],
)
def test_other_releases_say_the_same(line: str, name: str, what: str) -> None:
    reason, words = refusal([line, "Exiting."])
    assert (reason.name, reason.what, reason.scope) == (name, what, "job")
    assert words == line.removeprefix("Unable to run job: ")


def test_a_warning_before_the_reason_is_not_the_reason() -> None:
    lines = [
        "Unable to run job: warning: alice's job is not allowed to run in any queue",
        'job rejected: the user "alice" does not exist',
        "Exiting.",
    ]
    assert refusal(lines)[0].name == "not_registered"
    assert [each.name for each in parse_reasons(lines[:1])] == []
