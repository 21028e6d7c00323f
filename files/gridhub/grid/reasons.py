# SPDX-License-Identifier: BSD-3-Clause
"""Parse messages of the scheduler or of ``qsub -w``: why a job waits or cannot run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from gridhub.grid.numbers import read_number
from gridhub.grid.places import CLOSED, SLOTS


@dataclass(frozen=True)
class Reason:
    """A reason that the scheduler or ``qsub -w`` gives for a job that does not run."""

    #: A name from ``_MESSAGES`` or from :func:`main_reason`. Under ``reason.NAME``, ``words.toml``
    #: has the sentence that people see.
    name: str
    #: What the reason is about. ``job``: the job itself, on every queue instance; ``amount``: a
    #: resource that must become free; ``place``: a queue instance that is full or closed;
    #: ``slots``: a queue instance that has too few slots; ``barred``: a queue instance that does
    #: not accept this job; ``other``: the message is not known.
    scope: str = ""
    #: The complex or rule that the message names.
    what: str = ""
    #: The largest amount of ``what`` on any queue instance; ``None`` if the message gives no
    #: amount.
    offer: float | None = None


#: The messages with which qsub refuses a job at once. The administrators can change what they name.
_REFUSALS = tuple(
    (name, "job", re.compile(pattern, re.ASCII | re.IGNORECASE))
    for name, pattern in (
        ("no_such_project", r'the requested project "(?P<what>[^"]+)" does not exist'),
        ("not_in_project", r'no access to project "(?P<what>[^"]+)" for user'),
        ("closed_project", r'project "(?P<what>[^"]+)" is not allowed to submit jobs'),
        ("needs_project", r"no project (assigned to job|was supplied)"),
        ("no_such_pe", r'requested parallel environment "(?P<what>[^"]+)" does not exist'),
        ("not_in_pe", r'no access to pe "(?P<what>[^"]+)"'),
        ("no_such_queue", r'job requests unknown queue "(?P<what>[^"]+)"'),
        ("unknown", r'unknown resource "(?P<what>[^"]+)"'),
        ("not_requestable", r'resource "(?P<what>[^"]+)" configured as non requestable'),
        ("no_such_host", r'can\'t resolve hostname "(?P<what>[^"]+)"'),
        ("bad_value", r'attribute "(?P<what>[^"]+)" is not an? .*value'),
        ("no_submit_host", r'host "(?P<what>[^"]+)" is not a submit host'),
        ("too_many_own", r"only (?P<what>\d+) jobs are allowed per user"),
        ("too_many", r"only (?P<what>\d+) jobs are allowed per cluster"),
        ("not_registered", r'job rejected: the user "(?P<what>[^"]+)" does not exist'),
        ("closed_person", r"job rejected: (?P<what>[^\s@]+)\S* is not allowed to submit jobs"),
        ("no_rank", r"requires (operator|manager) privileges"),
        ("reservation", r"the advance reservation id (?P<what>\d+) is invalid"),
        ("no_verifier", r'JSV (script )?"(?P<what>[^"]+)"|got no response from JSV'),
    )
)

#: The messages of Grid Engine's scheduler, the most informative ones first. Messages about a queue
#: that does not accept the job come last, because they say little: they appear whenever the cluster
#: has such a queue.
_MESSAGES = _REFUSALS + tuple(
    (name, scope, re.compile(pattern, re.ASCII | re.IGNORECASE))
    for name, scope, pattern in (
        ("quota", "job", r'exceeds limit\b.*?\bin rule "?(?P<what>[^"\s]+)'),
        ("person", "job", r"dropped because of user limitations"),
        ("depends", "job", r"dropped because of job dependencies"),
        ("alike", "job", r"got ignored in the last scheduling run"),
        ("later", "job", r"execution time not reached"),
        ("held", "job", r"job is in hold state"),
        ("reserved", "amount", r"due to a reservation|not reserved by advance reservation"),
        # Where the slots are limited for the whole host, as Open Cluster Scheduler 9.1 does by
        # default, they are an amount like any other. For people, such a worker is full.
        ("amount", "amount", r"offers only [ghq]c:(?P<what>(?!slots=)[^\s=]+)=(?P<offer>[^\s,]+)"),
        ("calendar", "amount", r"the job runtime of \d+ sec\. is too long"),
        (
            "full",
            "place",
            r"dropped because it is full|dropped because of overload or full"
            r"|offers only [ghq]c:slots=0(\.0+)?(?![.\d])",
        ),
        ("disabled", "place", r"dropped because it is disabled"),
        ("suspended", "place", r"dropped because it is suspended"),
        ("overloaded", "place", r"dropped because it is overloaded|in (suspend|load) alarm"),
        ("away", "place", r"is temporarily not available|until clean up of"),
        (
            "slots",
            "slots",
            r'(in pe "(?P<what>[^"]+)" because it )?only offers (?P<offer>\d+) slots'
            r"|requires more slots than available|offers only [ghq]c:slots=",
        ),
        (
            "permission",
            "barred",
            r'has no permission for (cluster |queue |host )*(instance )?"?(?P<what>[^\s"]+)',
        ),
        ("project", "barred", r"have the correct project|excluded project list"),
        ("offer", "barred", r"offers only [ghq][a-z]:(?P<what>[^\s=]+)=(?P<offer>[^\s,]+)"),
        ("forced", "barred", r"does not request 'forced' resource \"(?P<what>[^\"]+)\""),
        ("unknown", "barred", r"job requests unknown resource \((?P<what>[^)\s]+)"),
        ("parallel", "barred", r"not in pe list|no matching pe|rule is not suitable|parallel type"),
        ("queue", "barred", r"not contained in its hard queue list"),
    )
)

#: Lines that say nothing about the job.
_NO_NEWS = re.compile(
    r"no suitable queues|is not allowed to run in any queue$|^Exiting\.|^verification:"
    r"|job information|no messages available",
    re.IGNORECASE,
)


# Cached, because the scheduler repeats its message about a host for every waiting job, and the
# messages are parsed again every second while pages are open.
@lru_cache(maxsize=2**14)
def meaning_of(line: str) -> tuple[int, Reason] | None:
    """Return a line's rank in ``_MESSAGES`` and its reason; ``None`` if it gives no reason."""
    if not line.strip() or _NO_NEWS.search(line):
        return None
    for rank, (name, scope, pattern) in enumerate(_MESSAGES):
        if match := pattern.search(line):
            groups = match.groupdict()
            offer = read_number(groups.get("offer") or "")
            return rank, Reason(name, scope, groups.get("what") or "", offer)
    return len(_MESSAGES), Reason("other", "other")


