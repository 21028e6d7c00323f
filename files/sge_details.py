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
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar
from xml.parsers import expat  # nosec B407  # expat bounds entities, reads no files

from sge_client import AnswerError, GridEngine, GridEngineError, Job, parse_tree, run, xml_pieces

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
_JOB_NUMBER = re.compile(r"[1-9]\d{0,9}", re.ASCII)


def read_number(text: str) -> float | None:
    """Return a number with one of Grid Engine's multipliers; ``None`` for ``N/A`` and the like.

    What a queue does not limit is infinite: memory, say, that no host has so and so much of.
    """
    if text.strip().lower() == "infinity":
        return math.inf
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) * _MULTIPLIERS[found[2]] if found else None


# -- one job --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Details:
    """What ``qstat -j`` reports of one job.

    ``None`` where the execution daemon has not reported yet, which it does every
    ``load_report_time`` (sge_conf(5)).
    """

    job: int
    owner: str
    #: Processor time used, in seconds.
    cpu: float | None = None
    #: The sum of the address spaces of its processes, in bytes: what ``h_vmem`` limits. Where Grid
    #: Engine does not measure that (Open Cluster Scheduler 9.1 with systemd), the resident memory.
    vmem: float | None = None
    #: Why it waits, a line for each message of the scheduler (``schedd_job_info``, sched_conf(5));
    #: empty where it has used something already: then it runs.
    reasons: tuple[str, ...] = ()
    #: Why it is in an error state, in Grid Engine's words.
    errors: tuple[str, ...] = ()


@dataclass
class _Entry:
    """What an answer has of one job, as it is printed."""

    numbers: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    usage: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


#: The elements whose text is read. What people write (-v, -ac, -N, arguments, …) is in others.
_LEAVES = frozenset(
    {
        "AN_text",
        "JB_job_number",
        "JB_owner",
        "MES_message",
        "QIM_message",
        "UA_name",
        "UA_value",
        "ULNG_value",
    }
)
#: "11/23/2026 16:30:00 [1000:4711]: error: can't chdir to ..." : when and where is not why.
_WHEN = re.compile(r"^.*?\]: (error: )?")


class _Reader:
    """Keeps the few elements of an answer that matter, by their place in it, and no others."""

    def __init__(self) -> None:
        self.root = ""
        self.trouble = ""
        self.entries: list[_Entry] = []
        #: Messages about all jobs that wait, and those about some, by job number.
        self.general: list[str] = []
        self.own: dict[str, list[str]] = {}
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._entry = _Entry()
        self._used = ""
        self._about: list[str] = []
        self._message = ""
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end

    def feed(self, piece: str, *, final: bool = False) -> None:
        """Read a piece.

        :raises expat.ExpatError: when it is not XML.
        """
        self._parser.Parse(piece, final)

    def _start(self, tag: str, _attributes: object) -> None:
        if not self._path:
            self.root = tag
        self._path.append(tag)
        self._text = [] if tag in _LEAVES else None
        # No handler, no work: however long the words are that are passed over.
        self._parser.CharacterDataHandler = None if self._text is None else self._text.append

    def _end(self, _tag: str) -> None:
        if self._text is not None:
            self._take(" ".join("".join(self._text).split()))
            self._text = self._parser.CharacterDataHandler = None
        self._path.pop()
        if len(self._path) == 2 and self._path[1] == "djob_info":
            self.entries.append(self._entry)
            self._entry = _Entry()
        elif len(self._path) == 4 and self._path[1::2] == ["messages", "SME_message_list"]:
            for number in self._about:
                self.own.setdefault(number, []).append(self._message)
            self._about, self._message = [], ""

    def _take(self, text: str) -> None:
        if len(self._path) % 2 or not text:
            return
        # Every second element is an item of a list. What it is called depends on the release.
        match self._path[1::2]:
            case ["messages", "SME_message_list", "MES_job_number_list", "ULNG_value"]:
                self._about.append(text)
            case ["messages", "SME_message_list", "MES_message"]:
                self._message = text
            case ["messages", "SME_global_message_list", "MES_message"]:
                self.general.append(text)
            case ["djob_info", "JB_job_number"]:
                self._entry.numbers.append(text)
            case ["djob_info", "JB_owner"]:
                self._entry.owners.append(text)
            case ["djob_info", "JB_ja_tasks", "JAT_message_list", "QIM_message"]:
                self._entry.errors.append(_WHEN.sub("", text))
            case (
                ["djob_info", "JB_ja_tasks", "JAT_scaled_usage_list", "UA_name" | "UA_value" as tag]
                # The tasks of a parallel job, where Grid Engine starts them.
                | [
                    "djob_info",
                    "JB_ja_tasks",
                    "JAT_task_list",
                    "PET_scaled_usage",
                    "UA_name" | "UA_value" as tag,
                ]
            ):
                if tag == "UA_name":
                    self._used = text
                elif (number := read_number(text)) is not None:
                    self._entry.usage[self._used] = self._entry.usage.get(self._used, 0) + number
            case ["AN_text"]:
                self.trouble = text


