# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, each on a time limit, and the one collector that watches all sessions.

The parsers are pure and never raise anything but :class:`AnswerError`. "Don't know" is never
"gone": :class:`Collector` says :data:`GONE` only after two good answers without the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

log = logging.getLogger("jupyterhub.sge")

_TERSE_JOB_ID = re.compile(r"[1-9]\d{0,9}", re.ASCII)


class GridEngineError(Exception):
    """Grid Engine was asked and did not do it; the message carries its own words."""


class AnswerError(GridEngineError):
    """Grid Engine answered something that is not in the format its manual promises."""


@dataclass(frozen=True)
class GridEngine:
    """Where Grid Engine is on this host, and how long a command may take (seconds)."""

    root: Path
    cell: str = "default"
    bin_dir: Path = Path("/usr/bin")
    timeout: float = 10.0

    def environment(self) -> dict[str, str]:
        """Return the whole environment of a Grid Engine command: nothing of ours leaks into it."""
        return {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": self.cell,
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "LC_ALL": "C",
        }

    def command(self, name: str) -> str:
        """Return the full path of a command such as ``qstat``."""
        return str(self.bin_dir / name)


async def run(grid: GridEngine, name: str, *arguments: str) -> bytes:
    """Run a read-only Grid Engine command and return its standard output.

    :raises GridEngineError: when it fails, cannot be started, or exceeds ``grid.timeout``. A
        command that hangs is killed with everything it started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            grid.command(name),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=grid.environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise GridEngineError(f"{name} cannot be started: {error}") from error
    finished = False
    try:
        async with asyncio.timeout(grid.timeout):
            output, complaint = await process.communicate()
        finished = True
    except TimeoutError as error:
        raise GridEngineError(f"{name} gave no answer within {grid.timeout:g} s") from error
    finally:
        if not finished:
            # The group, even where its leader has ended: on Debian, qstat is a wrapper script.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        words = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise GridEngineError(f"{name}: {words}")
    return output


def parse_job_id(output: str) -> int:
    """Return the job number that ``qsub -terse`` printed.

    Submit verifiers and ``-now y`` print chatter before it (qsub(1)), so only a last line that is
    a number and nothing else counts.

    :raises AnswerError: when there is no such line.
    """
    lines = output.strip().splitlines()
    if not lines or not _TERSE_JOB_ID.fullmatch(lines[-1].strip()):
        raise AnswerError(f"qsub did not print a job number: {output.strip()[:200]!r}")
    return int(lines[-1].strip())


class State(enum.Enum):
    """What a job is doing, as far as a session cares."""

    QUEUED = "queued"
    HELD = "held"
    ERROR = "error"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    UNKNOWN = "unknown"


def read_state(letters: str) -> State:
    """Translate the state letters of qstat(1) (``qw``, ``hqw``, ``Eqw``, ``t``, ``r``, ``dr``, …).

    A hold on a job that runs already (``hr``) does not stop it.
    """
    if "d" in letters:
        return State.DELETING
    if "E" in letters:
        return State.ERROR
    if "q" in letters or "w" in letters:
        return State.HELD if "h" in letters else State.QUEUED
    if "s" in letters or "S" in letters or "T" in letters:
        return State.SUSPENDED
    if "t" in letters:
        return State.STARTING
    if "r" in letters or "R" in letters:
        return State.RUNNING
    return State.UNKNOWN


@dataclass(frozen=True)
class Job:
    """One job as qstat lists it. ``host`` is empty until the job has one."""

    id: int
    owner: str
    letters: str
    host: str
    slots: int

    @property
    def state(self) -> State:
        """The meaning of ``letters``."""
        return read_state(self.letters)


def parse_qstat(xml: bytes) -> dict[int, Job]:
    """Read the output of ``qstat -xml`` (schema ``qstat.xsd`` of Grid Engine 6.2 and later).

    Array tasks and the tasks of parallel jobs repeat a job number; the first is kept.

    :raises AnswerError: when it is anything but a complete job list.
    """
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  # expat bounds entities and reads no files
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnswerError(f"qstat did not print XML: {error}") from error
    if root.tag != "job_info" or root.find("queue_info") is None or root.find("job_info") is None:
        raise AnswerError("qstat did not print a job list")
    jobs: dict[int, Job] = {}
    for entry in root.iter("job_list"):
        try:
            job = Job(
                id=int(entry.findtext("JB_job_number", "")),
                owner=entry.findtext("JB_owner", "").strip(),
                letters=(entry.findtext("state") or "").strip(),
                host=entry.findtext("queue_name", "").strip().partition("@")[2],
                slots=int(entry.findtext("slots", "1")),
            )
        except ValueError as error:
            raise AnswerError(f"qstat printed a job that cannot be read: {error}") from error
        jobs.setdefault(job.id, job)
    return jobs


class Gone(enum.Enum):
    """The verdict on a job that Grid Engine does not know any more."""

    GONE = "gone"


GONE = Gone.GONE

#: How many good answers in a row must lack a job before it is over.
ANSWERS_WITHOUT = 2


@dataclass
class _Watched:
    owner: str
    since: float
    waiting: bool = True
    job: Job | None = None
    missed: int = 0


@dataclass
class Collector:
    """Asks Grid Engine about the jobs of all sessions at once; a look-up costs nothing.

    One qstat for everybody, every ``short_interval`` seconds while somebody waits for a session
    (or a job has just gone missing) and every ``long_interval`` seconds otherwise. It runs only
    while there is something to watch.
    """

    grid: GridEngine
    short_interval: float = 1.0
    long_interval: float = 15.0
    clock: Callable[[], float] = time.monotonic
    #: However many are in a hurry, Grid Engine is asked no more often than this.
    least_interval: float = 0.2
    #: When the last good answer was asked for, on ``clock``; ``None`` before the first.
    answered_at: float | None = None
    _watched: dict[int, _Watched] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self, job_id: int, owner: str, *, waiting: bool) -> None:
        """Begin to watch a job, or change whether somebody waits for it."""
        watched = self._watched.get(job_id)
        if watched is None:
            self._watched[job_id] = _Watched(owner, self.clock(), waiting)
            self._hurry.set()
        else:
            watched.waiting = waiting
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._loop())

    def forget(self, job_id: int) -> None:
        """Stop watching a job."""
        self._watched.pop(job_id, None)

    def hurry(self) -> None:
        """Ask again now rather than at the end of the interval."""
        self._hurry.set()

    def look_up(self, job_id: int) -> Job | Gone | None:
        """Return the job, :data:`GONE`, or ``None`` while it is not known."""
        watched = self._watched.get(job_id)
        if watched is None:
            return None
        if watched.missed >= ANSWERS_WITHOUT:
            return GONE
        return watched.job

    async def news(self, timeout: float) -> None:
        """Return when there is something to look at again, or after ``timeout`` seconds."""
        # Not asyncio.wait_for: in Python 3.11 it swallows a cancellation that comes with the news,
        # and a start that is given up would go on for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()

    def take(self, jobs: Mapping[int, Job], asked_at: float) -> None:
        """Take a good answer to a question asked at ``asked_at``.

        A job that was submitted after the question says nothing by being absent.
        """
        self.answered_at = asked_at
        for job_id, watched in self._watched.items():
            if job_id in jobs:
                watched.job, watched.missed = jobs[job_id], 0
            elif watched.since < asked_at:
                watched.missed += 1
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits in :meth:`news` look again."""
        self._news.set()
        self._news = asyncio.Event()

    def _interval(self) -> float:
        urgent = any(
            watched.waiting or 0 < watched.missed < ANSWERS_WITHOUT
            for watched in self._watched.values()
        )
        return self.short_interval if urgent else self.long_interval

    async def _loop(self) -> None:
        while self._watched:
            asked_at = self.clock()
            self._hurry.clear()
            try:
                self.take(await self._ask({w.owner for w in self._watched.values()}), asked_at)
            except GridEngineError as error:
                log.warning(
                    "Cannot ask Grid Engine about the sessions, keeping them all: %s", error
                )
            except Exception:
                # A fault of ours; the sessions must not lose their watch over it.
                log.exception("Cannot take in Grid Engine's answer, keeping all sessions")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval()):
                    await self._hurry.wait()
            least = min(self.least_interval, self.short_interval)
            await asyncio.sleep(asked_at + least - self.clock())

    async def _ask(self, owners: Collection[str]) -> dict[int, Job]:
        output = await run(self.grid, "qstat", "-xml", "-u", ",".join(sorted(owners)))
        # A cluster with ten thousand jobs is 3 MB of XML: parsed beside the event loop, not in it.
        return await asyncio.to_thread(parse_qstat, output)
