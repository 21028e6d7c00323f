# SPDX-License-Identifier: BSD-3-Clause
"""Why a session waits, and why a choice would: the scheduler's reasons in the menu's terms."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import ceil, floor

from gridhub.grid.places import SLOTS, Place, Want, free, missing
from gridhub.grid.reasons import Reason, hindrance, understand
from gridhub.menu.job import Asked
from gridhub.menu.menu import Menu
from gridhub.words import say, say_number


def _want(had: Collection[Asked]) -> Want:
    """Return what has been asked for, as it is compared with what is free."""
    values = {each.kind: each.value for each in had}
    consumables = {each.complex: each.total for each in had if each.kind in ("memory", "count")}
    return Want(int(values.get("slots", 1)), consumables, str(values.get("queue", "")))


def _may_spread(had: Collection[Asked]) -> bool:
    """Tell whether a parallel environment of the menu may spread a session over hosts."""
    values = {each.kind: each.value for each in had}
    return "parallel_environment" in values and values.get("slots") != 1


def lacks(had: Collection[Asked], places: list[Place] | None) -> frozenset[str] | None:
    """Return what is missing for a session; ``None`` where that cannot be told."""
    if not places or _may_spread(had):
        return None
    return missing(_want(had), places)


def lacking(had: Collection[Asked], lacks: Collection[str]) -> str:
    """Name what is missing as the form does."""
    return ", ".join(f"{each.label} ({each.words})" for each in short(had, lacks))


def free_now(had: Collection[Asked], lacks: Collection[str], places: Collection[Place]) -> str:
    """Say how much of what is missing one worker has free at most, in a sentence of its own."""
    told = []
    queue = _want(had).queue
    for each in short(had, lacks):
        most = free(places, SLOTS if each.kind == "slots" else each.complex, queue)[1]
        if most < each.total:
            number = beside(each, most, floor) if each.kind == "memory" else f"{most:g}"
            told.append(f"{each.label} {say('sessions.used', used=number, asked=each.words)}")
    return f" {say('forecast.at_most', what=', '.join(told))}" if told else ""


def in_words(reason: Reason, had: Collection[Asked]) -> str:
    """Return a reason of the scheduler's, with what it is about as the form names it."""
    items = lacking(had, {reason.what}) if reason.what else ""
    return say(f"reason.{reason.name}", what=items or reason.what)


def later(words: str, had: Collection[Asked], places: list[Place] | None) -> str:
    """Say why a choice would have to wait; ``words`` are those of ``qsub -w p``."""
    lacks = lacks(had, places)
    reason = hindrance(understand(words.splitlines()), lacks)
    if reason.scope not in ("", "other"):
        return say("forecast.waits", reason=in_words(reason, had))
    if reason.name == "lacks":
        lacking = say("forecast.lacks", what=lacking(had, lacks or ()))
        return lacking + free_now(had, lacks or (), places or ())
    return say("forecast.closed" if reason.name == "closed" else "forecast.later")


def never(words: str, menu: Menu, had: Collection[Asked], places: list[Place] | None) -> str:
    """Say why a choice can never start; ``words`` are those of ``qsub -w v``.

    It reckons with an empty cluster: what it offers is all there is.
    """
    reasons = understand(words.splitlines())
    offers = {reason.what: reason.offer for reason in reasons if reason.name == "amount"}
    if places and not _may_spread(had):
        offers[SLOTS] = max(float(place.slots) for place in places)
    items = {item.name: item for item in menu.items}
    most = [
        (f"{each.label} ({each.words})", items[each.item].in_units(offer))
        for each in had
        if (offer := offers.get(SLOTS if each.kind == "slots" else each.complex)) is not None
        and offer < each.total
    ]
    if most:
        told = (say("forecast.most", what=what, most=offer) for what, offer in most)
        return say("forecast.too_much", what=" ".join(told))
    first = next(iter(reasons), Reason("other", "other"))
    if first.name == "quota":
        return say("forecast.quota", what=first.what)
    # Where the slots do not do, there is a queue that is for this job.
    if first.scope in ("barred", "job"):
        return say("forecast.barred", reason=in_words(first, had))
    return say("forecast.never")


def short(had: Collection[Asked], lacks: Collection[str]) -> list[Asked]:
    return [each for each in had if (SLOTS if each.kind == "slots" else each.complex) in lacks]


def _bytes(number: float, other: float, whole: Callable[[float], int]) -> str:
    """Say a number of bytes in the unit that another one has, in tenths that ``whole`` makes."""
    unit, size = ("GB", 2**30) if other >= 2**30 else ("MB", 2**20)
    return f"{whole(number / size * 10) / 10:.1f} {say_number(f'unit.{unit}', 0)}"


def beside(memory: Asked, number: float, whole: Callable[[float], int]) -> str:
    """Say a number of bytes in the unit in which memory has been asked for."""
    return _bytes(number, memory.total / int(memory.value), whole)


def above(used: float, limit: float) -> tuple[str, str]:
    """Return what was used of a limit, and the limit, in bytes, so that one reads as above it."""
    return _bytes(used, limit, ceil), _bytes(limit, limit, floor)
