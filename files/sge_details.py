# SPDX-License-Identifier: BSD-3-Clause
"""What Grid Engine knows beyond the state of a job: why it waits, what it uses, what is free.

Nothing of it decides about a session. It is asked for only while somebody looks at a page that
shows it, once for everybody (:class:`Glance`), and a page never waits for it for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from sge_client import AnswerError, GridEngine, GridEngineError, parse_tree, run

log = logging.getLogger("jupyterhub.sge")

T = TypeVar("T")

#: The multipliers of Grid Engine's memory values (sge_types(1)): a capital is binary.
_MULTIPLIERS = {
    "": 1.0,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "t": 1e12,
    "K": 2.0**10,
    "M": 2.0**20,
    "G": 2.0**30,
    "T": 2.0**40,
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", re.ASCII)


def read_number(text: str) -> float | None:
    """Return a number with one of Grid Engine's multipliers; ``None`` for ``N/A`` and the like.

    What a queue does not limit is infinite: memory, say, that no host has so and so much of.
    """
    if text.strip().lower() == "infinity":
        return math.inf
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) * _MULTIPLIERS[found[2]] if found else None


def _read_time(text: str) -> float | None:
    """Return ``[[days:]hours:]minutes:seconds`` in seconds, as qstat prints what a job has used."""
    parts = text.strip().split(":")
    if not 1 < len(parts) < 5 or not all(re.fullmatch(r"\d+", part, re.ASCII) for part in parts):
        return None
    return float(
        sum(
            int(part) * unit
            for part, unit in zip(reversed(parts), (1, 60, 3600, 86400), strict=False)
        )
    )


# -- one job --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Details:
    """What ``qstat -j`` says of one job.

    ``None`` where the execution daemon has not reported yet, which it does every
    ``load_report_time`` (sge_conf(5)).
    """

    job: int
    #: Processor time used, in seconds.
    cpu: float | None = None
    #: The sum of the address spaces of its processes, in bytes: what ``h_vmem`` limits.
    vmem: float | None = None
    #: Why it waits, a line for each thing the scheduler says (``schedd_job_info``, sched_conf(5));
    #: empty where it runs.
    reasons: tuple[str, ...] = ()


#: What stands between two jobs begins so.
_BETWEEN = "\n===="
_USAGE = re.compile(r"^usage +\d+: +(.*)$", re.MULTILINE)
_NO_REASON = "There are no messages available"
_REASONS = re.compile(r"^scheduling info: *(.*(?:\n +\S.*)*)", re.MULTILINE)


def parse_details(text: str) -> dict[int, Details]:
    """Read the output of ``qstat -j ID,ID,…``, by job number; what cannot be read is left out."""
    found: dict[int, Details] = {}
    # Of many jobs on many hosts this is megabytes: no step may take the interpreter for long.
    for part in text.split(_BETWEEN):
        number = re.search(r"^job_number: +(\d{1,10})$", part, re.MULTILINE | re.ASCII)
        if not number:
            continue
        usage = _USAGE.search(part)
        used = dict(
            pair.split("=", 1) for pair in (usage[1].split(", ") if usage else ()) if "=" in pair
        )
        # Of a job that runs the same is said as of one that waits. Only it uses anything.
        reasons = None if usage else _REASONS.search(part)
        lines = (line.strip() for line in reasons[1].splitlines()) if reasons else ()
        found[int(number[1])] = Details(
            job=int(number[1]),
            cpu=_read_time(used.get("cpu", "")),
            vmem=read_number(used.get("vmem", "")),
            reasons=tuple(line for line in lines if line and line != _NO_REASON),
        )
    return found


# -- why a job waits, or cannot run ---------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """Something that keeps a job from running, as the scheduler or ``qsub -w`` says it."""

    #: The sentence in ``words.toml``: ``reason.NAME``, or that of :func:`hindrance`.
    name: str
    #: ``job``: it waits wherever it could run; ``amount``: something has to become free; ``place``:
    #: a place takes no jobs now, which :class:`Place` tells as well; ``slots``; ``barred``: a place
    #: is not for this job; ``other``: none that we know.
    scope: str = ""
    #: The complex or rule it is about.
    what: str = ""
    #: How much of that there is, at the place that has the most; ``None`` where it does not say.
    offer: float | None = None


#: The messages of Grid Engine's scheduler. The first one that is found says most. That some queue
#: is not for this job is said whenever the cluster has one: it comes last.
_MESSAGES = tuple(
    (name, scope, re.compile(pattern, re.ASCII | re.IGNORECASE))
    for name, scope, pattern in (
        ("quota", "job", r'exceeds limit\b.*?\bin rule "?(?P<what>[^"\s]+)'),
        ("person", "job", r"dropped because of user limitations"),
        ("depends", "job", r"dropped because of job dependencies"),
        ("alike", "job", r"got ignored in the last scheduling run"),
        ("permission", "job", r"no access to pe"),
        ("reserved", "amount", r"due to a reservation|not reserved by advance reservation"),
        ("amount", "amount", r"offers only [ghq]c:(?P<what>[^\s=]+)=(?P<offer>[^\s,]+)"),
        ("calendar", "amount", r"the job runtime of \d+ sec\. is too long"),
        ("full", "place", r"dropped because it is full|dropped because of overload or full"),
        ("disabled", "place", r"dropped because it is disabled"),
        ("suspended", "place", r"dropped because it is suspended"),
        ("overloaded", "place", r"dropped because it is overloaded|in (suspend|load) alarm"),
        ("away", "place", r"is temporarily not available|until clean up of"),
        ("slots", "slots", r"only offers (?P<offer>\d+) slots|requires more slots than available"),
        ("permission", "barred", r"has no permission for"),
        ("project", "barred", r"have the correct project|excluded project list"),
        ("offer", "barred", r"offers only [ghq][a-z]:(?P<what>[^\s=]+)=(?P<offer>[^\s,]+)"),
        ("unknown", "barred", r"job requests unknown resource \((?P<what>[^)\s]+)"),
        ("parallel", "barred", r"not in pe list|no matching pe|rule is not suitable|parallel type"),
        ("queue", "barred", r"not contained in its hard queue list"),
    )
)
#: What says nothing about the job.
_NO_NEWS = re.compile(
    r"no suitable queues|^Exiting\.|^verification:|job information|no messages available",
    re.IGNORECASE,
)


# The scheduler says the same of a host to every job that waits, and pages look every second.
@lru_cache(maxsize=2**14)
def _meaning(line: str) -> tuple[int, Reason] | None:
    """Return the place of a line's message among all, and the reason; ``None`` for no news."""
    if not line.strip() or _NO_NEWS.search(line):
        return None
    for place, (name, scope, pattern) in enumerate(_MESSAGES):
        if match := pattern.search(line):
            told = match.groupdict()
            offer = read_number(told.get("offer") or "")
            return place, Reason(name, scope, told.get("what") or "", offer)
    return len(_MESSAGES), Reason("other", "other")


