# SPDX-License-Identifier: BSD-3-Clause
"""The next maintenance: its announcement on the pages, and when no session starts because of it.

The role maintenance writes :data:`FILE` from the dates of its timer, and
``playbooks/worker_window.yml`` writes :data:`WINDOW`, when workers must be free of sessions.
The hub reads both again every few seconds, so no restart is needed for a new date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gridhub.notices.announcement import Announcement, AnnouncementError, WatchedFile
from gridhub.words import text

FILE = Path("/etc/jupyterhub/maintenance.json")
WINDOW = Path("/etc/jupyterhub/worker_window.json")


@dataclass(frozen=True)
class Maintenance:
    """The next maintenance."""

    #: From when on the pages tell of it, and from when on no session starts.
    show: datetime
    refuse: datetime
    #: When its day begins, where the site is.
    day: datetime
    #: When it is usually over.
    end: datetime
    #: Date and time of beginning and end, as people there read them.
    begins: Mapping[str, str]
    ends: Mapping[str, str]

    def holds(self, now: datetime) -> bool:
        """Whether there is something to say of it."""
        return self.show <= now < self.end

    def announcement(self, now: datetime) -> Announcement:
        """Return what stands on every page."""
        if self.refuse <= now:
            return Announcement(text("maintenance.now", **self.ends), "warning")
        which, level = ("today", "warning") if self.day <= now else ("ahead", "info")
        told = {**self.begins, "end_date": self.ends["date"], "end_time": self.ends["time"]}
        return Announcement(text(f"maintenance.{which}", **told), level)  # type: ignore[arg-type]

    def refusal(self, now: datetime) -> str:
        """Return why no session starts now, or nothing."""
        return text("maintenance.refused", **self.ends) if self.refuse <= now < self.end else ""


def parse_maintenance(text: str | bytes) -> Maintenance:
    """Read what the role maintenance has written.

    :raises AnnouncementError: when it is something else.
    """
    try:
        data = json.loads(text)
        moments = {
            name: datetime.fromisoformat(data[name]).astimezone(UTC)
            for name in ("show", "refuse", "day", "end")
        }
        clocks = {
            name: {"date": str(data[name]["date"]), "time": str(data[name]["time"])}
            for name in ("begins", "ends")
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AnnouncementError(f"this is no maintenance: {error!r}") from error
    return Maintenance(**moments, **clocks)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Window:
    """When the workers are maintained: no session is to run into it."""

    begin: datetime
    end: datetime
    #: What becomes of a choice whose run time is longer than there is left.
    rule: Literal["refuse", "cap"]

    def holds(self, now: datetime) -> bool:
        """Whether it is still to come, or lasts."""
        return now < self.end

    def values(self) -> dict[str, str]:
        """Return its beginning and end as the hub's host reads them."""
        clocks = {"begin": self.begin.astimezone(), "end": self.end.astimezone()}
        return {name: f"{moment:%Y-%m-%d %H:%M %Z}" for name, moment in clocks.items()}

    def announcement(self) -> Announcement:
        """Return what stands on every page."""
        return Announcement(text("maintenance.workers", **self.values()))


def parse_window(text: str | bytes) -> Window:
    """Read a window; a time without a zone is one of this host's clock.

    :raises AnnouncementError: naming the value that is wrong.
    """
    try:
        data = json.loads(text)
        begin, end = (
            datetime.fromisoformat(data[name]).astimezone(UTC) for name in ("begin", "end")
        )
        rule = data["rule"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise AnnouncementError(
            f"window_begin and window_end must be times such as 2030-01-31 18:00: {error!r}"
        ) from error
    if begin >= end:
        raise AnnouncementError(f"window_end ({end}) must be after window_begin ({begin})")
    if rule not in ("refuse", "cap"):
        raise AnnouncementError(f"window_rule must be refuse or cap, not {rule!r}")
    return Window(begin, end, rule)


#: The hub's view of both; the pages and all spawners share it.
board = WatchedFile(FILE, parse_maintenance)
windows = WatchedFile(WINDOW, parse_window)


def announcements(site: WatchedFile[Announcement]) -> list[Announcement]:
    """Return what stands on every page: the administrators' own words, then the maintenance."""
    coming, window = board.current(), windows.current()
    told = [
        site.current(),
        coming.announcement(datetime.now(UTC)) if coming else None,
        window.announcement() if window else None,
    ]
    return [each for each in told if each]


def refusal() -> str:
    """Return why no session starts now, in words for the person, or nothing."""
    coming = board.current()
    return coming.refusal(datetime.now(UTC)) if coming else ""
