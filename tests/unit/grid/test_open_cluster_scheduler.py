# SPDX-License-Identifier: BSD-3-Clause
"""Jobs, free places, details and refusals as Open Cluster Scheduler 9.1.4 and 9.0.13 print them."""

from __future__ import annotations

from datetime import datetime

import pytest

from folders import DATA, OCS
from gridhub.grid.details import has_job, parse_details
from gridhub.grid.engine import AnswerError
from gridhub.grid.job_numbers import parse_job_numbers
from gridhub.grid.jobs import State, parse_qstat
from gridhub.grid.places import Requirements, parse_places, parse_queue, unavailable_resources
from gridhub.grid.reasons import Reason, main_reason, parse_reasons, refusal
from gridhub.grid.submit import is_qmaster_away, is_unknown_job, parse_job_id
from recorded import GB

#: The session of alice in the recordings.
ALICE = "00112233445566778899aabbccddeeff"


def read(name: str) -> bytes:
    return (OCS / name).read_bytes()


def text(name: str) -> str:
    return read(name).decode()


@pytest.mark.parametrize(
    ("name", "job", "state"),
    [
        ("9.1.4/mixed_f_ne_xml_alice.out", f"jupyterhub-{ALICE}", State.RUNNING),
        ("9.1.4/mixed_f_ne_xml_alice.out", "t-eqw", State.ERROR),
        ("9.1.4/mixed_f_ne_xml_alice.out", "t-held", State.HELD),
        ("9.1.4/mixed_f_ne_xml_alice.out", "t-wgpu", State.QUEUED),
        ("9.1.4/held_running_f_ne_xml.out", f"jupyterhub-{ALICE}", State.RUNNING),
        ("9.1.4/transferring_f_ne_xml.out", "t-trans", State.STARTING),
        ("9.1.4/suspended_f_ne_xml.out", "t-rsmap", State.SUSPENDED),
        ("9.1.4/queue_suspended_f_ne_xml.out", "t-s", State.SUSPENDED),
        ("9.1.4/deleting_f_ne_xml.out", f"jupyterhub-{ALICE}", State.DELETING),
        ("9.1.4/rescheduled1_f_ne_xml.out", "t-rerun", State.QUEUED),
        ("9.1.4/rescheduled2_f_ne_xml.out", "t-rerun", State.RUNNING),
        ("9.1.4/not_reporting_f_ne_xml.out", "t-a", State.RUNNING),
        ("9.1.4/array_running_f_ne_xml.out", "t-arr", State.RUNNING),
        ("9.0.13/mixed_f_ne_xml_alice.out", f"jupyterhub-{ALICE}", State.RUNNING),
        ("9.0.13/mixed_f_ne_xml_alice.out", "t-eqw", State.ERROR),
        ("9.0.13/suspended_f_ne_xml.out", f"jupyterhub-{ALICE}", State.SUSPENDED),
        ("9.0.13/deleting_f_ne_xml.out", f"jupyterhub-{ALICE}", State.DELETING),
    ],
)
def test_each_state_of_a_job_is_read(name: str, job: str, state: State) -> None:
    jobs = {each.name: each for each in parse_qstat(read(name))}
    found = jobs[job]
    assert found.state is state
    assert found.host == ("" if state in (State.ERROR, State.HELD, State.QUEUED) else "ocs1")
    assert found.reports is ("not_reporting" not in name)
    assert found.is_rescheduled is ("rescheduled" in name)
    assert parse_job_numbers(text(name)) == {str(each.id) for each in jobs.values()}


def test_times_have_fractions_of_a_second_and_owners_are_read() -> None:
    jobs = parse_qstat(read("9.1.4/mixed_f_ne_xml_alice.out"))
    (ours,) = (job for job in jobs if job.name == f"jupyterhub-{ALICE}")
    started = datetime.fromisoformat("2026-11-28T19:57:14.048514+00:00").timestamp()
    assert (ours.id, ours.owner, ours.since, ours.slots) == (1, "alice", started, 1)
    hostile = {job.name for job in parse_qstat(read("9.1.4/hostile_f_ne_xml.out"))}
    assert 'a&b%lt;c>"d' in hostile  # Grid Engine's own spelling of <
    assert parse_qstat(read("9.1.4/empty_f_ne_xml.out")) == []


def test_what_suspends_a_job_is_known() -> None:
    (job,) = parse_qstat(read("9.1.4/queue_suspended_f_ne_xml.out"))
    assert job.suspended_by == "queue"
    jobs = {job.name: job for job in parse_qstat(read("9.1.4/suspended_f_ne_xml.out"))}
    assert jobs["t-rsmap"].suspended_by == "job"


FINISHED = """
    <job_list state="finished_retained">
      <JB_job_number>77</JB_job_number>
      <JB_name>jupyterhub-x</JB_name>
      <JB_owner>alice</JB_owner>
      <state>f</state>
      <slots>1</slots>
    </job_list>
  </job_info>
</job_info>"""


def test_finished_jobs_that_are_still_listed_are_left_out() -> None:
    """9.2 lists them for a while, as its public source shows."""
    xml = text("9.1.4/mixed_f_ne_xml_alice.out").rstrip()
    whole = xml.removesuffix("</job_info>").rstrip().removesuffix("</job_info>") + FINISHED
    assert len(parse_qstat(whole.encode())) == len(parse_qstat(xml.encode()))
    assert parse_job_numbers(whole) == parse_job_numbers(xml)
    assert "77" in parse_job_numbers(whole.replace(">f<", ">r<"))


