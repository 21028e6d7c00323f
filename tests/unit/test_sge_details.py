# SPDX-License-Identifier: BSD-3-Clause
"""What pages show of Grid Engine beyond states: parsed, reasoned about, and asked once for all.

``places.xml`` and ``waiting.xml`` are of one moment: 13 (1 slot) and 17 (1 slot, 2 GPUs) run on
exec2, 14 (4 slots) fills exec1, whose queue is disabled; 15 waits for 4 slots, 16 for 7.5 GB. Each
worker has 4 slots and 8 GB, exec2 has 2 GPUs. ``details.xml`` is of another: 51 of alice runs, 55
and 56 of hers wait, and 57 of bob's holds forged sections about 55.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_grid import DATA, job
from gridhub.grid import reasons, status
from gridhub.grid.details import Details, parse_details
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.numbers import read_number
from gridhub.grid.places import (
    CLOSED,
    SLOTS,
    QueueInstance,
    Requirements,
    free,
    missing,
    parse_places,
    parse_queue,
)
from gridhub.grid.reasons import Reason, main_reason, parse_reasons
from gridhub.grid.status import CachedQuery, ClusterStatus

GB = 2.0**30
Recorded = Callable[[str], str]


# -- parsing --------------------------------------------------------------------------------------


FULL_HOST = 'queue instance "all.q@exec2" dropped because it is full'
LITTLE_MEMORY = (
    '(-l h_rt=1000,h_vmem=7.9G) cannot run at host "exec1" because it offers only hc:h_vmem=7.219G'
)
#: What bob has written into his job, wherever Grid Engine takes words.
FORGED = "WORDS OF BOB"


def read(recorded: Recorded, name: str) -> dict[int, Details]:
    return parse_details(recorded(name).encode())


def test_usage_and_reasons_are_read_by_job(recorded: Recorded) -> None:
    assert read(recorded, "details.xml") == {
        51: Details(51, "alice", cpu=13.76, vmem=1658880.0),
        55: Details(55, "alice", reasons=(FULL_HOST, LITTLE_MEMORY)),
        56: Details(56, "alice", reasons=(FULL_HOST, LITTLE_MEMORY)),
        57: Details(57, "bob", reasons=(FULL_HOST, "Job is in hold state")),
    }


def test_the_reason_of_an_error_is_in_grid_engines_words_without_when_and_where(
    recorded: Recorded,
) -> None:
    said = ("can't chdir to /no/such/folder: No such file or directory",)
    # Of both tasks of an array, once.
    assert recorded("job_error.xml").count("No such file") == 2
    assert read(recorded, "job_error.xml")[20].errors == said
    assert read(recorded, "ocs_job_error.xml")[2].errors == said
    assert all(not each.errors for each in read(recorded, "details.xml").values())


def test_open_cluster_scheduler_is_read_as_well(recorded: Recorded) -> None:
    # It has run for a minute, but systemd has not reported its memory.
    assert read(recorded, "ocs_job_running.xml") == {1: Details(1, "alice", cpu=0.0)}
    full = ('queue instance "all.q@ocs1" dropped because it is full',)
    reasons = read(recorded, "ocs_job_error.xml")[2].reasons
    assert reasons == (*full, "All queues dropped because of overload or full", *IN_ERROR)
    xml = recorded("ocs_job_running.xml")
    for tag, value in (("cpu", "75.250000"), ("rss", "150.000000"), ("maxrss", "160.000000")):
        xml = xml.replace(
            f"{tag}</UA_name>\n              <UA_value>0.000000",
            f"{tag}</UA_name><UA_value>{value}",
        )
    assert parse_details(xml.encode())[1] == Details(1, "alice", cpu=75.25, vmem=150.0)


IN_ERROR = ("Job is in error state",)


@pytest.mark.parametrize("name", ["job_unknown.xml", "ocs_job_unknown.xml"])
def test_nothing_is_known_of_jobs_that_are_gone(recorded: Recorded, name: str) -> None:
    assert read(recorded, name) == {}


def test_a_qmaster_that_is_away_is_no_answer_that_cannot_be_read(recorded: Recorded) -> None:
    with pytest.raises(GridEngineError, match="unable to send message to qmaster") as caught:
        read(recorded, "job_qmaster_down.xml")
    assert not isinstance(caught.value, AnswerError), "no smaller question would help"


def test_what_a_person_writes_is_in_no_other_jobs_details(recorded: Recorded) -> None:
    xml = recorded("details.xml")
    # As text and as XML, in -v, -ac and an argument.
    assert xml.count(FORGED) == 7
    assert FORGED not in repr(read(recorded, "details.xml"))


def test_control_characters_and_broken_utf_8_cost_no_job_its_details() -> None:
    xml = (DATA / "bad_characters.xml").read_bytes()
    assert b"\x01" in xml
    assert b"\xff\xfe\xc3" in xml
    assert b"\xed\xa0\x80" in xml
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(xml)
    details = parse_details(xml)
    assert details[55].reasons == (FULL_HOST, LITTLE_MEMORY)
    assert details[58].owner == "bob"


def as_grid_engine(words: str | bytes) -> bytes:
    """Print what a person writes as Grid Engine 8.1.9 does (``details.xml``)."""
    data = words.encode("utf-8", "surrogatepass") if isinstance(words, str) else words
    for mark, entity in (
        (b"&", b"&amp;"),
        (b"<", b"%lt;"),
        (b">", b"&gt;"),
        (b'"', b"&quot;"),
        (b"'", b"&apos;"),
    ):
        data = data.replace(mark, entity)
    return data


#: Sections that would be about 55 if they were read as Grid Engine's own.
SECTIONS = (
    "\n" + "=" * 62 + "\njob_number:                 55\nscheduling info:    WORDS OF BOB\n",
    "</VA_value></job_sublist></JB_env_list></element><element><JB_job_number>55</JB_job_number>"
    "<JB_owner>alice</JB_owner></element></djob_info><messages><element><SME_global_message_list>"
    "<element><MES_message>WORDS OF BOB</MES_message>",
    "]]><JB_owner>alice</JB_owner><!--",
    "<MES_message>WORDS OF BOB</MES_message>",
    "<QIM_message>WORDS OF BOB</QIM_message>",
    "&lt;JB_owner&gt;alice&lt;/JB_owner&gt;",
    "\xc3<JB_owner>alice",
    "\x00\x01\x0b\x1b[2J\x7f\x85\u2028\ud800\uffff",
)
#: Elements of bob's job that hold what he has written.
WRITTEN = (
    ("VA_variable", b"TEXT"),
    ("PN_path", b"/dev/null"),
    ("ST_name", b"line\nbreak"),
    ("JB_job_name", b"a&amp;b%lt;c&gt;&quot;d"),
    ("JB_account", b"%lt;&amp;&gt;&quot;"),
    ("MR_user", b"%lt;&amp;&gt;"),
    ("JB_cwd", b"/home/bob"),
    ("JB_script_file", b"sleep"),
)


@given(
    st.sampled_from(WRITTEN),
    st.lists(
        st.sampled_from(SECTIONS) | st.text(st.characters(exclude_categories=())) | st.binary(),
        max_size=4,
    ),
)
def test_no_words_change_the_details_of_another_job(
    place: tuple[str, bytes], words: list[str | bytes]
) -> None:
    xml = (DATA / "details.xml").read_bytes()
    head, bobs = xml.split(b"<JB_job_number>57<", 1)
    tag, before = place
    element = b"<%s>%s<" % (tag.encode(), before)
    assert element in bobs
    forged = b"<%s>%s<" % (tag.encode(), b"".join(map(as_grid_engine, words)))
    bobs = bobs.replace(element, forged, 1)
    assert parse_details(head + b"<JB_job_number>57<" + bobs) == parse_details(xml)


def element(tag: str, text: str) -> str:
    return f"<{tag}>{text}</{tag}>"


def answer(*jobs: str, messages: str = "") -> bytes:
    """Make an answer about jobs, each as the elements in it."""
    entries = "".join(element("element", job) for job in jobs)
    info = element("djob_info", entries)
    return element("detailed_job_info", info + element("messages", messages)).encode()


ONE = element("JB_job_number", "5")
ALICE, BOB = (element("JB_owner", name) for name in ("alice", "bob"))


@pytest.mark.parametrize(
    "xml",
    [
        answer(ONE + ALICE, ONE + ALICE),
        answer(ONE + ALICE, ONE + BOB),
        answer(ONE + ALICE, ONE),
        answer(ONE + ONE + ALICE),
        answer(ONE + ALICE, ONE + element("JB_job_number", "6") + BOB),
        answer(ONE + ALICE + ALICE),
        answer(ONE + ALICE + BOB),
        answer(ONE),
        answer(ALICE),
        answer(element("JB_job_number", "05") + ALICE),
        answer(element("JB_job_number", "٥") + ALICE),
        answer(element("JB_job_number", "-5") + ALICE),
        answer(element("JB_job_number", "") + ALICE),
        # At another place than Grid Engine's own.
        answer(element("JB_env_list", ONE + ALICE)),
        answer(element("JB_job_number", element("JB_owner", "alice") + ONE)),
        element("detailed_job_info", element("messages", element("element", ONE + ALICE))).encode(),
        element("detailed_job_info", element("djob_info", ONE + ALICE)).encode(),
    ],
)
def test_a_job_that_is_printed_twice_or_not_whole_is_not_known(xml: bytes) -> None:
    assert parse_details(xml) == {}


def test_words_count_at_their_place_only() -> None:
    stray = element("QIM_message", "x") + element("MES_message", "x") + element("UA_value", "7")
    used = element("UA_name", "cpu") + element("UA_value", "7")
    others = (
        stray + used,
        element("JB_context", element("element", stray + used)),
        element("JB_ja_tasks", element("element", stray + used)),
        element("JB_ja_tasks", element("JAT_message_list", element("element", stray))),
        element("JB_env_list", element("e", element("JAT_message_list", element("e", stray)))),
    )
    for other in others:
        assert parse_details(answer(ONE + ALICE + other)) == {5: Details(5, "alice")}
    assert parse_details(answer(ONE + ALICE, messages=stray)) == {5: Details(5, "alice")}


def test_the_tasks_of_a_parallel_job_use_together() -> None:
    def usage(tag: str, cpu: str) -> str:
        pair = element("UA_name", "cpu") + element("UA_value", cpu)
        return element(tag, element("scaled", pair))

    parts = "".join(element("element", usage("PET_scaled_usage", cpu)) for cpu in ("2.5", "N/A"))
    task = usage("JAT_scaled_usage_list", "1.000000") + element("JAT_task_list", parts)
    job = ONE + ALICE + element("JB_ja_tasks", element("element", task))
    assert parse_details(answer(job))[5].cpu == 3.5


def test_a_job_that_runs_waits_for_nothing_whatever_is_said_of_full_hosts(
    recorded: Recorded,
) -> None:
    reasons = {job: each.reasons for job, each in read(recorded, "details.xml").items()}
    assert [job for job in sorted(reasons) if reasons[job]] == [55, 56, 57]


def test_what_is_said_to_all_jobs_is_kept_once(recorded: Recorded) -> None:
    messages = element("MES_message", "full") * 3
    messages = element("SME_global_message_list", element("element", messages))
    jobs = (element("JB_job_number", str(number)) + ALICE for number in (5, 6))
    five, six = parse_details(answer(*jobs, messages=element("element", messages))).values()
    assert five.reasons == ("full",) * 3
    assert five.reasons is six.reasons


@pytest.mark.parametrize("name", ["details.xml", "job_error.xml", "ocs_job_running.xml"])
@given(st.data())
def test_no_damage_raises_anything_but_an_answer_error(name: str, data: st.DataObject) -> None:
    xml = (DATA / name).read_bytes()
    at = data.draw(st.integers(0, len(xml)))
    length = data.draw(st.integers(0, 60))
    new = data.draw(
        st.binary(max_size=40) | st.sampled_from([b"<x>", b"</element>", b"<!DOCTYPE x>"])
    )
    with contextlib.suppress(AnswerError):
        parse_details(xml[:at] + new + xml[at + length :])


@given(st.data())
def test_an_answer_that_breaks_off_is_none(data: st.DataObject) -> None:
    whole = (DATA / "details.xml").read_bytes().rstrip()
    with pytest.raises(AnswerError):
        parse_details(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0.0),
        ("4.000G", 4 * GB),
        ("512.000M", 512 * 2.0**20),
        ("3k", 3000.0),
        ("2.000000", 2.0),
        ("N/A", None),
        ("", None),
        ("INFINITY", math.inf),
        ("infinity", math.inf),
        ("infinitely", None),
        ("-1", None),
        ("1e9", None),
        ("١", None),
    ],
)
def test_numbers_are_read_with_grid_engines_multipliers(text: str, number: float | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("words", "free"),
    [
        ("<slots_used>1</slots_used>", 3),
        ("<slots_used>1</slots_used><slots_resv>2</slots_resv>", 1),
        ("<slots_used>3</slots_used><slots_resv>2</slots_resv>", 0),
        # A limit of the host is below what the queue has left.
        ("<slots_used>1</slots_used><resource name='slots'>2</resource>", 2),
        ("<slots_used>1</slots_used><resource name='slots'>N/A</resource>", 3),
        ("<slots_used>1</slots_used><resource name='slots'>infinity</resource>", 3),
    ],
)
def test_free_slots_are_what_neither_jobs_nor_reservations_hold(words: str, free: int) -> None:
    queue = f"<name>all.q@exec1</name><slots_total>4</slots_total>{words}"
    xml = f"<job_info><queue_info><Queue-List>{queue}</Queue-List></queue_info></job_info>"
    assert parse_places(xml.encode())[0].free == free


def test_the_tasks_of_an_array_wait_as_one_job() -> None:
    jobs = "".join(
        f"<job_list><JB_job_number>{number}</JB_job_number></job_list>" for number in (7, 9, 9, 8)
    )
    xml = f"<job_info><queue_info/><job_info>{jobs}</job_info></job_info>"
    assert parse_queue(xml.encode()) == [7, 9, 8]


def test_places_are_read_with_what_is_free(recorded: Recorded) -> None:
    assert parse_places(recorded("places.xml").encode()) == [
        QueueInstance("all.q", "exec1", 4, 0, False, {"h_vmem": 4 * GB, "slots": 0.0}),
        QueueInstance("all.q", "exec2", 4, 2, True, {"h_vmem": 6 * GB, "gpu": 0.0, "slots": 2.0}),
    ]


def test_waiting_jobs_are_read_in_their_order(recorded: Recorded) -> None:
    assert parse_queue(recorded("waiting.xml").encode()) == [15, 16]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parsers_otherwise_than_with_an_answer_error(data: bytes) -> None:
    for parse in (parse_details, parse_places, parse_queue):
        with pytest.raises(AnswerError):
            parse(data)


# -- why a job waits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "what"),
    [
        # As sgeobj and schedd print them (msg_schedd.h of Grid Engine 8.1).
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
        ('has no permission for cluster queue "all.q"', "permission", ""),
        ('Job 0 has no permission for host "exec1"', "permission", ""),
        ('cannot run because no access to pe "smp"', "permission", ""),
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
        ('cannot run in PE "smp" because it only offers 0 slots', "slots", ""),
        ("something of a release to come", "other", ""),
    ],
)
def test_what_the_scheduler_says_is_understood(line: str, name: str, what: str) -> None:
    (reason,) = parse_reasons([line])
    assert (reason.name, reason.what) == (name, what)


def test_what_the_scheduler_really_said_is_understood(recorded: Recorded) -> None:
    reasons = parse_reasons(read(recorded, "details.xml")[55].reasons)
    assert [(reason.name, reason.what, reason.offer) for reason in reasons] == [
        ("amount", "h_vmem", 7.219 * GB),
        ("full", "", None),
    ]


def test_a_queue_that_is_closed_to_the_person_is_told_after_what_matters() -> None:
    # Grid Engine 8.1.9, on a cluster with a queue for others; exec1 has no GPUs, exec2 has 2.
    said = """Unable to run job: Job 27 has no permission for cluster queue "closed.q"
