# SPDX-License-Identifier: BSD-3-Clause
"""Job lists and job numbers that Grid Engine prints."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collecting import Recorded
from fake_grid import SINCE, job, listing
from folders import FILES, QSTAT
from gridhub.grid import command
from gridhub.grid.engine import AnswerError
from gridhub.grid.jobs import Job, State, parse_qstat, read_state
from gridhub.grid.submit import parse_job_id
from gridhub.spawner.waiting import why_silent


class TestStates:
    @pytest.mark.parametrize(
        ("letters", "state"),
        [
            ("qw", State.QUEUED),
            ("Rq", State.QUEUED),
            ("hqw", State.HELD),
            ("hRwq", State.HELD),
            ("Eqw", State.ERROR),
            ("hEqw", State.ERROR),
            ("ERq", State.ERROR),
            ("t", State.STARTING),
            ("Rt", State.STARTING),
            ("r", State.RUNNING),
            ("Rr", State.RUNNING),
            ("s", State.SUSPENDED),
            ("S", State.SUSPENDED),
            ("T", State.SUSPENDED),
            ("ts", State.SUSPENDED),
            ("Rs", State.SUSPENDED),
            ("dr", State.DELETING),
            ("dt", State.DELETING),
            ("ds", State.DELETING),
            ("dRr", State.DELETING),
            ("dhqw", State.DELETING),
            ("", State.UNKNOWN),
            ("z", State.UNKNOWN),
        ],
    )
    def test_the_state_letters_of_qstat_are_parsed(self, letters: str, state: State) -> None:
        assert read_state(letters) is state

    @pytest.mark.parametrize(
        ("letters", "state"),
        [("hr", State.RUNNING), ("ht", State.STARTING), ("hs", State.SUSPENDED)],
    )
    def test_a_hold_does_not_stop_a_running_job(self, letters: str, state: State) -> None:
        assert read_state(letters) is state

    @given(st.text(max_size=6))
    def test_any_letters_have_a_state(self, letters: str) -> None:
        assert isinstance(read_state(letters), State)


SESSION = "jupyterhub-00112233445566778899aabbccddeeff"


OF_BOB = "jupyterhub-ffeeddccbbaa99887766554433221100"


class TestJobLists:
    def jobs(self, recorded: Recorded, name: str) -> dict[int, Job]:
        return {job.id: job for job in parse_qstat(recorded(name).encode())}

    @pytest.mark.parametrize("name", ["empty.xml", "unknown_user.xml"])
    def test_an_empty_list_has_no_jobs(self, recorded: Recorded, name: str) -> None:
        assert parse_qstat(recorded(name).encode()) == []

    def test_jobs_of_all_kinds_are_read(self, recorded: Recorded) -> None:
        jobs = self.jobs(recorded, "mixed.xml")
        assert jobs == {
            10: Job(10, "STDIN", "alice", "r", "exec1", 3, since=SINCE),
            9: Job(9, SESSION, "alice", "r", "exec2", 1, since=SINCE),
            11: Job(11, "plain", "alice", "r", "exec2", 1, since=SINCE),
            15: Job(15, "astray", "alice", "Eqw", "", 1),
            17: Job(17, "astraytasks", "alice", "Eqw", "", 1),
            12: Job(12, "held", "alice", "hqw", "", 1),
            16: Job(16, "tasks", "alice", "hqw", "", 1),
        }
        assert jobs[9].state is State.RUNNING
        assert jobs[15].state is State.ERROR
        assert jobs[12].state is State.HELD

    def test_jobs_of_several_owners_are_read(self, recorded: Recorded) -> None:
        jobs = self.jobs(recorded, "two_owners.xml")
        assert {job.owner for job in jobs.values()} == {"alice", "bob"}
        assert (jobs[13].name, jobs[13].state) == (OF_BOB, State.RUNNING)
        assert (jobs[14].state, jobs[14].slots, jobs[14].host) == (State.QUEUED, 8, "")

    @pytest.mark.parametrize(
        ("name", "number", "state", "host"),
        [
            ("two_owners.xml", 14, State.QUEUED, ""),
            ("suspended.xml", 19, State.SUSPENDED, "exec1"),
            ("held_running.xml", 11, State.RUNNING, "exec2"),
            ("deleting.xml", 9, State.DELETING, "exec2"),
        ],
    )
    def test_states_are_read_from_the_letters_and_not_from_the_attribute(
        self, recorded: Recorded, name: str, number: int, state: State, host: str
    ) -> None:
        job = self.jobs(recorded, name)[number]
        assert (job.state, job.host) == (state, host)

    @pytest.mark.parametrize(
        ("letters", "states", "cause"),
        [
            # Seen with 8.1.9: qmod -sj, qmod -sq, subordinate_list, calendar, suspend_thresholds.
            ("s", "", "job"),
            ("S", "s", "queue"),
            ("S", "S", "rank"),
            ("S", "C", "calendar"),
            ("T", "A", "load"),
            ("ST", "A", "load"),
            # After a calendar was removed, its jobs stay suspended.
            ("S", "", ""),
        ],
    )
    def test_the_cause_of_a_suspension_is_read(
        self, recorded: Recorded, letters: str, states: str, cause: str
    ) -> None:
        xml = recorded("not_reporting.xml").replace("<state>au<", f"<state>{states}<")
        (job,) = parse_qstat(xml.encode())
        job = replace(job, letters=letters)
        assert job.state is State.SUSPENDED
        assert job.suspended_by == cause
        assert f"is suspended on {job.host}" in why_silent(job, 0.0)

    def test_a_job_on_a_host_that_does_not_report_is_marked(self, recorded: Recorded) -> None:
        (job,) = parse_qstat(recorded("not_reporting.xml").encode())
        assert not job.reports
        assert (job.state, job.host) == (State.RUNNING, "exec1")
        for name in ("mixed.xml", "two_owners.xml", "suspended.xml"):
            assert all(job.reports for job in self.jobs(recorded, name).values())

    @pytest.mark.parametrize("states", ["d", "a", "adsSCDEo", ""])
    def test_other_states_of_a_queue_do_not_mark_its_host_as_not_reporting(
        self, recorded: Recorded, states: str
    ) -> None:
        xml = recorded("not_reporting.xml").replace("<state>au<", f"<state>{states}<")
        assert [job.reports for job in parse_qstat(xml.encode())] == [True]

    def test_the_tasks_of_an_array_are_one_job(self, recorded: Recorded) -> None:
        assert recorded("array_running.xml").count("<JB_job_number>16<") == 3
        jobs = parse_qstat(recorded("array_running.xml").encode())
        assert [job.state for job in jobs if job.id == 16] == [State.RUNNING]

    def test_the_first_of_an_arrays_tasks_is_kept(self) -> None:
        jobs = parse_qstat(listing(job("a", "r"), job("a", "hqw")).encode())
        assert [job.state for job in jobs] == [State.RUNNING]

    def test_a_job_name_cannot_break_the_list(self, recorded: Recorded) -> None:
        found = self.jobs(recorded, "hostile_names.xml")[18]
        assert (found.owner, found.name) == ("alice", 'a&b%lt;c>"d')

    @given(st.text(st.characters(categories=["Cc", "Cn"])) | st.binary(), st.integers(-40, 0))
    def test_characters_that_are_not_xml_do_not_hide_any_job(
        self, words: str | bytes, shift: int
    ) -> None:
        junk = words.encode() if isinstance(words, str) else words
        junk = junk.translate(None, b"<&")
        xml = listing(job(name="mine"), job(name="JUNK", number=2)).encode()
        # The list is parsed in pieces, and the first piece ends near the junk.
        before = command.PIECE - xml.index(b"JUNK") + shift
        junk = b"x" * before + junk + b"\xc3"
        found = {each.id: each for each in parse_qstat(xml.replace(b"JUNK", junk))}
        assert found[1].name == "mine"
        assert found[2].name.startswith("x" * before)
        assert found[2].owner == "alice"

    @given(
        st.lists(
            st.builds(
                job,
                st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1),
                st.sampled_from(["r", "qw", "hqw", "Eqw", "t", "s", "dr"]),
                number=st.integers(1, 2**31),
                owner=st.sampled_from(["alice", "bob"]),
                host=st.sampled_from(["exec1", "exec2.cluster"]),
                reports=st.booleans(),
            ).map(lambda job: job if job.host else replace(job, reports=True)),
            unique_by=lambda job: job.id,
            max_size=5,
        )
    )
    def test_the_parser_reads_what_the_fake_qstat_prints(self, jobs: list[Job]) -> None:
        jobs = [replace(job, name=job.name.strip()) for job in jobs]
        found = parse_qstat(listing(*jobs).encode())
        assert sorted(found, key=lambda job: job.id) == sorted(jobs, key=lambda job: job.id)

    @pytest.mark.parametrize(
        "xml",
        [
            b"",
            b"error: commlib error: got select error (Connection refused)\n",
            b"<job_info/>",
            b"<job_info><queue_info/></job_info>",
            b"<html><queue_info/><job_info/></html>",
            b"<job_info><queue_info/><job_info/></job_info>trailing words",
            b"\xff\xfe",
            b"<?xml version='1.0' encoding='no-such'?><job_info/>",
            b"<?xml version='1.0' encoding='utf-32'?><job_info/>",
        ],
    )
    def test_anything_but_a_job_list_is_refused(self, xml: bytes) -> None:
        with pytest.raises(AnswerError):
            parse_qstat(xml)

    @pytest.mark.parametrize("name", ["job_qmaster_down.xml", "job_unknown.xml"])
    def test_other_answers_of_qstat_are_not_taken_for_job_lists(
        self, recorded: Recorded, name: str
    ) -> None:
        with pytest.raises(AnswerError, match="did not print a job list"):
            self.jobs(recorded, name)

    @given(st.data())
    def test_a_truncated_list_is_refused(self, data: st.DataObject) -> None:
        # If the list were accepted, the jobs that were cut off would count as gone.
        whole = (QSTAT / "mixed.xml").read_bytes().rstrip()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(AnswerError):
            parse_qstat(whole[:cut])

    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_raise_only_an_answer_error(self, xml: bytes) -> None:
        with contextlib.suppress(AnswerError):
            parse_qstat(xml)

    @given(
        st.sampled_from(sorted(QSTAT.glob("*.xml"))),
        st.integers(0),
        st.integers(0, 30),
        st.binary(max_size=12)
        | st.sampled_from([b"<job_list>", b"\0", b"&x;", b"]]>", b"9" * 5000, "٤".encode()]),
    )
    def test_a_damaged_answer_raises_only_an_answer_error(
        self, path: Path, at: int, length: int, new: bytes
    ) -> None:
        xml = path.read_bytes()
        at %= len(xml)
        with contextlib.suppress(AnswerError):
            parse_qstat(xml[:at] + new + xml[at + length :])

    @pytest.mark.parametrize("tag", ["JB_job_number", "slots"])
    @pytest.mark.parametrize("text", ["", "x", "1.5", "9" * 5000])
    def test_a_job_that_cannot_be_read_is_left_out_alone(
        self, recorded: Recorded, tag: str, text: str
    ) -> None:
        xml = recorded("two_owners.xml").replace(f"<{tag}>14<", f"<{tag}>{text}<")
        xml = xml.replace(f"<{tag}>8<", f"<{tag}>{text}<")
        assert xml != recorded("two_owners.xml")
        jobs = {job.id for job in parse_qstat(recorded("two_owners.xml").encode())}
        assert {job.id for job in parse_qstat(xml.encode())} == jobs - {14}

    @pytest.mark.parametrize(
        "entities",
        [
            "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 10}">' for n in range(10)),
            f'<!ENTITY e9 "{"&big;" * 20_000}"><!ENTITY big "{"x" * 100_000}">',
        ],
        ids=["nested", "quadratic"],
    )
    def test_entities_that_would_fill_the_memory_are_refused(
        self, entities: str, tmp_path: Path
    ) -> None:
        bomb = tmp_path / "bomb.xml"
        bomb.write_text(
            f"<?xml version='1.0'?><!DOCTYPE job_info [{entities}]>"
            "<job_info><queue_info>&e9;</queue_info><job_info/></job_info>",
            encoding="utf-8",
        )
        script = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from gridhub.grid import engine, jobs\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
            "try:\n"
            "    jobs.parse_qstat(Path(sys.argv[2]).read_bytes())\n"
            "except engine.AnswerError as error:\n"
            "    print(error)\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", script, str(FILES), str(bomb)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "limit on input amplification factor" in found.stdout, found

    def test_files_are_not_read_through_entities(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("<job_list><JB_owner>secret</JB_owner></job_list>", encoding="utf-8")
        xml = (
            f"<!DOCTYPE job_info [<!ENTITY x SYSTEM '{secret.as_uri()}'>]>"
            "<job_info><queue_info>&x;</queue_info><job_info/></job_info>"
        )
        with pytest.raises(AnswerError):
            parse_qstat(xml.encode())


class TestJobNumbers:
    @pytest.mark.parametrize(
        ("name", "number"), [("qsub_terse.txt", 1), ("qsub_jsv.txt", 23), ("qsub_now.txt", 22)]
    )
    def test_the_job_number_is_found_in_the_output_of_qsub(
        self, recorded: Recorded, name: str, number: int
    ) -> None:
        assert parse_job_id(recorded(name)) == number

    def test_output_of_the_other_stream_before_the_number_is_ignored(
        self, recorded: Recorded
    ) -> None:
        assert parse_job_id(recorded("qsub_now.err.txt") + recorded("qsub_now.txt")) == 22

    @pytest.mark.parametrize(
        "name",
        ["qsub_not_terse.txt", "qsub_array.txt", "qsub_now.err.txt", "qsub_now_refused.err.txt"],
    )
    def test_other_output_of_qsub_is_not_taken_for_a_number(
        self, recorded: Recorded, name: str
    ) -> None:
        with pytest.raises(AnswerError, match="did not print a job number"):
            parse_job_id(recorded(name))

    @pytest.mark.parametrize(
        "output",
        ["", "\n", "0", "-1", "+1", "1.2", "1 2", "٤", "４", "12345678901", "1\nbye", "x 1", "1_0"],
    )
    def test_look_alikes_of_a_number_are_refused(self, output: str) -> None:
        with pytest.raises(AnswerError):
            parse_job_id(output)

    @given(st.text(max_size=40))
    def test_arbitrary_text_raises_only_an_answer_error(self, output: str) -> None:
        try:
            assert parse_job_id(output) >= 1
        except AnswerError as error:
            assert len(str(error)) < 2000
