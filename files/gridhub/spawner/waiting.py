# SPDX-License-Identifier: BSD-3-Clause
"""Why a session waits, and why a choice would: the scheduler's reasons in the menu's terms."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import ceil, floor

from gridhub.grid.places import SLOTS, QueueInstance, Requirements, free, missing
from gridhub.grid.reasons import Reason, main_reason, parse_reasons
from gridhub.menu.job import Requested
from gridhub.menu.menu import Menu
from gridhub.words import text, number_text


def _want(had: Collection[Requested]) -> Requirements:
    """Return what has been asked for, as it is compared with what is free."""
    values = {each.kind: each.value for each in had}
    consumables = {each.complex: each.total for each in had if each.kind in ("memory", "count")}
    return Requirements(int(values.get("slots", 1)), consumables, str(values.get("queue", "")))


def _may_spread(had: Collection[Requested]) -> bool:
    """Tell whether a parallel environment of the menu may spread a session over hosts."""
    values = {each.kind: each.value for each in had}
    return "parallel_environment" in values and values.get("slots") != 1


def lacks(had: Collection[Requested], places: list[QueueInstance] | None) -> frozenset[str] | None:
    """Return what is missing for a session; ``None`` where that cannot be told."""
    if not places or _may_spread(had):
        return None
    return missing(_want(had), places)


def lacking(had: Collection[Requested], lacks: Collection[str]) -> str:
    """Name what is missing as the form does."""
    return ", ".join(f"{each.label} ({each.words})" for each in short(had, lacks))


def free_now(had: Collection[Requested], lacks: Collection[str], places: Collection[QueueInstance]) -> str:
    """Say how much of what is missing one worker has free at most, in a sentence of its own."""
    told = []
    queue = _want(had).queue
    for each in short(had, lacks):
        most = free(places, SLOTS if each.kind == "slots" else each.complex, queue)[1]
        if most < each.total:
            number = beside(each, most, floor) if each.kind == "memory" else f"{most:g}"
            told.append(f"{each.label} {text('sessions.used', used=number, asked=each.words)}")
    return f" {text('forecast.at_most', what=', '.join(told))}" if told else ""


def in_words(reason: Reason, had: Collection[Requested]) -> str:
    """Return a reason of the scheduler's, with what it is about as the form names it."""
    items = lacking(had, {reason.what}) if reason.what else ""
    return text(f"reason.{reason.name}", what=items or reason.what)


def later(words: str, had: Collection[Requested], places: list[QueueInstance] | None) -> str:
    """Say why a choice would have to wait; ``words`` are those of ``qsub -w p``."""
    lacks = lacks(had, places)
    reason = main_reason(parse_reasons(words.splitlines()), lacks)
    if reason.scope not in ("", "other"):
        return text("forecast.waits", reason=in_words(reason, had))
    if reason.name == "lacks":
        lacking = text("forecast.lacks", what=lacking(had, lacks or ()))
        return lacking + free_now(had, lacks or (), places or ())
    return text("forecast.closed" if reason.name == "closed" else "forecast.later")


def never(words: str, menu: Menu, had: Collection[Requested], places: list[QueueInstance] | None) -> str:
    """Say why a choice can never start; ``words`` are those of ``qsub -w v``.

    It reckons with an empty cluster: what it offers is all there is.
    """
    reasons = parse_reasons(words.splitlines())
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
        told = (text("forecast.most", what=what, most=offer) for what, offer in most)
        return text("forecast.too_much", what=" ".join(told))
    first = next(iter(reasons), Reason("other", "other"))
    if first.name == "quota":
        return text("forecast.quota", what=first.what)
    # Where the slots do not do, there is a queue that is for this job.
    if first.scope in ("barred", "job"):
        return text("forecast.barred", reason=in_words(first, had))
    return text("forecast.never")


def short(had: Collection[Requested], lacks: Collection[str]) -> list[Requested]:
    return [each for each in had if (SLOTS if each.kind == "slots" else each.complex) in lacks]


def _bytes(number: float, other: float, whole: Callable[[float], int]) -> str:
    """Say a number of bytes in the unit that another one has, in tenths that ``whole`` makes."""
    unit, size = ("GB", 2**30) if other >= 2**30 else ("MB", 2**20)
    return f"{whole(number / size * 10) / 10:.1f} {number_text(f'unit.{unit}', 0)}"


def beside(memory: Requested, number: float, whole: Callable[[float], int]) -> str:
    """Say a number of bytes in the unit in which memory has been asked for."""
    return _bytes(number, memory.total / int(memory.value), whole)


def above(used: float, limit: float) -> tuple[str, str]:
    """Return what was used of a limit, and the limit, in bytes, so that one reads as above it."""
    return _bytes(used, limit, ceil), _bytes(limit, limit, floor)
