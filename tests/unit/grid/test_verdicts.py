# SPDX-License-Identifier: BSD-3-Clause
"""Verdicts on jobs: present, gone or not known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_grid import job
from gridhub.grid import collector as collector_module
from gridhub.grid.collector import GONE, Collector
from gridhub.grid.engine import GridEngine
from gridhub.grid.jobs import Job

HERE, NOT_HERE = [job("a")], list[Job]()


def take(collector: Collector, jobs: list[Job], queried_at: float) -> list[Job]:
    """Pass a list to the collector, and say of each missing job that it does not exist."""
    strays = collector.take(jobs, queried_at)
    for name, _ in collector.missing():
        collector.take_alone(name, exists=False)
    return strays


class TestVerdicts:
    """Pass answers to the collector directly, without queries, at times that the test sets."""

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

    async def test_a_job_without_an_answer_is_not_known(self, watching: Collector) -> None:
        assert watching.look_up("a") is None
        assert watching.look_up("b") is None

    async def test_a_job_that_was_never_listed_may_be_hidden(
        self, watching: Collector, caplog: pytest.LogCaptureFixture
    ) -> None:
        take(watching, NOT_HERE, 1)
        take(watching, NOT_HERE, 2)
        assert watching.look_up("a") is GONE
        assert "Job a was never listed" in caplog.text
        caplog.clear()
        watching.submitted("a")
        take(watching, HERE, 3)
        for asked_at in (4, 5):
            take(watching, NOT_HERE, asked_at)
        assert watching.look_up("a") is GONE
        assert "never listed" not in caplog.text

    async def test_one_answer_without_the_job_is_not_enough(self, watching: Collector) -> None:
        take(watching, HERE, 1)
        take(watching, NOT_HERE, 2)
        assert watching.look_up("a") == HERE[0]

    async def test_two_answers_without_the_job_are_enough(self, watching: Collector) -> None:
        take(watching, NOT_HERE, 1)
        assert watching.look_up("a") is None
        take(watching, NOT_HERE, 2)
        assert watching.look_up("a") is GONE

    async def test_lists_alone_never_show_that_a_job_is_gone(self, watching: Collector) -> None:
        watching.take(HERE, 1)
        for asked_at in range(2, 9):
            watching.take(NOT_HERE, asked_at)
            assert watching.look_up("a") == HERE[0]
            assert watching.missing() == ([("a", "alice")] if asked_at > 2 else [])

    async def test_a_job_that_exists_starts_over(self, watching: Collector) -> None:
        watching.take(NOT_HERE, 1)
        watching.take(NOT_HERE, 2)
        watching.take_alone("a", exists=True)
        watching.take(NOT_HERE, 3)
        assert watching.look_up("a") is None
        assert not watching.missing()

    async def test_an_answer_about_a_job_that_was_submitted_meanwhile_does_not_count(
        self, watching: Collector
    ) -> None:
        watching.take(NOT_HERE, 1)
        watching.take(NOT_HERE, 2)
        watching.submitted("a")
        watching.take_alone("a", exists=False)
        assert watching.look_up("a") is None

    async def test_the_two_answers_must_be_consecutive(self, watching: Collector) -> None:
        for asked_at in range(1, 9):
            take(watching, HERE if asked_at % 2 else NOT_HERE, asked_at)
            assert watching.look_up("a") == HERE[0]

    async def test_a_job_that_comes_back_is_present_again(self, watching: Collector) -> None:
        take(watching, NOT_HERE, 1)
        take(watching, NOT_HERE, 2)
        take(watching, HERE, 3)
        assert watching.look_up("a") == HERE[0]

    async def test_a_job_of_the_same_name_with_another_owner_does_not_count(
        self, watching: Collector
    ) -> None:
        for asked_at in (1, 2):
            take(watching, [job("a", owner="bob")], asked_at)
        assert watching.look_up("a") is GONE

    async def test_the_oldest_of_several_jobs_of_one_name_counts(self, watching: Collector) -> None:
        take(watching, [job("a", number=5), job("a", "qw", number=6)], 1)
        found = watching.look_up("a")
        assert isinstance(found, Job)
        assert found.id == 5

    @pytest.mark.parametrize("asked_at", [4.0, 5.0])
    async def test_a_job_submitted_after_the_query_does_not_count_as_missing(
        self, watching: Collector, now: list[float], asked_at: float
    ) -> None:
        now[0] = 5.0
        watching.watch("b", "alice", waiting=True)
        for _ in range(5):
            take(watching, NOT_HERE, asked_at)
        assert watching.look_up("a") is GONE
        assert watching.look_up("b") is None

    async def test_a_job_on_its_way_to_grid_engine_does_not_count_as_missing(
        self, watching: Collector, now: list[float]
    ) -> None:
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (1, 20, 40):
            take(watching, NOT_HERE, asked_at)
        assert watching.look_up("b") is None
        now[0] = 41.0
        watching.submitted("b")
        for asked_at in (41, 42):
            take(watching, NOT_HERE, asked_at)
            assert watching.look_up("b") is None
        take(watching, NOT_HERE, 43)
        assert watching.look_up("b") is GONE

    async def test_a_job_that_never_appeared_is_gone_once_its_delay_is_over(
        self, watching: Collector
    ) -> None:
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (41, 42):
            take(watching, NOT_HERE, asked_at)
        assert watching.look_up("b") is GONE

    async def test_answers_from_before_the_submission_do_not_count(
        self, watching: Collector, now: list[float]
    ) -> None:
        # Here, the request waits in the broker's queue for longer than the expected 40 s.
        watching.watch("b", "alice", waiting=True, delay=40)
        for asked_at in (41, 42):
            take(watching, NOT_HERE, asked_at)
        now[0] = 50.0
        watching.submitted("b")
        assert watching.look_up("b") is None
        take(watching, [job("b", "qw")], 51)
        assert watching.look_up("b") == job("b", "qw")

    async def test_watching_again_does_not_start_over(
        self, watching: Collector, now: list[float]
    ) -> None:
        take(watching, NOT_HERE, 1)
        now[0] = 5.0
        watching.watch("a", "alice", waiting=True, delay=99)
        take(watching, NOT_HERE, 2)
        assert watching.look_up("a") is GONE

    async def test_a_released_job_is_watched_until_it_is_gone(self, watching: Collector) -> None:
        take(watching, HERE, 1)
        watching.release("a")
        watching.release("a")
        for asked_at, jobs in ((2, HERE), (3, NOT_HERE), (4, HERE), (5, NOT_HERE)):
            take(watching, jobs, asked_at)
            assert watching.watches("a")
        take(watching, NOT_HERE, 6)
        assert not watching.watches("a")
        assert watching.look_up("a") is None

    async def test_a_job_that_is_gone_is_no_longer_watched_after_its_release(
        self, watching: Collector
    ) -> None:
        take(watching, NOT_HERE, 1)
        take(watching, NOT_HERE, 2)
        watching.release("a")
        watching.release("a")
        assert not watching.watches("a")

    async def test_a_released_job_is_to_be_deleted_unless_its_deletion_is_under_way(
        self, watching: Collector
    ) -> None:
        assert take(watching, HERE, 1) == []
        watching.release("a")
        assert take(watching, HERE, 2) == HERE
        assert take(watching, [job("a", "dr")], 3) == []
        # The job's host no longer reports, so only another deletion removes the job.
        lost = job("a", "dr", reports=False)
        assert take(watching, [lost], 4) == [lost]
        assert take(watching, HERE, 4) == HERE
        assert take(watching, [job("a", owner="bob")], 5) == []

    @pytest.mark.parametrize("asked_at", [4.0, 5.0])
    async def test_an_answer_from_before_the_release_deletes_nothing(
        self, watching: Collector, now: list[float], asked_at: float
    ) -> None:
        # A stop deletes the job and then releases it. Answers to earlier queries may still
        # list the job.
        now[0] = 5.0
        watching.release("a")
        now[0] = 9.0
        watching.release("a")
        assert take(watching, HERE, asked_at) == []
        assert take(watching, HERE, 6) == HERE

    async def test_only_stray_jobs_of_this_hub_are_to_be_deleted(self, watching: Collector) -> None:
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
        assert take(watching, jobs, 1) == []  # the collector does not know this hub's jobs yet
        watching.sweep(re.compile("jupyterhub-" + "a" * 8 + "[0-9a-f]{24}"))
        assert take(watching, jobs, 2) == [jobs[0]]

    async def test_the_age_counts_from_the_query_of_the_last_good_answer(
        self, watching: Collector, now: list[float]
    ) -> None:
        assert watching.age is None
        now[0] = 9.0
        take(watching, HERE, 7.5)
        assert watching.age == 1.5

    @given(st.lists(st.booleans(), max_size=12))
    def test_gone_means_two_answers_in_a_row(self, present: list[bool]) -> None:
        collector = Collector(GridEngine(Path("/")), clock=lambda: 0.0)
        collector.watched["a"] = collector_module.Watched("alice", 0.0, waiting=False)
        for asked_at, here in enumerate(present, 1):
            take(collector, HERE if here else NOT_HERE, asked_at)
        assert (collector.look_up("a") is GONE) == (present[-2:] == [False, False])


class TestPauses:
    @pytest.fixture
    def collector(self, grid: GridEngine, monkeypatch: pytest.MonkeyPatch) -> Collector:
        monkeypatch.setattr(Collector, "_run", lambda self: None)
        return Collector(grid, 1.0, 15.0, 600.0, 30.0, clock=lambda: 0.0)

    def test_the_pause_is_short_while_a_session_waits_and_longest_without_sessions(
        self, collector: Collector
    ) -> None:
        assert collector.pause() == 600
        collector.watch("a", "alice", waiting=True)
        assert collector.pause() == 1
        collector.watch("a", "alice", waiting=False)
        assert collector.pause() == 15

    def test_the_pause_is_short_while_a_job_is_missing_or_to_be_deleted(
        self, collector: Collector
    ) -> None:
        collector.watch("a", "alice", waiting=False)
        collector.take([job("a")], 1)
        assert collector.pause() == 15
        collector.take([], 2)
        assert collector.pause() == 1
        collector.take([], 3)
        assert collector.pause() == 1
        collector.take_alone("a", exists=False)  # the verdict is final
        assert collector.pause() == 15
        collector.take([job("a")], 4)
        collector.release("a")
        assert collector.pause() == 1

    def test_failures_double_the_pause_up_to_the_longest(self, collector: Collector) -> None:
        collector.watch("a", "alice", waiting=True)
        found = []
        for collector.failures in range(8):
            found.append(collector.pause())
        assert found == [1, 2, 4, 8, 16, 30, 30, 30]
