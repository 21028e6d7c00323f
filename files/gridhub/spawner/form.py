# SPDX-License-Identifier: BSD-3-Clause
"""The form of one person: filled in from the last choice or a link, with sentences above it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

from gridhub.grid.places import QueueInstance, free
from gridhub.menu.form import render_form
from gridhub.menu.kinds import PRESET_FIELD, ChoiceError
from gridhub.menu.menu import Menu
from gridhub.spawner.ended import SessionEnd
from gridhub.words import text

#: How many sentences a form has about a link at most.
MAX_NOTICES = 5

#: In a link to the form: the items, with commas between them, of which there is to be less or more
#: than the last time. No item has such a name.
LESS, MORE = "_less", "_more"


@dataclass(frozen=True)
class Link:
    """What the link to a form says; nothing of it is checked."""

    #: A choice, as the form would send it.
    values: dict[str, object]
    #: The items that a session had too little of, or that were not free, ...
    shifts: tuple[str, ...] = ()
    #: ... and whether there is to be more of them, or less.
    more: bool = False


#: The link that has led to the form. Several requests may be drawing the same spawner's; JupyterHub
#: does so in a task of each, which inherits what the request has set.
followed: ContextVar[Link | None] = ContextVar("followed", default=None)


@dataclass(frozen=True)
class Filled:
    """A form as it is filled in."""

    values: dict[str, Any]
    #: What there is to say about fields, by name.
    notes: dict[str, str]
    #: Sentences for above the form.
    notices: Sequence[str] = ()
    #: Why the choice was refused.
    refusal: ChoiceError | None = None


def fill_from_link(menu: Menu, groups: Collection[str], values: dict[str, object]) -> Filled:
    """Fill the form in as a link says, as far as the person's menu has it."""
    shown, left_out = menu.take(values, groups)
    notices = [text("form.link")] if shown else []
    notices += [text("form.left_out", what=each) for each in left_out[:MAX_NOTICES]]
    try:
        menu.choose(shown, groups)
    except ChoiceError as error:  # a rule between items; the link is filled in
        return Filled(shown, {}, notices, error)
    return Filled(shown, {}, notices)


def fill_shifted(
    menu: Menu,
    groups: Collection[str],
    last: dict[str, Any],
    link: Link,
    places: list[QueueInstance] | None,
) -> Filled:
    """Fill the form in with more or less than the last time of what was missing.

    :param last: the last choice, as it was sent.
    :param places: what is free now, if that is known and there is to be less.
    """
    shown, _ = menu.take(last, groups)
    shown.pop(PRESET_FIELD, None)
    return Filled(shown, shift(menu, groups, shown, link, places))


def shift(
    menu: Menu,
    groups: Collection[str],
    shown: dict[str, Any],
    link: Link,
    places: list[QueueInstance] | None,
) -> dict[str, str]:
    """Change the amounts in ``shown`` that were missing; return what to say about each."""
    notes = {}
    mine = menu.items_for(groups)
    queue = next(
        (shown.get(each.name, each.default) for each in mine if each.request.kind == "queue"), ""
    )
    wanted = [item for item in mine if item.name in link.shifts]
    shifted = set()
    # Again for those that found nothing: a rule may let one of them pass only after another.
    for item in wanted * len(wanted):
        old = shown.get(item.name, item.default)
        if item.name in shifted or not isinstance(old, int):
            continue
        most, why = None, "more"
        if not link.more:
            most, why = old, "less"
            if places and item.request.counted:
                room = item.units_in(free(places, item.request.counted, str(queue))[1])
                most, why = (room, "less_free") if room < old else (most, why)
        new = menu.shift(shown, item.name, groups, most)
        if new is None:
            why = "most" if link.more else "least"
        else:
            shown[item.name] = new
            shifted.add(item.name)
        notes[item.name] = text(
            f"form.{why}",
            label=item.label,
            old=item.in_words(old),
            new="" if new is None else item.in_words(new),
        )
    return notes


def draw(
    menu: Menu, groups: Collection[str], filled: Filled, last: SessionEnd | None, offer_more: bool
) -> str:
    """Return the form's fields as HTML, with the sentences above them.

    :param last: how the last session ended, if the form is to show it.
    :param offer_more: whether to offer more of what that session had too little of.
    """
    fields = render_form(menu, groups, filled.values, filled.refusal, filled.notes)
    sentences = [escape(each) for each in filled.notices]
    if last:
        sentence = escape(last.words)
        if last.short_of and offer_more:
            query = urlencode({MORE: ",".join(last.short_of)})
            again = escape(text("sessions.again_with_more"))
            sentence += f' <a class="alert-link" href="?{escape(query)}">{again}</a>'
        sentences.insert(0, sentence)
    alerts = (f'<p class="alert alert-warning" role="status">{each}</p>' for each in sentences)
    return "".join(alerts) + fields
