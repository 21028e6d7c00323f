# SPDX-License-Identifier: BSD-3-Clause
"""What the hub's pages show of a session; the templates get nothing else of it.

Plain values and whole sentences: the spawner decides what a page shows, the templates how it looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


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