Job 27 cannot run because it exceeds limit "/////" in rule "trial/1"
Job 27 cannot run in PE "smp" because it only offers 0 slots
verification: no suitable queues
Exiting."""
    reasons = parse_reasons(said.splitlines())
    assert [reason.name for reason in reasons] == ["quota", "slots", "permission"]
    assert reasons[0].what == "trial/1"
    said = """Unable to run job: Job 1 has no permission for cluster queue "closed.q"
Job 1 (-l gpu=9) cannot run in queue "all.q@exec1" because job requests unknown resource (gpu)
Job 1 (-l gpu=9) cannot run at host "exec2" because it offers only hc:gpu=2.000000
verification: no suitable queues
Exiting."""
    amount = Reason("amount", "amount", "gpu", 2)
    assert parse_reasons(said.splitlines())[0] == amount
    (reason,) = parse_reasons(['Job 39 cannot run because no access to PE "shut"'])
    assert (reason.name, reason.scope) == ("permission", "job")


def test_of_all_offers_the_largest_is_told_and_what_says_nothing_is_left_out() -> None:
    offers = (f"cannot run at host because it offers only hc:gpu={n}.000000" for n in (0, 2, 1))
    text = ["Unable to run job: error: no suitable queues", *offers, "Exiting.", "verification: x"]
    assert parse_reasons(text) == [Reason("amount", "amount", "gpu", 2)]
    assert parse_reasons(["(Collecting of scheduler job information is turned off)"]) == []


def test_what_is_said_to_many_jobs_is_worked_out_once() -> None:
    hosts = [f'queue instance "all.q@node{n}" dropped because it is full' for n in range(500)]
    reasons._meaning.cache_clear()
    for number in range(10):
        own = f'(-l gpu={number}) cannot run at host "node" because it offers only hc:gpu=0.000000'
        for _ in range(3):
            assert [reason.name for reason in parse_reasons([*hosts, own])] == ["amount", "full"]
    assert reasons._meaning.cache_info().misses == 510


FULL_NOW, GPU = Reason("full", "place"), Reason("amount", "amount", "gpu", 1)
QUOTA, BARRED = Reason("quota", "job", "r/1"), Reason("permission", "barred")
FEW, OTHER = Reason("slots", "slots"), Reason("other", "other")


@pytest.mark.parametrize(
    ("reasons", "lacks", "told"),
    [
        ([], None, "queued"),
        ([], set(), "turn"),
        ([], {SLOTS}, "lacks"),
        ([], {CLOSED}, "closed"),
        # A place that is full says nothing of one that has room.
        ([FULL_NOW], set(), "turn"),
        ([FULL_NOW], None, "full"),
        ([QUOTA, FULL_NOW], {SLOTS}, "quota"),
        ([GPU, FEW], {"gpu"}, "lacks"),
        # A queue that is not for this job is no news; unless there is no other.
        ([FEW, BARRED], set(), "slots"),
        ([FEW, BARRED], {SLOTS}, "lacks"),
        ([BARRED], set(), "permission"),
        ([BARRED, OTHER], set(), "other"),
        ([FULL_NOW, BARRED], {SLOTS}, "lacks"),
        ([FULL_NOW, BARRED], set(), "full"),
        ([OTHER], set(), "other"),
        ([OTHER], {SLOTS}, "lacks"),
        ([FEW], None, "slots"),
    ],
)
def test_what_says_most_is_told(reasons: list[Reason], lacks: set[str] | None, told: str) -> None:
    assert main_reason(reasons, None if lacks is None else frozenset(lacks)).name == told


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_text_breaks_the_understanding_and_none_is_taken_for_room(lines: list[str]) -> None:
    reasons = parse_reasons(lines)
    if any(reason.scope != "place" for reason in reasons):
        assert main_reason(reasons, frozenset()).name != "turn"


# -- what is missing ------------------------------------------------------------------------------

FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 4 * GB})
ROOMY = QueueInstance(
    "all.q", "exec2", 4, 2, True, {"h_vmem": 6 * GB, "gpu": 1.0, "s_vmem": math.inf}
)


@pytest.mark.parametrize(
    ("want", "lacks"),
    [
        (Requirements(1, {"h_vmem": GB, "gpu": 0}), set()),
        (Requirements(2, {"h_vmem": 6 * GB, "gpu": 1}), set()),
        (Requirements(4, {"h_vmem": GB}), {SLOTS}),
        (Requirements(1, {"h_vmem": 7 * GB}), {"h_vmem"}),
        (Requirements(1, {"h_vmem": GB, "gpu": 2}), {"gpu"}),
        (Requirements(3, {"h_vmem": 7 * GB, "gpu": 2}), {SLOTS, "h_vmem", "gpu"}),
        (Requirements(1, {"fpga": 1}), {"fpga"}),
        (Requirements(1, {"s_vmem": 99 * GB, "gpu": 1}), set()),
        (Requirements(1, {"s_vmem": 99 * GB, "gpu": 2}), {"gpu"}),
        (Requirements(1, {}, queue="other.q"), {CLOSED}),
        (Requirements(1, {}, queue="all.q"), set()),
        (Requirements(1, {}, queue="all.q@exec2"), set()),
        (Requirements(1, {}, queue="all.q@exec1"), {SLOTS}),
        (Requirements(1, {}, queue="all.q@exec3"), {CLOSED}),
        (Requirements(1, {}, queue="all.q@@workers"), set()),
    ],
)
def test_what_is_missing_is_named(want: Requirements, lacks: set[str]) -> None:
    assert missing(want, [FULL, ROOMY]) == lacks


def test_a_full_place_is_a_better_guess_than_one_that_has_no_such_thing() -> None:
    full, without = replace(ROOMY, free=0), replace(ROOMY, resources={})
    for places in ([full, without], [without, full]):
        assert missing(Requirements(1, {"gpu": 1.0}), places) == {SLOTS}


def test_a_place_that_takes_no_jobs_has_nothing_free() -> None:
    closed = replace(ROOMY, is_open=False)
    assert missing(Requirements(1), [FULL, closed]) == {SLOTS}
    assert missing(Requirements(1), [closed]) == {CLOSED}
    assert missing(Requirements(1), []) == {CLOSED}


@given(
    st.builds(
        Requirements,
        st.integers(1, 8),
        st.dictionaries(st.sampled_from(["h_vmem", "gpu"]), st.floats(0, 9), max_size=2),
    ),
    st.lists(
        st.builds(
            QueueInstance,
            st.just("all.q"),
            st.just("h"),
            st.integers(0, 8),
            st.integers(0, 8),
            st.booleans(),
            st.dictionaries(st.sampled_from(["h_vmem", "gpu"]), st.floats(0, 9), max_size=2),
        ),
        max_size=5,
    ),
)
def test_nothing_is_missing_exactly_where_one_place_has_it_all(
    want: Requirements, places: list[QueueInstance]
) -> None:
    fits = any(
        place.is_open
        and place.free >= want.slots
        and all(place.resources.get(n, 0) >= a for n, a in want.resources.items())
        for place in places
    )
    assert (missing(want, places) == frozenset()) is fits


# -- asking ---------------------------------------------------------------------------------------


class Question:
    """A question that is counted, and answered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.fails = False
        self.held = asyncio.Event()
        self.held.set()

    async def ask(self) -> int:
        self.asked += 1
        await self.held.wait()
        if self.fails:
            raise GridEngineError("qmaster is down")
        return self.asked

    def glance(self) -> CachedQuery[int]:
        return CachedQuery(self.ask, 10.0, lambda: self.now)


