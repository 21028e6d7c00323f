# SPDX-License-Identifier: BSD-3-Clause
"""Parse one accounting record, in the format of each dialect of Grid Engine.

The formats: 45 fields with colons (accounting(5) of Grid Engine 8.1.9, and of Open Cluster
Scheduler 9 with ``old_accounting=true``); a JSON object (sge_accounting(5) of Open Cluster
Scheduler 9); 52, 54 or 55 fields with colons (Altair and Univa, from public descriptions: none was
seen). A record that does not have its dialect's format is an error, and is never read in part: in
another format, the same place has another meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridhub.grid.dialect import Dialect
from gridhub.grid.engine import AnswerError


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
    #: bytes; 0 if it measured none.
    maxvmem: float
    #: The largest resident memory, in bytes; 0 if the record has none. If systemd measures it (Open
    #: Cluster Scheduler 9.1), it includes the page cache, and ``maxvmem`` is 0.
    maxrss: float = 0.0
    #: Who ended the job, as ``NAME@HOST``; empty if the record has no name.
    deleted_by: str = ""

    @property
    def ran(self) -> float:
        """How long the job ran, in seconds."""
        return max(self.end - self.start, 0.0) if self.start else 0.0

    @property
    def memory(self) -> float:
        """The largest amount of memory that was in use, in bytes, as far as it was measured."""
        return self.maxvmem or self.maxrss


#: Positions of the fields before the category, which may contain colons.
_HOST, _OWNER, _NAME, _JOB, _START, _END, _FAILED, _STATUS = 1, 3, 4, 5, 9, 10, 11, 12

#: Positions of the fields from the category on, counted from the category.
_IOW, _TASK, _MAXVMEM, _RESERVATION, _RESERVED = 1, 2, 3, 4, 5
_CATEGORY = 39

#: Fields of Altair's and Univa's records, counted from the category.
_DELETED_BY, _MAXRSS, _MAXPSS = 7, 8, 9
_WALLCLOCK, _IOOPS = 13, 14

#: The numbers of fields in a record whose category has no colon.
_COUNTS = {Dialect.SGE: (45,), Dialect.OCS: (45,), Dialect.AGE: (52, 54, 55)}

#: The value of fields that do not apply.
_NONE = "NONE"

_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"\d{1,20}", re.ASCII)
_TASK_OF_A_JOB = re.compile(r"NONE|\d+\.\S+", re.ASCII)

#: No job ran before this time, in seconds, and none will run after ten times this: so a time in
#: another unit is out of the range.
_EARLIEST = 5e8
_UNIT = {Dialect.SGE: 1.0, Dialect.OCS: 1.0, Dialect.AGE: 1e3}
_MICROSECONDS = 1e6


class UnreadableRecordError(AnswerError):
    """A record of the job, but not in the dialect's format; the message names what is wrong."""


def needle(dialect: Dialect, job_name: str, owner: str, *, is_json: bool) -> bytes:
    """Return bytes that each record of a job contains, and few other records."""
    if is_json:
        return json.dumps(job_name).encode()
    return f":{owner}:{job_name}:".encode()


def is_about(line: str, job_name: str, owner: str, *, is_json: bool) -> bool:
    """Return whether a line is a record of the job.

    Users can write other jobs' names into their own records: into the category, or into the
    command line. So the name counts only in its own field.
    """
    if not is_json:
        return line.split(":")[_OWNER : _NAME + 1] == [owner, job_name]
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        # Users cannot break the lines of this file: Grid Engine escapes their text.
        return f'"owner":{json.dumps(owner)}' in line
    return isinstance(values, dict) and (values.get("owner"), values.get("job_name")) == (
        owner,
        job_name,
    )


def parse_record(line: str, dialect: Dialect, *, is_json: bool = False) -> Record | None:
    """Parse one line of an accounting file.

    :returns: ``None`` for the separate record of a parallel job's task (accounting_summary,
        sge_pe(5)).
    :raises UnreadableRecordError: when the line is not a record of this dialect.
    """
    line = line.rstrip("\n")
    return _parse_json(line) if is_json else _parse_fields(line.split(":"), dialect)


def _time(value: float, unit: float) -> float:
    """Return a time in seconds since the epoch.

    :raises UnreadableRecordError: when the time is in another unit.
    """
    seconds = value / unit
    if value and not _EARLIEST <= seconds < 10 * _EARLIEST:
        raise UnreadableRecordError(f"it has the time {value:.0f}, in another unit")
    return seconds


def _tail(fields: Sequence[str], dialect: Dialect) -> tuple[int, Sequence[str]] | None:
    """Return a record's length without the colons in its category, and the fields from there.

    The values of the fields, and not only their number, show where the category ends.
    """
    fits = []
    for count in _COUNTS[dialect]:
        tail = fields[_CATEGORY + len(fields) - count :]
        if len(tail) == count - _CATEGORY and _fits(tail, count):
            fits.append((count, tail))
    return fits[0] if len(fits) == 1 else None


def _fits(tail: Sequence[str], count: int) -> bool:
    numbers = [_IOW, _MAXVMEM]
    whole = [_RESERVATION, _RESERVED]
    if count > 45:
        numbers += [_MAXRSS, _MAXPSS]
        if count > 52:
            numbers += [_WALLCLOCK, _IOOPS]
    return (
        all(_NUMBER.fullmatch(tail[place]) for place in numbers)
        and all(_WHOLE.fullmatch(tail[place]) for place in whole)
        and bool(_TASK_OF_A_JOB.fullmatch(tail[_TASK]))
        and (count == 45 or tail[_DELETED_BY] == _NONE or "@" in tail[_DELETED_BY])
    )


def _parse_fields(fields: Sequence[str], dialect: Dialect) -> Record | None:
    found = _tail(fields, dialect)
    if found is None:
        counts = ", ".join(map(str, _COUNTS[dialect]))
        raise UnreadableRecordError(
            f"it has {len(fields)} fields, and they are not those of a record with {counts}"
        )
    count, tail = found
    if tail[_TASK] != _NONE:
        return None
    own = count > 45
    try:
        return Record(
            job=int(fields[_JOB]),
            host=fields[_HOST],
            start=_time(float(fields[_START]), _UNIT[dialect]),
            end=_time(float(fields[_END]), _UNIT[dialect]),
            failed=int(fields[_FAILED]),
            status=int(fields[_STATUS]),
            maxvmem=float(tail[_MAXVMEM]),
            maxrss=float(tail[_MAXRSS]) if own else 0.0,
            deleted_by="" if not own or tail[_DELETED_BY] == _NONE else tail[_DELETED_BY],
        )
    except ValueError as error:
        raise UnreadableRecordError(f"it has a wrong number: {error}") from error


#: What reading a JSON value raises if it is not a record.
_NOT_A_RECORD = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)


def _parse_json(line: str) -> Record | None:
    try:
        values = json.loads(line)
        if values.get("pe_taskid", _NONE) != _NONE:
            return None
        measured: Mapping[str, Any] = values["usage"]["eusage"]
        return Record(
            job=int(values["job_number"]),
            host=str(values["hostname"]),
            start=_time(float(values["start_time"]), _MICROSECONDS),
            end=_time(float(values["end_time"]), _MICROSECONDS),
            failed=int(values["failed"]),
            status=int(values["exit_status"]),
            maxvmem=float(measured.get("maxvmem", 0)),
            maxrss=float(measured.get("maxrss", 0)),
            deleted_by=str(values.get("deleted_by", "")),
        )
    except _NOT_A_RECORD as error:
        raise UnreadableRecordError(f"it is no JSON object of a job: {error!r}") from error
