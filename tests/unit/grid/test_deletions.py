# SPDX-License-Identifier: BSD-3-Clause
"""The deletion of jobs that have no session."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from collecting import OURS, news_until
from fake_grid import Qstat, job, listing, until
from gridhub.grid.collector import Collector
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.grid.left_sessions import LeftSessions

STRAY = "jupyterhub-" + "a" * 32


class TestDeletions:
    @pytest.fixture
    def deleted(self, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
        """Record the jobs that the collector tries to delete, instead of deleting them."""
        monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 0.02)
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
        await news_until(collector, lambda: collector.watched["a"].job == job("a", "dr"))
        before = len(deleted)
        await collector.news(10)
        await collector.news(10)
        assert len(deleted) == before  # Grid Engine is already deleting the job
        qstat.says(listing())
        await news_until(collector, lambda: not collector.watches("a"))
        assert len(deleted) == before

    async def test_a_job_that_appears_after_its_release_is_deleted(
        self, collector: Collector, qstat: Qstat, deleted: list[Job]
    ) -> None:
        # The person cancelled the start while the broker was submitting the job.
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
    async def test_a_failed_deletion_is_tried_again(
        self,
        collector: Collector,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        fault: Exception,
    ) -> None:
        monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 0.02)
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

    async def test_each_job_has_only_one_deletion_at_a_time(
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
        monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 1000.0)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=False)
        collector.release("a")
        await until(lambda: len(qstat.calls) > 4)
        assert deleted == [job("a")]

    async def test_stray_jobs_are_looked_for_among_the_jobs_of_all_users(
        self, collector: Collector, qstat: Qstat, deleted: list[Job]
    ) -> None:
        qstat.says(listing(job(STRAY, owner="carol"), job("jupyterhub-" + "b" * 32, number=2)))
        collector.watch("a", "alice", waiting=False)
        collector.sweep(OURS)
        await until(lambda: deleted)
        assert set(deleted) == {job(STRAY, owner="carol")}
        assert "*" in qstat.questions[:2]

    @pytest.mark.parametrize(
        ("content", "is_left"),
        [
            (f'{{"left": ["{STRAY}"]}}', True),
            ('{"left": []}', False),
            (None, False),
            ("", True),
            ('{"all": true}', True),
        ],
        ids=["named", "another", "no file", "empty file", "all"],
    )
    async def test_a_job_that_is_left_after_a_restore_is_not_deleted(
        self,
        content: str | None,
        is_left: bool,
        collector: Collector,
        qstat: Qstat,
        deleted: list[Job],
        tmp_path: Path,
    ) -> None:
        path = tmp_path / "left.json"
        if content is not None:
            path.write_text(content)
        collector.left = LeftSessions(path)
        # The other job is deleted in any case that is known, so the answer has been processed.
        other = job(f"jupyterhub-{'a' * 8}{'f' * 24}", owner="dave", number=9)
        qstat.says(listing(job(STRAY, owner="carol"), other))
        collector.sweep(OURS)
        await until(lambda: collector.age is not None)
        if not is_left or (content and "left" in content):
            await until(lambda: other in deleted)
        assert (job(STRAY, owner="carol") not in deleted) is is_left

    async def test_many_stray_jobs_do_not_delay_the_end_of_a_session(
        self, collector: Collector, qstat: Qstat
    ) -> None:
        begun: list[str] = []
        go_on = asyncio.Event()

        async def delete(job: Job) -> None:
            begun.append(job.name)
            await go_on.wait()

        collector.delete = delete
        strays = [f"jupyterhub-{'a' * 8}{n:024x}" for n in range(100)]
        # A job of another owner does not belong to a session, even if the job has the session's
        # name.
        mine, borrowed = strays[:2]
        jobs = [job(name, owner="mallory", number=n) for n, name in enumerate(strays, 1)]
        qstat.says(listing(*jobs, job(mine, number=200)))
        for name in (mine, borrowed):
            collector.watch(name, "alice", waiting=False, delay=1000)
        collector.release(mine)
        collector.sweep(OURS)
        await until(lambda: len(collector.deletions) == 101)
        await until(lambda: len(begun) == 3)
        asked = len(qstat.calls)
        await until(lambda: len(qstat.calls) > asked + 3)
        assert len(begun) == 3
        assert mine in begun
        go_on.set()
        await until(lambda: len(begun) == 101)

    async def test_stray_jobs_that_cannot_be_deleted_do_not_keep_the_broker_busy(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 1000.0)
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

    async def test_the_next_sweep_comes_after_the_sweep_interval(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        collector.sweep(OURS)
        begun = collector.clock()
        for seconds in (0.0, 1.0, 599.0, 600.0, 601.0):
            await collector.ask(begun + seconds)
        assert qstat.questions == ["*", "alice", "alice", "*", "alice"]

    async def test_the_sessions_come_first_after_a_failed_sweep(
        self, collector: Collector, qstat: Qstat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        qstat.says(listing(job("a")))
        collector.watch("a", "alice", waiting=True)
        collector.sweep(OURS)
        begun = collector.clock()
        qstat.fails()
        with pytest.raises(GridEngineError):
            await collector.ask(begun)
        qstat.recovers()
        for seconds in (1.0, 29.0, 30.0, 31.0):
            await collector.ask(begun + seconds)
        assert qstat.questions == ["*", "alice", "alice", "*", "alice"]

    async def test_a_failed_sweep_is_repeated(self, grid: GridEngine, qstat: Qstat) -> None:
        collector = Collector(grid, short_interval=0.01, longest_pause=0.01)
        qstat.fails()
        collector.sweep(OURS)
        await until(lambda: len(qstat.calls) > 2)
        assert set(qstat.questions) == {"*"}
        qstat.says(listing())
        qstat.recovers()
        await news_until(collector, lambda: collector.age is not None)
        await collector.close()

    async def test_hurry_works_without_sessions_too(
        self, collector: Collector, qstat: Qstat, caplog: pytest.LogCaptureFixture
    ) -> None:
        qstat.says(listing())
        collector.sweep(OURS)
        await until(lambda: len(qstat.calls) == 1)
        for calls in (2, 3):
            collector.hurry()
            await until(lambda calls=calls: len(qstat.calls) == calls)
        await collector.news(1)
        assert collector.failures == 0
        assert "Cannot ask" not in caplog.text
