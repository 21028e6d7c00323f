# SPDX-License-Identifier: BSD-3-Clause
"""Details of single jobs from ``qstat -j``: usage, reasons for waiting, and errors."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from xml.parsers import expat  # nosec B407  # expat bounds entities, reads no files

from gridhub.grid.command import run, xml_pieces
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError
from gridhub.grid.numbers import read_number

_JOB_NUMBER = re.compile(r"[1-9]\d{0,9}", re.ASCII)


@dataclass(frozen=True)
class Details:
    """The details of one job from ``qstat -j``.

    A value is ``None`` until the execution daemon has reported it. The time between two reports is
    ``load_report_time`` (sge_conf(5)).
    """

    job: int
    owner: str
    #: The processor time that the job has used, in seconds.
    cpu: float | None = None
    #: The memory of the job's processes, in bytes, as Grid Engine counts it for ``h_vmem``: with
    #: Debian's 8.1.9 the memory in use, with others the address space. If Grid Engine reports no
    #: ``vmem`` (Open Cluster Scheduler 9.1 with systemd), the value is the resident memory with the
    #: page cache. On cgroup v1, systemd measures neither memory nor processor time.
    vmem: float | None = None
    #: Why the job waits, one line for each message of the scheduler (``schedd_job_info``,
    #: sched_conf(5)). Empty if the job has any usage, because such a job is already running.
    reasons: tuple[str, ...] = ()
    #: Why the job is in an error state, in Grid Engine's words.
    errors: tuple[str, ...] = ()
    #: The resident memory, in bytes; 8.1.9 does not report it.
    rss: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether any use was measured. At first, and without a means to measure it, all is 0."""
        return self.vmem is not None or bool(self.cpu)


@dataclass
class _Entry:
    """One job's entry in an answer, as qstat printed it."""

    numbers: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    usage: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    #: ``JAT_status`` of each task.
    statuses: list[str] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        """Whether all tasks have finished; a waiting job has no tasks."""
        return bool(self.statuses) and all(
            status.isdecimal() and int(status) & _FINISHED for status in self.statuses
        )


#: The bit of ``JAT_status`` for a task that has finished. Open Cluster Scheduler 9.2 shows finished
#: jobs for ``finished_jobs_keep_time`` (sge_conf(5)).
_FINISHED = 0x10000

#: The elements whose text is read. Text from users (-v, -ac, -N, arguments, …) is in other
#: elements.
_LEAVES = frozenset(
    {
        "AN_text",
        "JAT_status",
        "JB_job_number",
        "JB_owner",
        "MES_message",
        "QIM_message",
        "UA_name",
        "UA_value",
        "ULNG_value",
    }
)

#: Everything before the reason in an error message such as
#: "11/23/2026 16:30:00 [1000:4711]: error: can't chdir to ...".
_WHEN = re.compile(r"^.*?\]: (error: )?")