def understand(lines: Iterable[str]) -> list[Reason]:
    """Return what the lines of the scheduler or of ``qsub -w`` mean, what says most first."""
    found: dict[tuple[int, str], Reason] = {}
    for meaning in filter(None, map(_meaning, lines)):
        rank, reason = meaning
        before = found.get((rank, reason.what), reason)
        if before.offer is not None and reason.offer is not None:
            reason = max(before, reason, key=lambda each: each.offer or 0.0)
        found[rank, reason.what] = reason
    return [found[key] for key in sorted(found)]


def hindrance(reasons: Collection[Reason], lacks: frozenset[str] | None) -> Reason:
    """Return what to tell of a job that does not start.

    :param reasons: what :func:`understand` returns.
    :param lacks: what :func:`missing` returns; ``None`` where that cannot be told.
    :returns: one of ``reasons``, or one without a scope: ``closed`` and ``lacks``, after what is
        missing; ``turn``, where there is room; ``queued``, where nothing is known.
    """
    # Where it could run on an empty cluster, a place that is not for it is no news.
    told = [reason for reason in reasons if reason.scope != "barred"] or list(reasons)
    first = next(iter(told), Reason("queued"))
    if first.scope == "job":
        return first
    if lacks:
        return Reason(CLOSED if CLOSED in lacks else "lacks")
    # A place that is full or closed is left out of what is free; the job may have another.
    if lacks is not None and all(reason.scope == "place" for reason in reasons):
        return Reason("turn")
    return first


def said_missing(reason: Reason) -> frozenset[str]:
    """Return what a reason says is missing, in the terms of :func:`missing`."""
    if reason.name in ("full", "slots"):
        return frozenset({SLOTS})
    return frozenset({reason.what} if reason.name == "amount" else ())


# -- what is free ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A queue instance and what is free there. ``resources`` are in Grid Engine's base units."""

    queue: str
    host: str
    slots: int
    free: int
    #: Whether jobs can start there: it is not disabled, suspended, unreachable or in an error.
    is_open: bool
    resources: Mapping[str, float] = field(default_factory=dict)


