# SPDX-License-Identifier: BSD-3-Clause
"""What the hub's pages show of a session; the templates get nothing else of it.

Plain values and whole sentences: what a page shows is decided here and in the spawner, how it looks
in the templates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tornado import web

from sge_words import say


class Refusal(web.HTTPError):
    """What a person cannot have; the message is for them, and is shown as it is."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(status_code, message)
        #: What JupyterHub's pages show.
        self.jupyterhub_message = message


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


#: What people read instead of what JupyterHub says (6.1.1), by a part of that.
_MEANT = {
    "_xsrf": "stale_form",
    "XSRF": "stale_form",
    "Login form invalid or expired": "stale_form",
    " is already running": "active",
    " is pending ": "active",
    " already has the maximum of ": "no_room",
    "Named servers are not enabled": "not_named",
    "Invalid server_name": "bad_name",
}


def error_words(error: BaseException | None, status_code: int) -> str:
    """Return what people read of an error: never JupyterHub's own sentences, which the log has."""
    if words := getattr(error, "jupyterhub_message", ""):
        return str(words)
    if words := meant(error):
        return words
    return say(f"error.text_{status_code if status_code in (403, 404, 429, 503) else 'other'}")


def meant(error: BaseException | None) -> str:
    """Return what people read of a refusal of JupyterHub's own, or nothing if it is another."""
    told = getattr(error, "log_message", None) or ""
    return next((say(f"error.{name}") for mark, name in _MEANT.items() if mark in told), "")
