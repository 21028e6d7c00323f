# SPDX-License-Identifier: BSD-3-Clause
"""Answers of Grid Engine that pages show, shared by everybody.

Grid Engine is asked only while somebody looks. Nothing here decides about a session, and a page
never waits for it for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar

from gridhub.grid.command import run
from gridhub.grid.details import Details, ask_details
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.grid.places import QueueInstance, parse_places, parse_queue

log = logging.getLogger("jupyterhub.sge")
T = TypeVar("T")


class CachedQuery(Generic[T]):
    """An answer of Grid Engine that is shared, and asked for only while somebody looks.

    However many look, Grid Engine is asked at most once every ``interval`` seconds, more seldom
    when it is slow, and never twice at a time. Whoever looks gets the last answer and its age.
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
        #: An answer of more seconds is none: it would be told as if it were so now.
        self._oldest = oldest
        self._interval = self._pause = interval
        #: An answer that stays the same is asked for more seldom, up to so many seconds.
        self._longest = max(longest, interval)
        self._clock = clock
        self._answer: T | None = None
        self._asked_at: float | None = None
        #: Not before then is there another question.
        self._due = float("-inf")
        self._question: asyncio.Task[None] | None = None

    @property
    def answer(self) -> T | None:
        """The last answer, and a question for a newer one if it is time; never waits."""
        if self._question is None and self._clock() >= self._due:
            self._question = asyncio.ensure_future(self._put())
        return self._last()

    def _last(self) -> T | None:
        age = self.age
        return self._answer if age is not None and age <= self._oldest else None

    @property
    def age(self) -> float | None:
        """Seconds since the last answer was asked for; ``None`` before the first."""
        return None if self._asked_at is None else self._clock() - self._asked_at

    async def look(self, patience: float) -> T | None:
        """Return the answer; wait for the first one, or one in the place of an old one, a moment.

        :param patience: seconds to wait at most.
        """
        answer, age = self.answer, self.age
        if self._question and (age is None or age > 2 * self._interval):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.shield(self._question)
            answer = self._last()
        return answer

    async def _put(self) -> None:
        asked_at = self._clock()
        try:
            answer = await self._ask()
            is_same = self._asked_at is not None and answer == self._answer
            self._pause = min(2 * self._pause, self._longest) if is_same else self._interval
            self._answer, self._asked_at = answer, asked_at
        except GridEngineError as error:
            log.info("Grid Engine's details are not known now: %s", error)
        except Exception:
            log.exception("Cannot take in Grid Engine's details")
        finally:
            took = self._clock() - asked_at
            self._due = self._clock() + max(self._pause, 4 * took)
            self._question = None


#: About how many jobs Grid Engine is asked in detail at most: a command line has its limits.
MAX_JOBS = 1000

#: How many questions at most follow from an answer that cannot be read: one such job among
#: :data:`MAX_JOBS` is found with 21.
MAX_QUESTIONS = 32

#: For so many seconds a job is not asked about whose own answer could not be read.
SPOILT_PAUSE = 600.0


class ClusterStatus:
    """All that pages show of one Grid Engine beyond the states of jobs, asked once for everybody.

    :param jobs: the numbers of the jobs of all sessions now.
    :param complexes: the names of the consumables on the menu now.
    """

    def __init__(
        self,
        grid: GridEngine,
        jobs: Callable[[], Collection[int]],
        complexes: Callable[[], Collection[str]],
        interval: float = 5.0,
    ) -> None:
        self._grid, self._jobs, self._complexes = grid, jobs, complexes
        #: Until when a job is left out, on the monotonic clock.
        self._spoilt: dict[int, float] = {}
        #: Usage, and why they wait, by job number.
        self.details: CachedQuery[dict[int, Details]] = CachedQuery(self._ask_details, interval)
        self.places: CachedQuery[list[QueueInstance]] = CachedQuery(self._ask_places, interval)
        #: The numbers of all jobs that wait, the next one first.
        self.line: CachedQuery[list[int]] = CachedQuery(self._ask_line, interval)

    def of(self, job: Job) -> Details | None:
        """Return the last details of a job, if they are of its owner's; never waits."""
        found = (self.details.answer or {}).get(job.id)
        return found if found and found.owner == job.owner else None

    async def _ask_details(self) -> dict[int, Details]:
        # Those that wait for their reason are among the newest.
        numbers = sorted(self._jobs())[-MAX_JOBS:]
        now = time.monotonic()
        self._spoilt = {
            number: until
            for number, until in self._spoilt.items()
            if now < until and number in numbers
        }
        found: dict[int, Details] = {}
        left = [[number for number in numbers if number not in self._spoilt]]
        for _ in range(MAX_QUESTIONS):
            if not left:
                break
            # What one job does to an answer costs no other job its details.
            if not (asked := left.pop()):
                continue
            try:
                found |= await ask_details(self._grid, asked)
            except AnswerError as error:
                if len(asked) > 1:
                    left += [asked[: len(asked) // 2], asked[len(asked) // 2 :]]
                    continue
                self._spoilt[asked[0]] = now + SPOILT_PAUSE
                log.warning("The details of job %s cannot be read: %s", asked[0], error)
        return found

    async def _ask_places(self) -> list[QueueInstance]:
        names = ",".join(["slots", *sorted(self._complexes())])
        # No job is listed with them: nobody's name has an @ at its beginning.
        output = await run(self._grid, "qstat", "-f", "-F", names, "-xml", "-u", "@")
        return await asyncio.to_thread(parse_places, output)

    async def _ask_line(self) -> list[int]:
        output = await run(self._grid, "qstat", "-xml", "-s", "p", "-u", "*")
        return await asyncio.to_thread(parse_queue, output)
