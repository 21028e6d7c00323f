# SPDX-License-Identifier: BSD-3-Clause
"""The next maintenance: its announcement on the pages, and the time during which no session starts.

The maintenance program writes :data:`FILE` from the dates of its timer. The playbook
``worker_window.yml`` writes :data:`WINDOW`, the time when the workers must be free of sessions. The
hub reads both files again every few seconds, so a new date needs no restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gridhub.clock import local
from gridhub.notices.announcement import Announcement, AnnouncementError, WatchedFile
from gridhub.notices.drain import drain_file
from gridhub.words import text

FILE = Path("/etc/jupyterhub/maintenance.json")
WINDOW = Path("/etc/jupyterhub/worker_window.json")


@dataclass(frozen=True)
class Maintenance:
    """The next maintenance."""

    #: The pages announce the maintenance from ``show`` on; no session starts from ``refuse`` on.
    show: datetime
    refuse: datetime
    #: When the day of the maintenance begins, in the site's time zone.
    day: datetime
    #: The time at which the maintenance is expected to end.
    end: datetime
    #: The date and time of the beginning and of the end, as shown to users.
    begins: Mapping[str, str]
    ends: Mapping[str, str]

    def applies(self, now: datetime) -> bool:
        """Return whether the maintenance is announced at the time ``now``."""
        return self.show <= now < self.end

    def announcement(self, now: datetime) -> Announcement:
        """Return the maintenance announcement for every page."""
        if self.refuse <= now:
            return Announcement(text("maintenance.now", **self.ends), "warning")
        which, level = ("today", "warning") if self.day <= now else ("ahead", "info")
        values = {**self.begins, "end_date": self.ends["date"], "end_time": self.ends["time"]}
        return Announcement(text(f"maintenance.{which}", **values), level)  # type: ignore[arg-type]

    def refusal(self, now: datetime) -> str:
        """Return why no session starts now, or an empty string."""
        return text("maintenance.refused", **self.ends) if self.refuse <= now < self.end else ""


def parse_maintenance(text: str | bytes) -> Maintenance:
    """Parse the file that the maintenance program writes.

    :raises AnnouncementError: if the file has any other form.
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
        raise AnnouncementError(f"this is not a maintenance date: {error!r}") from error
    return Maintenance(**moments, **clocks)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Window:
    """The time when the workers are maintained and must be free of sessions."""

    begin: datetime
    end: datetime
    #: What to do with a choice whose run time is too long: refuse it, or cap its run time.
    rule: Literal["refuse", "cap"]

    def applies(self, now: datetime) -> bool:
        """Return whether the window is not yet over."""
        return now < self.end

    def values(self) -> dict[str, str]:
        """Return the window's beginning and end in the time zone of the hub's host."""
        clocks = {"begin": local(self.begin.timestamp()), "end": local(self.end.timestamp())}
        return {name: f"{moment:%Y-%m-%d %H:%M %Z}" for name, moment in clocks.items()}

    def announcement(self) -> Announcement:
        """Return the announcement of the window for every page."""
        return Announcement(text("maintenance.workers", **self.values()))


def parse_window(text: str | bytes) -> Window:
    """Parse a window; a time without a zone is in this host's time zone.

    :raises AnnouncementError: naming the invalid value.
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


#: The current content of each file; the pages and all spawners share these two objects.
maintenance_file = WatchedFile(FILE, parse_maintenance)
window_file = WatchedFile(WINDOW, parse_window)


def announcements(site: WatchedFile[Announcement]) -> list[Announcement]:
    """Return the announcements for every page: first the administrators' own, then maintenance."""
    coming, window = maintenance_file.current(), window_file.current()
    drain = drain_file.current()
    found = [
        site.current(),
        coming.announcement(datetime.now(UTC)) if coming else None,
        window.announcement() if window else None,
        drain.announcement(datetime.now(UTC)) if drain else None,
    ]
    return [each for each in found if each]


def refusal() -> str:
    """Return why no session starts now, in words for the user, or an empty string."""
    now = datetime.now(UTC)
    coming, drain = maintenance_file.current(), drain_file.current()
    found = coming.refusal(now) if coming else ""
    return found or (drain.refusal(now) if drain else "")
