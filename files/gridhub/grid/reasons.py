# SPDX-License-Identifier: BSD-3-Clause
"""Why a job waits or cannot run: the messages of the scheduler and of ``qsub -w``, by meaning."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from gridhub.grid.numbers import read_number
from gridhub.grid.places import CLOSED, SLOTS


@dataclass(frozen=True)
class Reason:
    """Something that keeps a job from running, as the scheduler or ``qsub -w`` says it."""

    #: The sentence in ``words.toml``: ``reason.NAME``, or that of :func:`main_reason`.
    name: str
    #: ``job``: it waits wherever it could run; ``amount``: something has to become free; ``place``:
    #: a queue instance takes no jobs now, which :class:`QueueInstance` shows as well; ``slots``;
    #: ``barred``: a queue instance is not for this job; ``other``: none that we know.
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


def parse_reasons(lines: Iterable[str]) -> list[Reason]:
    """Return what the lines of the scheduler or of ``qsub -w`` mean, what says most first."""
    found: dict[tuple[int, str], Reason] = {}
    for meaning in filter(None, map(_meaning, lines)):
        rank, reason = meaning
        before = found.get((rank, reason.what), reason)
        if before.offer is not None and reason.offer is not None:
            reason = max(before, reason, key=lambda each: each.offer or 0.0)
        found[rank, reason.what] = reason
    return [found[key] for key in sorted(found)]


def main_reason(reasons: Collection[Reason], lacks: frozenset[str] | None) -> Reason:
    """Return what to tell of a job that does not start.

    :param reasons: what :func:`parse_reasons` returns.
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


def missing_by_reason(reason: Reason) -> frozenset[str]:
    """Return what a reason says is missing, in the terms of :func:`missing`."""
    if reason.name in ("full", "slots"):
        return frozenset({SLOTS})
    return frozenset({reason.what} if reason.name == "amount" else ())