async def settle(glance: CachedQuery[int]) -> None:
    if glance._question:
        await glance._question


@pytest.mark.asyncio
async def test_however_many_look_there_is_one_question_in_an_interval() -> None:
    question = Question()
    glance = question.glance()
    assert await asyncio.gather(*(glance.look(5) for _ in range(100))) == [1] * 100
    question.now = 9.9
    assert glance.answer == 1
    assert question.asked == 1
    assert glance.age == pytest.approx(9.9)


@pytest.mark.asyncio
async def test_an_old_answer_stands_while_the_next_one_is_asked_for() -> None:
    question = Question()
    glance = question.glance()
    await glance.look(5)
    question.held.clear()
    question.now = 10.1
    assert glance.answer == 1
    looked = await asyncio.wait_for(glance.look(60), 5)
    assert looked == 1, "nobody waits where the answer is not old"
    question.held.set()
    await settle(glance)
    assert glance.answer == 2
    assert glance.age == 0


@pytest.mark.asyncio
async def test_nobody_waits_longer_than_their_patience() -> None:
    question = Question()
    question.held.clear()
    glance = question.glance()
    assert await asyncio.wait_for(glance.look(0.01), 5) is None
    question.held.set()
    await settle(glance)
    assert glance.answer == 1


@pytest.mark.asyncio
async def test_a_failure_keeps_the_last_answer_and_its_age_and_is_not_asked_at_once_again() -> None:
    question = Question()
    glance = question.glance()
    await glance.look(5)
    question.fails, question.now = True, 50.0
    assert await glance.look(5) == 1
    assert glance.age == 50.0
    assert glance.answer == 1
    assert question.asked == 2


