# SPDX-License-Identifier: BSD-3-Clause
"""What many pages ask is asked once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from fake_grid import job
from folders import QSTAT
from gridhub.grid import status
from gridhub.grid.details import Details
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.status import CachedQuery, ClusterStatus


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
    if glance.running_query:
        await glance.running_query


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
    fake("qstat", f'echo "$@" > {bin_dir}/calls; cat {QSTAT}/details.xml')
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
    assert glance.running_query is None
    question.now = 25.1
    assert glance.answer == 1
    assert glance.running_query is not None
    await settle(glance)


@pytest.mark.asyncio
async def test_grid_engine_is_asked_for_all_jobs_and_all_complexes_at_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake(
        "qstat",
        f'echo "$@" >> {bin_dir}/calls\n'
        f'case "$1 $2" in "-xml -j") cat {QSTAT}/details.xml ;;'
        f' "-f -F") cat {QSTAT}/places.xml ;; *) cat {QSTAT}/waiting.xml ;; esac',
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
    assert await outlook.query_details() == {
        n: Details(n, "alice") for n in jobs if n not in spoilt
    }
    assert len(cluster.questions) <= status.MAX_QUERIES
    cluster.questions.clear()
    await outlook.query_details()
    assert cluster.questions == [[n for n in jobs if n not in spoilt]], (
        "it is not asked about again"
    )
    now = time.monotonic() + status.UNREADABLE_PAUSE
    monkeypatch.setattr(time, "monotonic", lambda: now)
    cluster.spoilt = []
    assert set(await outlook.query_details()) == set(jobs)


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
        found = await outlook.query_details()
        assert len(cluster.questions) <= status.MAX_QUERIES
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
        f"cat {QSTAT}/details.xml\n"
        'case "$3" in *57*) head -c 1000000 /dev/zero | tr "\\0" A ;; esac',
    )
    details = await ClusterStatus(grid, lambda: [51, 55, 56, 57], set).details.look(10)
    assert details is not None
    assert set(details) == {51, 55, 56}


@pytest.mark.asyncio
async def test_a_grid_engine_that_does_not_answer_is_asked_once(
    grid: GridEngine, fake: Callable[[str, str], object], bin_dir: Path
) -> None:
    fake("qstat", f"echo x >> {bin_dir}/calls; cat {QSTAT}/job_qmaster_down.xml")
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
