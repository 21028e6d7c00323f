# SPDX-License-Identifier: BSD-3-Clause
"""One person's form: fields with the values of the last choice or of a link, and notices."""

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
from gridhub.spawner.session_log import SessionLog
from gridhub.words import text

#: The form shows at most this many notices about values of a link that it cannot use.
MAX_NOTICES = 5

#: Two fields of a link to the form. Each field lists menu items, separated by commas. The form
#: decreases the last choice's amounts of the items in ``LESS``, and increases the amounts of the
#: items in ``MORE``. No menu item can have the name of either field.
LESS, MORE = "_less", "_more"


@dataclass(frozen=True)
class Link:
    """The contents of a link to the form; the values are not checked yet."""

    #: A choice, in the format in which the form sends choices.
    values: dict[str, object]
    #: The items whose amounts are to change: too small for a session, or not free.
    shifts: tuple[str, ...] = ()
    #: Whether the amounts of these items increase; otherwise they decrease.
    more: bool = False


#: The link that led to the form. The link is a context variable, not an attribute of the spawner,
#: because several requests may draw the form of the same spawner at once. JupyterHub draws each
#: form in a task of the request, and the task inherits the request's context variables.
followed: ContextVar[Link | None] = ContextVar("followed", default=None)


#: Where the person is going when the session is up; empty if nowhere in particular.
going_to: ContextVar[str] = ContextVar("going_to", default="")


@dataclass(frozen=True)
class Filled:
    """The values of a form, and texts to show with them."""

    values: dict[str, Any]
    #: The notes beside the fields, keyed by the name of the field.
    notes: dict[str, str]
    #: Sentences to show above the form.
    notices: Sequence[str] = ()
    #: Why the choice was refused.
    refusal: ChoiceError | None = None


def fill_from_link(menu: Menu, groups: Collection[str], values: dict[str, object]) -> Filled:
    """Return the form filled in from a link, with the values that the person's menu allows."""
    shown, left_out = menu.take(values, groups)
    notices = [text("form.link")] if shown else []
    notices += [text("form.left_out", what=each) for each in left_out[:MAX_NOTICES]]
    try:
        menu.choose(shown, groups)
    except ChoiceError as error:  # the values are not allowed together; show them anyway
        return Filled(shown, {}, notices, error)
    return Filled(shown, {}, notices)


def fill_shifted(
    menu: Menu,
    groups: Collection[str],
    last: dict[str, Any],
    link: Link,
    places: list[QueueInstance] | None,
) -> Filled:
    """Return the form with the last choice, after changing the amounts of the link's items.

    :param last: the options of the last choice, as JupyterHub received them.
    :param places: the queue instances and what is free on them now; ``None`` if not known. Only
        links that decrease amounts need this value.
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
    """Change the amounts of the link's items in ``shown``; return notes on the changes, by item."""
    notes = {}
    mine = menu.items_for(groups)
    queue = next(
        (shown.get(each.name, each.default) for each in mine if each.request.kind == "queue"), ""
    )
    wanted = [item for item in mine if item.name in link.shifts]
    shifted = set()
    # Try every item repeatedly: a limit that combines two items may allow the change of one item
    # only after the change of the other item.
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
    menu: Menu,
    groups: Collection[str],
    filled: Filled,
    last: SessionEnd | None,
    log: SessionLog | None,
    offer_more: bool,
) -> str:
    """Return the form's fields as HTML, with the sentences above them.

    :param last: the end of the last session, if the form must show it.
    :param log: the end of the last session's log, if the form must show it.
    :param offer_more: whether to link to a form with larger amounts of the items that ran out.
    """
    fields = render_form(menu, groups, filled.values, filled.refusal, filled.notes)
    sentences = [escape(each) for each in filled.notices]
    if last:
        sentence = escape(last.words)
        if last.exceeded and offer_more:
            target = going_to.get()
            query = {MORE: ",".join(last.exceeded)} | ({"next": target} if target else {})
            again = escape(text("sessions.again_with_more"))
            sentence += f' <a class="alert-link" href="?{escape(urlencode(query))}">{again}</a>'
        sentences.insert(0, sentence)
    alerts = [f'<p class="alert alert-warning" role="status">{each}</p>' for each in sentences]
    if log and log.lines:
        alerts.insert(
            1,
            f"<details><summary>{escape(log.words)}</summary><pre>{escape(log.lines)}</pre></details>",
        )
    elif log:
        alerts.insert(1, f'<p class="quiet">{escape(log.words)}</p>')
    return "".join(alerts) + fields