@pytest.mark.asyncio
async def test_a_fault_of_ours_is_no_answer_and_breaks_no_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask() -> int:
        raise KeyError("no such field")

    glance = CachedQuery(ask, 10.0)
    assert await glance.look(5) is None
    await settle(glance)
    assert "Cannot process Grid Engine's details" in caplog.text


@pytest.mark.asyncio
async def test_grid_engine_is_asked_about_so_many_jobs_the_newest_and_no_more(
    grid: GridEngine,
    fake: Callable[[str, str], object],
    bin_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "MAX_JOBS", 2)
    fake("qstat", f'echo "$@" > {bin_dir}/calls; cat {DATA}/details.xml')
    details = await ClusterStatus(grid, lambda: [55, 51, 56], set).details.look(10)
    assert (bin_dir / "calls").read_text(encoding="utf-8").split() == ["-xml", "-j", "55,56"]
    assert details is not None
    assert set(details) == {55, 56}, "what was not asked for does not count"


@pytest.mark.asyncio
async def test_an_answer_of_long_ago_is_none() -> None:
    question = Question()
    glance = question.glance()
    await glance.look(5)
    question.fails, question.now = True, 60.1
    assert glance.answer is None
    assert await glance.look(5) is None


@pytest.mark.asyncio
async def test_an_answer_that_stays_the_same_is_asked_for_more_seldom() -> None:
    now, answer, asked = 0.0, "never", []

    async def ask() -> str:
        asked.append(now)
        return answer

    glance = CachedQuery(ask, 10.0, lambda: now, longest=40.0)
    for second in range(150):
        now = float(second)
        answer = "never" if second < 110 else "now"
        assert glance.answer in (answer, "never", None)
        await settle(glance)
    # At once as often as before when it has changed.
    assert asked == [0, 10, 30, 70, 110, 120, 140]


