# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, their parsers, and the collector."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sge_client
from fake_grid import DATA, Qstat, alive, listing, until
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


class TestJobLists:
    def jobs(self, recorded: Recorded, name: str) -> dict[int, Job]:
        return parse_qstat(recorded(name).encode())

    @pytest.mark.parametrize("name", ["empty.xml", "unknown_user.xml"])
    def test_no_jobs_are_no_jobs(self, recorded: Recorded, name: str) -> None:
        assert self.jobs(recorded, name) == {}

    def test_jobs_of_all_kinds_are_read(self, recorded: Recorded) -> None:
        jobs = self.jobs(recorded, "mixed.xml")
        assert jobs == {
            1: Job(1, "alice", "r", "qmaster", 1),
            2: Job(2, "alice", "r", "qmaster", 3),
            3: Job(3, "alice", "r", "qmaster", 1),
            7: Job(7, "alice", "Eqw", "", 1),
            4: Job(4, "alice", "hqw", "", 1),
            8: Job(8, "alice", "hqw", "", 1),
        }
        assert jobs[1].state is State.RUNNING
        assert jobs[7].state is State.ERROR
        assert jobs[4].state is State.HELD

    def test_jobs_of_several_owners_are_read(self, recorded: Recorded) -> None:
        jobs = self.jobs(recorded, "two_owners.xml")
        assert {job.owner for job in jobs.values()} == {"alice", "bob"}
        assert (jobs[6].state, jobs[6].slots, jobs[6].host) == (State.QUEUED, 8, "")

    @pytest.mark.parametrize(
        ("name", "number", "state", "host"),
        [
            ("pending.xml", 26, State.QUEUED, ""),
            ("suspended.xml", 1, State.SUSPENDED, "qmaster"),
            ("held_running.xml", 3, State.RUNNING, "qmaster"),
            ("deleting.xml", 1, State.DELETING, "qmaster"),
        ],
    )
    def test_states_are_read_from_the_letters_and_not_from_the_attribute(
        self, recorded: Recorded, name: str, number: int, state: State, host: str
    ) -> None:
        job = self.jobs(recorded, name)[number]
        assert (job.state, job.host) == (state, host)

    def test_the_tasks_of_an_array_are_one_job(self, recorded: Recorded) -> None:
        assert recorded("array_running.xml").count("<JB_job_number>8<") == 3
        assert self.jobs(recorded, "array_running.xml")[8].state is State.RUNNING

    def test_of_the_tasks_of_an_array_the_first_is_kept(self) -> None:
        jobs = parse_qstat(listing((8, "alice", "r"), (8, "alice", "hqw")).encode())
        assert jobs[8].state is State.RUNNING

    def test_a_job_name_cannot_break_the_list(self, recorded: Recorded) -> None:
        assert self.jobs(recorded, "hostile_names.xml")[13].owner == "alice"

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

    @pytest.mark.parametrize("name", ["job_qmaster_down.xml", "job_unknown.xml", "job_session.xml"])
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
        xml = recorded("two_owners.xml").replace(f"<{tag}>6<", f"<{tag}>{text}<")
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
        fake("qstat", f"sleep 1000 & echo $! > {child}.new; mv {child}.new {child}; wait")
        running = asyncio.create_task(run(grid, "qstat"))
        await until(child.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        pid = int(child.read_text(encoding="utf-8"))
        await until(lambda: not alive(pid))


@pytest.fixture
async def collector(grid: GridEngine) -> AsyncIterator[Collector]:
    collector = Collector(grid, short_interval=0.01, long_interval=1000.0)
    yield collector
    for job_id in list(collector._watched):
        collector.forget(job_id)
    if collector._task:
        collector.hurry()
        await collector._task


async def news_until(collector: Collector, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await collector.news(10)


def answer(*numbers: int) -> dict[int, Job]:
    return {number: Job(number, "alice", "r", "exec1", 1) for number in numbers}


class TestVerdicts:
    """What the answers mean, without asking: the clock is a number."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    async def watching(
        self, grid: GridEngine, now: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> Collector:
        async def nothing(self: Collector) -> None:
            """Leave the asking out."""

        monkeypatch.setattr(Collector, "_loop", nothing)
        collector = Collector(grid, clock=lambda: now[0])
        collector.watch(1, "alice", waiting=False)
        return collector

    async def test_a_job_nobody_asked_about_is_not_known(self, watching: Collector) -> None:
        assert watching.look_up(1) is None
        assert watching.look_up(2) is None

    async def test_one_answer_without_the_job_is_not_enough(self, watching: Collector) -> None:
        watching.take(answer(1), 1)
        watching.take(answer(), 2)
        assert watching.look_up(1) == answer(1)[1]

    async def test_two_answers_without_the_job_are_enough(self, watching: Collector) -> None:
        watching.take(answer(), 1)
        assert watching.look_up(1) is None
        watching.take(answer(), 2)
        assert watching.look_up(1) is GONE

    async def test_the_two_answers_must_follow_each_other(self, watching: Collector) -> None:
        for asked_at in range(1, 9):
            watching.take(answer(1) if asked_at % 2 else answer(), asked_at)
            assert watching.look_up(1) == answer(1)[1]

    async def test_a_job_that_comes_back_is_back(self, watching: Collector) -> None:
        watching.take(answer(), 1)
        watching.take(answer(), 2)
        watching.take(answer(1), 3)
        assert watching.look_up(1) == answer(1)[1]

    @pytest.mark.parametrize("asked_at", [4.0, 5.0])
    async def test_a_job_submitted_after_the_question_is_not_missed(
        self, watching: Collector, now: list[float], asked_at: float
    ) -> None:
        now[0] = 5.0
        watching.watch(2, "alice", waiting=True)
        for _ in range(5):
            watching.take(answer(), asked_at)
        assert watching.look_up(1) is GONE
        assert watching.look_up(2) is None

    async def test_watching_again_does_not_start_over(
        self, watching: Collector, now: list[float]
    ) -> None:
        watching.take(answer(), 1)
        now[0] = 5.0
        watching.watch(1, "alice", waiting=True)
        watching.take(answer(), 2)
        assert watching.look_up(1) is GONE

    async def test_a_job_that_is_forgotten_is_not_known(self, watching: Collector) -> None:
        watching.take(answer(1), 1)
        watching.forget(1)
        watching.forget(1)
        assert watching.look_up(1) is None

    async def test_a_number_that_is_watched_anew_starts_anew(self, watching: Collector) -> None:
        watching.take(answer(), 1)
        watching.take(answer(), 2)
        watching.forget(1)
        watching.watch(1, "alice", waiting=True)
        assert watching.look_up(1) is None

    async def test_the_time_of_the_last_good_answer_is_kept(self, watching: Collector) -> None:
        assert watching.answered_at is None
        watching.take(answer(1), 7.5)
        assert watching.answered_at == 7.5

    @given(st.lists(st.booleans(), max_size=12))
    def test_gone_means_two_answers_in_a_row(self, present: list[bool]) -> None:
        collector = Collector(GridEngine(Path("/")), clock=lambda: 0.0)
        collector._watched[1] = sge_client._Watched("alice", 0.0)
        for asked_at, here in enumerate(present, 1):
            collector.take(answer(1) if here else answer(), asked_at)
        assert (collector.look_up(1) is GONE) == (present[-2:] == [False, False])


class TestCollector:
    async def test_a_job_is_known_after_the_first_answer(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))
        assert collector.look_up(1) == Job(1, "alice", "r", "qmaster", 1)
        assert qstat.calls[0] == "-xml -u alice"

    async def test_a_fault_of_ours_does_not_end_the_watch(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        faults = iter([RuntimeError("a fault of ours")])

        def parse(xml: bytes) -> dict[int, Job]:
            for fault in faults:
                raise fault
            return parse_qstat(xml)

        monkeypatch.setattr(sge_client, "parse_qstat", parse)
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))

    async def test_one_question_serves_all_sessions(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        jobs = [(number, f"user{number % 50:02}", "r") for number in range(1, 501)]
        qstat.says(listing(*jobs))
        for number, owner, _ in jobs:
            collector.watch(number, owner, waiting=False)
        await news_until(collector, lambda: collector.answered_at is not None)
        for _ in range(100):
            assert all(isinstance(collector.look_up(number), Job) for number, _, _ in jobs)
        assert qstat.calls == ["-xml -u " + ",".join(f"user{number:02}" for number in range(50))]

    async def test_nobody_waiting_means_the_long_interval(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up(1))
        await collector.news(0.2)
        assert len(qstat.calls) == 1

    async def test_somebody_waiting_means_the_short_interval(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "qw"), (2, "bob", "r")))
        collector.watch(1, "alice", waiting=True)
        collector.watch(2, "bob", waiting=False)
        await news_until(collector, lambda: len(qstat.calls) >= 4)
        collector.watch(1, "alice", waiting=False)
        async with asyncio.timeout(5):
            before = 0
            while before < len(qstat.calls):
                before = len(qstat.calls)
                await collector.news(0.3)

    async def test_a_job_that_went_missing_is_asked_for_again_soon(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing())
        collector.watch(1, "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up(1) is GONE)
        assert len(qstat.calls) == 2
        # The verdict is final: no reason to go on asking often.
        await collector.news(0.2)
        assert len(qstat.calls) == 2

    async def test_hurry_asks_before_the_interval_is_over(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up(1))
        qstat.says(listing((1, "alice", "s")))
        collector.hurry()
        await news_until(
            collector,
            lambda: isinstance(job := collector.look_up(1), Job) and job.state is State.SUSPENDED,
        )

    async def test_a_job_submitted_while_qstat_ran_is_not_missed(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        pipe = qstat.holds_back(1)
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=False)
        await until(lambda: qstat.calls)
        collector.watch(2, "bob", waiting=False)
        await asyncio.to_thread(pipe.write_text, listing((1, "alice", "r")))
        await news_until(collector, lambda: collector.look_up(2) is GONE)
        # The first answer says nothing of job 2; it takes two more.
        assert qstat.calls == ["-xml -u alice", "-xml -u alice,bob", "-xml -u alice,bob"]

    @pytest.mark.parametrize("failure", ["down", "words", "truncated", "other"])
    async def test_not_knowing_is_never_gone(
        self,
        collector: Collector,
        qstat: Qstat,
        recorded: Recorded,
        caplog: pytest.LogCaptureFixture,
        failure: str,
    ) -> None:
        good = listing((1, "alice", "r"))
        qstat.says_once(1, good)
        if failure == "down":
            qstat.says("")
        elif failure == "words":
            qstat.says(recorded("qmaster_down.err.txt"))
        elif failure == "truncated":
            qstat.says(recorded("mixed.xml")[:-30])
        else:
            qstat.says(recorded("job_qmaster_down.xml"))
        collector.watch(1, "alice", waiting=True)
        with caplog.at_level(logging.WARNING):
            await news_until(collector, lambda: collector.look_up(1))
            if failure == "down":
                qstat.fails(recorded("qmaster_down.err.txt"))
            await until(lambda: len(qstat.calls) > 4)
        assert isinstance(collector.look_up(1), Job)
        assert "keeping them all" in caplog.text
        # And when Grid Engine is back, the truth is found.
        qstat.says(listing())
        if failure == "down":
            qstat.recovers()
        await news_until(collector, lambda: collector.look_up(1) is GONE)

    async def test_failures_between_two_good_answers_count_for_nothing(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        for call, text in enumerate(
            [listing((1, "alice", "r")), listing(), "", "", listing((1, "alice", "s"))], 1
        ):
            qstat.says_once(call, text)
        qstat.says(listing())
        collector.watch(1, "alice", waiting=True)
        seen = set()
        while (job := collector.look_up(1)) is not GONE:
            seen.add(job.letters if isinstance(job, Job) else None)
            await collector.news(10)
        assert seen == {None, "r", "s"}
        assert len(qstat.calls) == 7

    async def test_a_hanging_qstat_is_given_up_and_asked_again(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.holds_back(1)
        qstat.says(listing((1, "alice", "r")))
        collector = Collector(replace(grid, timeout=0.5), short_interval=0.01)
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))
        collector.forget(1)

    async def test_many_in_a_hurry_do_not_ask_more_often_than_the_least_interval(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        collector = Collector(grid, 1.0, 1000.0, least_interval=0.2)
        began = time.monotonic()
        collector.watch(1, "alice", waiting=False)
        for _ in range(4):
            for _ in range(100):
                collector.hurry()
            await collector.news(10)
        collector.forget(1)
        assert len(qstat.calls) >= 4
        assert time.monotonic() - began >= 3 * 0.2

    async def test_there_is_never_more_than_one_question_at_a_time(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        pipe = qstat.holds_back(1)
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=True)
        await until(lambda: qstat.calls)
        for number in range(2, 50):
            collector.watch(number, "alice", waiting=True)
            collector.hurry()
        await collector.news(0.1)
        assert len(qstat.calls) == 1
        await asyncio.to_thread(pipe.write_text, listing((1, "alice", "r")))
        await news_until(collector, lambda: collector.look_up(1))

    async def test_nothing_is_asked_when_nothing_is_watched(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))
        collector.forget(1)
        assert collector._task is not None
        await asyncio.wait_for(collector._task, 10)
        # And it begins again with the next session.
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))

    async def test_the_answer_is_parsed_beside_the_event_loop(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: list[int] = []

        def parse(xml: bytes) -> dict[int, Job]:
            threads.append(threading.get_ident())
            return parse_qstat(xml)

        monkeypatch.setattr(sge_client, "parse_qstat", parse)
        qstat.says(listing((1, "alice", "r")))
        collector.watch(1, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up(1))
        assert threads
        assert threading.get_ident() not in threads

    async def test_everybody_who_waits_hears_the_news(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "r")))
        waiters: Iterable[asyncio.Task[None]] = [
            asyncio.create_task(collector.news(60)) for _ in range(20)
        ]
        collector.watch(1, "alice", waiting=True)
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
