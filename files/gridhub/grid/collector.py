# SPDX-License-Identifier: BSD-3-Clause
"""Watch the jobs of all sessions with a single qstat query.

"Not known" never means "gone": :class:`Collector` returns :data:`GONE` only after two good answers
do not list the job, and Grid Engine, asked about this job alone, does not know it either. A list
may leave out jobs for other reasons, such as a file of options for qstat.

A session is identified by its job's *name*, which the hub chooses before the job exists. So the hub
can find the job again even if the hub or the broker is killed before the hub learns the job's
number.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import re
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from gridhub.grid.command import run
from gridhub.grid.details import job_exists
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.jobs import Job, State, parse_qstat
from gridhub.grid.qstat_files import QstatFiles, paths

log = logging.getLogger("jupyterhub.sge")


class Gone(enum.Enum):
    """The result of looking up a job that Grid Engine no longer knows."""

    GONE = "gone"


GONE = Gone.GONE

#: After this many consecutive good answers that do not list a job, ask about this job alone.
ANSWERS_WITHOUT = 2

#: How many jobs to ask about alone between two lists.
ALONE_AT_ONCE = 20

#: The longest list of users in a qstat query, in characters. An argument may be at most 128 kB long
#: (execve(2)). If the list is longer, the query covers all users instead, and the hub must parse
#: the jobs of all users.
LONGEST_LIST = 100_000

#: If a deleted job still exists after this many seconds, delete it again.
DELETION_PAUSE = 10.0

#: How many jobs that belong to no session may be deleted at the same time. Anyone can submit
#: thousands of jobs whose names look like those of this hub's sessions. The deletion of these jobs
#: must not delay the starts and stops of sessions, which use the same broker.
STRAYS_AT_ONCE = 2


@dataclass
class Watched:
    """What is known about a session's job."""

    owner: str
    #: Until this time, the job may still be on its way to Grid Engine. So only a query that starts
    #: after this time can show that the job is missing.
    since: float
    waiting: bool
    wanted: bool = True
    #: The time at which the session stopped wanting the job. Answers to earlier queries do not
    #: cause the deletion of the job, because such answers may be out of date.
    released: float = 0.0
    job: Job | None = None
    missed: int = 0
    gone: bool = False


#: Seconds between queries to Grid Engine: the short interval applies while a person waits for a
#: session, and the long interval otherwise.
SHORT_INTERVAL, LONG_INTERVAL = 1.0, 15.0


