# SPDX-License-Identifier: BSD-3-Clause
"""Find out why a session ended, from Grid Engine's accounting record of its job.

The qmaster appends one line for each finished job to ``$SGE_ROOT/$SGE_CELL/common/accounting``
(accounting(5)). Sites share this file with all submit hosts, including the hub's host, because
``qacct`` reads it. On a big cluster, the file covers years, and ``qacct -j`` reads all of it. This
module reads the file backwards from its end, because people usually ask about a session that has
just ended.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridhub.contract import EXIT_ANNOUNCED, EXIT_EARLY_END, EXIT_NO_ENVIRONMENT, Ending

#: What a shell reports for a program that cannot be run or does not exist.
SHELL_EXIT_NO_PROGRAM = (126, 127)

#: How many bytes to search for a record, counted from the end of the file. ``LOOK_BACK`` covers
#: about fifty thousand jobs, which is enough to find a job that has just ended; ``FARTHEST_BACK``
#: is the maximum.
LOOK_BACK = 16 * 1024 * 1024
FARTHEST_BACK = 16 * LOOK_BACK
BLOCK = 256 * 1024

#: Positions of the fields in a line (accounting(5) of Grid Engine 8.1.9). ``_TASK`` and
#: ``_MAXVMEM`` are counted from the end, because the category before these fields may contain
#: colons.
_HOST, _OWNER, _NAME, _JOB, _START, _END, _FAILED, _STATUS = 1, 3, 4, 5, 9, 10, 11, 12
_TASK, _MAXVMEM = -4, -3
_FIELDS = 45

#: The value of ``failed`` (accounting(5)) if the execution daemon enforced h_rt, h_cpu or h_vmem.
FAILED_LIMIT = 37

#: The value of ``failed`` if a signal ended the running job, for example after qdel.
FAILED_SIGNAL = 100

#: The other values of ``failed`` (sge_status(5)) and what they mean. Some say only that something
#: failed after the end of the job; ``exit_status`` then says how the job itself ended.
_AFTER_THE_JOB = frozenset({12, 13, 14, 15, 16})  # pestop, epilog, releasing the processors
_FAILURES = {
    # Could not be started: the worker's own files, prolog, parallel environment, shell, passwords,
    # daemons, group number.
    **dict.fromkeys((1, *range(3, 12), 27, *range(31, 37), 38), Ending.SETUP),
    22: Ending.REMOVED,
    **dict.fromkeys((24, 25, 30), Ending.RESCHEDULED),  # migrated, again, exit status 100
    **dict.fromkeys((26, 28, 29), Ending.HOME),  # output file, working directory, AFS
}

#: The value of ``exit_status`` if a signal ended the job is this plus the signal's number.
BY_SIGNAL = 128

#: The values of ``exit_status`` if Grid Engine ended the job: with SIGKILL, with SIGTERM, or after
#: an announcement.
KILLED = (BY_SIGNAL + signal.SIGKILL, BY_SIGNAL + signal.SIGTERM, EXIT_ANNOUNCED)

#: The values of ``exit_status`` if a program exceeded a limit of processor time or of file size.
LIMITED = (BY_SIGNAL + signal.SIGXCPU, BY_SIGNAL + signal.SIGXFSZ)


@dataclass(frozen=True)
class Record:
    """How a job ended. Times are in seconds since the epoch; 0 means that a time is unknown."""

    job: int
    host: str
    start: float
    end: float
    failed: int
    status: int
    #: The largest address space that Grid Engine measured for all the job's processes together, in
    #: bytes.
    maxvmem: float

    @property
    def ran(self) -> float:
        """How long the job ran, in seconds."""
        return max(self.end - self.start, 0.0) if self.start else 0.0


def parse_record(line: str) -> Record | None:
    """Parse one line of the accounting file; return ``None`` if the line is not a valid record."""
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
    """Yield the lines that contain ``needle`` in a file's last ``limit`` bytes, last line first."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        stop = max(position - limit, 0)
        tail = b""
        while position > stop:
            size = min(BLOCK, position - stop)
            position -= size
            file.seek(position)
            block = file.read(size) + tail
            # Most blocks do not contain the needle. From such a block, keep only the part before
            # the first line break: it belongs to a line that starts in the preceding block.
            tail, *lines = block.split(b"\n", -1 if needle in block else 1)
            yield from (line for line in reversed(lines) if needle in line)
        # If the search stops in the middle of a line, the part that was read has too few fields to
        # count as a record.
        if needle in tail:
            yield tail


def find_record(path: Path, job_name: str, owner: str, limit: int = LOOK_BACK) -> Record | None:
    """Find the record of a job by the job's unique name; return ``None`` if no record is reliable.

    Anyone who may submit jobs can forge lines in the file, because Grid Engine 8.1.9 copies the
    value of ``-l hostname=…`` into the category even if the value contains line breaks. So if a
    job's records differ, none of them is reliable.

    :raises OSError: when the file cannot be read.
    """
    found: set[Record] = set()
    for line in _lines_with(f":{owner}:{job_name}:".encode(), path, limit):
        text = line.decode(errors="replace")
        fields = text.rstrip("\n").split(":")
        if fields[_OWNER : _NAME + 1] != [owner, job_name] or not (record := parse_record(text)):
            continue
        # Skip the separate records that a parallel job's tasks may have (accounting_summary,
        # sge_pe(5)).
        if fields[_TASK] == "NONE":
            found.add(record)
    return found.pop() if len(found) == 1 else None


def signal_name(status: int) -> str:
    """Return the name of the signal that an exit status stands for; empty if it is no signal's."""
    number = status - BY_SIGNAL
    if not 0 < number <= signal.SIGRTMAX:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return str(number)


def why(record: Record, memory: float | None, run_time: float | None) -> Ending:
    """Return the reason why a job ended.

    :param memory: the limit on the job's ``vmem``, in bytes, for all its slots together.
    :param run_time: the limit on the job's run time, in seconds.
    """
    if record.failed == FAILED_LIMIT or record.status in KILLED:
        # The record does not say which limit the job exceeded, so compare the job's usage with each
        # limit.
        if memory and record.maxvmem > memory:
            return Ending.MEMORY
        if run_time and record.ran >= run_time:
            return Ending.RUN_TIME
    if record.failed == FAILED_LIMIT or record.status in LIMITED:
        return Ending.LIMIT
    if record.failed not in (0, FAILED_SIGNAL, *_AFTER_THE_JOB):
        return _FAILURES.get(record.failed, Ending.WORKER)
    if record.failed == FAILED_SIGNAL and not record.status:
        return Ending.DELETED
    return _why_exited(record.status)


def _why_exited(status: int) -> Ending:
    """Return the meaning of the exit status of a job that ran to its end."""
    if status in KILLED:
        return Ending.DELETED
    if status == EXIT_EARLY_END:
        return Ending.MAINTENANCE
    if status in (EXIT_NO_ENVIRONMENT, *SHELL_EXIT_NO_PROGRAM):
        return Ending.ENVIRONMENT
    if signal_name(status):
        return Ending.SIGNAL
    return Ending.FAILED if status else Ending.ITSELF
