# SPDX-License-Identifier: BSD-3-Clause
"""The data about a session for the hub's pages; the templates use no other data.

The data consists of plain values and whole sentences: the spawner decides what a page shows, and
the templates decide how it looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from gridhub.grid.details import Details
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import beside
from gridhub.spawner.session_log import SessionLog
from gridhub.words import text


@dataclass(frozen=True)
class Amount:
    """One resource that a session has requested; ``label`` is the resource's name in the menu."""

    label: str
    #: The requested amount, with the amount in use if Grid Engine reports it.
    words: str
    #: The share of the requested amount that is in use, from 0 to 1; ``None`` if not known.
    share: float | None = None


@dataclass(frozen=True)
class Free:
    """How much of a resource is free, as text: altogether, and on the worker that has the most."""

    label: str
    total: str
    largest: str


@dataclass(frozen=True)
class Forecast:
    """What is free, and whether a session with the person's choice could start."""

    free: tuple[Free, ...] = ()
    #: The age of ``free`` in seconds; ``None`` if not known.
    age: float | None = None
    #: ``now``, ``later`` or ``never``; empty if not known, or if the choice is refused.
    verdict: str = ""
    message: str = ""
    #: Grid Engine's original messages.
    raw: str = ""
    #: The item of the menu that the message is about, if the choice is refused.
    item: str = ""


@dataclass(frozen=True)
class View:
    """A person's server as a page shows it, with or without a session; times are naive UTC."""

    #: The server's name; empty for the default server.
    name: str
    state: Literal["none", "waiting", "running", "stopping"]
    #: A sentence about the progress of a start, or why a running session may not answer.
    message: str = ""
    #: Grid Engine's original messages, which ``message`` explains; may be empty.
    raw: str = ""
    #: Why the server's last session ended, as a sentence; empty if the person stopped the session.
    ended: str = ""
    #: The menu items, such as "memory", whose amounts were too small for the last session. The page
    #: offers a link to a form with larger amounts.
    exceeded: tuple[str, ...] = ()
    #: The last lines of the last session's log; ``None`` if they say no more, or are not known yet.
    log: SessionLog | None = None
    job: int | None = None
    #: The session's name, or the last session's after a failed start or an end; empty if there was
    #: none. Administrators find out with it what happened.
    session: str = ""
    host: str = ""
    since: datetime | None = None
    ends: datetime | None = None
    amounts: tuple[Amount, ...] = ()


def moment(seconds: float | None) -> datetime | None:
    """Return a time for the pages, as naive UTC.

    :param seconds: seconds since the epoch.
    """
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def amounts(
    requests: Iterable[Requested], details: Details | None, elapsed: float | None
) -> tuple[Amount, ...]:
    """Return the resources that a session has requested, each with the amount in use if known.

    :param elapsed: how long the session has run, in seconds.
    """

    def amount(each: Requested) -> Amount:
        if details is None or not details.is_measured:
            return Amount(each.label, each.words)  # the worker has not reported yet
        memory = details.vmem if each.is_vmem else details.rss if each.is_rss else None
        if memory is not None:
            used = memory
            words = text("sessions.used", used=beside(each, used, round), asked=each.words)
        elif each.kind == "slots" and details.cpu is not None and elapsed:
            used = details.cpu / elapsed
            words = text("sessions.busy", used=f"{used:.1f}", asked=each.words)
        else:
            return Amount(each.label, each.words)
        return Amount(each.label, words, min(used / each.total, 1))

    # Leave out resources with an empty text or an amount of zero.
    return tuple(
        amount(each)
        for each in requests
        if each.total or (isinstance(each.value, str) and each.value)
    )
