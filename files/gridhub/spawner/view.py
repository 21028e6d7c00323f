# SPDX-License-Identifier: BSD-3-Clause
"""What the hub's pages show of a session; the templates get nothing else of it.

Plain values and whole sentences: the spawner decides what a page shows, the templates how it looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from gridhub.grid.details import Details
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import beside
from gridhub.words import text


@dataclass(frozen=True)
class Amount:
    """One thing a session has asked for, such as memory, as the menu names it."""

    label: str
    #: How much; with what is in use of it, where Grid Engine says so.
    words: str
    #: What is in use as a share from 0 to 1, for a bar; ``None`` where it is not known.
    share: float | None = None


@dataclass(frozen=True)
class Free:
    """How much of one thing is free, in words: in total, and at most on one worker."""

    label: str
    total: str
    largest: str


@dataclass(frozen=True)
class Forecast:
    """What becomes of a choice, as far as it can be told before it is made."""

    free: tuple[Free, ...] = ()
    #: How old that is, in seconds; ``None`` where nothing is known.
    age: float | None = None
    #: ``now``, ``later`` or ``never``; empty where it is not known, or the choice is refused.
    verdict: str = ""
    message: str = ""
    #: Grid Engine's own words, unedited.
    raw: str = ""
    #: The item of the menu that the message is about, where the choice is refused.
    item: str = ""


@dataclass(frozen=True)
class View:
    """A session, or the place for one, as a person sees it. Times are in UTC, without a zone."""

    #: The named server; empty for the default one.
    name: str
    state: Literal["none", "waiting", "running", "stopping"]
    #: What there is to say about it now, in a sentence; empty where the state says it all.
    message: str = ""
    #: Grid Engine's own words behind the message, unedited; empty where there are none.
    raw: str = ""
    #: Why the last session here ended, in a sentence; empty when the person stopped it.
    ended: str = ""
    #: What would have helped it, as menu items by name ("memory", "run_time"); for a link.
    short_of: tuple[str, ...] = ()
    job: int | None = None
    host: str = ""
    since: datetime | None = None
    ends: datetime | None = None
    amounts: tuple[Amount, ...] = ()


def moment(seconds: float | None) -> datetime | None:
    """Return a time as the pages take it: in UTC, without a zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def amounts(
    had: Iterable[Requested], details: Details | None, elapsed: float | None
) -> tuple[Amount, ...]:
    """Return what a session has asked for, each with what it uses of it.

    :param elapsed: for how long it has run, in seconds.
    """

    def amount(each: Requested) -> Amount:
        if details is None or details.vmem is None:
            return Amount(each.label, each.words)  # the worker has not reported yet
        if each.is_address_space:
            used = details.vmem
            words = text("sessions.used", used=beside(each, used, round), asked=each.words)
        elif each.kind == "slots" and details.cpu is not None and elapsed:
            used = details.cpu / elapsed
            words = text("sessions.busy", used=f"{used:.1f}", asked=each.words)
        else:
            return Amount(each.label, each.words)
        return Amount(each.label, words, min(used / each.total, 1))

    # Words say something on their own; of things, zero is not worth a line.
    return tuple(
        amount(each) for each in had if each.total or (isinstance(each.value, str) and each.value)
    )
