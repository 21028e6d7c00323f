# SPDX-License-Identifier: BSD-3-Clause
"""A time in which no session may start, by the administrators (``playbooks/drain.yml``).

The hub reads the file again every few seconds, so a drain needs no restart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gridhub.clock import local
from gridhub.notices.announcement import MAX_TEXT, Announcement, AnnouncementError, WatchedFile
from gridhub.words import text

FILE = Path("/etc/jupyterhub/drain.json")


@dataclass(frozen=True)
class Drain:
    """No session starts from ``refuse`` to ``end``; the pages show why in the site's own words."""

    text: str
    refuse: datetime
    end: datetime

    def applies(self, now: datetime) -> bool:
        """Return whether the drain is not yet over."""
        return now < self.end

    def values(self) -> dict[str, str]:
        """Return the times in the time zone of the hub's host."""
        clocks = {"begin": local(self.refuse.timestamp()), "end": local(self.end.timestamp())}
        return {name: f"{moment:%Y-%m-%d %H:%M %Z}" for name, moment in clocks.items()}

    def announcement(self, now: datetime) -> Announcement:
        """Return the announcement for every page."""
        if self.refuse <= now:
            return Announcement(text("drain.now", text=self.text, **self.values()), "warning")
        return Announcement(text("drain.ahead", text=self.text, **self.values()), "warning")

    def refusal(self, now: datetime) -> str:
        """Return why no session starts now, or an empty string."""
        return (
            text("drain.now", text=self.text, **self.values())
            if self.refuse <= now < self.end
            else ""
        )


def parse_drain(content: str | bytes) -> Drain:
    """Parse a drain; a time without a zone is in this host's time zone.

    :raises AnnouncementError: naming the invalid value.
    """
    try:
        data = json.loads(content)
        words, times = data["text"], (data["refuse"], data["end"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AnnouncementError(f"a drain has text, refuse and end: {error!r}") from error
    if not isinstance(words, str) or not 0 < len(words.strip()) <= MAX_TEXT:
        raise AnnouncementError(f"drain_text must have 1 to {MAX_TEXT} characters")
    try:
        begin, end = (datetime.fromisoformat(each).astimezone(UTC) for each in times)
    except (ValueError, TypeError, OverflowError) as error:
        raise AnnouncementError(
            f"drain_from and drain_until must be times such as 2030-01-31 18:00, not {times}"
        ) from error
    if begin >= end:
        raise AnnouncementError(f"drain_until ({end}) must be after drain_from ({begin})")
    return Drain(words.strip(), begin, end)


#: The current drain; the pages and all spawners share this object.
drain_file = WatchedFile(FILE, parse_drain)