def parse_reasons(lines: Iterable[str]) -> list[Reason]:
    """Return the reasons that the scheduler or ``qsub -w`` gave, the most informative first."""
    found: dict[tuple[int, str], Reason] = {}
    for meaning in filter(None, map(meaning_of, lines)):
        rank, reason = meaning
        before = found.get((rank, reason.what), reason)
        if before.offer is not None and reason.offer is not None:
            reason = max(before, reason, key=lambda each: each.offer or 0.0)
        found[rank, reason.what] = reason
    return [found[key] for key in sorted(found)]


def refusal(lines: Iterable[str]) -> tuple[Reason, str]:
    """Return why qsub refused a job at once, and the line that says it, without qsub's own words.

    Without a scope, the reason is not known: the line may be a sentence of the site's own verifier
    (JSV), and is empty if Grid Engine only finds no queue.
    """
    words = ""
    for line in lines:
        line = line.strip().removeprefix("Unable to run job: ").removeprefix("warning: ")
        if meaning := meaning_of(line):
            if meaning[0] < len(_REFUSALS):
                return meaning[1], line
            if meaning[1].name == "other":
                words = words or line
    return Reason("other"), words


def main_reason(reasons: Collection[Reason], unavailable: frozenset[str] | None) -> Reason:
    """Return the reason to show for a job that does not start.

    :param reasons: the result of :func:`parse_reasons`.
    :param unavailable: the result of :func:`~gridhub.grid.places.unavailable_resources`; ``None``
        if that result is not known.
    :returns: one of ``reasons``, or a new reason without a scope: ``closed`` or ``unavailable`` if
        resources are not available, ``turn`` if there is room, ``queued`` if the reason is not
        known.
    """
    # Ignore reasons about queue instances that do not accept the job, unless there are no other
    # reasons. The job does not wait for these queue instances, because others accept it.
    candidates = [reason for reason in reasons if reason.scope != "barred"] or list(reasons)
    first = next(iter(candidates), Reason("queued"))
    if first.scope == "job":
        return first
    if unavailable:
        return Reason(CLOSED if CLOSED in unavailable else "unavailable")
    # An empty ``unavailable`` means that a queue instance has room for the job. If all messages are
    # about other queue instances, which are full or closed, the job only waits for its turn.
    if unavailable is not None and all(reason.scope == "place" for reason in reasons):
        return Reason("turn")
    return first


def unavailable_by_reason(reason: Reason) -> frozenset[str]:
    """Return the resources that a reason names as unavailable.

    :returns: names as in the result of :func:`~gridhub.grid.places.unavailable_resources`.
    """
    if reason.name in ("full", "slots"):
        return frozenset({SLOTS})
    return frozenset({reason.what} if reason.name == "amount" else ())
