# SPDX-License-Identifier: BSD-3-Clause
"""Why Grid Engine does not start a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.grid import reasons
from gridhub.grid.places import (
    CLOSED,
    SLOTS,
)
from gridhub.grid.reasons import Reason, main_reason, parse_reasons
from recorded import GB, Recorded, read


@pytest.mark.parametrize(
    ("line", "name", "what"),
    [
        # Lines that sgeobj and schedd print (msg_schedd.h of Grid Engine 8.1).
        ('cannot run because it exceeds limit "alice/////" in rule "slots/1"', "quota", "slots/1"),
        (
            'Job cannot run in queue instance "all.q@exec1" because exceeds limit in rule max/2',
            "quota",
            "max/2",
        ),
        ("job dropped because of user limitations", "person", ""),
        ("job dropped because of job dependencies", "depends", ""),
        (
            "Job Filter: this job got ignored in the last scheduling run, because to many other "
            "jobs with the same resource request are in the pending list before this one.",
            "alike",
            "",
        ),
        (
            '(-l gpu=2) cannot run at host "exec2" because it offers only hc:gpu=1.000000',
            "amount",
            "gpu",
        ),
        (
            '(-l gpu=2) cannot run at host "exec2" because it offers only hc:gpu=0.000000 due to '
            "a reservation",
            "reserved",
            "",
        ),
        ('queue instance "all.q@exec1" dropped because it is full', "full", ""),
        ('queue instance "all.q@exec1" dropped because it is disabled', "disabled", ""),
        ('queue instance "all.q@exec1" dropped because it is suspended', "suspended", ""),
        (
            'queue instance "all.q@exec1" dropped because it is overloaded: np_load_avg=2.1',
            "overloaded",
            "",
        ),
        ('queue instance "a@b" dropped because it is temporarily not available', "away", ""),
        ('has no permission for cluster queue "all.q"', "permission", "all.q"),
        ('Job 0 has no permission for host "exec1"', "permission", "exec1"),
        ('cannot run because no access to pe "smp"', "not_in_pe", "smp"),
        (
            '(project p) does not have the correct project to run in cluster queue "q"',
            "project",
            "",
        ),
        (
            '(no project) does not have the correct project to run in cluster queue "q"',
            "project",
            "",
        ),
        (
            '(project p) is not allowed to run in host "h" based on the excluded project list',
            "project",
            "",
        ),
        (
            'cannot run in queue instance "all.q@exec1" because the job runtime of 3600 sec. is '
            "too long",
            "calendar",
            "",
        ),
        (
            '(-l cpu_type=amd) cannot run at host "exec1" because it offers only hf:cpu_type=intel',
            "offer",
            "cpu_type",
        ),
        (
            '(-l h_rt=9) cannot run in queue "q" because it offers only qf:h_rt=00:00:05',
            "offer",
            "h_rt",
        ),
        (
            '(-l x=1) cannot run in queue "q" because job requests unknown resource (x)',
            "unknown",
            "x",
        ),
        ('cannot run in queue "all.q" because PE "mpi" is not in pe list', "parallel", ""),
        (
            'cannot run in queue "b.q" because it is not contained in its hard queue list (-q)',
            "queue",
            "",
        ),
        ('cannot run in PE "smp" because it only offers 0 slots', "slots", "smp"),
        ("Job does not request 'forced' resource \"x\" of queue instance a@b", "forced", "x"),
        ("Job execution time not reached", "later", ""),
        # As Open Cluster Scheduler 9.1.4 prints them: it limits the slots of each host.
        (
            'Job 32 (-l NONE) cannot run at host "ocs1" because it offers only hc:slots=0.000000',
            "full",
            "",
        ),
        (
            '(-l NONE) cannot run at host "ocs1" because it offers only hc:slots=2.000000',
            "slots",
            "",
        ),
        (
            '(-l accel=1) cannot run at host "ocs1" because it offers only hc:accel=0.000000',
            "amount",
            "accel",
        ),
        ("job is in hold state", "held", ""),
        ("something of a release to come", "other", ""),
    ],
)
def test_messages_of_the_scheduler_are_parsed(line: str, name: str, what: str) -> None:
    (reason,) = parse_reasons([line])
    assert (reason.name, reason.what) == (name, what)


def test_recorded_messages_of_the_scheduler_are_parsed(recorded: Recorded) -> None:
    reasons = parse_reasons(read(recorded, "details.xml")[55].reasons)
    assert [(reason.name, reason.what, reason.offer) for reason in reasons] == [
        ("amount", "h_vmem", 7.219 * GB),
        ("full", "", None),
    ]


def test_a_queue_closed_to_the_person_is_listed_after_other_reasons() -> None:
    # Grid Engine 8.1.9 prints these two outputs on a cluster where one queue is closed to the
    # person. For the second output, exec1 has no GPUs, and exec2 has two.
    output = """Unable to run job: Job 27 has no permission for cluster queue "closed.q"