def parse_places(xml: bytes) -> list[Place]:
    """Read the output of ``qstat -f -F COMPLEX,… -xml``.

    :raises AnswerError: when it is anything but that.
    """
    queues = parse_tree(xml).find("queue_info")
    if queues is None:
        raise AnswerError("qstat did not print queues")
    places = []
    for entry in queues.iterfind("Queue-List"):
        queue, _, host = entry.findtext("name", "").strip().partition("@")
        resources = {
            name: number
            for resource in entry.iterfind("resource")
            if (name := resource.get("name"))
            and (number := read_number(resource.text or "")) is not None
        }
        try:
            slots = int(entry.findtext("slots_total", ""))
            taken = int(entry.findtext("slots_used", "")) + int(entry.findtext("slots_resv", "0"))
        except ValueError as error:
            raise AnswerError(f"qstat printed a queue that cannot be read: {error}") from error
        # Letters of qstat(1): alarm only keeps further jobs away, as does everything else here.
        is_open = not (entry.findtext("state") or "").strip()
        free = int(min(resources.get("slots", math.inf), slots - taken))
        places.append(Place(queue, host, slots, max(free, 0), is_open, resources))
    return places


@dataclass(frozen=True)
class Want:
    """What a session has asked for: slots, and consumables in total, in base units, by complex."""

    slots: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    #: ``NAME`` or ``NAME@HOST``, as qsub takes it; of ``NAME@@GROUP`` only the name counts here.
    queue: str = ""

    def may_use(self, place: Place) -> bool:
        """Tell whether the request allows a queue instance."""
        queue, _, host = self.queue.partition("@")
        return place.is_open and (
            not queue or (place.queue == queue and (host in ("", place.host) or host[0] == "@"))
        )


#: In :func:`missing`: every place is closed.
CLOSED = "closed"
#: In :func:`missing`: there are too few free slots.
SLOTS = "slots"


def missing(want: Want, places: Iterable[Place]) -> frozenset[str]:
    """Return what keeps a session from starting, at the place that lacks the least.

    :returns: :data:`SLOTS` and names of complexes; only :data:`CLOSED` where no place takes jobs at
        all; nothing where there is a place for it.
    """
    least: frozenset[str] | None = None
    for place in places:
        if not want.may_use(place):
            continue
        lacks = {
            name
            for name, amount in want.resources.items()
            # A host that does not name a consumable has none of it.
            if place.resources.get(name, 0.0) < amount
        }
        if place.free < want.slots:
            lacks.add(SLOTS)
        # Where two places lack as much, a full one is the better guess than one without a GPU.
        if least is None or (len(lacks), SLOTS not in lacks) < (len(least), SLOTS not in least):
            least = frozenset(lacks)
    return frozenset({CLOSED}) if least is None else least


def free(places: Iterable[Place], name: str, queue: str = "") -> tuple[float, float]:
    """Return how much of a consumable (or of :data:`SLOTS`) is free: in total, and on one host.

    Queues share what their host has: each host counts once, with the most that any queue offers.

    :param queue: the only one that counts, as :attr:`Want.queue`.
    """
    want = Want(queue=queue)
    hosts: dict[str, float] = {}
    for place in places:
        if want.may_use(place):
            amount = float(place.free) if name == SLOTS else place.resources.get(name, 0.0)
            hosts[place.host] = max(hosts.get(place.host, 0.0), amount)
    return sum(hosts.values()), max(hosts.values(), default=0.0)


def parse_waiting(xml: bytes) -> list[int]:
    """Return the numbers of all jobs that wait, in the scheduler's order (``qstat -s p -xml``).

    :raises AnswerError: when it is anything but that.
    """
    waiting = parse_tree(xml).find("job_info")
    if waiting is None:
        raise AnswerError("qstat did not print a job list")
    numbers = [entry.findtext("JB_job_number", "") for entry in waiting.iterfind("job_list")]
    return list(dict.fromkeys(int(number) for number in numbers if number.isdecimal()))


# -- asking ---------------------------------------------------------------------------------------


class Glance(Generic[T]):
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
MANY_JOBS = 1000


class Outlook:
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
        #: Usage, and why they wait, by job number.
        self.details: Glance[dict[int, Details]] = Glance(self._ask_details, interval)
        self.places: Glance[list[Place]] = Glance(self._ask_places, interval)
        #: The numbers of all jobs that wait, the next one first.
        self.line: Glance[list[int]] = Glance(self._ask_line, interval)

    async def _ask_details(self) -> dict[int, Details]:
        # Those that wait for their reason are among the newest.
        numbers = sorted(self._jobs())[-MANY_JOBS:]
        if not numbers:
            return {}
        output = await run(self._grid, "qstat", "-j", ",".join(map(str, numbers)))
        return await asyncio.to_thread(lambda: parse_details(output.decode(errors="replace")))

    async def _ask_places(self) -> list[Place]:
        names = ",".join(["slots", *sorted(self._complexes())])
        # No job is listed with them: nobody's name has an @ at its beginning.
        output = await run(self._grid, "qstat", "-f", "-F", names, "-xml", "-u", "@")
        return await asyncio.to_thread(parse_places, output)

    async def _ask_line(self) -> list[int]:
        output = await run(self._grid, "qstat", "-xml", "-s", "p", "-u", "*")
        return await asyncio.to_thread(parse_waiting, output)
