# SPDX-License-Identifier: BSD-3-Clause
"""Parse the jobs that ``qstat -f -xml`` lists.

The parsers are pure functions and raise only :class:`AnswerError`.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree

from gridhub.grid.command import parse_tree
from gridhub.grid.engine import AnswerError


class State(enum.Enum):
    """The states of a job that matter to a session."""

    QUEUED = "queued"
    HELD = "held"
    ERROR = "error"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    UNKNOWN = "unknown"

    @property
    def is_on_a_host(self) -> bool:
        """Whether a job in this state has a host; the session may already answer there."""
        return self in (State.STARTING, State.RUNNING, State.SUSPENDED)


def read_state(letters: str) -> State:
    """Return the state that qstat's letters mean (``qw``, ``hqw``, ``Eqw``, ``t``, ``dr``, …).

    The letters are described in qstat(1). A hold does not stop a job that is already running, so
    ``hr`` means that the job is running.
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


#: The letter of a job that has finished (qstat(1) of Open Cluster Scheduler 9.2).
FINISHED = "f"


@dataclass(frozen=True)
class Job:
    """One job as qstat lists it.

    ``host`` is empty while the job waits. ``reports`` is false if the host has sent Grid Engine
    nothing for ``max_unheard`` (queue state ``u``, qstat(1)); the job may still be running.
    ``since`` is the start time in seconds since the epoch, or ``None`` before the start.
    """

    id: int
    name: str
    owner: str
    letters: str
    host: str
    slots: int
    reports: bool = True
    since: float | None = None
    #: The state letters of the job's queue instance (qstat(1)).
    queue_states: str = field(default="", compare=False)

    @property
    def state(self) -> State:
        """The meaning of ``letters``."""
        return read_state(self.letters)

    @property
    def is_rescheduled(self) -> bool:
        """Whether Grid Engine has put the job back into its queue after it had started."""
        return "R" in self.letters

    @property
    def suspended_by(self) -> str:
        """What has suspended the job: ``job``, ``queue``, ``rank``, ``calendar`` or ``load``.

        Empty if that is not known. The letters of the job and of its queue are as seen with 8.1.9:
        ``s``, ``S`` and ``s``, ``S`` and ``S``, ``S`` and ``C``, ``T`` or ``ST``.
        """
        if "s" in self.letters:
            return "job"
        if "T" in self.letters:
            return "load"
        causes = {"s": "queue", "S": "rank", "C": "calendar"}
        return next((each for letter, each in causes.items() if letter in self.queue_states), "")

    @property
    def may_be_silent(self) -> bool:
        """Whether the job's programs may not answer: it is suspended, ends, or its host is away."""
        return not self.reports or self.state in (State.SUSPENDED, State.DELETING)


def _read_moment(text: str) -> float | None:
    """Parse a time that qstat printed in UTC (:func:`gridhub.grid.command.run`).

    :returns: seconds since the epoch.
    """
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _read_jobs(entries: Iterable[ElementTree.Element], queue: str, states: str) -> Iterator[Job]:
    """Parse the jobs of one queue instance, or the waiting jobs if ``queue`` is empty.

    An entry that cannot be read is left out. Its job is then missing in the list, but not gone.
    Finished jobs are left out too: Open Cluster Scheduler 9.2 lists them with the letter ``f`` for
    ``finished_jobs_keep_time`` (sge_conf(5)).
    """
    for entry in entries:
        if FINISHED in (entry.findtext("state") or ""):
            continue
        with contextlib.suppress(ValueError):
            yield Job(
                id=int(entry.findtext("JB_job_number", "")),
                name=entry.findtext("JB_name", "").strip(),
                owner=entry.findtext("JB_owner", "").strip(),
                letters=(entry.findtext("state") or "").strip(),
                host=queue.partition("@")[2],
                slots=int(entry.findtext("slots", "1")),
                reports="u" not in states,
                since=_read_moment(entry.findtext("JAT_start_time", "")),
                queue_states=states,
            )


def parse_qstat(xml: bytes) -> list[Job]:
    """Parse the output of ``qstat -f -xml`` (schema ``qstat.xsd`` of Grid Engine 6.2 and later).

    All tasks of an array job or a parallel job share one job number; only the first task is kept.

    :raises AnswerError: when the output is not a complete job list.
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