Job 27 cannot run because it exceeds limit "/////" in rule "trial/1"
Job 27 cannot run in PE "smp" because it only offers 0 slots
verification: no suitable queues
Exiting."""
    reasons = parse_reasons(output.splitlines())
    assert [reason.name for reason in reasons] == ["quota", "slots", "permission"]
    assert reasons[2].what == "closed.q"
    assert reasons[0].what == "trial/1"
    output = """Unable to run job: Job 1 has no permission for cluster queue "closed.q"
Job 1 (-l gpu=9) cannot run in queue "all.q@exec1" because job requests unknown resource (gpu)
Job 1 (-l gpu=9) cannot run at host "exec2" because it offers only hc:gpu=2.000000
verification: no suitable queues
Exiting."""
    amount = Reason("amount", "amount", "gpu", 2)
    assert parse_reasons(output.splitlines())[0] == amount
    (reason,) = parse_reasons(['Job 39 cannot run because no access to PE "shut"'])
    assert (reason.name, reason.scope) == ("not_in_pe", "job")


def test_the_largest_offer_is_kept_and_lines_without_a_reason_are_dropped() -> None:
    offers = (f"cannot run at host because it offers only hc:gpu={n}.000000" for n in (0, 2, 1))
    text = ["Unable to run job: error: no suitable queues", *offers, "Exiting.", "verification: x"]
    assert parse_reasons(text) == [Reason("amount", "amount", "gpu", 2)]
    assert parse_reasons(["(Collecting of scheduler job information is turned off)"]) == []


def test_messages_repeated_for_many_jobs_are_parsed_once() -> None:
    hosts = [f'queue instance "all.q@node{n}" dropped because it is full' for n in range(500)]
    reasons.meaning_of.cache_clear()
    for number in range(10):
        own = f'(-l gpu={number}) cannot run at host "node" because it offers only hc:gpu=0.000000'
        for _ in range(3):
            assert [reason.name for reason in parse_reasons([*hosts, own])] == ["amount", "full"]
    assert reasons.meaning_of.cache_info().misses == 510


FULL_NOW, GPU = Reason("full", "place"), Reason("amount", "amount", "gpu", 1)
QUOTA, BARRED = Reason("quota", "job", "r/1"), Reason("permission", "barred")
FEW, OTHER = Reason("slots", "slots"), Reason("other", "other")


@pytest.mark.parametrize(
    ("reasons", "unavailable", "name"),
    [
        ([], None, "queued"),
        ([], set(), "turn"),
        ([], {SLOTS}, "unavailable"),
        ([], {CLOSED}, "closed"),
        # A full queue instance does not matter if another queue instance has room.
        ([FULL_NOW], set(), "turn"),
        ([FULL_NOW], None, "full"),
        ([QUOTA, FULL_NOW], {SLOTS}, "quota"),
        ([GPU, FEW], {"gpu"}, "unavailable"),
        # A queue that does not accept the job is the reason only if there is no other reason.
        ([FEW, BARRED], set(), "slots"),
        ([FEW, BARRED], {SLOTS}, "unavailable"),
        ([BARRED], set(), "permission"),
        ([BARRED, OTHER], set(), "other"),
        ([FULL_NOW, BARRED], {SLOTS}, "unavailable"),
        ([FULL_NOW, BARRED], set(), "full"),
        ([OTHER], set(), "other"),
        ([OTHER], {SLOTS}, "unavailable"),
        ([FEW], None, "slots"),
    ],
)
def test_the_most_informative_reason_is_chosen(
    reasons: list[Reason], unavailable: set[str] | None, name: str
) -> None:
    frozen = None if unavailable is None else frozenset(unavailable)
    assert main_reason(reasons, frozen).name == name


@given(st.lists(st.text(max_size=80), max_size=5))
def test_arbitrary_text_never_breaks_the_parser_or_counts_as_room(lines: list[str]) -> None:
    reasons = parse_reasons(lines)
    if any(reason.scope != "place" for reason in reasons):
        assert main_reason(reasons, frozenset()).name != "turn"
