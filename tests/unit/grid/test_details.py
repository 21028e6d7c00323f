# SPDX-License-Identifier: BSD-3-Clause
"""Details that ``qstat -j`` prints, each attributed to the right job."""

from __future__ import annotations

import contextlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folders import QSTAT
from gridhub.grid.details import Details, parse_details
from gridhub.grid.engine import AnswerError, GridEngineError
from recorded import Recorded, answer, element, read

FULL_HOST = 'queue instance "all.q@exec2" dropped because it is full'


LITTLE_MEMORY = (
    '(-l h_rt=1000,h_vmem=7.9G) cannot run at host "exec1" because it offers only hc:h_vmem=7.219G'
)


#: Text that bob put into his job wherever Grid Engine accepts text.
FORGED = "WORDS OF BOB"


def test_usage_and_reasons_are_read_by_job(recorded: Recorded) -> None:
    assert read(recorded, "details.xml") == {
        51: Details(51, "alice", cpu=13.76, vmem=1658880.0),
        55: Details(55, "alice", reasons=(FULL_HOST, LITTLE_MEMORY)),
        56: Details(56, "alice", reasons=(FULL_HOST, LITTLE_MEMORY)),
        57: Details(57, "bob", reasons=(FULL_HOST, "Job is in hold state")),
    }


def test_the_reason_of_an_error_is_grid_engines_text_without_time_and_place(
    recorded: Recorded,
) -> None:
    errors = ("can't chdir to /no/such/folder: No such file or directory",)
    # Both tasks of the array job have the error, but the job's details list it only once.
    assert recorded("job_error.xml").count("No such file") == 2
    assert read(recorded, "job_error.xml")[20].errors == errors
    assert read(recorded, "ocs_job_error.xml")[2].errors == errors
    assert all(not each.errors for each in read(recorded, "details.xml").values())


def test_answers_of_open_cluster_scheduler_are_read_too(recorded: Recorded) -> None:
    # The job has run for a minute, but systemd has not reported the job's memory.
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
    assert parse_details(xml.encode())[1] == Details(1, "alice", cpu=75.25, vmem=150.0, rss=150.0)


IN_ERROR = ("Job is in error state",)


@pytest.mark.parametrize("name", ["job_unknown.xml", "ocs_job_unknown.xml"])
def test_jobs_that_are_gone_have_no_details(recorded: Recorded, name: str) -> None:
    assert read(recorded, name) == {}


def test_a_qmaster_that_is_down_does_not_count_as_an_unreadable_answer(recorded: Recorded) -> None:
    with pytest.raises(GridEngineError, match="unable to send message to qmaster") as caught:
        read(recorded, "job_qmaster_down.xml")
    assert not isinstance(caught.value, AnswerError), "a smaller query would not help"


def test_a_persons_text_does_not_appear_in_any_details(recorded: Recorded) -> None:
    xml = recorded("details.xml")
    # Bob put the text, plain and as XML, into -v, into -ac and into an argument.
    assert xml.count(FORGED) == 7
    assert FORGED not in repr(read(recorded, "details.xml"))


def test_control_characters_and_broken_utf_8_do_not_hide_any_details() -> None:
    xml = (QSTAT / "bad_characters.xml").read_bytes()
    assert b"\x01" in xml
    assert b"\xff\xfe\xc3" in xml
    assert b"\xed\xa0\x80" in xml
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(xml)
    details = parse_details(xml)
    assert details[55].reasons == (FULL_HOST, LITTLE_MEMORY)
    assert details[58].owner == "bob"


def as_grid_engine(words: str | bytes) -> bytes:
    """Escape a person's text as Grid Engine 8.1.9 does in ``details.xml``."""
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


#: Texts that would describe job 55 if they were mistaken for Grid Engine's own output.
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


#: Elements of bob's job that hold his own text.
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
def test_no_text_in_a_job_changes_the_details_of_another(
    place: tuple[str, bytes], words: list[str | bytes]
) -> None:
    xml = (QSTAT / "details.xml").read_bytes()
    head, bobs = xml.split(b"<JB_job_number>57<", 1)
    tag, before = place
    element = b"<%s>%s<" % (tag.encode(), before)
    assert element in bobs
    forged = b"<%s>%s<" % (tag.encode(), b"".join(map(as_grid_engine, words)))
    bobs = bobs.replace(element, forged, 1)
    assert parse_details(head + b"<JB_job_number>57<" + bobs) == parse_details(xml)


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
        # Here, the elements are not where Grid Engine prints them.
        answer(element("JB_env_list", ONE + ALICE)),
        answer(element("JB_job_number", element("JB_owner", "alice") + ONE)),
        element("detailed_job_info", element("messages", element("element", ONE + ALICE))).encode(),
        element("detailed_job_info", element("djob_info", ONE + ALICE)).encode(),
    ],
)
def test_a_job_printed_twice_or_incompletely_is_left_out(xml: bytes) -> None:
    assert parse_details(xml) == {}


def test_elements_count_only_in_their_proper_place() -> None:
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


def test_the_usage_of_a_parallel_jobs_tasks_is_added_up() -> None:
    def usage(tag: str, cpu: str) -> str:
        pair = element("UA_name", "cpu") + element("UA_value", cpu)
        return element(tag, element("scaled", pair))

    parts = "".join(element("element", usage("PET_scaled_usage", cpu)) for cpu in ("2.5", "N/A"))
    task = usage("JAT_scaled_usage_list", "1.000000") + element("JAT_task_list", parts)
    job = ONE + ALICE + element("JB_ja_tasks", element("element", task))
    assert parse_details(answer(job))[5].cpu == 3.5


def test_a_running_job_has_no_reasons_even_if_hosts_are_full(
    recorded: Recorded,
) -> None:
    reasons = {job: each.reasons for job, each in read(recorded, "details.xml").items()}
    assert [job for job in sorted(reasons) if reasons[job]] == [55, 56, 57]


def test_messages_for_all_jobs_are_stored_once(recorded: Recorded) -> None:
    messages = element("MES_message", "full") * 3
    messages = element("SME_global_message_list", element("element", messages))
    jobs = (element("JB_job_number", str(number)) + ALICE for number in (5, 6))
    five, six = parse_details(answer(*jobs, messages=element("element", messages))).values()
    assert five.reasons == ("full",) * 3
    assert five.reasons is six.reasons


@pytest.mark.parametrize("name", ["details.xml", "job_error.xml", "ocs_job_running.xml"])
@given(st.data())
def test_a_damaged_answer_raises_only_an_answer_error(name: str, data: st.DataObject) -> None:
    xml = (QSTAT / name).read_bytes()
    at = data.draw(st.integers(0, len(xml)))
    length = data.draw(st.integers(0, 60))
    new = data.draw(
        st.binary(max_size=40) | st.sampled_from([b"<x>", b"</element>", b"<!DOCTYPE x>"])
    )
    with contextlib.suppress(AnswerError):
        parse_details(xml[:at] + new + xml[at + length :])


@given(st.data())
def test_a_truncated_answer_is_an_error(data: st.DataObject) -> None:
    whole = (QSTAT / "details.xml").read_bytes().rstrip()
    with pytest.raises(AnswerError):
        parse_details(whole[: data.draw(st.integers(0, len(whole) - 1))])