def parse_details(xml: bytes) -> dict[int, Details]:
    """Read the output of ``qstat -xml -j ID,ID,…``, by job number.

    Only elements at their place in Grid Engine's own structure count. People cannot add any, for
    Grid Engine escapes what they write. A job is left out that is printed twice, or without exactly
    one number and one owner.

    :raises AnswerError: when it is anything but that.
    :raises GridEngineError: when it is the report that there is no qmaster.
    """
    reader = _Reader()
    try:
        # Of many jobs on many hosts this is megabytes: no step may take the interpreter for long.
        for piece in xml_pieces(xml):
            reader.feed(piece)
        reader.feed("", final=True)
    except expat.ExpatError as error:
        # Open Cluster Scheduler 9.1 lists unknown jobs in elements without a name.
        if reader.root != "unknown_jobs":
            raise AnswerError(f"qstat did not print XML: {error}") from error
    if reader.root == "unknown_jobs":
        return {}
    if reader.root == "comunication_error":  # so it is spelt
        raise GridEngineError(f"qstat: {reader.trouble}")
    if reader.root != "detailed_job_info":
        raise AnswerError("qstat did not print details of jobs")
    times = Counter(number for entry in reader.entries for number in entry.numbers)
    general = tuple(reader.general)
    found: dict[int, Details] = {}
    for entry in reader.entries:
        if len(entry.numbers) != 1 or len(entry.owners) != 1:
            continue
        (number,), (owner,) = entry.numbers, entry.owners
        if times[number] != 1 or not _JOB_NUMBER.fullmatch(number):
            continue
        own = reader.own.get(number, ())
        found[int(number)] = Details(
            job=int(number),
            owner=owner,
            cpu=entry.usage.get("cpu"),
            # 0 means that Grid Engine does not know.
            vmem=entry.usage.get("vmem") or entry.usage.get("rss") or None,
            reasons=() if entry.usage else (*general, *own) if own else general,
            errors=tuple(dict.fromkeys(entry.errors)),
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

#: How many bytes are read of an answer: for the scheduler's messages, and for each job. A session
#: has about 6 kB; people can write megabytes into theirs.
MESSAGES_SIZE = 16 * 2**20
JOB_SIZE = 64 * 2**10

#: How many questions at most follow from an answer that cannot be read: one such job among
#: :data:`MANY_JOBS` is found with 21.
MANY_QUESTIONS = 32

#: For so many seconds a job is not asked about whose own answer could not be read.
SPOILT_PAUSE = 600.0


async def ask_details(grid: GridEngine, jobs: Collection[int]) -> dict[int, Details]:
    """Ask Grid Engine for the details of some jobs, by job number; unknown ones are left out.

    :raises AnswerError: when the answer cannot be read, or is too long.
    :raises GridEngineError: when there is none.
    """
    numbers = ",".join(map(str, jobs))
    limit = MESSAGES_SIZE + len(jobs) * JOB_SIZE
    output = await run(grid, "qstat", "-xml", "-j", numbers, limit=limit)
    found = await asyncio.to_thread(parse_details, output)
    return {number: found[number] for number in jobs if number in found}


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
        #: Until when a job is left out, on the monotonic clock.
        self._spoilt: dict[int, float] = {}
        #: Usage, and why they wait, by job number.
        self.details: Glance[dict[int, Details]] = Glance(self._ask_details, interval)
        self.places: Glance[list[Place]] = Glance(self._ask_places, interval)
        #: The numbers of all jobs that wait, the next one first.
        self.line: Glance[list[int]] = Glance(self._ask_line, interval)

    def of(self, job: Job) -> Details | None:
        """Return the last details of a job, if they are of its owner's; never waits."""
        found = (self.details.answer or {}).get(job.id)
        return found if found and found.owner == job.owner else None

    async def _ask_details(self) -> dict[int, Details]:
        # Those that wait for their reason are among the newest.
        numbers = sorted(self._jobs())[-MANY_JOBS:]
        now = time.monotonic()
        self._spoilt = {
            number: until
            for number, until in self._spoilt.items()
            if now < until and number in numbers
        }
        found: dict[int, Details] = {}
        left = [[number for number in numbers if number not in self._spoilt]]
        for _ in range(MANY_QUESTIONS):
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

    async def _ask_places(self) -> list[Place]:
        names = ",".join(["slots", *sorted(self._complexes())])
        # No job is listed with them: nobody's name has an @ at its beginning.
        output = await run(self._grid, "qstat", "-f", "-F", names, "-xml", "-u", "@")
        return await asyncio.to_thread(parse_places, output)

    async def _ask_line(self) -> list[int]:
        output = await run(self._grid, "qstat", "-xml", "-s", "p", "-u", "*")
        return await asyncio.to_thread(parse_waiting, output)
