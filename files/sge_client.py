# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, each on a time limit, and the one collector that watches all sessions.

The parsers are pure and never raise anything but :class:`AnswerError`. "Don't know" is never
"gone": :class:`Collector` says :data:`GONE` only after two good answers without the job.

A session is known by its job's *name*, which the hub makes before the job exists: whatever is
killed between asking for a job and learning its number, the job is found again.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import enum
import logging
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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

    @property
    def accounting_file(self) -> Path:
        """Where the qmaster writes how each job ended (accounting(5))."""
        return self.root / self.cell / "common" / "accounting"

    def command(self, name: str) -> str:
        """Return the full path of a command such as ``qstat``."""
        return str(self.bin_dir / name)


#: The most that is read of one answer, in bytes. People write into answers, in names of their jobs
#: for example; a list of 10,000 jobs has 3.4 MB.
MAX_ANSWER = 128 * 2**20


def _kill(process: asyncio.subprocess.Process) -> None:
    # The group, even where its leader has ended: on Debian, qstat is a wrapper script.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _read(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None, limit: int
) -> bytes | None:
    """Read a stream of a process to its end; kill it, and return ``None``, when it is too long.

    What is left unread in a pipe would keep ``process.wait()`` from returning (asyncio).
    """
    assert stream is not None
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(2**18):
        if size <= limit < size + len(chunk):
            chunks.clear()
            _kill(process)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    return b"".join(chunks) if size <= limit else None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process with everything it has started, and wait until it has ended."""
    _kill(process)
    await asyncio.gather(
        _read(process, process.stdout, MAX_ANSWER), _read(process, process.stderr, MAX_ANSWER)
    )
    await process.wait()


async def run(grid: GridEngine, name: str, *arguments: str, limit: int = MAX_ANSWER) -> bytes:
    """Run a read-only Grid Engine command and return its standard output.

    :param limit: the most it may print, in bytes.
    :raises GridEngineError: when it fails, cannot be started, or exceeds ``grid.timeout``. A
        command that hangs is killed with everything it started.
    :raises AnswerError: when it prints more than ``limit``; it is killed as well.
    """
    start = asyncio.create_task(
        asyncio.create_subprocess_exec(
            grid.command(name),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=grid.environment(),
            start_new_session=True,
        )
    )
    try:
        # Cancelled here, asyncio would kill the command alone, and wait for the children it leaves.
        process = await asyncio.shield(start)
    except OSError as error:
        raise GridEngineError(f"{name} cannot be started: {error}") from error
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await start)
        raise
    finished = False
    try:
        async with asyncio.timeout(grid.timeout):
            output, complaint = await asyncio.gather(
                _read(process, process.stdout, limit), _read(process, process.stderr, limit)
            )
            await process.wait()
        finished = True
    except TimeoutError as error:
        raise GridEngineError(f"{name} gave no answer within {grid.timeout:g} s") from error
    finally:
        if not finished:
            await _end(process)
    if output is None or complaint is None:
        raise AnswerError(f"{name}: the answer has more than {limit} bytes")
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
    """One job as qstat lists it.

    ``host`` is empty until the job has one; ``reports`` is false while Grid Engine has not heard
    from that host for ``max_unheard`` (queue state ``u``, qstat(1)): the job may run on there.
    ``since`` is when it started, in seconds since the epoch; ``None`` until it has.
    """

    id: int
    name: str
    owner: str
    letters: str
    host: str
    slots: int
    reports: bool = True
    since: float | None = None

    @property
    def state(self) -> State:
        """The meaning of ``letters``."""
        return read_state(self.letters)


def _read_moment(text: str) -> float | None:
    """Return what qstat prints as the local time of this host, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _read_jobs(entries: Iterable[ElementTree.Element], queue: str, states: str) -> list[Job]:
    """Read the jobs of one queue instance, or those that wait (``queue`` is empty then)."""
    try:
        return [
            Job(
                id=int(entry.findtext("JB_job_number", "")),
                name=entry.findtext("JB_name", "").strip(),
                owner=entry.findtext("JB_owner", "").strip(),
                letters=(entry.findtext("state") or "").strip(),
                host=queue.partition("@")[2],
                slots=int(entry.findtext("slots", "1")),
                reports="u" not in states,
                since=_read_moment(entry.findtext("JAT_start_time", "")),
            )
            for entry in entries
        ]
    except ValueError as error:
        raise AnswerError(f"qstat printed a job that cannot be read: {error}") from error


