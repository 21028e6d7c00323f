# SPDX-License-Identifier: BSD-3-Clause
"""Explain the progress of a start and the scheduler's reasons, in the menu's terms."""

from __future__ import annotations

from collections.abc import Collection
from math import floor

from gridhub.grid.collector import GONE, Gone
from gridhub.grid.details import Details
from gridhub.grid.jobs import Job, State
from gridhub.grid.places import SLOTS, QueueInstance, Requirements, free, unavailable_resources
from gridhub.grid.reasons import Reason, main_reason, parse_reasons, unavailable_by_reason
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import beside
from gridhub.words import text

#: If Grid Engine has not answered for this many seconds, pages show that Grid Engine does not
#: answer, and the time limit of a start does not apply.
OLD_ANSWER = 30.0


def requirements(requests: Collection[Requested]) -> Requirements:
    """Return a session's requests in a form that can be compared with what is free."""
    values = {each.kind: each.value for each in requests}
    counted = [each for each in requests if each.kind in ("memory", "count")]
    consumables = {each.complex: each.total for each in counted}
    return Requirements(int(values.get("slots", 1)), consumables, str(values.get("queue", "")))


def may_spread(requests: Collection[Requested]) -> bool:
    """Return whether a parallel environment of the menu may spread a session over several hosts."""
    values = {each.kind: each.value for each in requests}
    return "parallel_environment" in values and values.get("slots") != 1


def unavailable_for(
    requests: Collection[Requested], places: list[QueueInstance] | None
) -> frozenset[str] | None:
    """Return the resources that a session needs but that are not free; ``None`` if not known."""
    if not places or may_spread(requests):
        return None
    return unavailable_resources(requirements(requests), places)


def unavailable_items(requests: Collection[Requested], names: Collection[str]) -> list[Requested]:
    """Return the requests for resources that are not free.

    :param names: the resources that are not free: complexes or :data:`SLOTS`.
    """
    return [each for each in requests if (SLOTS if each.kind == "slots" else each.complex) in names]


def unavailable_in_words(requests: Collection[Requested], names: Collection[str]) -> str:
    """Return the items that are not free, with the labels and amounts of the form."""
    return ", ".join(f"{each.label} ({each.words})" for each in unavailable_items(requests, names))


def free_at_most(
    requests: Collection[Requested], names: Collection[str], places: Collection[QueueInstance]
) -> str:
    """Return a sentence with the largest free amount of each unavailable item on a single worker.

    The sentence begins with a space. An item is left out if one worker has enough of it. Without
    any item, the result is empty.
    """
    amounts = []
    queue = requirements(requests).queue
    for each in unavailable_items(requests, names):
        most = free(places, SLOTS if each.kind == "slots" else each.complex, queue)[1]
        if most < each.total:
            number = beside(each, most, floor) if each.kind == "memory" else f"{most:g}"
            words = text("sessions.used", used=number, asked=each.words)
            amounts.append(f"{each.label} {words}")
    return f" {text('forecast.at_most', what=', '.join(amounts))}" if amounts else ""


def in_words(reason: Reason, requests: Collection[Requested]) -> str:
    """Return the scheduler's reason in words, with the labels and amounts of the form."""
    items = unavailable_in_words(requests, {reason.what}) if reason.what else ""
    named = "_named" if reason.name == "permission" and reason.what else ""
    return text(f"reason.{reason.name}{named}", what=items or reason.what)


def why_queued(
    job: Job,
    requests: Collection[Requested],
    details: Details | None,
    places: list[QueueInstance] | None,
    queue: list[int] | None,
) -> str:
    """Return why a job waits in the queue, as far as known.

    :param queue: the numbers of all waiting jobs, in the order in which they are to start.
    """
    names = unavailable_for(requests, places)
    reason = main_reason(parse_reasons(details.reasons if details else ()), names)
    if reason.scope:
        words = text("waiting.reason", job=job.id, reason=in_words(reason, requests))
    elif reason.name == "unavailable":
        items = unavailable_in_words(requests, names or ())
        words = text("waiting.unavailable", job=job.id, what=items)
        words += free_at_most(requests, names or (), places or ())
    elif reason.name == "closed":
        words = text("waiting.closed", job=job.id)
    else:
        words = text("waiting.turn" if reason.name == "turn" else "waiting.queued", job=job.id)
    before = queue.index(job.id) if queue and job.id in queue else 0
    return f"{words} {text('waiting.line', count=before)}" if before else words


def unavailable_now(
    requests: Collection[Requested], places: list[QueueInstance] | None, reasons: Collection[str]
) -> tuple[str, ...]:
    """Return the menu items for which a session waits, as far as known.

    :param reasons: the scheduler's messages about the session's job.
    """
    names = unavailable_for(requests, places)
    if names is None:
        names = unavailable_by_reason(main_reason(parse_reasons(reasons), None))
    return tuple(each.item for each in unavailable_items(requests, names))


def stage(job: Job | Gone | None) -> str:
    """Return the stage of a start: ``submitted``, ``waiting`` or ``starting``."""
    if not isinstance(job, Job):
        return "submitted"
    return "starting" if job.host else "waiting"


def why_silent(job: Job | Gone | None, age: float | None) -> str:
    """Return why a session may not answer although its job runs; empty if nothing is known.

    :param age: the age of Grid Engine's last answer in seconds; ``None`` before the first answer.
    """
    if age is not None and age > OLD_ANSWER:
        return text("waiting.no_answer")
    if not isinstance(job, Job) or not job.may_be_silent:
        return ""
    if not job.reports:
        return text("waiting.no_report", job=job.id, host=job.host)
    return in_state(job)


def in_state(job: Job) -> str:
    """Return the sentence about a job's state; for a suspended job, it names the cause."""
    name = job.state.value
    if job.state is State.SUSPENDED and job.suspended_by:
        name = f"{name}_{job.suspended_by}"
    return text(f"waiting.{name}", job=job.id, host=job.host)


def progress(
    job: Job | Gone | None, age: float | None, job_id: str, session: str, host: str
) -> str:
    """Return what a start waits for; empty for a job in the queue (see :func:`why_queued`).

    :param age: the age of Grid Engine's last answer in seconds; ``None`` before the first answer.
    :param job_id: the job's number; empty if it is not known yet.
    :param session: the session's name; empty if there is no session.
    :param host: the worker's name; empty until the session has reported its port.
    """
    if words := why_silent(job, age):
        return words
    if job is GONE and session and job_id:
        return text("waiting.gone", job=job_id)
    if not isinstance(job, Job):
        return text("waiting.submitted", job=job_id) if job_id else text("waiting.submitting")
    if host:
        return text("waiting.silent", job=job.id, host=job.host)
    if job.state is State.QUEUED:
        return ""
    if job.state is State.UNKNOWN:
        return text("waiting.unknown", job=job.id, letters=job.letters)
    return in_state(job)