class _Reader:
    """A parser that keeps only the elements that it needs, and finds them by their path."""

    def __init__(self) -> None:
        self.root = ""
        self.trouble = ""
        self.entries: list[_Entry] = []
        #: ``general``: messages about all waiting jobs; ``own``: messages about single jobs,
        #: keyed by job number.
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
        """Parse a piece.

        :raises expat.ExpatError: when the piece is not XML.
        """
        self._parser.Parse(piece, final)

    def _start(self, tag: str, _attributes: object) -> None:
        if not self._path:
            self.root = tag
        self._path.append(tag)
        self._text = [] if tag in _LEAVES else None
        # Without a handler, the parser skips text of any length at no cost.
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
        # Skip every second element of the path: such an element only stands for an item of a list,
        # and its name depends on the release of Grid Engine.
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
            case ["djob_info", "JB_ja_tasks", "JAT_status"]:
                self._entry.statuses.append(text)
            case ["djob_info", "JB_ja_tasks", "JAT_message_list", "QIM_message"]:
                self._entry.errors.append(_WHEN.sub("", text))
            case (
                ["djob_info", "JB_ja_tasks", "JAT_scaled_usage_list", "UA_name" | "UA_value" as tag]
                # If Grid Engine starts a parallel job's tasks, their usage is in these elements.
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


#: The root element of an answer that knows none of the jobs.
UNKNOWN = "unknown_jobs"


def _read(xml: bytes) -> _Reader:
    """Parse the output of ``qstat -xml -j …``.

    An element counts only at its proper place in Grid Engine's structure. Users cannot add
    elements, because Grid Engine escapes their text.

    :raises AnswerError: when the XML is not such output.
    :raises GridEngineError: when qstat reports that it cannot reach the qmaster.
    """
    reader = _Reader()
    try:
        # For many jobs on many hosts, the output is megabytes long, so parse it in steps that block
        # the interpreter only briefly.
        for piece in xml_pieces(xml):
            reader.feed(piece)
        reader.feed("", final=True)
    except expat.ExpatError as error:
        # Open Cluster Scheduler 9.1 lists unknown jobs in elements without a name, so this output
        # is not valid XML.
        if reader.root != UNKNOWN:
            raise AnswerError(f"qstat did not print XML: {error}") from error
    if reader.root == "comunication_error":  # Grid Engine's spelling
        raise GridEngineError(f"qstat: {reader.trouble}")
    if reader.root not in ("detailed_job_info", UNKNOWN):
        raise AnswerError("qstat did not print details of jobs")
    return reader


def parse_details(xml: bytes) -> dict[int, Details]:
    """Parse the output of ``qstat -xml -j ID,ID,…``; return the details keyed by job number.

    A job is left out if it is printed twice, or if it does not have exactly one number and one
    owner.

    :raises AnswerError: when the XML is not such output.
    :raises GridEngineError: when qstat reports that it cannot reach the qmaster.
    """
    reader = _read(xml)
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
            # Grid Engine prints 0 for a value that it does not know.
            vmem=entry.usage.get("vmem") or entry.usage.get("rss") or None,
            rss=entry.usage.get("rss") or None,
            reasons=() if entry.usage else (*general, *own) if own else general,
            errors=tuple(dict.fromkeys(entry.errors)),
        )
    return found


#: The longest answer to read, in bytes: ``MESSAGES_SIZE`` for the scheduler's messages, plus
#: ``JOB_SIZE`` for each job. The entry of a session's job is about 6 kB long, but users can write
#: megabytes into the entries of their own jobs.
MESSAGES_SIZE = 16 * 2**20
JOB_SIZE = 64 * 2**10


def has_job(xml: bytes, owner: str) -> bool:
    """Return whether the output of ``qstat -xml -j NAME`` has an unfinished job of this owner.

    :raises AnswerError: when the XML is not such output, or has a job without an owner.
    :raises GridEngineError: when qstat reports that it cannot reach the qmaster.
    """
    reader = _read(xml)
    owners = [each for entry in reader.entries for each in entry.owners]
    if reader.root != UNKNOWN and (not owners or len(owners) < len(reader.entries)):
        raise AnswerError("qstat printed a job without an owner")
    return any(owner in entry.owners and not entry.is_finished for entry in reader.entries)


#: How qstat reports that it has none of the jobs, if it prints no XML then. Open Cluster Scheduler
#: 9.2 does so, as its public source shows; others do so only without ``-xml``.
_NONE = "Following jobs do not exist"


async def _ask(grid: GridEngine, jobs: str, limit: int) -> bytes | None:
    """Return the output of ``qstat -xml -j``; ``None`` if there is none of the jobs.

    :raises AnswerError: when the output is too long.
    :raises GridEngineError: when there is no answer.
    """
    try:
        return await run(grid, "qstat", "-xml", "-j", jobs, limit=limit)
    except AnswerError:
        raise
    except GridEngineError as error:
        if _NONE in str(error):
            return None
        raise


async def job_exists(grid: GridEngine, name: str, owner: str) -> bool:
    """Return whether Grid Engine has a job of this name and owner.

    :param name: a name, not a number, without the characters of patterns (``*?[``).
    :raises AnswerError: when the answer cannot be parsed, or is too long.
    :raises GridEngineError: when there is no answer.
    """
    output = await _ask(grid, name, MESSAGES_SIZE + JOB_SIZE)
    return output is not None and await asyncio.to_thread(has_job, output, owner)


async def ask_details(grid: GridEngine, jobs: Collection[int]) -> dict[int, Details]:
    """Return the details of some jobs, keyed by job number; leave out unknown jobs.

    :raises AnswerError: when the answer cannot be parsed, or is too long.
    :raises GridEngineError: when there is no answer.
    """
    numbers = ",".join(map(str, jobs))
    limit = MESSAGES_SIZE + len(jobs) * JOB_SIZE
    output = await _ask(grid, numbers, limit)
    found = {} if output is None else await asyncio.to_thread(parse_details, output)
    return {number: found[number] for number in jobs if number in found}