@pytest.mark.asyncio
async def test_a_slow_grid_engine_is_asked_seldom() -> None:
    question = Question()
    glance = question.glance()
    question.held.clear()
    assert glance.answer is None
    await asyncio.sleep(0)
    question.now = 5.0
    question.held.set()
    await settle(glance)
    assert glance.age == 5.0, "it is as old as the question"
    question.now = 24.9  # 5 s for the answer, and four times that
    assert glance.answer == 1
    assert glance._question is None
    question.now = 25.1
    assert glance.answer == 1
    assert glance._question is not None
    await settle(glance)


@pytest.mark.asyncio
async def test_grid_engine_is_asked_for_all_jobs_and_all_complexes_at_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake(
        "qstat",
        f'echo "$@" >> {bin_dir}/calls\n'
        f'case "$1 $2" in "-xml -j") cat {DATA}/details.xml ;;'
        f' "-f -F") cat {DATA}/places.xml ;; *) cat {DATA}/waiting.xml ;; esac',
    )
    outlook = ClusterStatus(grid, lambda: [55, 51], lambda: {"gpu", "h_vmem"})
    details = await outlook.details.look(10)
    assert details is not None
    assert set(details) == {51, 55}
    places = await outlook.places.look(10)
    assert places is not None
    assert [place.host for place in places] == ["exec1", "exec2"]
    assert await outlook.line.look(10) == [15, 16]
    assert (bin_dir / "calls").read_text("utf-8").splitlines() == [
        "-xml -j 51,55",
        "-f -F slots,gpu,h_vmem -xml -u @",
        "-xml -s p -u *",
    ]


