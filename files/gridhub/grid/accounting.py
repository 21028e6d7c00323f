# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended, from Grid Engine's accounting record of the job.

The qmaster appends one line for each finished job to ``$SGE_ROOT/$SGE_CELL/common/accounting``
(accounting(5)). Sites share that folder with their submit hosts, because ``qacct`` needs it too.
But ``qacct -j`` reads the whole file, which covers years on a big cluster. People usually ask about
a session that has just ended, so this module reads the file from its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridhub.contract import EXIT_EARLY_END, Ending

#: How far back to search for a record, in bytes: if the job has just ended (about fifty thousand
#: jobs), and at most.
LOOK_BACK = 16 * 1024 * 1024
FARTHEST_BACK = 16 * LOOK_BACK
BLOCK = 256 * 1024

#: Positions of the fields in a line (accounting(5) of Grid Engine 8.1.9). The last two are counted
#: from the end, because the category before them may contain colons.
_HOST, _OWNER, _NAME, _JOB, _START, _END, _FAILED, _STATUS = 1, 3, 4, 5, 9, 10, 11, 12
_TASK, _MAXVMEM = -4, -3
_FIELDS = 45

#: ``failed`` in accounting(5): the execution daemon enforced h_rt, h_cpu or h_vmem.
FAILED_LIMIT = 37

#: ``failed``: a signal ended the running job, as with qdel.
FAILED_SIGNAL = 100

#: ``exit_status`` of a job that SIGKILL or SIGTERM ended (128 plus the signal's number).
KILLED = (128 + 9, 128 + 15)


@dataclass(frozen=True)
class Record:
    """How a job ended. Times are in seconds since the epoch, 0 if Grid Engine has none."""

    job: int
    host: str
    start: float
    end: float
    failed: int
    status: int
    #: The largest total address space of its processes that Grid Engine measured, in bytes.
    maxvmem: float

    @property
    def ran(self) -> float:
        """How long the job ran, in seconds."""
        return max(self.end - self.start, 0.0) if self.start else 0.0


def parse_record(line: str) -> Record | None:
    """Parse one line of the accounting file; return ``None`` if it is not a valid record."""
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
    """Yield the lines that contain ``needle``, last line first, up to ``limit`` bytes back."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        stop = max(position - limit, 0)
        tail = b""
        while position > stop:
            size = min(BLOCK, position - stop)
            position -= size
            file.seek(position)
            block = file.read(size) + tail
            # Most blocks do not contain the needle. Of these keep only the beginning, which ends a
            # line of the block before.
            tail, *lines = block.split(b"\n", -1 if needle in block else 1)
            yield from (line for line in reversed(lines) if needle in line)
        # If the search stops within a line, the rest has too few fields to count as a record.
        if needle in tail:
            yield tail


def find_record(path: Path, job_name: str, owner: str, limit: int = LOOK_BACK) -> Record | None:
    """Return the record of a job by its unique name; ``None`` if there is no reliable record.

    Anyone who may submit jobs can write lines of any content into the file: Grid Engine 8.1.9
    prints a line break in ``-l hostname=…`` unchanged, in the category. So if a job has records
    that differ, all of them are unreliable.

    :raises OSError: when the file cannot be read.
    """
    found: set[Record] = set()
    for line in _lines_with(f":{owner}:{job_name}:".encode(), path, limit):
        text = line.decode(errors="replace")
        fields = text.rstrip("\n").split(":")
        if fields[_OWNER : _NAME + 1] != [owner, job_name] or not (record := parse_record(text)):
            continue
        # The tasks of a parallel job may have separate records (accounting_summary, sge_pe(5)).
        if fields[_TASK] == "NONE":
            found.add(record)
    return found.pop() if len(found) == 1 else None


def why(record: Record, memory: float | None, run_time: float | None) -> Ending:
    """Return why a job ended.

    :param memory: the limit on its address space, in bytes for all its slots together.
    :param run_time: the limit on its run time, in seconds.
    """
    if record.failed == FAILED_LIMIT or record.status in KILLED:
        # Only the log of the execution daemon names the limit, so compare the usage with each one.
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
