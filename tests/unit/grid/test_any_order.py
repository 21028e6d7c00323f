# SPDX-License-Identifier: BSD-3-Clause
"""Compare the collector with a model while events happen in any order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collecting import OURS
from fake_grid import job, listing
from gridhub.grid import collector as collector_module
from gridhub.grid.collector import GONE, Collector
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job


class Anything(RuleBasedStateMachine):
    """Run the collector while sessions come and go and Grid Engine gives any possible answers.

    The collector runs its own loop. Instead of qstat, a rule decides when an answer comes. Whenever
    a rule begins, a query is waiting for its answer. For each name, the model records how many good
    answers in a row did not list the job, whether Grid Engine then said that it has no such job,
    whether a session wants the job, and the job's state.
    """

    NAMES = [f"jupyterhub-{'a' * 31}{n}" for n in range(3)]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.jobs: dict[str, str] = {}  # state letters of Grid Engine's jobs, by name
        self.since: dict[str, float] = {}  # when answers begin to count, by watched name
        self.wanted: set[str] = set()
        self.used: set[str] = set()
        self.absences: dict[str, int] = {}
        self.gone: set[str] = set()
        self.released: dict[str, float] = {}
        self.swept = False
        self.deletions: list[str] = []
        self.deletion_fails = False
        self.query: tuple[str, float, dict[str, str]] | None = None
        self.reply: asyncio.Future[bytes] | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("gridhub.grid.collector.run", self.run_qstat)
        self.patch.setattr("gridhub.grid.collector.job_exists", self.job_exists)
        self.patch.setattr("gridhub.grid.collector.DELETION_PAUSE", 0.0)
        self.patch.setattr(collector_module.log, "disabled", True)
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
        assert self.query is None, "two queries at a time"
        assert arguments[-1]
        self.query = arguments[-1], self.now, dict(self.jobs)
        self.reply = asyncio.get_running_loop().create_future()
        try:
            return await self.reply
        finally:
            self.query = None

    async def job_exists(self, grid: GridEngine, name: str, owner: str) -> bool:
        assert owner == "alice"
        return name in self.jobs

    async def delete(self, job: Job) -> None:
        # A failed assertion would go unnoticed here. The rules check the deletions later.
        self.deletions.append(job.name)
        if self.deletion_fails:
            raise GridEngineError("no")

    def settle(self, reply: bytes | Exception | None = None) -> None:
        """Run the loop until the next query waits for its answer."""

        async def wait() -> None:
            before = self.reply
            if reply is not None:
                assert before is not None
                if isinstance(reply, Exception):
                    before.set_exception(reply)
                else:
                    before.set_result(reply)
            async with asyncio.timeout(10):
                while self.collector.watched or self.collector.ours:
                    if self.query and (reply is None or self.reply is not before):
                        break
                    await asyncio.sleep(0)
                while self.collector.deletions:  # noqa: ASYNC110
                    await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    @rule(name=st.sampled_from(NAMES), delay=st.sampled_from([0.0, 3e-6]))
    def a_session_is_watched(self, name: str, delay: float) -> None:
        # As in a real hub, a name is either new or was in the database before the first sweep.
        if name in self.used and (self.swept or name not in self.wanted):
            return
        self.used.add(name)
        if name not in self.since:
            self.since[name], self.absences[name] = self.now + delay, 0
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
            self.since[name], self.absences[name] = self.now, 0
            self.gone.discard(name)

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
        if name in self.gone:
            self.forget(name)

    def forget(self, name: str) -> None:
        self.since.pop(name, None)
        self.absences.pop(name, None)
        self.gone.discard(name)

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

    @precondition(lambda self: self.query)
    @rule(late=st.booleans(), seconds=st.sampled_from([0.0, 1e-6, 2e-6]))
    def grid_engine_answers(self, late: bool, seconds: float) -> None:
        assert self.query is not None
        self.now += seconds  # short, because the collector pauses in real time after a slow answer
        about, asked_at, then = self.query
        listed = then if late else dict(self.jobs)
        assert about in ("alice", "*")
        due = set()
        for name in self.NAMES:
            if name in self.since:
                if name in listed:
                    self.absences[name] = 0
                    self.gone.discard(name)
                elif self.since[name] < asked_at:
                    self.absences[name] += 1
            if (
                listed.get(name, "d")[0] != "d"
                and name not in self.wanted
                and (self.released[name] < asked_at if name in self.since else self.swept)
            ):
                due.add(name)
        for name in self.NAMES:
            if self.absences.get(name, 0) >= 2 and name not in self.gone:
                if name in self.jobs:
                    self.absences[name] = 0
                elif name in self.wanted:
                    self.gone.add(name)
                else:
                    self.forget(name)
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

    @precondition(lambda self: self.query)
    @rule(
        garbage=st.binary(max_size=20) | st.sampled_from([b"<job_info/>", listing().encode()[:-9]])
    )
    def grid_engine_answers_garbage(self, garbage: bytes) -> None:
        self.deletions.clear()
        self.settle(garbage)
        assert not self.deletions

    @precondition(lambda self: self.query)
    @rule(error=st.sampled_from([GridEngineError("qmaster is down"), RuntimeError("ours")]))
    def grid_engine_does_not_answer(self, error: Exception) -> None:
        self.deletions.clear()
        self.settle(error)
        assert not self.deletions

    @invariant()
    def gone_means_two_lists_without_it_and_a_question_about_it_alone(self) -> None:
        for name in self.NAMES:
            gone = self.collector.look_up(name) is GONE
            assert gone == (name in self.gone), name
            assert self.collector.watches(name) == (name in self.since), name

    def teardown(self) -> None:
        self.loop.run_until_complete(self.collector.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.patch.undo()


TestAnything = Anything.TestCase


TestAnything.settings = settings(max_examples=80, stateful_step_count=50)
