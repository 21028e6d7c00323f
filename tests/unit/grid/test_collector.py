# SPDX-License-Identifier: BSD-3-Clause
"""The collector: one query to Grid Engine for all sessions."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from collecting import Recorded, news_until
from fake_grid import Qstat, job, listing, until
from gridhub.grid.collector import GONE, Collector
from gridhub.grid.engine import GridEngine
from gridhub.grid.jobs import Job, State, parse_qstat


class TestCollector:
    async def test_a_job_is_known_after_the_first_answer(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        assert collector.look_up("a") == job("a")
        assert qstat.calls[0] == "-s a -f -ne -xml -u alice"

    async def test_a_bug_of_ours_does_not_stop_the_collector(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        qstat.says(listing(job("a")))
        faults = iter([RuntimeError("a fault of ours")])

        def parse(xml: bytes) -> list[Job]:
            for fault in faults:
                raise fault
            return parse_qstat(xml)

        monkeypatch.setattr("gridhub.grid.collector.parse_qstat", parse)
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))

    async def test_one_query_serves_all_sessions(self, collector: Collector, qstat: Qstat) -> None:
        jobs = [job(f"s{n}", number=n, owner=f"user{n % 50:02}") for n in range(1, 501)]
        qstat.says(listing(*jobs))
        for one in jobs:
            collector.watch(one.name, one.owner, waiting=False)
        await news_until(collector, lambda: collector.age is not None)
        for _ in range(100):
            assert all(isinstance(collector.look_up(one.name), Job) for one in jobs)
        assert qstat.questions == [",".join(f"user{number:02}" for number in range(50))]

    async def test_with_very_many_people_the_query_is_about_everybody(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        qstat.says(listing(job("s0", owner="user0")))
        monkeypatch.setattr("gridhub.grid.collector.LONGEST_LIST", len("user0,user1"))
        for number in range(3):
            collector.watch(f"s{number}", f"user{number}", waiting=False)
        await news_until(collector, lambda: collector.look_up("s0"))
        assert qstat.questions[0] == "*"

    async def test_the_interval_is_long_while_no_session_waits(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a"))
        await collector.news(0.2)
        assert len(qstat.calls) == 1

    async def test_the_interval_is_short_while_a_session_waits(
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

    async def test_a_missing_job_is_queried_again_soon(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing())
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        assert len(qstat.calls) == 2
        # The verdict is final: frequent queries are no longer needed.
        await collector.news(0.2)
        assert len(qstat.calls) == 2

    async def test_a_job_that_the_lists_leave_out_is_kept(
        self, collector: Collector, qstat: Qstat, caplog: pytest.LogCaptureFixture
    ) -> None:
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        qstat.hides("a")
        qstat.says(listing())
        await until(lambda: len(qstat.asked_alone) == 3)
        assert collector.look_up("a") == job("a")
        assert "qstat -j has job a, but the list of jobs does not" in caplog.text
        qstat.ends("a")
        await news_until(collector, lambda: collector.look_up("a") is GONE)

    async def test_a_job_of_another_owner_is_not_the_sessions(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.hides("a", owner="mallory")
        qstat.says(listing())
        collector.watch("a", "alice", waiting=False)
        await news_until(collector, lambda: collector.look_up("a") is GONE)

    async def test_an_unreadable_answer_about_one_job_delays_no_other(
        self, collector: Collector, qstat: Qstat, recorded: Recorded
    ) -> None:
        (qstat.folder / "hidden.a").write_text(recorded("mixed.xml"), encoding="utf-8")
        qstat.says(listing())
        for name in "ab":
            collector.watch(name, "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("b") is GONE)
        assert collector.look_up("a") is None
        assert collector.failures == 0

    @pytest.mark.parametrize("answer", ["job_qmaster_down.xml", "mixed.xml"])
    async def test_a_job_is_kept_while_the_question_about_it_has_no_answer(
        self, grid: GridEngine, qstat: Qstat, recorded: Recorded, answer: str
    ) -> None:
        collector = Collector(grid, short_interval=0.01, longest_pause=0.01)
        (qstat.folder / "hidden.a").write_text(recorded(answer), encoding="utf-8")
        qstat.says_once(1, listing(job("a")))
        qstat.says(listing())
        collector.watch("a", "alice", waiting=True)
        await until(lambda: len(qstat.asked_alone) == 3)
        assert collector.look_up("a") == job("a")
        qstat.ends("a")
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        await collector.close()

    async def test_hurry_queries_before_the_interval_is_over(
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

    async def test_a_job_submitted_while_qstat_ran_does_not_count_as_missing(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        pipe = qstat.holds_back(1)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        await until(lambda: qstat.calls)
        collector.watch("b", "bob", waiting=False)
        await asyncio.to_thread(pipe.write_text, listing(job("a")))
        await news_until(collector, lambda: collector.look_up("b") is GONE)
        # The first query did not cover bob's job, so that job is gone only after two more queries.
        assert qstat.questions == ["alice", "alice,bob", "alice,bob"]

    @pytest.mark.parametrize("failure", ["down", "words", "truncated", "other"])
    async def test_a_job_is_not_gone_while_answers_are_unusable(
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
        # Once Grid Engine gives usable answers again, the job counts as gone.
        qstat.says(listing())
        if failure == "down":
            qstat.recovers()
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        await collector.close()

    async def test_failures_between_two_good_answers_are_ignored(
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
        await collector.close()

    async def test_hurry_does_not_shorten_the_pause_while_grid_engine_fails(
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
        # The first good answer resets the pause.
        qstat.says(listing(job("a")))
        qstat.recovers()
        await news_until(collector, lambda: collector.look_up("a"))
        assert collector.failures == 0
        await collector.close()

    async def test_a_slow_grid_engine_is_queried_less_often(
        self, grid: GridEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[float] = []

        async def slow(*arguments: object) -> bytes:
            asked.append(time.monotonic())
            await asyncio.sleep(0.1)
            return listing(job("a")).encode()

        monkeypatch.setattr("gridhub.grid.collector.run", slow)
        collector = Collector(grid, short_interval=0.01)
        collector.watch("a", "alice", waiting=True)
        await until(lambda: len(asked) == 3)
        assert asked[2] - asked[1] >= 0.5
        # hurry() shortens the pause but does not remove it.
        while len(asked) < 5:
            collector.hurry()
            await asyncio.sleep(0.005)
        assert 0.2 <= asked[4] - asked[3] < 0.5
        await collector.close()

    async def test_a_hanging_qstat_is_killed_and_run_again(
        self, grid: GridEngine, qstat: Qstat
    ) -> None:
        qstat.holds_back(1)
        qstat.says(listing(job("a")))
        collector = Collector(replace(grid, timeout=0.5), short_interval=0.01)
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        await collector.close()

    async def test_many_hurries_still_keep_the_least_interval(
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
        await collector.close()
        assert len(qstat.calls) >= 4
        assert time.monotonic() - began >= 3 * 0.2

    async def test_there_is_never_more_than_one_query_at_a_time(
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

    async def test_there_are_no_queries_while_no_job_is_watched(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        qstat.says(listing())
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a") is GONE)
        collector.release("a")
        assert collector.task is not None
        await asyncio.wait_for(collector.task, 10)
        # Queries start again with the next session.
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))

    async def test_the_answer_is_parsed_outside_the_event_loop(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: list[int] = []

        def parse(xml: bytes) -> list[Job]:
            threads.append(threading.get_ident())
            return parse_qstat(xml)

        monkeypatch.setattr("gridhub.grid.collector.parse_qstat", parse)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        await news_until(collector, lambda: collector.look_up("a"))
        assert threads
        assert threading.get_ident() not in threads

    async def test_news_wakes_all_who_wait(self, collector: Collector, qstat: Qstat) -> None:
        qstat.says(listing(job("a")))
        waiters: Iterable[asyncio.Task[None]] = [
            asyncio.create_task(collector.news(60)) for _ in range(20)
        ]
        collector.watch("a", "alice", waiting=True)
        await asyncio.wait_for(asyncio.gather(*waiters), 10)

    async def test_waiting_for_news_times_out(self, collector: Collector) -> None:
        await asyncio.wait_for(collector.news(0.01), 5)

    async def test_a_cancellation_is_not_lost_when_news_comes_at_the_same_moment(
        self, collector: Collector
    ) -> None:
        # If news() used asyncio.wait_for, Python 3.11 would swallow the cancellation, so that a
        # start would continue after its time limit.
        waiting = asyncio.create_task(collector.news(60))
        for _ in range(5):
            await asyncio.sleep(0)
        collector.wake()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