class Cluster:
    """A Grid Engine with jobs, some of which spoil every answer that they are part of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spoilt: Collection[int]) -> None:
        self.spoilt = spoilt
        self.questions: list[list[int]] = []
        monkeypatch.setattr("gridhub.grid.status.ask_details", self.ask)

    async def ask(self, grid: object, jobs: list[int]) -> dict[int, Details]:
        self.questions.append(jobs)
        if set(jobs) & set(self.spoilt):
            raise AnswerError("too long")
        return {number: Details(number, "alice") for number in jobs}


@pytest.mark.asyncio
@pytest.mark.parametrize("spoilt", [[1], [1000], [517], [3, 4]])
async def test_a_job_that_spoils_the_answer_is_found_and_left_out(
    grid: GridEngine, monkeypatch: pytest.MonkeyPatch, spoilt: list[int]
) -> None:
    cluster = Cluster(monkeypatch, spoilt)
    jobs = list(range(1, 1001))
    outlook = ClusterStatus(grid, lambda: jobs, set)
    assert await outlook._ask_details() == {n: Details(n, "alice") for n in jobs if n not in spoilt}
    assert len(cluster.questions) <= status.MAX_QUESTIONS
    cluster.questions.clear()
    await outlook._ask_details()
    assert cluster.questions == [[n for n in jobs if n not in spoilt]], (
        "it is not asked about again"
    )
    now = time.monotonic() + status.SPOILT_PAUSE
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cluster.spoilt = []
    assert set(await outlook._ask_details()) == set(jobs)


@pytest.mark.asyncio
async def test_many_jobs_that_spoil_answers_are_left_out_bit_by_bit(
    grid: GridEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = range(1, 1001, 100)
    cluster = Cluster(monkeypatch, spoilt)
    outlook = ClusterStatus(grid, lambda: range(1, 1001), set)
    found: dict[int, Details] = {}
    for _ in range(10):
        cluster.questions.clear()
        found = await outlook._ask_details()
        assert len(cluster.questions) <= status.MAX_QUESTIONS
    assert set(found) == set(range(1, 1001)) - set(spoilt)


@pytest.mark.asyncio
async def test_a_job_with_megabytes_of_words_costs_itself_its_details_only(
    grid: GridEngine,
    fake: Callable[[str, str], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gridhub.grid.details.MESSAGES_SIZE", 2**16)
    monkeypatch.setattr("gridhub.grid.details.JOB_SIZE", 2**10)
    # 57 is the one with the words, in any answer it is part of.
    fake(
        "qstat",
        f"cat {DATA}/details.xml\n"
        'case "$3" in *57*) head -c 1000000 /dev/zero | tr "\\0" A ;; esac',
    )
    details = await ClusterStatus(grid, lambda: [51, 55, 56, 57], set).details.look(10)
    assert details is not None
    assert set(details) == {51, 55, 56}


@pytest.mark.asyncio
async def test_a_grid_engine_that_does_not_answer_is_asked_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake("qstat", f"echo x >> {bin_dir}/calls; cat {DATA}/job_qmaster_down.xml")
    assert await ClusterStatus(grid, lambda: [51, 55], set).details.look(10) is None
    assert (bin_dir / "calls").read_text(encoding="utf-8") == "x\n"


@pytest.mark.asyncio
async def test_details_are_those_of_the_job_and_its_owner(grid: GridEngine) -> None:
    async def ask() -> dict[int, Details]:
        return {5: mine}

    mine = Details(5, "alice")
    outlook = ClusterStatus(grid, list, list)
    outlook.details = CachedQuery(ask, 5.0)
    assert outlook.of(job(number=5)) is None
    await outlook.details.look(10)
    assert outlook.of(job(number=5)) is mine
    assert outlook.of(job(number=5, owner="bob")) is None
    assert outlook.of(job(number=6)) is None


@pytest.mark.asyncio
async def test_without_jobs_there_is_no_question_about_them(grid: GridEngine) -> None:
    assert await ClusterStatus(grid, list, list).details.look(5) == {}


def test_what_is_free_counts_each_host_once_and_only_where_jobs_can_start() -> None:
    shared = replace(ROOMY, queue="other.q", free=1)
    closed = replace(ROOMY, host="exec3", is_open=False)
    places = [FULL, ROOMY, shared, closed]
    assert free(places, SLOTS) == (2, 2)
    assert free(places, "h_vmem") == (10 * GB, 6 * GB)
    assert free(places, "gpu") == (1, 1)
    assert free(places, "s_vmem") == (math.inf, math.inf)
    assert free([closed], "gpu") == (0, 0)
    assert free(places, SLOTS, "other.q") == (1, 1)
    assert free(places, SLOTS, "all.q@exec1") == (0, 0)
