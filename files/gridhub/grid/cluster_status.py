# SPDX-License-Identifier: BSD-3-Clause
"""Cache Grid Engine's answers for the pages, so that all viewers share them.

Grid Engine is queried only while someone looks at a page. Pages wait only briefly for the answers,
and no decision about a session depends on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Generic, TypeVar

from gridhub.grid.command import run
from gridhub.grid.details import Details, ask_details
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.grid.places import CORES, SLOTS, QueueInstance, parse_places, parse_queue
from gridhub.grid.qstat_files import UNGROUPED

log = logging.getLogger("jupyterhub.sge")
T = TypeVar("T")


class CachedQuery(Generic[T]):
    """Caches an answer from Grid Engine for all callers.

    The query is repeated only while callers read the answer. However many callers there are, Grid
    Engine is queried at most once every ``interval`` seconds, less often when it is slow, and never
    twice at the same time. Callers get the last answer and its age.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        interval: float,
        clock: Callable[[], float] = time.monotonic,
        oldest: float = 60.0,
        longest: float = 0.0,
    ) -> None:
        self._ask = ask
        #: Ignore an answer that is older than this many seconds, because pages would show it as
        #: current.
        self._oldest = oldest
        self.interval = self._pause = interval
        #: While the answer stays the same, query less often, with pauses of up to this many
        #: seconds.
        self._longest = max(longest, interval)
        self.clock = clock
        self.last_answer: T | None = None
        self.queried_at: float | None = None
        #: The earliest time of the next query.
        self.due = float("-inf")
        self.running_query: asyncio.Task[None] | None = None

    @property
    def answer(self) -> T | None:
        """The last answer; reading this property may start a query, but never waits for one."""
        if self.running_query is None and self.clock() >= self.due:
            self.running_query = asyncio.ensure_future(self._put())
        return self._last()

    def _last(self) -> T | None:
        age = self.age
        return self.last_answer if age is not None and age <= self._oldest else None

    @property
    def age(self) -> float | None:
        """Seconds since the start of the last good query; ``None`` if there was no such query."""
        return None if self.queried_at is None else self.clock() - self.queried_at

    async def look(self, patience: float) -> T | None:
        """Return the answer; if the answer is old or missing, wait briefly for a new answer.

        :param patience: the longest time to wait, in seconds.
        """
        answer, age = self.answer, self.age
        if self.running_query and (age is None or age > 2 * self.interval):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.shield(self.running_query)
            answer = self._last()
        return answer

    async def _put(self) -> None:
        queried_at = self.clock()
        try:
            answer = await self._ask()
            is_same = self.queried_at is not None and answer == self.last_answer
            self._pause = min(2 * self._pause, self._longest) if is_same else self.interval
            self.last_answer, self.queried_at = answer, queried_at
        except GridEngineError as error:
            log.info("Cannot get Grid Engine's details now: %s", error)
        except Exception:
            log.exception("Cannot process Grid Engine's details")
        finally:
            took = self.clock() - queried_at
            self.due = self.clock() + max(self._pause, 4 * took)
            self.running_query = None


#: Query the details of at most this many jobs, because a command line has a limited length.
MAX_JOBS = 1000

#: The maximum number of queries for one set of details. If an answer about several jobs cannot be
#: read, each half of these jobs is queried again. Finding one unreadable job among :data:`MAX_JOBS`
#: takes 21 queries.
MAX_QUERIES = 32

#: If the answer about a single job cannot be read, leave that job out for this many seconds.
UNREADABLE_PAUSE = 600.0


class ClusterStatus:
    """Caches, for all viewers, what pages show about Grid Engine, except the states of jobs.

    :param jobs: a function that returns the job numbers of all current sessions.
    :param complexes: a function that returns the names of the consumables on the current menu.
    :param queues: the queues of sessions that name none, as patterns of ``qsub -q``; empty means
        all queues.
    """

    def __init__(
        self,
        grid: GridEngine,
        jobs: Callable[[], Collection[int]],
        complexes: Callable[[], Collection[str]],
        interval: float = 5.0,
        queues: Collection[str] = (),
    ) -> None:
        self._grid, self._jobs, self._complexes = grid, jobs, complexes
        self._queues = queues
        #: The time (on the monotonic clock) until which to leave an unreadable job out, keyed by
        #: job number.
        self._unreadable: dict[int, float] = {}
        #: The jobs' usage and reasons for waiting, keyed by job number.
        self.details: CachedQuery[dict[int, Details]] = CachedQuery(self.query_details, interval)
        self.places: CachedQuery[list[QueueInstance]] = CachedQuery(self._ask_places, interval)
        #: The numbers of all waiting jobs, in the scheduler's order.
        self.line: CachedQuery[list[int]] = CachedQuery(self._ask_line, interval)

    def of(self, job: Job) -> Details | None:
        """Return a job's last details without waiting; ``None`` if the owner differs."""
        found = (self.details.answer or {}).get(job.id)
        return found if found and found.owner == job.owner else None

    async def query_details(self) -> dict[int, Details]:
        """Query the details of all sessions' jobs; leave out details that cannot be read."""
        # If there are too many jobs, take the newest: the waiting jobs are usually new, and pages
        # show why a job waits.
        numbers = sorted(self._jobs())[-MAX_JOBS:]
        now = time.monotonic()
        self._unreadable = {
            number: until
            for number, until in self._unreadable.items()
            if now < until and number in numbers
        }
        found: dict[int, Details] = {}
        left = [[number for number in numbers if number not in self._unreadable]]
        for _ in range(MAX_QUERIES):
            if not left:
                break
            # One unreadable job must not cost the other jobs their details.
            if not (batch := left.pop()):
                continue
            try:
                found |= await ask_details(self._grid, batch)
            except AnswerError as error:
                if len(batch) > 1:
                    left += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
                    continue
                self._unreadable[batch[0]] = now + UNREADABLE_PAUSE
                log.warning("The details of job %s cannot be read: %s", batch[0], error)
        return found

    async def _ask_places(self) -> list[QueueInstance]:
        names = ",".join([SLOTS, CORES, *sorted({*self._complexes()} - {SLOTS, CORES})])
        # "-u @" leaves out all jobs, because user names do not start with @. "-q *" means all
        # queues, even if qstat's files name some.
        arguments = ("-f", "-F", names, "-xml", "-q", "*", "-u", "@", *UNGROUPED)
        output = await run(self._grid, "qstat", *arguments)
        places = await asyncio.to_thread(parse_places, output)
        if not self._queues:
            return places
        return [
            replace(place, is_offered=any(place.matches(each) for each in self._queues))
            for place in places
        ]

    async def _ask_line(self) -> list[int]:
        output = await run(self._grid, "qstat", "-xml", "-s", "p", "-u", "*", *UNGROUPED)
        return await asyncio.to_thread(parse_queue, output)
