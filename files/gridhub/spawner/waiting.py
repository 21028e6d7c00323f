# SPDX-License-Identifier: BSD-3-Clause
"""Why a session waits: how far its start is, and the scheduler's reasons in the menu's terms."""

from __future__ import annotations

from collections.abc import Collection
from math import floor

from gridhub.grid.collector import GONE, Gone
from gridhub.grid.details import Details
from gridhub.grid.jobs import Job, State
from gridhub.grid.places import SLOTS, QueueInstance, Requirements, free, missing
from gridhub.grid.reasons import Reason, main_reason, missing_by_reason, parse_reasons
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import beside
from gridhub.words import text

#: From this age on, in seconds, Grid Engine's last answer is too old to act on: the person is told,
#: and no session's time is over on account of it.
OLD_ANSWER = 30.0


def requirements(had: Collection[Requested]) -> Requirements:
    """Return what was requested, as it is compared with what is free."""
    values = {each.kind: each.value for each in had}
    consumables = {each.complex: each.total for each in had if each.kind in ("memory", "count")}
    return Requirements(int(values.get("slots", 1)), consumables, str(values.get("queue", "")))


def may_spread(had: Collection[Requested]) -> bool:
    """Tell whether a parallel environment of the menu may spread a session over hosts."""
    values = {each.kind: each.value for each in had}
    return "parallel_environment" in values and values.get("slots") != 1


def missing_for(
    had: Collection[Requested], places: list[QueueInstance] | None
) -> frozenset[str] | None:
    """Return what is missing for a session; ``None`` where that is not known."""
    if not places or may_spread(had):
        return None
    return missing(requirements(had), places)


def missing_items(had: Collection[Requested], names: Collection[str]) -> list[Requested]:
    """Return what was requested of the things that are missing."""
    return [each for each in had if (SLOTS if each.kind == "slots" else each.complex) in names]


def missing_in_words(had: Collection[Requested], names: Collection[str]) -> str:
    """Name what is missing as the form does."""
    return ", ".join(f"{each.label} ({each.words})" for each in missing_items(had, names))


def free_at_most(
    had: Collection[Requested], names: Collection[str], places: Collection[QueueInstance]
) -> str:
    """Return how much of what is missing one worker has free at most, in a sentence of its own."""
    amounts = []
    queue = requirements(had).queue
    for each in missing_items(had, names):
        most = free(places, SLOTS if each.kind == "slots" else each.complex, queue)[1]
        if most < each.total:
            number = beside(each, most, floor) if each.kind == "memory" else f"{most:g}"
            words = text("sessions.used", used=number, asked=each.words)
            amounts.append(f"{each.label} {words}")
    return f" {text('forecast.at_most', what=', '.join(amounts))}" if amounts else ""


def in_words(reason: Reason, had: Collection[Requested]) -> str:
    """Return a reason of the scheduler's, with what it is about as the form names it."""
    items = missing_in_words(had, {reason.what}) if reason.what else ""
    return text(f"reason.{reason.name}", what=items or reason.what)


def why_queued(
    job: Job,
    had: Collection[Requested],
    details: Details | None,
    places: list[QueueInstance] | None,
    queue: list[int] | None,
) -> str:
    """Return what a job in the queue waits for, as far as that is known.

    :param queue: the numbers of all jobs that wait, the next one first.
    """
    names = missing_for(had, places)
    reason = main_reason(parse_reasons(details.reasons if details else ()), names)
    if reason.scope:
        words = text("waiting.reason", job=job.id, reason=in_words(reason, had))
    elif reason.name == "lacks":
        words = text("waiting.lacks", job=job.id, what=missing_in_words(had, names or ()))
        words += free_at_most(had, names or (), places or ())
    elif reason.name == "closed":
        words = text("waiting.closed", job=job.id)
    else:
        words = text("waiting.turn" if reason.name == "turn" else "waiting.queued", job=job.id)
    before = queue.index(job.id) if queue and job.id in queue else 0
    return f"{words} {text('waiting.line', count=before)}" if before else words


def missing_now(
    had: Collection[Requested], places: list[QueueInstance] | None, reasons: Collection[str]
) -> tuple[str, ...]:
    """Return the items of the menu that a waiting session is short of now, as far as known.

    :param reasons: the scheduler's messages on its job.
    """
    names = missing_for(had, places)
    if names is None:
        names = missing_by_reason(main_reason(parse_reasons(reasons), None))
    return tuple(each.item for each in missing_items(had, names))


def stage(job: Job | Gone | None) -> str:
    """Return how far a start is: ``submitted``, ``waiting`` or ``starting``."""
    if not isinstance(job, Job):
        return "submitted"
    return "starting" if job.host else "waiting"


def progress(
    job: Job | Gone | None, age: float | None, job_id: str, session: str, host: str
) -> str:
    """Return what a start waits for; empty for a job in the queue (:func:`why_queued`).

    :param age: how old Grid Engine's last answer is, in seconds; ``None`` before the first.
    :param job_id: the job's number; empty while it is not known.
    :param session: the session's name; empty while there is none.
    :param host: the worker, once the session has told its port there.
    """
    if age is not None and age > OLD_ANSWER:
        return text("waiting.no_answer")
    if job is GONE and session and job_id:
        return text("waiting.gone", job=job_id)
    if not isinstance(job, Job):
        return text("waiting.submitted", job=job_id) if job_id else text("waiting.submitting")
    if not job.reports:
        return text("waiting.no_report", job=job.id, host=job.host)
    if host:
        return text("waiting.silent", job=job.id, host=job.host)
    if job.state is State.QUEUED:
        return ""
    if job.state is State.UNKNOWN:
        return text("waiting.unknown", job=job.id, letters=job.letters)
    return text(f"waiting.{job.state.value}", job=job.id, host=job.host)