def test_a_finished_job_does_not_exist() -> None:
    xml = text("9.1.4/j_running_xml.out")
    assert xml.count("<JAT_status>") == 1
    assert has_job(xml.encode(), "alice")
    assert not has_job(xml.encode(), "bob")
    assert not has_job(xml.replace("<JAT_status>128<", "<JAT_status>65536<").encode(), "alice")
    # An array with a task that has not finished, and a job that waits, without any task.
    two = "<JAT_status>65536</JAT_status><JAT_status>128</JAT_status>"
    assert has_job(xml.replace("<JAT_status>128</JAT_status>", two).encode(), "alice")
    assert has_job(read("9.1.4/j_waiting_xml.out"), "alice")
    assert not has_job(read("9.1.4/j_unknown_xml.out"), "alice")


def test_details_of_both_versions_are_read() -> None:
    (new,) = parse_details(read("9.1.4/j_running_xml.out")).values()
    assert (new.job, new.owner, new.cpu, new.vmem, new.is_measured) == (
        1,
        "alice",
        0.0,
        None,
        False,
    )
    (old,) = parse_details(read("9.0.13/j_running_xml.out")).values()
    assert (old.job, old.owner, old.is_measured) == (2, "alice", False)
    (waiting,) = parse_details(read("9.1.4/j_waiting_xml.out")).values()
    assert waiting.reasons[0] == 'queue instance "all.q@ocs1" dropped because it is full'
    assert main_reason(parse_reasons(waiting.reasons), None).name == "full"


def test_free_places_with_maps_and_slots_of_the_host_are_read() -> None:
    (place,) = parse_places(read("9.1.4/room_places_xml.out"))
    assert (place.queue, place.host, place.slots, place.free) == ("all.q", "ocs1", 4, 2)
    assert place.resources == {"gpu": 0.0, "h_vmem": 5 * GB, "accel": 0.0, "slots": 2.0}
    assert set(place.levels.values()) == {"h"}
    for resource in ("gpu", "accel"):
        want = Requirements(1, {resource: 1.0})
        assert unavailable_resources(want, [place]) == {resource}
    # Not seen: an amount with the names of the things that are free.
    named = text("9.1.4/room_places_xml.out").replace(
        '<resource name="accel" type="hc">0<', '<resource name="accel" type="hc">1(a1)<'
    )
    assert parse_places(named.encode())[0].resources["accel"] == 1.0
    (full,) = parse_places(read("9.1.4/places_f_F_accel_xml_u_at.out"))
    assert (full.free, full.resources["accel"]) == (0, 1.0)
    (older,) = parse_places(read("9.0.13/places_f_F_accel_xml_u_at.out"))
    assert older.host == "ocs1"
    assert len(parse_queue(read("9.1.4/room_waiting_xml.out"))) > 5
    assert parse_queue(read("9.0.13/waiting_s_p_xml.out"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        # Without a parallel environment, and with one: the host's four slots are taken.
        ("verify_p_busy.err", Reason("full", "place")),
        ("verify_p_busy_pe.err", Reason("full", "place")),
        ("room_verify_p_busy_pe.err", Reason("slots", "slots", "smp", 0.0)),
        ("room_verify_p_busy_gpu.err", Reason("amount", "amount", "gpu", 0.0)),
        ("verify_v_impossible_mem.err", Reason("amount", "amount", "h_vmem", 8 * GB)),
        ("verify_v_impossible_accel.err", Reason("amount", "amount", "accel", 2.0)),
        ("verify_v_impossible_gpu.err", Reason("amount", "amount", "gpu", 2.0)),
        ("verify_v_impossible_pe.err", Reason("slots", "slots", "smp", 0.0)),
    ],
)
def test_what_dry_runs_lack_is_named(name: str, reason: Reason) -> None:
    assert parse_reasons(text(f"9.1.4/{name}").splitlines())[0] == reason


def test_dry_runs_that_succeed_and_requests_that_are_refused() -> None:
    assert parse_reasons(text("9.1.4/room_verify_p_possible.out").splitlines()) == []
    reason, words = refusal(text("9.1.4/verify_e_impossible.err").splitlines())
    assert (reason.name, words) == ("other", "")


def test_answers_of_qsub_and_a_qmaster_that_is_down_are_read() -> None:
    assert parse_job_id(text("9.1.4/qsub_terse.out")) > 0
    for name in ("stopped_qsub.err", "stopped_qdel.out", "stopped_qstat_f_ne_xml.err"):
        assert is_qmaster_away(text(f"9.1.4/{name}")), name
    assert is_unknown_job(text("9.1.4/qdel_gone_by_name.out"))
    assert not is_unknown_job(text("9.1.4/qdel_running_by_name.out"))
    with pytest.raises(AnswerError):
        parse_qstat(read("9.1.4/stopped_j_xml.out"))


def test_every_recording_is_used_by_a_test() -> None:
    texts = [path.read_text("utf-8") for path in DATA.parent.rglob("*.py")]
    for version in ("9.1.4", "9.0.13"):
        for path in (OCS / version).iterdir():
            name = path.name.removesuffix(".out").removesuffix(".err")
            assert any(name in each for each in texts), path
