# SPDX-License-Identifier: BSD-3-Clause
"""Find out why a session ended, from Grid Engine's accounting record of its job.

The qmaster appends one line for each finished job to a file in ``$SGE_ROOT/$SGE_CELL/common``
(accounting(5)). Sites share this file with all submit hosts, including the hub's host, because
``qacct`` reads it. On a big cluster, the file covers years, and ``qacct -j`` reads all of it. This
module reads the file backwards from its end, because people usually ask about a session that has
just ended. :mod:`gridhub.grid.accounting_records` parses the lines.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from gridhub.contract import EXIT_ANNOUNCED, EXIT_EARLY_END, EXIT_NO_ENVIRONMENT, Ending
from gridhub.grid.accounting_records import (
    Record,
    UnreadableRecordError,
    is_about,
    needle,
    parse_record,
)
from gridhub.grid.dialect import JSON_SUFFIX, Dialect

#: What a shell reports for a program that cannot be run or does not exist.
SHELL_EXIT_NO_PROGRAM = (126, 127)

#: How many bytes to search for a record, counted from the end of the file. ``LOOK_BACK`` covers
#: about fifty thousand jobs, or twelve thousand in JSON, which is enough to find a job that has
#: just ended; ``FARTHEST_BACK`` is the maximum.
LOOK_BACK = 16 * 1024 * 1024
FARTHEST_BACK = 16 * LOOK_BACK
BLOCK = 256 * 1024

#: The value of ``failed`` (accounting(5)) if the execution daemon enforced h_rt, h_cpu or h_vmem.
#: Open Cluster Scheduler 9 never writes it (seen with 9.0.13 and 9.1.4).
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


#: Who, in ``deleted_by``, enforces limits (sge_accounting(5) of Open Cluster Scheduler 9.1). All
#: other names are accounts.
_DAEMONS = frozenset({"execd", "qmaster"})

#: A job that the kernel kills for lack of memory has used this share of its limit: systemd measures
#: what the kernel counts, but not always at the last moment. (Not seen: it needs cgroup v2.)
OUT_OF_MEMORY = 0.95


def _lines_with(needle: bytes, path: Path, limit: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines that contain ``needle`` in a file's last ``limit`` bytes, last line first.

    With each line comes whether it ends with a line break. If not, the qmaster may still write it.
    """
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        stop = max(position - limit, 0)
        tail = b""
        while position > stop:
            size = min(BLOCK, position - stop)
            position -= size
            file.seek(position)
            block = file.read(size) + tail
            is_last = position + len(block) >= end
            # Most blocks do not contain the needle. From such a block, keep only the part before
            # the first line break: it belongs to a line that starts in the preceding block.
            tail, *lines = block.split(b"\n", -1 if needle in block else 1)
            for number, line in enumerate(reversed(lines)):
                if needle in line:
                    yield line, not (is_last and number == 0)
        # If the search stops in the middle of the file, the tail is only a part of a line.
        if not stop and needle in tail:
            yield tail, len(tail) < end


def find_record(
    path: Path, job_name: str, owner: str, limit: int = LOOK_BACK, dialect: Dialect = Dialect.SGE
) -> Record | None:
    """Find the record of a job by the job's unique name; return ``None`` if no record is reliable.

    Anyone who may submit jobs can forge lines in the file, because Grid Engine 8.1.9 copies the
    value of ``-l hostname=…`` into the category even if the value contains line breaks. So if a
    job's records differ, none of them is reliable.

    :param path: the accounting file, as the site names it.
    :param limit: how many bytes to search, counted from the end of each file.
    :raises OSError: when no accounting file can be read.
    :raises UnreadableRecordError: when the job has only records in the format of another dialect.
    """
    missing: FileNotFoundError | None = None
    is_there = False
    for file in dialect.accounting_files(path):
        try:
            found = _records(file, job_name, owner, limit, dialect)
        except FileNotFoundError as error:
            missing = missing or error
            continue
        if found:
            return found.pop() if len(found) == 1 else None
        is_there = True
    if missing and not is_there:
        raise missing
    return None


def _records(file: Path, job_name: str, owner: str, limit: int, dialect: Dialect) -> set[Record]:
    """Return all different records of a job in one file."""
    is_json = file.suffix == JSON_SUFFIX
    found: set[Record] = set()
    unreadable: UnreadableRecordError | None = None
    sought = needle(dialect, job_name, owner, is_json=is_json)
    for line, is_whole in _lines_with(sought, file, limit):
        text = line.decode(errors="replace")
        if not is_about(text, job_name, owner, is_json=is_json):
            continue
        try:
            record = parse_record(text, dialect, is_json=is_json)
        except UnreadableRecordError as error:
            if is_whole:
                unreadable = error
            continue
        if record:  # otherwise, it is one of a parallel job's tasks
            found.add(record)
    if unreadable and not found:
        raise UnreadableRecordError(
            f"{file}: the record of job {job_name} cannot be read: {unreadable}. "
            f"sge_common_dialect is {dialect} ({dialect.products}); set it to the Grid Engine of "
            "this cluster, which qstat -help names"
        ) from unreadable
    return found


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

    :param memory: the limit on the job's ``record.memory``, in bytes, for all its slots together.
    :param run_time: the limit on the job's run time, in seconds.
    """
    ran_to_its_end = record.failed in (0, FAILED_SIGNAL, *_AFTER_THE_JOB)
    # If Grid Engine rescheduled the job, `deleted_by` names who caused that.
    actor = record.deleted_by.partition("@")[0] if ran_to_its_end else ""
    if actor and actor not in _DAEMONS:
        return Ending.DELETED
    is_limit = record.failed == FAILED_LIMIT or bool(actor)
    if is_limit or record.status in KILLED:
        # The record does not say which limit the job exceeded, so compare the job's usage with each
        # limit.
        if memory and (record.memory > memory or _is_out_of_memory(record, memory)):
            return Ending.MEMORY
        if run_time and record.ran >= run_time:
            return Ending.RUN_TIME
    if is_limit or record.status in LIMITED:
        return Ending.LIMIT
    if not ran_to_its_end:
        return _FAILURES.get(record.failed, Ending.WORKER)
    if record.failed == FAILED_SIGNAL and not record.status:
        return Ending.DELETED
    return _why_exited(record.status)


def _is_out_of_memory(record: Record, memory: float) -> bool:
    """Return whether the kernel killed the job at its limit, as systemd measured its memory."""
    by_systemd = not record.maxvmem and record.maxrss >= OUT_OF_MEMORY * memory
    return by_systemd and record.status == BY_SIGNAL + signal.SIGKILL and not record.deleted_by


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
