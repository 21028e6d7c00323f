# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended, from the record that Grid Engine keeps of every job that has.

The qmaster appends one line for each finished job to ``$SGE_ROOT/$SGE_CELL/common/accounting``
(accounting(5)). Sites share that folder with their submit hosts, which ``qacct`` needs as well; but
``qacct -j`` reads the whole file, which on a big cluster holds years, and the session that people
ask about has ended a moment ago: so the file is read from its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridhub.contract import EXIT_EARLY_END, Ending

#: How far back a record is looked for, in bytes, at first and at most: some fifty thousand jobs.
LOOK_BACK = 16 * 1024 * 1024
FARTHEST_BACK = 16 * LOOK_BACK
_BLOCK = 256 * 1024

#: Fields of a line, by their place in accounting(5) of Grid Engine 8.1.9. The last are counted from
#: the end: before them is the category, which may hold colons of its own.
_HOST, _OWNER, _NAME, _JOB, _START, _END, _FAILED, _STATUS = 1, 3, 4, 5, 9, 10, 11, 12
_TASK, _MAXVMEM = -4, -3
_FIELDS = 45

#: ``failed`` in accounting(5): the execution daemon enforced h_rt, h_cpu or h_vmem.
FAILED_LIMIT = 37

#: ``failed``: the job was started and then ended by a signal, as qdel does it.
FAILED_SIGNAL = 100

#: ``exit_status`` of a job that SIGKILL or SIGTERM ended (128 and the signal's number).
KILLED = (128 + 9, 128 + 15)


@dataclass(frozen=True)
class Record:
    """How a job ended. Times in seconds since the epoch, 0 where Grid Engine has none."""

    job: int
    host: str
    start: float
    end: float
    failed: int
    status: int
    #: The largest sum of the address spaces of its processes that Grid Engine saw, in bytes.
    maxvmem: float

    @property
    def ran(self) -> float:
        """For how long it ran, in seconds."""
        return max(self.end - self.start, 0.0) if self.start else 0.0


def parse_record(line: str) -> Record | None:
    """Read one line of the accounting file; ``None`` where it is none that can be read."""
    fields = line.rstrip("\n").split(":")
    if len(fields) < _FIELDS:
        return None
    try:
        return Record(
            job=int(fields[_JOB]),
            host=fields[_HOST],
            start=float(fields[_START]),
            end=float(fields[_END]),
            failed=int(fields[_FAILED]),
            status=int(fields[_STATUS]),
            maxvmem=float(fields[_MAXVMEM]),
        )
    except ValueError:
        return None


def _lines_with(needle: bytes, path: Path, limit: int) -> Iterator[bytes]:
    """Yield the lines of a file that have it, the last one first, up to ``limit`` bytes back."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        stop = max(position - limit, 0)
        tail = b""
        while position > stop:
            size = min(_BLOCK, position - stop)
            position -= size
            file.seek(position)
            block = file.read(size) + tail
            # Of most blocks only the beginning is of use, for a line that is cut there.
            tail, *lines = block.split(b"\n", -1 if needle in block else 1)
            yield from (line for line in reversed(lines) if needle in line)
        # Where the look back ends within a line, too few of its fields are left to take it for one.
        if needle in tail:
            yield tail


def find_record(path: Path, job_name: str, owner: str, limit: int = LOOK_BACK) -> Record | None:
    """Return the record of a job by its name, which only one job has.

    Whoever may submit jobs can write lines of any content into the file: Grid Engine 8.1.9 prints a
    line break in ``-l hostname=…`` as it is, in the category. So a job with records that differ
    has none that can be relied on.

    :raises OSError: where the file cannot be read.
    """
    found: set[Record] = set()
    for line in _lines_with(f":{owner}:{job_name}:".encode(), path, limit):
        text = line.decode(errors="replace")
        fields = text.rstrip("\n").split(":")
        if fields[_OWNER : _NAME + 1] != [owner, job_name] or not (record := parse_record(text)):
            continue
        # The tasks of a parallel job may have records of their own (accounting_summary, sge_pe(5)).
        if fields[_TASK] == "NONE":
            found.add(record)
    return found.pop() if len(found) == 1 else None


def why(record: Record, memory: float | None, run_time: float | None) -> Ending:
    """Tell why a job ended.

    :param memory: what its address space was limited to, in bytes for all its slots together.
    :param run_time: what its run time was limited to, in seconds.
    """
    if record.failed == FAILED_LIMIT or record.status in KILLED:
        # Grid Engine tells one limit from the other in words of the daemon's log only.
        if memory and record.maxvmem > memory:
            return Ending.MEMORY
        if run_time and record.ran >= run_time:
            return Ending.RUN_TIME
    if record.failed == FAILED_LIMIT:
        return Ending.LIMIT
    if record.failed not in (0, FAILED_SIGNAL):
        return Ending.WORKER
    if record.status in KILLED:
        return Ending.DELETED
    if record.status == EXIT_EARLY_END:
        return Ending.MAINTENANCE
    return Ending.FAILED if record.status else Ending.ITSELF
