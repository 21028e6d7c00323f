# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's answers, which many pages share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from fake_grid import job
from folders import QSTAT
from gridhub.grid import cluster_status
from gridhub.grid.cluster_status import CachedQuery, ClusterStatus
from gridhub.grid.details import Details
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError


class Query:
    """A query that counts its runs, and that waits while the test holds back its answer."""

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

    def cached(self) -> CachedQuery[int]:
        return CachedQuery(self.ask, 10.0, lambda: self.now)


async def settle(cached: CachedQuery[int]) -> None:
    if cached.running_query:
        await cached.running_query


@pytest.mark.asyncio
async def test_however_many_pages_ask_there_is_one_query_in_an_interval() -> None:
    query = Query()
    cached = query.cached()
    assert await asyncio.gather(*(cached.look(5) for _ in range(100))) == [1] * 100
    query.now = 9.9
    assert cached.answer == 1
    assert query.asked == 1
    assert cached.age == pytest.approx(9.9)


@pytest.mark.asyncio
async def test_an_old_answer_is_used_while_the_next_query_runs() -> None:
    query = Query()
    cached = query.cached()
    await cached.look(5)
    query.held.clear()
    query.now = 10.1
    assert cached.answer == 1
    looked = await asyncio.wait_for(cached.look(60), 5)
    assert looked == 1, "a page does not wait while the last answer is valid"
    query.held.set()
    await settle(cached)
    assert cached.answer == 2
    assert cached.age == 0


@pytest.mark.asyncio
async def test_a_page_waits_no_longer_than_it_allows() -> None:
    query = Query()
    query.held.clear()
    cached = query.cached()
    assert await asyncio.wait_for(cached.look(0.01), 5) is None
    query.held.set()
    await settle(cached)
    assert cached.answer == 1


@pytest.mark.asyncio
async def test_a_failure_keeps_the_last_answer_and_its_age_and_is_not_retried_at_once() -> None:
    query = Query()
    cached = query.cached()
    await cached.look(5)
    query.fails, query.now = True, 50.0
    assert await cached.look(5) == 1
    assert cached.age == 50.0
    assert cached.answer == 1
    assert query.asked == 2


@pytest.mark.asyncio
async def test_a_bug_of_ours_gives_no_answer_and_breaks_no_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask() -> int:
        raise KeyError("no such field")

    cached = CachedQuery(ask, 10.0)
    assert await cached.look(5) is None
    await settle(cached)
    assert "Cannot process Grid Engine's details" in caplog.text


@pytest.mark.asyncio
async def test_grid_engine_is_queried_only_about_the_newest_jobs(
    grid: GridEngine,
    fake: Callable[[str, str], object],
    bin_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_status, "MAX_JOBS", 2)
    fake("qstat", f'echo "$@" > {bin_dir}/calls; cat {QSTAT}/details.xml')
    details = await ClusterStatus(grid, lambda: [55, 51, 56], set).details.look(10)
    assert (bin_dir / "calls").read_text(encoding="utf-8").split() == ["-xml", "-j", "55,56"]
    assert details is not None
    assert set(details) == {55, 56}, "jobs that were not queried do not count"


@pytest.mark.asyncio
async def test_an_answer_expires() -> None:
    query = Query()
    cached = query.cached()
    await cached.look(5)
    query.fails, query.now = True, 60.1
    assert cached.answer is None
    assert await cached.look(5) is None


@pytest.mark.asyncio
async def test_an_unchanged_answer_is_queried_less_often() -> None:
    now, answer, asked = 0.0, "never", []

    async def ask() -> str:
        asked.append(now)
        return answer

    cached = CachedQuery(ask, 10.0, lambda: now, longest=40.0)
    for second in range(150):
        now = float(second)
        answer = "never" if second < 110 else "now"
        assert cached.answer in (answer, "never", None)
        await settle(cached)
    # Once the answer has changed, the queries are as frequent as at the beginning.
    assert asked == [0, 10, 30, 70, 110, 120, 140]


@pytest.mark.asyncio
async def test_a_slow_grid_engine_is_queried_less_often() -> None:
    query = Query()
    cached = query.cached()
    query.held.clear()
    assert cached.answer is None
    await asyncio.sleep(0)
    query.now = 5.0
    query.held.set()
    await settle(cached)
    assert cached.age == 5.0, "the answer is as old as its query"
    query.now = 24.9  # the answer took 5 s, so the pause is four times as long: 20 s
    assert cached.answer == 1
    assert cached.running_query is None
    query.now = 25.1
    assert cached.answer == 1
    assert cached.running_query is not None
    await settle(cached)