@dataclass
class Collector:
    """Queries the jobs of all sessions at once, and keeps the last good answer.

    One qstat query covers all sessions. It runs every ``short_interval`` seconds while a person
    waits for a session (or a job has just gone missing), and every ``long_interval`` seconds
    otherwise. Once every ``sweep_interval`` seconds, it covers the jobs of all users instead. When
    Grid Engine is slow or does not answer, the query runs less often, and the last good answer
    remains valid meanwhile.

    After every good answer, the collector calls ``delete`` for each listed job of this hub that no
    session wants. So a lost deletion request is repeated after the next answer.
    """

    grid: GridEngine
    short_interval: float = SHORT_INTERVAL
    long_interval: float = LONG_INTERVAL
    sweep_interval: float = 600.0
    #: The longest pause after failures, in seconds.
    longest_pause: float = 30.0
    #: The shortest time between two queries, in seconds, even after :meth:`hurry`.
    least_interval: float = 0.2
    clock: Callable[[], float] = time.monotonic
    #: Deletes a job; if it raises :class:`GridEngineError`, it is called again later.
    delete: Callable[[Job], Awaitable[None]] | None = None
    #: The pattern of this hub's job names; unknown until :meth:`sweep` is called.
    ours: re.Pattern[str] | None = None
    #: The names of jobs that are not deleted although no session wants them.
    left: Container[str] = ()
    _answered_at: float | None = None
    #: The time, on ``clock``, at which to query the jobs of all users again.
    _sweep_due: float = 0.0
    failures: int = 0
    watched: dict[str, Watched] = field(default_factory=dict)
    deletions: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _stray_line: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(STRAYS_AT_ONCE)
    )
    task: asyncio.Task[None] | None = None
    _files: QstatFiles | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # -- for sessions -----------------------------------------------------------------------------

    def watch(self, name: str, owner: str, *, waiting: bool, delay: float = 0.0) -> None:
        """Start watching a job, or change whether a person is waiting for it.

        :param delay: how long the job may still be on its way to Grid Engine, in seconds.
        """
        watched = self.watched.get(name)
        if watched is None:
            self.watched[name] = Watched(owner, self.clock() + delay, waiting)
            self._hurry.set()
        else:
            watched.waiting = waiting
        self._run()

    def submitted(self, name: str) -> None:
        """Record that Grid Engine has accepted the job.

        From now on, answers that do not list the job show that it is missing.
        """
        watched = self.watched[name]
        # Earlier answers without the job do not count, because the broker had not submitted the job
        # yet.
        watched.since, watched.missed, watched.gone = self.clock(), 0, False
        self._hurry.set()

    def release(self, name: str) -> None:
        """Delete a job that its session no longer wants, again and again until the job is gone."""
        watched = self.watched.get(name)
        if watched is None:
            return
        if watched.wanted:
            watched.wanted, watched.released = False, self.clock()
        if watched.gone:
            del self.watched[name]
        self._hurry.set()

    def sweep(self, ours: re.Pattern[str]) -> None:
        """Delete every job that no session wants and whose name matches ``ours``.

        Call this only when all sessions in the database are watched, because every other job with
        such a name is deleted.
        """
        self.ours = ours
        self._sweep_due = self.clock()
        self._hurry.set()
        self._run()

    def hurry(self) -> None:
        """Query Grid Engine now, without waiting for the end of the interval."""
        self._hurry.set()

    def look_up(self, name: str) -> Job | Gone | None:
        """Return the job, :data:`GONE`, or ``None`` while the job's state is not known."""
        watched = self.watched.get(name)
        if watched is None:
            return None
        return GONE if watched.gone else watched.job

    def last_seen(self, name: str) -> Job | None:
        """Return the job as Grid Engine last listed it; ``None`` if it was never listed."""
        watched = self.watched.get(name)
        return watched.job if watched else None

    def jobs(self) -> list[Job]:
        """Return the known jobs of all sessions."""
        return [watched.job for watched in self.watched.values() if watched.job]

    def watches(self, name: str) -> bool:
        """Return whether the job is watched; a released job is watched until it is gone."""
        return name in self.watched

    @property
    def age(self) -> float | None:
        """Seconds since the start of the last good query; ``None`` if there was no such query."""
        return None if self._answered_at is None else self.clock() - self._answered_at

    async def news(self, timeout: float) -> None:
        """Wait until there are new results to look up, but at most ``timeout`` seconds."""
        # Do not use asyncio.wait_for: in Python 3.11, it swallows a cancellation that arrives
        # together with the news. A cancelled start would then continue for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()

    def wake(self) -> None:
        """Wake all callers that wait in :meth:`news`."""
        self._news.set()
        self._news = asyncio.Event()

    async def close(self) -> None:
        """Stop watching without changing any job."""
        tasks = [task for task in (self.task, *self.deletions.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- answers of Grid Engine -------------------------------------------------------------------

    def take(self, jobs: Sequence[Job], queried_at: float) -> list[Job]:
        """Process a good answer to a query that started at ``queried_at``.

        A job that was submitted after ``queried_at`` may exist even if the answer does not list it.

        :returns: the jobs of this hub that no session wants and that must be deleted now.
        """
        self._answered_at = queried_at
        # If several jobs have the same name, the oldest counts.
        found = {(job.owner, job.name): job for job in reversed(jobs)}
        for name, watched in list(self.watched.items()):
            if job := found.get((watched.owner, name)):
                watched.job, watched.missed, watched.gone = job, 0, False
            elif watched.since < queried_at:
                watched.missed += 1
        self.wake()
        # If a job is already being deleted but its host does not report, delete the job again.
        # Grid Engine removes such a job only if the deletion is repeated after the host is known to
        # be lost (ENABLE_FORCED_QDEL_IF_UNKNOWN, sge_conf(5)).
        return [
            job
            for job in found.values()
            if self._is_unwanted(job, queried_at)
            and (job.state is not State.DELETING or not job.reports)
        ]

    def missing(self) -> list[tuple[str, str]]:
        """Return the name and owner of each job that is missing in the last answers."""
        return [
            (name, watched.owner)
            for name, watched in self.watched.items()
            if watched.missed >= ANSWERS_WITHOUT and not watched.gone
        ]

    def take_alone(self, name: str, *, exists: bool) -> None:
        """Process the answer to a question about a missing job alone."""
        watched = self.watched.get(name)
        if watched is None or watched.missed < ANSWERS_WITHOUT:
            return  # meanwhile, the job was submitted
        if exists:
            log.warning("qstat -j has job %s, but the list of jobs does not; keeping it", name)
            watched.missed = 0
            return
        if watched.job is None and watched.wanted:
            log.warning("Job %s was never listed: it has ended, or the hub may not see it", name)
        watched.gone = True
        if not watched.wanted:
            del self.watched[name]
        self.wake()

    def _is_unwanted(self, job: Job, queried_at: float) -> bool:
        watched = self.watched.get(job.name)
        if watched is None or watched.owner != job.owner:
            return bool(self.ours and self.ours.fullmatch(job.name)) and job.name not in self.left
        return not watched.wanted and watched.released < queried_at

    def _run(self) -> None:
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._loop())

    def pause(self) -> float:
        """Return the pause before the next query, in seconds."""
        if self.failures:
            return min(self.short_interval * 2.0**self.failures, self.longest_pause)
        if any(
            watched.waiting or not watched.wanted or (watched.missed and not watched.gone)
            for watched in self.watched.values()
        ):
            return self.short_interval
        return self.long_interval if self.watched else self.sweep_interval

    async def _loop(self) -> None:
        while self.watched or self.ours:
            queried_at = self.clock()
            self._hurry.clear()
            try:
                self._delete(self.take(await self.ask(queried_at), queried_at))
                for name, owner in self.missing()[:ALONE_AT_ONCE]:
                    await self._ask_alone(name, owner)
                self.failures = 0
            except GridEngineError as error:
                self.failures = min(self.failures + 1, 10)
                log.warning(
                    "Cannot ask Grid Engine about the sessions, keeping them all: %s", error
                )
            except Exception:
                # This is a bug in GridHub, but the collector must go on watching the sessions.
                self.failures = min(self.failures + 1, 10)
                log.exception("Cannot process Grid Engine's answer, keeping all sessions")
            took = self.clock() - queried_at
            if self.failures:
                # After a failure, wait for the whole pause: :meth:`hurry` does not shorten it.
                await asyncio.sleep(self.pause())
                continue
            with contextlib.suppress(TimeoutError):
                # The longer a query takes, the less often it runs.
                async with asyncio.timeout(max(self.pause(), 4 * took)):
                    await self._hurry.wait()
            least = max(min(self.least_interval, self.short_interval), 2 * took)
            await asyncio.sleep(queried_at + least - self.clock())

    async def _ask_alone(self, name: str, owner: str) -> None:
        """Ask about a missing job alone. An answer that cannot be read concerns only this job.

        :raises GridEngineError: when there is no answer.
        """
        try:
            exists = await job_exists(self.grid, name, owner)
        except AnswerError as error:
            log.warning("Cannot read the answer about job %s, keeping it: %s", name, error)
            return
        self.take_alone(name, exists=exists)

    async def ask(self, now: float) -> list[Job]:
        """Query the jobs of all sessions, or of all users when a sweep is due.

        :param now: the time on ``clock``.
        :raises GridEngineError: when there is no good answer.
        """
        owners = {watched.owner for watched in self.watched.values()}
        wide = bool(self.ours) and now >= self._sweep_due
        if wide:
            # On a very big cluster, every sweep fails. So postpone the next sweep in any case: the
            # next query then covers only the sessions' jobs, and can succeed.
            self._sweep_due = now + self.longest_pause
        people = ",".join(sorted(owners))
        if wide or not people or len(people) > LONGEST_LIST:  # qstat rejects an empty list
            people = "*"
        self._files = self._files or QstatFiles(paths(self.grid))
        overriding = await self._files.check(self.grid.timeout)
        # -f -ne: list the jobs of each queue instance, and leave out empty queue instances. Only a
        # list with -f shows which hosts do not report. -s a overrides another -s in qstat's files.
        arguments = ("-s", "a", "-f", "-ne", "-xml", "-u", people, *overriding)
        output = await run(self.grid, "qstat", *arguments)
        # Ten thousand jobs are 3 MB of XML: parse them in a thread, not in the event loop.
        jobs = await asyncio.to_thread(parse_qstat, output)
        if wide:
            self._sweep_due = now + self.sweep_interval
        return jobs

    def _delete(self, strays: Iterable[Job]) -> None:
        for job in strays:
            if self.delete and job.id not in self.deletions:
                task = asyncio.ensure_future(self._delete_one(job))
                self.deletions[job.id] = task

    async def _delete_one(self, job: Job) -> None:
        watched = self.watched.get(job.name)
        is_sessions = watched is not None and watched.owner == job.owner
        async with contextlib.nullcontext() if is_sessions else self._stray_line:
            done = await self._try_to_delete(job)
            if not done:
                # Let the next stray job wait, so that jobs that cannot be deleted do not flood the
                # broker with requests.
                await asyncio.sleep(DELETION_PAUSE)
        if done:
            await asyncio.sleep(DELETION_PAUSE)
        del self.deletions[job.id]
        if not done:
            self._sweep_due = self.clock()  # only a sweep finds jobs of users without sessions
            self.hurry()

    async def _try_to_delete(self, job: Job) -> bool:
        assert self.delete is not None
        log.info("Job %s of %s no longer belongs to a session; deleting it", job.id, job.owner)
        try:
            await self.delete(job)
        except GridEngineError as error:
            log.warning("Job %s of %s cannot be deleted now: %s", job.id, job.owner, error)
            return False
        except Exception:
            log.exception("Job %s of %s cannot be deleted now", job.id, job.owner)
            return False
        self.hurry()
        return True