#: How much XML a parser is given at a time, in bytes: about a millisecond's work.
_PIECE = 32_768
#: Control characters that no XML document may have, and what is put in their place.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r"))
_HARMLESS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


def xml_pieces(xml: bytes) -> Iterator[str]:
    """Yield XML that qstat printed, piece by piece: a parser lets no other thread run meanwhile.

    Grid Engine escapes what is markup in people's words, but prints control characters and bytes
    that are not UTF-8 as they are. One such job would make the answer about all jobs unreadable, so
    they are replaced, one by one: nothing else becomes markup by it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(xml), _PIECE):
        piece = decoder.decode(xml[start : start + _PIECE].translate(_HARMLESS))
        yield piece.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    yield decoder.decode(b"", final=True)


def parse_tree(xml: bytes) -> ElementTree.Element:
    """Read the XML that qstat printed.

    :raises AnswerError: when it is not XML.
    """
    parser = ElementTree.XMLParser()  # noqa: S314  # nosec B314  # expat bounds entities, reads no files
    try:
        for piece in xml_pieces(xml):
            parser.feed(piece)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnswerError(f"qstat did not print XML: {error}") from error


def parse_qstat(xml: bytes) -> list[Job]:
    """Read the output of ``qstat -f -xml`` (schema ``qstat.xsd`` of Grid Engine 6.2 and later).

    Array tasks and the tasks of parallel jobs repeat a job number; the first is kept.

    :raises AnswerError: when it is anything but a complete job list.
    """
    root = parse_tree(xml)
    queues, waiting = root.find("queue_info"), root.find("job_info")
    if root.tag != "job_info" or queues is None or waiting is None:
        raise AnswerError("qstat did not print a job list")
    jobs: dict[int, Job] = {}
    for queue in queues.iterfind("Queue-List"):
        name, states = queue.findtext("name", "").strip(), queue.findtext("state") or ""
        for job in _read_jobs(queue.iterfind("job_list"), name, states):
            jobs.setdefault(job.id, job)
    for job in _read_jobs(waiting.iterfind("job_list"), "", ""):
        jobs.setdefault(job.id, job)
    return list(jobs.values())


class Gone(enum.Enum):
    """The verdict on a job that Grid Engine does not know any more."""

    GONE = "gone"


GONE = Gone.GONE

#: How many good answers in a row must lack a job before it is over.
ANSWERS_WITHOUT = 2

#: How long the list of people may be with whose jobs qstat is asked, in characters: an argument may
#: have 128 kB (execve(2)). For a longer one all jobs are asked about, and all have to be read.
LONGEST_LIST = 100_000

#: A stray that did not go is deleted again after so many seconds.
DELETION_PAUSE = 10.0

#: How many jobs of no session are deleted at once. Anybody can give thousands of theirs such names,
#: and starts and stops of sessions ask the same broker.
STRAYS_AT_ONCE = 2


@dataclass
class _Watched:
    owner: str
    #: From when on being absent says something; a job may be on its way to Grid Engine before.
    since: float
    waiting: bool
    wanted: bool = True
    #: Since when no session wants it. What was asked before does not tell what became of it.
    released: float = 0.0
    job: Job | None = None
    missed: int = 0


@dataclass
class Collector:
    """Asks Grid Engine about the jobs of all sessions at once; a look-up costs nothing.

    One qstat for everybody, every ``short_interval`` seconds while somebody waits for a session
    (or a job has just gone missing), every ``long_interval`` seconds otherwise, and every
    ``sweep_interval`` seconds about the jobs of all people. When Grid Engine is slow or does not
    answer it is asked less often; the last good answer stands meanwhile.

    Deleting is level-triggered: after every good answer, ``delete`` is awaited for each job that
    carries a name of this hub and that no session wants, whatever was lost on the way to there.
    """

    grid: GridEngine
    short_interval: float = 1.0
    long_interval: float = 15.0
    sweep_interval: float = 600.0
    #: Longest pause after failures.
    longest_pause: float = 30.0
    #: However many are in a hurry, Grid Engine is asked no more often than this.
    least_interval: float = 0.2
    clock: Callable[[], float] = time.monotonic
    #: Deletes a job; may raise :class:`GridEngineError`, and is called again then.
    delete: Callable[[Job], Awaitable[None]] | None = None
    #: What the names of this hub's jobs look like. Unknown until :meth:`sweep`.
    _ours: re.Pattern[str] | None = None
    _answered_at: float | None = None
    #: When everybody's jobs are asked about again, on ``clock``.
    _sweep_due: float = 0.0
    _failures: int = 0
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _deletions: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _stray_line: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(STRAYS_AT_ONCE)
    )
    _task: asyncio.Task[None] | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # -- what sessions say ------------------------------------------------------------------------

    def watch(self, name: str, owner: str, *, waiting: bool, delay: float = 0.0) -> None:
        """Begin to watch a job, or change whether somebody waits for it.

        :param delay: seconds in which the job may still be on its way to Grid Engine.
        """
        watched = self._watched.get(name)
        if watched is None:
            self._watched[name] = _Watched(owner, self.clock() + delay, waiting)
            self._hurry.set()
        else:
            watched.waiting = waiting
        self._run()

    def submitted(self, name: str) -> None:
        """Grid Engine has the job: from now on being absent says something."""
        watched = self._watched[name]
        # What was missed before was missed while the request stood in the broker's line.
        watched.since, watched.missed = self.clock(), 0
        self._hurry.set()

    def release(self, name: str) -> None:
        """No session wants the job any more: delete it, as often as it takes, until it is gone."""
        watched = self._watched.get(name)
        if watched is None:
            return
        if watched.wanted:
            watched.wanted, watched.released = False, self.clock()
        if watched.missed >= ANSWERS_WITHOUT:
            del self._watched[name]
        self._hurry.set()

    def sweep(self, ours: re.Pattern[str]) -> None:
        """Delete every job with such a name that no session wants.

        Only to be called when all sessions of the database are watched: the others are strays.
        """
        self._ours = ours
        self._sweep_due = self.clock()
        self._hurry.set()
        self._run()

    def hurry(self) -> None:
        """Ask again now rather than at the end of the interval."""
        self._hurry.set()

    def look_up(self, name: str) -> Job | Gone | None:
        """Return the job, :data:`GONE`, or ``None`` while it is not known."""
        watched = self._watched.get(name)
        if watched is None:
            return None
        if watched.missed >= ANSWERS_WITHOUT:
            return GONE
        return watched.job

    def last_seen(self, name: str) -> Job | None:
        """Return the job as it was when Grid Engine last had it; ``None`` if it never did."""
        watched = self._watched.get(name)
        return watched.job if watched else None

    def jobs(self) -> list[Job]:
        """Return the jobs of all sessions, as far as they are known."""
        return [watched.job for watched in self._watched.values() if watched.job]

    def watches(self, name: str) -> bool:
        """Whether the job is watched: a released one is until it is gone."""
        return name in self._watched

    @property
    def age(self) -> float | None:
        """Seconds since the last good answer was asked for; ``None`` before the first."""
        return None if self._answered_at is None else self.clock() - self._answered_at

    async def news(self, timeout: float) -> None:
        """Return when there is something to look at again, or after ``timeout`` seconds."""
        # Not asyncio.wait_for: in Python 3.11 it swallows a cancellation that comes with the news,
        # and a start that is given up would go on for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait()

    def wake(self) -> None:
        """Let everybody who waits in :meth:`news` look again."""
        self._news.set()
        self._news = asyncio.Event()

    # -- what Grid Engine says --------------------------------------------------------------------

    def take(self, jobs: Sequence[Job], asked_at: float) -> list[Job]:
        """Take a good answer to a question asked at ``asked_at``.

        A job that was submitted after the question says nothing by being absent.

        :returns: the jobs of this hub that no session wants and that are to be deleted now.
        """
        self._answered_at = asked_at
        found = {
            (job.owner, job.name): job for job in reversed(jobs)
        }  # the oldest of a name counts
        for name, watched in list(self._watched.items()):
            if job := found.get((watched.owner, name)):
                watched.job, watched.missed = job, 0
            elif watched.since < asked_at:
                watched.missed += 1
                if not watched.wanted and watched.missed >= ANSWERS_WITHOUT:
                    del self._watched[name]
        self.wake()
        # A job on a host that is lost stays "being deleted" unless it is deleted again from when on
        # Grid Engine knows of the loss (ENABLE_FORCED_QDEL_IF_UNKNOWN, sge_conf(5)).
        return [
            job
            for job in found.values()
            if self._is_unwanted(job, asked_at)
            and (job.state is not State.DELETING or not job.reports)
        ]

    def _is_unwanted(self, job: Job, asked_at: float) -> bool:
        watched = self._watched.get(job.name)
        if watched is None or watched.owner != job.owner:
            return bool(self._ours and self._ours.fullmatch(job.name))
        return not watched.wanted and watched.released < asked_at

    def _run(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._loop())

    def _pause(self) -> float:
        """Return how long to wait for the next question, in seconds."""
        if self._failures:
            return min(self.short_interval * 2.0**self._failures, self.longest_pause)
        if any(
            watched.waiting or not watched.wanted or 0 < watched.missed < ANSWERS_WITHOUT
            for watched in self._watched.values()
        ):
            return self.short_interval
        return self.long_interval if self._watched else self.sweep_interval

    async def _loop(self) -> None:
        while self._watched or self._ours:
            asked_at = self.clock()
            self._hurry.clear()
            try:
                self._delete(self.take(await self._ask(asked_at), asked_at))
                self._failures = 0
            except GridEngineError as error:
                self._failures = min(self._failures + 1, 10)
                log.warning(
                    "Cannot ask Grid Engine about the sessions, keeping them all: %s", error
                )
            except Exception:
                # A fault of ours; the sessions must not lose their watch over it.
                self._failures = min(self._failures + 1, 10)
                log.exception("Cannot take in Grid Engine's answer, keeping all sessions")
            took = self.clock() - asked_at
            if self._failures:
                # Nobody's hurry makes a Grid Engine that is in trouble answer sooner.
                await asyncio.sleep(self._pause())
                continue
            with contextlib.suppress(TimeoutError):
                # A question that takes long is asked seldom.
                async with asyncio.timeout(max(self._pause(), 4 * took)):
                    await self._hurry.wait()
            least = max(min(self.least_interval, self.short_interval), 2 * took)
            await asyncio.sleep(asked_at + least - self.clock())

    async def _ask(self, now: float) -> list[Job]:
        owners = {watched.owner for watched in self._watched.values()}
        wide = bool(self._ours) and now >= self._sweep_due
        if wide:
            # Should it fail, the sessions come first: on a big cluster it may always take too long.
            self._sweep_due = now + self.longest_pause
        people = ",".join(sorted(owners))
        if wide or not people or len(people) > LONGEST_LIST:  # qstat takes no empty list
            people = "*"
        # -f -ne: by queue instance, as far as it has jobs; says which hosts do not report.
        arguments = ("-f", "-ne", "-xml", "-u", people)
        output = await run(self.grid, "qstat", *arguments)
        # A cluster with ten thousand jobs is 3 MB of XML: parsed beside the event loop, not in it.
        jobs = await asyncio.to_thread(parse_qstat, output)
        if wide:
            self._sweep_due = now + self.sweep_interval
        return jobs

    def _delete(self, strays: Iterable[Job]) -> None:
        for job in strays:
            if self.delete and job.id not in self._deletions:
                task = asyncio.ensure_future(self._delete_one(job))
                self._deletions[job.id] = task

    async def _delete_one(self, job: Job) -> None:
        watched = self._watched.get(job.name)
        is_sessions = watched is not None and watched.owner == job.owner
        async with contextlib.nullcontext() if is_sessions else self._stray_line:
            done = await self._try_to_delete(job)
            if not done:  # in line: what the broker refuses is not to keep it busy
                await asyncio.sleep(DELETION_PAUSE)
        if done:
            await asyncio.sleep(DELETION_PAUSE)
        del self._deletions[job.id]
        if not done:
            self._sweep_due = self.clock()  # its owner may have no other session
            self.hurry()

    async def _try_to_delete(self, job: Job) -> bool:
        assert self.delete is not None
        log.info("Job %s of %s belongs to no session any more; deleting it", job.id, job.owner)
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
