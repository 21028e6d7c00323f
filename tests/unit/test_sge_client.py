# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, their parsers, and the collector."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import sge_client
from fake_grid import DATA, SINCE, Qstat, alive, job, listing, until
from sge_client import (
    GONE,
    AnswerError,
    Collector,
    GridEngine,
    GridEngineError,
    Job,
    State,
    parse_job_id,
    parse_qstat,
    read_state,
    run,
)

Recorded = Callable[[str], str]
Fake = Callable[[str, str], Path]


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
    def test_the_letters_of_qstat_are_understood(self, letters: str, state: State) -> None:
        assert read_state(letters) is state

    @pytest.mark.parametrize(
        ("letters", "state"),
        [("hr", State.RUNNING), ("ht", State.STARTING), ("hs", State.SUSPENDED)],
    )
    def test_a_hold_on_a_job_that_runs_does_not_stop_it(self, letters: str, state: State) -> None:
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
    def test_no_jobs_are_no_jobs(self, recorded: Recorded, name: str) -> None:
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

    def test_a_job_on_a_host_that_does_not_report_is_told_from_the_others(
        self, recorded: Recorded
    ) -> None:
        (job,) = parse_qstat(recorded("not_reporting.xml").encode())
        assert not job.reports
        assert (job.state, job.host) == (State.RUNNING, "exec1")
        for name in ("mixed.xml", "two_owners.xml", "suspended.xml"):
            assert all(job.reports for job in self.jobs(recorded, name).values())

    @pytest.mark.parametrize("states", ["d", "a", "adsSCDEo", ""])
    def test_other_states_of_a_queue_do_not_mean_that_its_host_does_not_report(
        self, recorded: Recorded, states: str
    ) -> None:
        xml = recorded("not_reporting.xml").replace("<state>au<", f"<state>{states}<")
        assert [job.reports for job in parse_qstat(xml.encode())] == [True]

    def test_the_tasks_of_an_array_are_one_job(self, recorded: Recorded) -> None:
        assert recorded("array_running.xml").count("<JB_job_number>16<") == 3
        jobs = parse_qstat(recorded("array_running.xml").encode())
        assert [job.state for job in jobs if job.id == 16] == [State.RUNNING]

    def test_of_the_tasks_of_an_array_the_first_is_kept(self) -> None:
        jobs = parse_qstat(listing(job("a", "r"), job("a", "hqw")).encode())
        assert [job.state for job in jobs] == [State.RUNNING]

    def test_a_job_name_cannot_break_the_list(self, recorded: Recorded) -> None:
        found = self.jobs(recorded, "hostile_names.xml")[18]
        assert (found.owner, found.name) == ("alice", 'a&b%lt;c>"d')

    @given(st.text(st.characters(categories=["Cc", "Cn"])) | st.binary(), st.integers(-40, 0))
    def test_characters_that_are_not_xml_hide_no_job(self, words: str | bytes, shift: int) -> None:
        junk = words.encode() if isinstance(words, str) else words
        junk = junk.translate(None, b"<&")
        xml = listing(job(name="mine"), job(name="JUNK", number=2)).encode()
        # Wherever the pieces are cut.
        before = sge_client._PIECE - xml.index(b"JUNK") + shift
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
    def test_what_the_stand_in_prints_is_what_the_parser_reads(self, jobs: list[Job]) -> None:
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
    def test_other_answers_of_qstat_are_no_job_lists(self, recorded: Recorded, name: str) -> None:
        with pytest.raises(AnswerError, match="did not print a job list"):
            self.jobs(recorded, name)

    @given(st.data())
    def test_a_list_that_breaks_off_is_refused(self, data: st.DataObject) -> None:
        # Otherwise the jobs that are missing would be taken for gone.
        whole = (DATA / "mixed.xml").read_bytes().rstrip()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(AnswerError):
            parse_qstat(whole[:cut])

    @given(st.binary(max_size=200))
    def test_no_bytes_raise_anything_but_an_answer_error(self, xml: bytes) -> None:
        with contextlib.suppress(AnswerError):
            parse_qstat(xml)

    @given(
        st.sampled_from(sorted(DATA.glob("*.xml"))),
        st.integers(0),
        st.integers(0, 30),
        st.binary(max_size=12)
        | st.sampled_from([b"<job_list>", b"\0", b"&x;", b"]]>", b"9" * 5000, "٤".encode()]),
    )
    def test_no_damage_raises_anything_but_an_answer_error(
        self, path: Path, at: int, length: int, new: bytes
    ) -> None:
        xml = path.read_bytes()
        at %= len(xml)
        with contextlib.suppress(AnswerError):
            parse_qstat(xml[:at] + new + xml[at + length :])

    @pytest.mark.parametrize("tag", ["JB_job_number", "slots"])
    @pytest.mark.parametrize("text", ["", "x", "1.5", "9" * 5000])
    def test_a_job_without_a_number_is_refused(
        self, recorded: Recorded, tag: str, text: str
    ) -> None:
        xml = recorded("two_owners.xml").replace(f"<{tag}>14<", f"<{tag}>{text}<")
        xml = xml.replace(f"<{tag}>8<", f"<{tag}>{text}<")
        assert xml != recorded("two_owners.xml")
        with pytest.raises(AnswerError):
            parse_qstat(xml.encode())

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
            "import sge_client\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
            "try:\n"
            "    sge_client.parse_qstat(Path(sys.argv[2]).read_bytes())\n"
            "except sge_client.AnswerError as error:\n"
            "    print(error)\n"
        )
        files = Path(sge_client.__file__).parent
        found = subprocess.run(
            [sys.executable, "-c", script, str(files), str(bomb)],
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
    def test_the_number_is_found_in_what_qsub_prints(
        self, recorded: Recorded, name: str, number: int
    ) -> None:
        assert parse_job_id(recorded(name)) == number

    def test_chatter_on_the_other_stream_before_the_number_does_no_harm(
        self, recorded: Recorded
    ) -> None:
        assert parse_job_id(recorded("qsub_now.err.txt") + recorded("qsub_now.txt")) == 22

    @pytest.mark.parametrize(
        "name",
        ["qsub_not_terse.txt", "qsub_array.txt", "qsub_now.err.txt", "qsub_now_refused.err.txt"],
    )
    def test_other_words_of_qsub_are_no_number(self, recorded: Recorded, name: str) -> None:
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
    def test_no_text_raises_anything_but_an_answer_error(self, output: str) -> None:
        try:
            assert parse_job_id(output) >= 1
        except AnswerError as error:
            assert len(str(error)) < 2000


#: A command that waits for its child, whose process id it writes to a file.
WITH_A_CHILD = "sleep 1000 & echo $! > {child}.new; mv {child}.new {child}; wait"


class TestRun:
    async def test_output_is_returned_and_arguments_arrive_as_they_are(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", 'printf "%s|" "$@"')
        assert await run(grid, "qstat", "-u", "a b", "$HOME", "*", "") == b"-u|a b|$HOME|*||"

    async def test_nothing_of_our_environment_reaches_the_command(
        self, grid: GridEngine, fake: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
        monkeypatch.setenv("SGE_ROOT", "/elsewhere")
        fake("qstat", "env")
        found = dict(
            line.split("=", 1) for line in (await run(grid, "qstat")).decode().splitlines()
        )
        for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(shells_own, None)
        assert found == grid.environment()
        assert found["SGE_ROOT"] == str(grid.root)

    async def test_a_failure_carries_the_words_of_grid_engine(
        self, grid: GridEngine, fake: Fake, recorded: Recorded
    ) -> None:
        fake("qstat", f"cat {DATA / 'qmaster_down.err.txt'} >&2; exit 1")
        with pytest.raises(GridEngineError) as caught:
            await run(grid, "qstat")
        assert recorded("qmaster_down.err.txt").strip() in str(caught.value)

    async def test_a_failure_without_words_carries_its_exit_status(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "echo no list; exit 3")
        with pytest.raises(GridEngineError, match="qstat: exit status 3"):
            await run(grid, "qstat")

    async def test_warnings_of_a_command_that_succeeds_are_not_its_output(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "echo warning >&2; echo list")
        assert await run(grid, "qstat") == b"list\n"

    async def test_words_that_are_not_utf8_are_carried_too(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", r"printf '\377' >&2; exit 1")
        with pytest.raises(GridEngineError, match="\N{REPLACEMENT CHARACTER}"):
            await run(grid, "qstat")

    async def test_a_missing_command_is_named(self, grid: GridEngine) -> None:
        with pytest.raises(GridEngineError, match="qstat cannot be started: .*No such file"):
            await run(grid, "qstat")

    async def test_a_command_that_may_not_be_run_is_named(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "").chmod(0o644)
        with pytest.raises(GridEngineError, match="qstat cannot be started"):
            await run(grid, "qstat")

    async def test_more_output_than_a_pipe_holds_is_read(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2")
        assert len(await run(grid, "qstat")) == 3_000_000

    @pytest.mark.parametrize("stream", ["", ">&2"])
    async def test_no_more_than_the_limit_is_read(
        self, grid: GridEngine, fake: Fake, tmp_path: Path, stream: str
    ) -> None:
        fake("qstat", f"head -c 5000 /dev/zero {stream}")
        await run(grid, "qstat", limit=5000)
        with pytest.raises(AnswerError, match="qstat: the answer has more than 4999 bytes"):
            await run(grid, "qstat", limit=4999)
        fake("qstat", f"echo $$ > {tmp_path}/pid; exec cat /dev/zero {stream}")
        for limit in range(0, 2**20, 2**16):
            async with asyncio.timeout(5):
                with pytest.raises(AnswerError, match="more than"):
                    await run(grid, "qstat", limit=limit)
            assert not alive(int((tmp_path / "pid").read_text("utf-8")))

    @pytest.mark.parametrize(
        "script",
        [
            "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > parent; wait",
            "sleep 1000 & echo $! > child; echo $$ > parent; exit 0",
        ],
        ids=["wrapper waits", "wrapper has ended"],
    )
    async def test_the_time_limit_kills_everything_the_command_started(
        self, grid: GridEngine, fake: Fake, tmp_path: Path, script: str
    ) -> None:
        fake("qstat", f"cd {tmp_path}\n{script}")
        with pytest.raises(GridEngineError, match="qstat gave no answer within 1 s"):
            await run(replace(grid, timeout=1.0), "qstat")
        for name in ("child", "parent"):
            pid = int((tmp_path / name).read_text(encoding="utf-8"))
            await until(lambda pid=pid: not alive(pid))

    async def test_giving_up_kills_everything_the_command_started(
        self, grid: GridEngine, fake: Fake, tmp_path: Path
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", WITH_A_CHILD.format(child=child))
        running = asyncio.create_task(run(grid, "qstat"))
        await until(child.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        pid = int(child.read_text(encoding="utf-8"))
        await until(lambda: not alive(pid))

    async def test_giving_up_while_the_command_starts_kills_everything_as_well(
        self, grid: GridEngine, fake: Fake, tmp_path: Path
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", WITH_A_CHILD.format(child=child))
        running = asyncio.create_task(run(grid, "qstat"))
        for _ in range(2):
            await asyncio.sleep(0)
        # The loop stands still until the command has a child: asyncio has not returned it yet.
        deadline = time.monotonic() + 10
        while not child.exists() and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251  # to await would let the start be over
        pid = int(child.read_text(encoding="utf-8"))
        running.cancel()
        try:
            await asyncio.wait({running}, timeout=10)
            assert running.cancelled()
            await until(lambda: not alive(pid))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def end(collector: Collector) -> None:
    tasks = [task for task in (collector._task, *collector._deletions.values()) if task]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def collector(grid: GridEngine) -> AsyncIterator[Collector]:
    collector = Collector(grid, short_interval=0.01, long_interval=1000.0)
    yield collector
    await end(collector)


async def news_until(collector: Collector, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await collector.news(10)


HERE, NOT_HERE = [job("a")], list[Job]()


class TestVerdicts:
    """What the answers mean, without asking: the clock is a number."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    async def watching(
        self, grid: GridEngine, now: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> Collector:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        collector = Collector(grid, clock=lambda: now[0])
        collector.watch("a", "alice", waiting=False)
        return collector

    async def test_a_job_nobody_asked_about_is_not_known(self, watching: Collector) -> None:
        assert watching.look_up("a") is None
        assert watching.look_up("b") is None

    async def test_one_answer_without_the_job_is_not_enough(self, watching: Collector) -> None:
        watching.take(HERE, 1)
        watching.take(NOT_HERE, 2)
        assert watching.look_up("a") == HERE[0]

    async def test_two_answers_without_the_job_are_enough(self, watching: Collector) -> None:
        watching.take(NOT_HERE, 1)
        assert watching.look_up("a") is None
        watching.take(NOT_HERE, 2)
        assert watching.look_up("a") is GONE

    async def test_the_two_answers_must_follow_each_other(self, watching: Collector) -> None:
        for asked_at in range(1, 9):
            watching.take(HERE if asked_at % 2 else NOT_HERE, asked_at)
            assert watching.look_up("a") == HERE[0]

    async def test_a_job_that_comes_back_is_back(self, watching: Collector) -> None:
        watching.take(NOT_HERE, 1)
        watching.take(NOT_HERE, 2)
        watching.take(HERE, 3)
        assert watching.look_up("a") == HERE[0]

    async def test_a_job_of_the_name_that_is_somebody_elses_is_another_job(
        self, watching: Collector
    ) -> None:
        for asked_at in (1, 2):
            watching.take([job("a", owner="bob")], asked_at)
        assert watching.look_up("a") is GONE

    async def test_of_jobs_of_one_name_the_oldest_counts(self, watching: Collector) -> None:
        watching.take([job("a", number=5), job("a", "qw", number=6)], 1)
        found = watching.look_up("a")
        assert isinstance(found, Job)
        assert found.id == 5

    @pytest.mark.parametrize("asked_at", [4.0, 5.0])
    async def test_a_job_submitted_after_the_question_is_not_missed(
        self, watching: Collector, now: list[float], asked_at: float
    ) -> None:
        now[0] = 5.0
        watching.watch("b", "alice", waiting=True)
        for _ in range(5):
            watching.take(NOT_HERE, asked_at)
        assert watching.look_up("a") is GONE
        assert watching.look_up("b") is None

    async def test_a_job_on_its_way_to_grid_engine_is_not_missed(
        self, watching: Collector, now: list[float]
    ) -> None:
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (1, 20, 40):
            watching.take(NOT_HERE, asked_at)
        assert watching.look_up("b") is None
        now[0] = 41.0
        watching.submitted("b")
        for asked_at in (41, 42):
            watching.take(NOT_HERE, asked_at)
            assert watching.look_up("b") is None
        watching.take(NOT_HERE, 43)
        assert watching.look_up("b") is GONE

    async def test_a_job_that_never_came_is_over_when_it_cannot_come_any_more(
        self, watching: Collector
    ) -> None:
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (41, 42):
            watching.take(NOT_HERE, asked_at)
        assert watching.look_up("b") is GONE

    async def test_what_was_missed_before_the_job_was_submitted_does_not_count(
        self, watching: Collector, now: list[float]
    ) -> None:
        # A request may stand in the broker's line for longer than anybody thought.
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (41, 42):
            watching.take(NOT_HERE, asked_at)
        now[0] = 50.0
        watching.submitted("b")
        assert watching.look_up("b") is None
        watching.take([job("b", "qw")], 51)
        assert watching.look_up("b") == job("b", "qw")

    async def test_watching_again_does_not_start_over(
        self, watching: Collector, now: list[float]
    ) -> None:
        watching.take(NOT_HERE, 1)
        now[0] = 5.0
        watching.watch("a", "alice", waiting=True, delay=99)
        watching.take(NOT_HERE, 2)
        assert watching.look_up("a") is GONE

    async def test_a_released_job_is_watched_until_it_is_gone(self, watching: Collector) -> None:
        watching.take(HERE, 1)
        watching.release("a")
        watching.release("a")
        for asked_at, jobs in ((2, HERE), (3, NOT_HERE), (4, HERE), (5, NOT_HERE)):
            watching.take(jobs, asked_at)
            assert watching.watches("a")
        watching.take(NOT_HERE, 6)
        assert not watching.watches("a")
        assert watching.look_up("a") is None

    async def test_a_job_that_is_gone_is_not_watched_once_it_is_released(
        self, watching: Collector
    ) -> None:
        watching.take(NOT_HERE, 1)
        watching.take(NOT_HERE, 2)
        watching.release("a")
        watching.release("a")
        assert not watching.watches("a")

    async def test_a_released_job_is_to_be_deleted_unless_it_is_being_deleted(
        self, watching: Collector
    ) -> None:
        assert watching.take(HERE, 1) == []
        watching.release("a")
        assert watching.take(HERE, 2) == HERE
        assert watching.take([job("a", "dr")], 3) == []
        # Its host is lost: only a deletion from now on takes the job away.
        lost = job("a", "dr", reports=False)
        assert watching.take([lost], 4) == [lost]
        assert watching.take(HERE, 4) == HERE
        assert watching.take([job("a", owner="bob")], 5) == []

    @pytest.mark.parametrize("asked_at", [4.0, 5.0])
    async def test_an_answer_from_before_a_job_was_released_deletes_nothing(
        self, watching: Collector, now: list[float], asked_at: float
    ) -> None:
        # The stop that released it has had it deleted already.
        now[0] = 5.0
        watching.release("a")
        now[0] = 9.0
        watching.release("a")
        assert watching.take(HERE, asked_at) == []
        assert watching.take(HERE, 6) == HERE

    async def test_strays_of_this_hub_and_nobody_elses_are_to_be_deleted(
        self, watching: Collector
    ) -> None:
        ours, others = "jupyterhub-" + "a" * 32, "jupyterhub-" + "b" * 8 + "a" * 24
        watching.watch(ours[:-1] + "b", "alice", waiting=False)
        jobs = [
            job(ours, number=1),
            job(ours[:-1] + "b", number=2),
            job(others, number=3),
            job(ours + "a", number=4),
            job("x" + ours, number=5),
            job("plain", number=6),
            job(ours[:-1] + "c", "dr", number=7),
        ]
        assert watching.take(jobs, 1) == []  # nobody has said yet which are ours
        watching.sweep(re.compile("jupyterhub-" + "a" * 8 + "[0-9a-f]{24}"))
        assert watching.take(jobs, 2) == [jobs[0]]

    async def test_the_age_is_that_of_the_last_good_answers_question(
        self, watching: Collector, now: list[float]
    ) -> None:
        assert watching.age is None
        now[0] = 9.0
        watching.take(HERE, 7.5)
        assert watching.age == 1.5

    @given(st.lists(st.booleans(), max_size=12))
    def test_gone_means_two_answers_in_a_row(self, present: list[bool]) -> None:
        collector = Collector(GridEngine(Path("/")), clock=lambda: 0.0)
        collector._watched["a"] = sge_client._Watched("alice", 0.0, waiting=False)
        for asked_at, here in enumerate(present, 1):
            collector.take(HERE if here else NOT_HERE, asked_at)
        assert (collector.look_up("a") is GONE) == (present[-2:] == [False, False])


class TestPauses:
    @pytest.fixture
    def collector(self, grid: GridEngine, monkeypatch: pytest.MonkeyPatch) -> Collector:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        return Collector(grid, 1.0, 15.0, 600.0, 30.0, clock=lambda: 0.0)

    def test_who_waits_makes_it_short_and_nobody_at_all_makes_it_longest(
        self, collector: Collector
    ) -> None:
        assert collector._pause() == 600
        collector.watch("a", "alice", waiting=True)
        assert collector._pause() == 1
        collector.watch("a", "alice", waiting=False)
        assert collector._pause() == 15

    def test_a_job_that_went_missing_or_is_to_go_makes_it_short(self, collector: Collector) -> None:
        collector.watch("a", "alice", waiting=False)
        collector.take([job("a")], 1)
        assert collector._pause() == 15
        collector.take([], 2)
        assert collector._pause() == 1
        collector.take([], 3)  # the verdict is final
        assert collector._pause() == 15
        collector.take([job("a")], 4)
        collector.release("a")
        assert collector._pause() == 1

    def test_failures_double_it_up_to_the_longest(self, collector: Collector) -> None:
        collector.watch("a", "alice", waiting=True)
        found = []
        for collector._failures in range(8):
            found.append(collector._pause())
        assert found == [1, 2, 4, 8, 16, 30, 30, 30]


class TestCollector:
    async def test_a_job_is_known_after_the_first_answer(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        assert collector.look_up("a") == job("a")
        assert qstat.calls[0] == "-f -ne -xml -u alice"

    async def test_a_fault_of_ours_does_not_end_the_watch(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        qstat.says(listing(job("a")))
        faults = iter([RuntimeError("a fault of ours")])

        def parse(xml: bytes) -> list[Job]:
            for fault in faults:
                raise fault
            return parse_qstat(xml)

        monkeypatch.setattr(sge_client, "parse_qstat", parse)
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))

    async def test_one_question_serves_all_sessions(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        jobs = [job(f"s{n}", number=n, owner=f"user{n % 50:02}") for n in range(1, 501)]
        qstat.says(listing(*jobs))
        for one in jobs:
            collector.watch(one.name, one.owner, waiting=False)
        await news_until(collector, lambda: collector.age is not None)
        for _ in range(100):
            assert all(isinstance(collector.look_up(one.name), Job) for one in jobs)
        assert qstat.questions == [",".join(f"user{number:02}" for number in range(50))]

    async def test_about_very_many_people_is_asked_as_about_everybody(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        qstat.says(listing(job("s0", owner="user0")))
        monkeypatch.setattr(sge_client, "LONGEST_LIST", len("user0,user1"))
        for number in range(3):
            collector.watch(f"s{number}", f"user{number}", waiting=False)
        await news_until(collector, lambda: collector.look_up("s0"))
        assert qstat.questions[0] == "*"

    async def test_nobody_waiting_means_the_long_interval(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a"))
        await collector.news(0.2)
        assert len(qstat.calls) == 1

    async def test_somebody_waiting_means_the_short_interval(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a", "qw"), job("b", number=2, owner="bob")))
        collector.watch("a", "alice", waiting=True)
        collector.watch("b", "bob", waiting=False)
        await news_until(collector, lambda: len(qstat.calls) >= 4)
        collector.watch("a", "alice", waiting=False)
        async with asyncio.timeout(5):
            before = 0
            while before < len(qstat.calls):
                before = len(qstat.calls)
                await collector.news(0.3)

    async def test_a_job_that_went_missing_is_asked_for_again_soon(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing())
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        assert len(qstat.calls) == 2
        # The verdict is final: no reason to go on asking often.
        await collector.news(0.2)
        assert len(qstat.calls) == 2

    async def test_hurry_asks_before_the_interval_is_over(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a"))
        qstat.says(listing(job("a", "s")))
        collector.hurry()
        await news_until(
            collector,
            lambda: isinstance(job := collector.look_up("a"), Job) and job.state is State.SUSPENDED,
        )

    async def test_a_job_submitted_while_qstat_ran_is_not_missed(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        pipe = qstat.holds_back(1)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await until(lambda: qstat.calls)
        collector.watch("b", "bob", waiting=False)
        await asyncio.to_thread(pipe.write_text, listing(job("a")))
        await news_until(collector, lambda: collector.look_up("b") is GONE)
        # The first answer says nothing of the second job; it takes two more.
        assert qstat.questions == ["alice", "alice,bob", "alice,bob"]

    @pytest.mark.parametrize("failure", ["down", "words", "truncated", "other"])
    async def test_not_knowing_is_never_gone(
        self,
        grid: GridEngine,
        qstat: Qstat,
        recorded: Recorded,
        caplog: pytest.LogCaptureFixture,
        failure: str,
    ) -> None:
        collector = Collector(grid, short_interval=0.01, longest_pause=0.01)
        qstat.says_once(1, listing(job("a")))
        if failure == "down":
            qstat.says("")
        elif failure == "words":
            qstat.says(recorded("qmaster_down.err.txt"))
        elif failure == "truncated":
            qstat.says(recorded("mixed.xml")[:-30])
        else:
            qstat.says(recorded("job_qmaster_down.xml"))
        collector.watch("a", "alice", waiting=True)
        with caplog.at_level(logging.WARNING):
            await news_until(collector, lambda: collector.look_up("a"))
            if failure == "down":
                qstat.fails(recorded("qmaster_down.err.txt"))
            await until(lambda: len(qstat.calls) > 4)
        assert isinstance(collector.look_up("a"), Job)
        assert "keeping them all" in caplog.text
        # And when Grid Engine is back, the truth is found.
        qstat.says(listing())
        if failure == "down":
            qstat.recovers()
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        await end(collector)

    async def test_failures_between_two_good_answers_count_for_nothing(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        collector = Collector(grid, short_interval=0.01, longest_pause=0.01)
        for call, text in enumerate(
            [listing(job("a")), listing(), "", "", listing(job("a", "s"))], 1
        ):
            qstat.says_once(call, text)
        qstat.says(listing())
        collector.watch("a", "alice", waiting=True)
        seen = set()
        while (found := collector.look_up("a")) is not GONE:
            seen.add(found.letters if isinstance(found, Job) else None)
            await collector.news(10)
        assert seen == {None, "r", "s"}
        assert len(qstat.calls) == 7
        await end(collector)

    async def test_nobodys_hurry_makes_a_grid_engine_in_trouble_be_asked_sooner(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.fails()
        collector = Collector(grid, short_interval=0.1, longest_pause=1000.0, least_interval=0.01)
        collector.watch("a", "alice", waiting=True)
        began = time.monotonic()
        while len(qstat.calls) < 3:
            collector.hurry()
            collector.watch("b", "alice", waiting=True)
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.2 + 0.4
        # Its first good answer ends the caution.
        qstat.says(listing(job("a")))
        qstat.recovers()
        await news_until(collector, lambda: collector.look_up("a"))
        assert collector._failures == 0
        await end(collector)

    async def test_a_slow_grid_engine_is_asked_seldom(
        self, grid: GridEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[float] = []

        async def slow(*arguments: object) -> bytes:
            asked.append(time.monotonic())
            await asyncio.sleep(0.1)
            return listing(job("a")).encode()

        monkeypatch.setattr(sge_client, "run", slow)
        collector = Collector(grid, short_interval=0.01)
        collector.watch("a", "alice", waiting=True)
        await until(lambda: len(asked) == 3)
        assert asked[2] - asked[1] >= 0.5
        # Those in a hurry are heard, but not without a pause either.
        while len(asked) < 5:
            collector.hurry()
            await asyncio.sleep(0.005)
        assert 0.2 <= asked[4] - asked[3] < 0.5
        await end(collector)

    async def test_a_hanging_qstat_is_given_up_and_asked_again(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.holds_back(1)
        qstat.says(listing(job("a")))
        collector = Collector(replace(grid, timeout=0.5), short_interval=0.01)
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        await end(collector)

    async def test_many_in_a_hurry_do_not_ask_more_often_than_the_least_interval(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector = Collector(grid, 1.0, 1000.0, least_interval=0.2)
        began = time.monotonic()
        collector.watch("a", "alice", waiting=False)
        for _ in range(4):
            for _ in range(100):
                collector.hurry()
            await collector.news(10)
        await end(collector)
        assert len(qstat.calls) >= 4
        assert time.monotonic() - began >= 3 * 0.2

    async def test_there_is_never_more_than_one_question_at_a_time(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        pipe = qstat.holds_back(1)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await until(lambda: qstat.calls)
        for number in range(2, 50):
            collector.watch(f"s{number}", "alice", waiting=True)
            collector.hurry()
        await collector.news(0.1)
        assert len(qstat.calls) == 1
        await asyncio.to_thread(pipe.write_text, listing(job("a")))
        await news_until(collector, lambda: collector.look_up("a"))

    async def test_nothing_is_asked_when_nothing_is_watched(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing())
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        collector.release("a")
        assert collector._task is not None
        await asyncio.wait_for(collector._task, 10)
        # And it begins again with the next session.
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))

    async def test_the_answer_is_parsed_beside_the_event_loop(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: list[int] = []

        def parse(xml: bytes) -> list[Job]:
            threads.append(threading.get_ident())
            return parse_qstat(xml)

        monkeypatch.setattr(sge_client, "parse_qstat", parse)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        assert threads
        assert threading.get_ident() not in threads

    async def test_everybody_who_waits_hears_the_news(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        waiters: Iterable[asyncio.Task[None]] = [
            asyncio.create_task(collector.news(60)) for _ in range(20)
        ]
        collector.watch("a", "alice", waiting=True)
        await asyncio.wait_for(asyncio.gather(*waiters), 10)

    async def test_waiting_for_news_ends_in_time_without_any(self, collector: Collector) -> None:
        await asyncio.wait_for(collector.news(0.01), 5)

    async def test_giving_up_is_heard_even_when_news_comes_at_the_same_moment(
        self, collector: Collector
    ) -> None:
        # asyncio.wait_for of Python 3.11 would swallow it, and a start would outlive its time.
        waiting = asyncio.create_task(collector.news(60))
        for _ in range(5):
            await asyncio.sleep(0)
        collector.wake()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


OURS = re.compile("jupyterhub-a{8}[0-9a-f]{24}")
STRAY = "jupyterhub-" + "a" * 32


class TestDeletions:
    @pytest.fixture
    def deleted(self, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
        """What was deleted; nothing else happens to it."""
        monkeypatch.setattr(sge_client, "DELETION_PAUSE", 0.02)
        jobs: list[Job] = []

        async def delete(job: Job) -> None:
            jobs.append(job)

        collector.delete = delete
        return jobs

    async def test_a_released_job_is_deleted_until_it_is_gone(
        self, collector: Collector, qstat: Qstat, deleted: list[Job]
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a"))
        assert not deleted
        collector.release("a")
        await until(lambda: len(deleted) > 2)
        assert set(deleted) == {job("a")}
        qstat.says(listing(job("a", "dr")))
        await news_until(collector, lambda: collector._watched["a"].job == job("a", "dr"))
        before = len(deleted)
        await collector.news(10)
        await collector.news(10)
        assert len(deleted) == before  # Grid Engine is at it
        qstat.says(listing())
        await news_until(collector, lambda: not collector.watches("a"))
        assert len(deleted) == before

    async def test_a_job_that_comes_after_it_was_released_is_deleted(
        self, collector: Collector, qstat: Qstat, deleted: list[Job]
    ) -> None:
        # The person gave the start up while the broker was at work.
        qstat.says(listing())
        collector.watch("a", "alice", waiting=True, delay=1000)
        collector.release("a")
        await until(lambda: len(qstat.calls) > 3)
        qstat.says(listing(job("a", "qw")))
        await until(lambda: deleted)
        assert collector.watches("a")

    @pytest.mark.parametrize(
        "fault", [GridEngineError("broker: TimeoutError()"), RuntimeError("a fault of ours")]
    )
    async def test_a_deletion_that_failed_is_tried_again(
        self,
        collector: Collector,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        fault: Exception,
    ) -> None:
        monkeypatch.setattr(sge_client, "DELETION_PAUSE", 0.02)
        tried: list[Job] = []

        async def delete(job: Job) -> None:
            tried.append(job)
            raise fault

        collector.delete = delete
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        collector.release("a")
        await until(lambda: len(tried) == 3)
        assert "Job 1 of alice cannot be deleted now" in caplog.text

    async def test_a_job_is_deleted_by_one_at_a_time(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        begun: list[int] = []
        go_on = asyncio.Event()

        async def delete(job: Job) -> None:
            begun.append(job.id)
            await go_on.wait()

        collector.delete = delete
        qstat.says(listing(job("a"), job("b", number=2)))
        for name in "ab":
            collector.watch(name, "alice", waiting=False)
            collector.release(name)
        await until(lambda: len(begun) == 2)
        asked = len(qstat.calls)
        await until(lambda: len(qstat.calls) > asked + 3)
        assert sorted(begun) == [1, 2]

    async def test_a_deletion_is_not_repeated_before_its_pause_is_over(
        self, collector: Collector, qstat: Qstat, deleted: list[Job], monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(sge_client, "DELETION_PAUSE", 1000.0)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        collector.release("a")
        await until(lambda: len(qstat.calls) > 4)
        assert deleted == [job("a")]

    async def test_strays_are_looked_for_among_the_jobs_of_everybody(
        self, collector: Collector, qstat: Qstat, deleted: list[Job]
    ) -> None:
        qstat.says(listing(job(STRAY, owner="carol"), job("jupyterhub-" + "b" * 32, number=2)))
        collector.watch("a", "alice", waiting=False)
        collector.sweep(OURS)
        await until(lambda: deleted)
        assert set(deleted) == {job(STRAY, owner="carol")}
        assert "*" in qstat.questions[:2]

    async def test_many_strays_hold_up_no_session_that_is_to_end(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        begun: list[str] = []
        go_on = asyncio.Event()

        async def delete(job: Job) -> None:
            begun.append(job.name)
            await go_on.wait()

        collector.delete = delete
        strays = [f"jupyterhub-{'a' * 8}{n:024x}" for n in range(100)]
        # The name of somebody's session makes no session's job of another's.
        mine, borrowed = strays[:2]
        jobs = [job(name, owner="mallory", number=n) for n, name in enumerate(strays, 1)]
        qstat.says(listing(*jobs, job(mine, number=200)))
        for name in (mine, borrowed):
            collector.watch(name, "alice", waiting=False, delay=1000)
        collector.release(mine)
        collector.sweep(OURS)
        await until(lambda: len(collector._deletions) == 101)
        await until(lambda: len(begun) == 3)
        asked = len(qstat.calls)
        await until(lambda: len(qstat.calls) > asked + 3)
        assert len(begun) == 3
        assert mine in begun
        go_on.set()
        await until(lambda: len(begun) == 101)

    async def test_strays_that_are_not_to_be_deleted_do_not_keep_the_broker_busy(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sge_client, "DELETION_PAUSE", 1000.0)
        tried: list[Job] = []

        async def delete(job: Job) -> None:
            tried.append(job)
            raise GridEngineError("not an account of this hub")

        collector.delete = delete
        names = [f"jupyterhub-{'a' * 8}{n:024x}" for n in range(20)]
        qstat.says(listing(*(job(name, number=n) for n, name in enumerate(names, 1))))
        collector.sweep(OURS)
        await until(lambda: len(tried) == 2)
        for calls in range(len(qstat.calls) + 1, len(qstat.calls) + 4):
            collector.hurry()
            await until(lambda calls=calls: len(qstat.calls) >= calls)
        assert len(tried) == 2

    async def test_the_next_look_at_everybody_is_after_the_sweep_interval(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        collector.sweep(OURS)
        begun = collector.clock()
        for seconds in (0.0, 1.0, 599.0, 600.0, 601.0):
            await collector._ask(begun + seconds)
        assert qstat.questions == ["*", "alice", "alice", "*", "alice"]

    async def test_the_sessions_come_first_after_a_sweep_that_failed(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        collector.sweep(OURS)
        begun = collector.clock()
        qstat.fails()
        with pytest.raises(GridEngineError):
            await collector._ask(begun)
        qstat.recovers()
        for seconds in (1.0, 29.0, 30.0, 31.0):
            await collector._ask(begun + seconds)
        assert qstat.questions == ["*", "alice", "alice", "*", "alice"]

    async def test_a_sweep_that_failed_is_made_up_for(self, grid: GridEngine, qstat: Qstat) -> None:
        collector = Collector(grid, short_interval=0.01, longest_pause=0.01)
        qstat.fails()
        collector.sweep(OURS)
        await until(lambda: len(qstat.calls) > 2)
        assert set(qstat.questions) == {"*"}
        qstat.says(listing())
        qstat.recovers()
        await news_until(collector, lambda: collector.age is not None)
        await end(collector)

    async def test_a_hub_without_sessions_can_be_in_a_hurry_too(
        self, collector: Collector, qstat: Qstat, caplog: pytest.LogCaptureFixture
    ) -> None:
        qstat.says(listing())
        collector.sweep(OURS)
        await until(lambda: len(qstat.calls) == 1)
        for calls in (2, 3):
            collector.hurry()
            await until(lambda calls=calls: len(qstat.calls) == calls)
        await collector.news(1)
        assert collector._failures == 0
        assert "Cannot ask" not in caplog.text


CUT_SHORT = listing().encode()[:-9]


class Anything(RuleBasedStateMachine):
    """The collector between sessions that come and go and a Grid Engine that says anything.

    Its own loop runs; only the command is stood in for, so that each answer comes when a rule says
    so. Between two rules one question is waiting for its answer. The model beside it knows what is
    promised: for each name the good answers that count, who wants it, and what is in Grid Engine.
    """

    NAMES = [f"jupyterhub-{'a' * 31}{n}" for n in range(3)]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.jobs: dict[str, str] = {}  # name to letters: what is in Grid Engine
        self.since: dict[str, float] = {}  # of the watched ones
        self.wanted: set[str] = set()
        self.used: set[str] = set()
        self.lacking: dict[str, int] = {}
        self.released: dict[str, float] = {}
        self.swept = False
        self.deletions: list[str] = []
        self.deletion_fails = False
        self.question: tuple[str, float, dict[str, str]] | None = None
        self.reply: asyncio.Future[bytes] | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sge_client, "run", self.run_qstat)
        self.patch.setattr(sge_client, "DELETION_PAUSE", 0.0)
        self.patch.setattr(sge_client.log, "disabled", True)
        self.collector = Collector(
            GridEngine(Path("/")),
            short_interval=0.0,
            long_interval=0.0,
            sweep_interval=3e-6,
            longest_pause=0.0,
            least_interval=0.0,
            clock=lambda: self.now,
            delete=self.delete,
        )

    async def run_qstat(self, grid: GridEngine, name: str, *arguments: str) -> bytes:
        assert self.question is None, "two questions at a time"
        assert arguments[-1]
        self.question = arguments[-1], self.now, dict(self.jobs)
        self.reply = asyncio.get_running_loop().create_future()
        try:
            return await self.reply
        finally:
            self.question = None

    async def delete(self, job: Job) -> None:
        self.deletions.append(job.name)  # judged with the answer: here nobody would hear of it
        if self.deletion_fails:
            raise GridEngineError("no")

    def settle(self, reply: bytes | Exception | None = None) -> None:
        """Let everything happen until the next question waits for its answer."""

        async def wait() -> None:
            before = self.reply
            if reply is not None:
                assert before is not None
                if isinstance(reply, Exception):
                    before.set_exception(reply)
                else:
                    before.set_result(reply)
            async with asyncio.timeout(10):
                while self.collector._watched or self.collector._ours:
                    if self.question and (reply is None or self.reply is not before):
                        break
                    await asyncio.sleep(0)
                while self.collector._deletions:  # noqa: ASYNC110
                    await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    @rule(name=st.sampled_from(NAMES), delay=st.sampled_from([0.0, 3e-6]))
    def a_session_is_watched(self, name: str, delay: float) -> None:
        # As sessions are: a name is new, or is in the database before anything is swept.
        if name in self.used and (self.swept or name not in self.wanted):
            return
        self.used.add(name)
        if name not in self.since:
            self.since[name], self.lacking[name] = self.now + delay, 0
            self.wanted.add(name)

        async def watch() -> None:
            self.collector.watch(name, "alice", waiting=True, delay=delay)

        self.loop.run_until_complete(watch())
        self.settle()

    @rule(name=st.sampled_from(NAMES))
    def its_job_is_submitted(self, name: str) -> None:
        if name in self.wanted:
            self.jobs.setdefault(name, "qw")
            self.collector.submitted(name)
            self.since[name], self.lacking[name] = self.now, 0

    @rule(name=st.sampled_from(NAMES), letters=st.sampled_from(["qw", "r", "dr", "Eqw"]))
    def a_job_comes_or_changes(self, name: str, letters: str) -> None:
        self.used.add(name)
        self.jobs[name] = letters

    @rule(name=st.sampled_from(NAMES))
    def a_job_ends(self, name: str) -> None:
        self.jobs.pop(name, None)

    @rule(name=st.sampled_from(NAMES))
    def a_session_is_released(self, name: str) -> None:
        self.collector.release(name)
        if name in self.wanted:
            self.wanted.discard(name)
            self.released[name] = self.now
        if self.lacking.get(name, 0) >= 2:
            self.forget(name)

    def forget(self, name: str) -> None:
        self.since.pop(name, None)
        self.lacking.pop(name, None)

    @rule()
    def the_hub_says_which_names_are_its_own(self) -> None:
        self.swept = True

        async def sweep() -> None:
            self.collector.sweep(OURS)

        self.loop.run_until_complete(sweep())
        self.settle()

    @rule(fails=st.booleans())
    def deletions_fail_or_succeed(self, fails: bool) -> None:
        self.deletion_fails = fails

    @precondition(lambda self: self.question)
    @rule(late=st.booleans(), seconds=st.sampled_from([0.0, 1e-6, 2e-6]))
    def grid_engine_answers(self, late: bool, seconds: float) -> None:
        assert self.question is not None
        self.now += seconds  # short ones: the pause after a slow answer is a real one
        about, asked_at, then = self.question
        listed = then if late else dict(self.jobs)
        assert about in ("alice", "*")
        due = set()
        for name in self.NAMES:
            if name in self.since:
                if name in listed:
                    self.lacking[name] = 0
                elif self.since[name] < asked_at:
                    self.lacking[name] += 1
                    if name not in self.wanted and self.lacking[name] >= 2:
                        self.forget(name)
            if (
                listed.get(name, "d")[0] != "d"
                and name not in self.wanted
                and (self.released[name] < asked_at if name in self.since else self.swept)
            ):
                due.add(name)
        self.deletions.clear()
        text = listing(
            *(
                job(name, letters, number=self.NAMES.index(name) + 1)
                for name, letters in listed.items()
            )
        )
        self.settle(text.encode())
        assert set(self.deletions) == due
        assert not due & self.wanted

    @precondition(lambda self: self.question)
    @rule(
        garbage=st.binary(max_size=20) | st.sampled_from([b"<job_info/>", listing().encode()[:-9]])
    )
    def grid_engine_answers_garbage(self, garbage: bytes) -> None:
        self.deletions.clear()
        self.settle(garbage)
        assert not self.deletions

    @precondition(lambda self: self.question)
    @rule(error=st.sampled_from([GridEngineError("qmaster is down"), RuntimeError("ours")]))
    def grid_engine_does_not_answer(self, error: Exception) -> None:
        self.deletions.clear()
        self.settle(error)
        assert not self.deletions

    @invariant()
    def gone_means_two_good_answers_in_a_row_without_it(self) -> None:
        for name in self.NAMES:
            gone = self.collector.look_up(name) is GONE
            assert gone == (self.lacking.get(name, 0) >= 2), name
            assert self.collector.watches(name) == (name in self.since), name

    def teardown(self) -> None:
        self.loop.run_until_complete(end(self.collector))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.patch.undo()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=80, stateful_step_count=50)