@pytest.mark.asyncio
async def test_all_jobs_and_all_complexes_are_queried_at_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake(
        "qstat",
        f'echo "$@" >> {bin_dir}/calls\n'
        f'case "$1 $2" in "-xml -j") cat {QSTAT}/details.xml ;;'
        f' "-f -F") cat {QSTAT}/places.xml ;; *) cat {QSTAT}/waiting.xml ;; esac',
    )
    shared = ClusterStatus(grid, lambda: [55, 51], lambda: {"gpu", "h_vmem"})
    details = await shared.details.look(10)
    assert details is not None
    assert set(details) == {51, 55}
    places = await shared.places.look(10)
    assert places is not None
    assert [place.host for place in places] == ["exec1", "exec2"]
    assert all(place.is_offered for place in places)
    assert await shared.line.look(10) == [15, 16]
    assert (bin_dir / "calls").read_text("utf-8").splitlines() == [
        "-xml -j 51,55",
        "-f -F slots,num_proc,gpu,h_vmem -xml -q * -u @ -g t",
        "-xml -s p -u * -g t",
    ]


async def test_queues_that_the_sites_arguments_leave_out_are_not_offered(
    grid: GridEngine, fake: Callable[[str, str], object]
) -> None:
    fake("qstat", f"cat {QSTAT}/places.xml")
    status = ClusterStatus(grid, list, list, queues=["web.q", "all.q@exec2"])
    places = await status.places.look(10)
    assert places is not None
    assert [place.host for place in places if place.is_offered] == ["exec2"]


class Cluster:
    """A Grid Engine in which some jobs spoil every answer that contains them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spoilt: Collection[int]) -> None:
        self.spoilt = spoilt
        self.queries: list[list[int]] = []
        monkeypatch.setattr("gridhub.grid.cluster_status.ask_details", self.ask)

    async def ask(self, grid: object, jobs: list[int]) -> dict[int, Details]:
        self.queries.append(jobs)
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
    shared = ClusterStatus(grid, lambda: jobs, set)
    assert await shared.query_details() == {n: Details(n, "alice") for n in jobs if n not in spoilt}
    assert len(cluster.queries) <= cluster_status.MAX_QUERIES
    cluster.queries.clear()
    await shared.query_details()
    assert cluster.queries == [[n for n in jobs if n not in spoilt]], (
        "a job that spoils the answer is not queried again"
    )
    now = time.monotonic() + cluster_status.UNREADABLE_PAUSE
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cluster.spoilt = []
    assert set(await shared.query_details()) == set(jobs)


@pytest.mark.asyncio
async def test_many_jobs_that_spoil_answers_are_left_out_step_by_step(
    grid: GridEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = range(1, 1001, 100)
    cluster = Cluster(monkeypatch, spoilt)
    shared = ClusterStatus(grid, lambda: range(1, 1001), set)
    found: dict[int, Details] = {}
    for _ in range(10):
        cluster.queries.clear()
        found = await shared.query_details()
        assert len(cluster.queries) <= cluster_status.MAX_QUERIES
    assert set(found) == set(range(1, 1001)) - set(spoilt)


@pytest.mark.asyncio
async def test_a_job_with_megabytes_of_text_loses_only_its_own_details(
    grid: GridEngine,
    fake: Callable[[str, str], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gridhub.grid.details.MESSAGES_SIZE", 2**16)
    monkeypatch.setattr("gridhub.grid.details.JOB_SIZE", 2**10)
    # Every answer about job 57 ends with a million letters.
    fake(
        "qstat",
        f"cat {QSTAT}/details.xml\n"
        'case "$3" in *57*) head -c 1000000 /dev/zero | tr "\\0" A ;; esac',
    )
    details = await ClusterStatus(grid, lambda: [51, 55, 56, 57], set).details.look(10)
    assert details is not None
    assert set(details) == {51, 55, 56}


@pytest.mark.asyncio
async def test_a_grid_engine_that_does_not_answer_is_queried_only_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake("qstat", f"echo x >> {bin_dir}/calls; cat {QSTAT}/job_qmaster_down.xml")
    assert await ClusterStatus(grid, lambda: [51, 55], set).details.look(10) is None
    assert (bin_dir / "calls").read_text(encoding="utf-8") == "x\n"


@pytest.mark.asyncio
async def test_details_are_found_by_job_and_owner(grid: GridEngine) -> None:
    async def ask() -> dict[int, Details]:
        return {5: mine}

    mine = Details(5, "alice")
    shared = ClusterStatus(grid, list, list)
    shared.details = CachedQuery(ask, 5.0)
    assert shared.of(job(number=5)) is None
    await shared.details.look(10)
    assert shared.of(job(number=5)) is mine
    assert shared.of(job(number=5, owner="bob")) is None
    assert shared.of(job(number=6)) is None


@pytest.mark.asyncio
async def test_grid_engine_is_not_queried_if_there_are_no_jobs(grid: GridEngine) -> None:
    assert await ClusterStatus(grid, list, list).details.look(5) == {}
