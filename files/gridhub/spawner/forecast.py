# SPDX-License-Identifier: BSD-3-Clause
"""Forecast whether a session can start now, later or never, and show what is free."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import isfinite

from gridhub.broker.protocol import Answer
from gridhub.grid.places import SLOTS, QueueInstance, free, most_slots
from gridhub.grid.reasons import Reason, main_reason, parse_reasons, refusal
from gridhub.menu.job import Requested, requested
from gridhub.menu.kinds import ChoiceError
from gridhub.menu.menu import Menu
from gridhub.notices import next_maintenance
from gridhub.spawner.cluster import Cluster
from gridhub.spawner.verdicts import PATIENCE
from gridhub.spawner.view import Forecast, Free
from gridhub.spawner.waiting import (
    free_at_most,
    in_words,
    may_spread,
    unavailable_for,
    unavailable_in_words,
)
from gridhub.spawner.window import over_in_time
from gridhub.words import text

#: How many queues or hosts a sentence names.
MAX_NAMED = 3


async def forecast(
    cluster: Cluster,
    menu: Menu,
    person: str,
    groups: Collection[str],
    options: dict[str, object],
) -> Forecast:
    """Return what is free now, and whether a session with these options could start.

    No job is submitted. Grid Engine is queried about the same choice only once every few seconds.
    """
    places = await cluster.status.places.look(PATIENCE)
    age = cluster.status.places.age
    room = tuple(
        Free(item.label, *map(item.in_units, amounts))
        for item in menu.items_for(groups)
        if places and (name := item.request.counted) is not None
        # Leave out resources that the queues do not limit.
        if isfinite((amounts := free(places, name, idle=True))[0])
    )
    if words := next_maintenance.refusal():
        return Forecast(free=room, age=age, message=words)
    try:
        choice, note = over_in_time(
            menu, menu.choose(options, groups), groups, next_maintenance.window_file.current()
        )
    except ChoiceError as error:
        return Forecast(free=room, age=age, message=str(error), item=error.item or "")
    requests = tuple(requested(menu, choice))
    answer = await cluster.verdicts.verdict(person, choice, unavailable_for(requests, places))
    return Forecast(
        free=room,
        age=age,
        verdict=answer.verdict if answer else "",
        message=f"{_message(answer, menu, requests, places)} {note}".rstrip(),
        raw=answer.words if answer else "",
    )


def _message(
    answer: Answer | None,
    menu: Menu,
    requests: Collection[Requested],
    places: list[QueueInstance] | None,
) -> str:
    if answer is None:
        return text("forecast.unknown")
    if not answer.ok:
        return answer.error
    if answer.verdict == "later":
        return why_later(answer.words, requests, places)
    if answer.verdict == "never":
        return f"{why_never(answer.words, menu, requests, places)} {answer.note}".rstrip()
    return text("forecast.now")


def why_later(
    words: str, requests: Collection[Requested], places: list[QueueInstance] | None
) -> str:
    """Return why a session with the given requests would have to wait.

    :param words: the output of ``qsub -w p``.
    """
    names = unavailable_for(requests, places)
    reason = main_reason(parse_reasons(words.splitlines()), names)
    if reason.scope not in ("", "other"):
        return text("forecast.waits", reason=in_words(reason, requests))
    if reason.name == "unavailable":
        first = text("forecast.unavailable", what=unavailable_in_words(requests, names or ()))
        return first + free_at_most(requests, names or (), places or ())
    return text("forecast.closed" if reason.name == "closed" else "forecast.later")


def why_refused(words: str, requests: Collection[Requested]) -> str:
    """Return why qsub refused a job at once, as a sentence; empty if the reason is not known.

    :param words: the output of qsub.
    """
    reason, _ = refusal(words.splitlines())
    return text("grid.refused", reason=in_words(reason, requests)) if reason.scope else ""


def why_never(
    words: str, menu: Menu, requests: Collection[Requested], places: list[QueueInstance] | None
) -> str:
    """Return why a session with the given requests can never start.

    :param words: the output of ``qsub -w v``. This command assumes an empty cluster, so its output
        contains the largest amounts that the cluster can offer.
    """
    lines = words.splitlines()
    refused, own_words = refusal(lines)
    if refused.scope:
        return text("forecast.barred", reason=in_words(refused, requests))
    reasons = parse_reasons(lines)
    offers = {reason.what: reason.offer for reason in reasons if reason.name == "amount"}
    if places and not may_spread(requests):
        offers[SLOTS] = most_slots(places)
    items = {item.name: item for item in menu.items}
    most = [
        (f"{each.label} ({each.words})", items[each.item].in_units(offer))
        for each in requests
        if (offer := offers.get(SLOTS if each.kind == "slots" else each.complex)) is not None
        and offer < each.total
    ]
    if most:
        sentences = (text("forecast.most", what=what, most=offer) for what, offer in most)
        return text("forecast.too_much", what=" ".join(sentences))
    first = next(iter(reasons), Reason("other", "other"))
    if first.name == "quota":
        return text("forecast.quota", what=first.what)
    if first.name == "slots" and first.what and not first.offer:
        return text("forecast.slots", what=first.what)
    # The scope `slots` is missing here: a job may use a queue even if too few slots are free.
    if first.scope in ("barred", "job"):
        return text("forecast.barred", reason=in_words(all_named(first, reasons), requests))
    return text("forecast.refused", words=own_words) if own_words else text("forecast.never")


def all_named(first: Reason, reasons: Collection[Reason]) -> Reason:
    """Return a reason that names what all reasons of its kind name, up to :data:`MAX_NAMED`."""
    names = [each.what for each in reasons if each.name == first.name and each.what]
    more = ["…"] if len(names) > MAX_NAMED else []
    return replace(first, what=", ".join(names[:MAX_NAMED] + more))
