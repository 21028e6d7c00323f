# SPDX-License-Identifier: BSD-3-Clause
"""The administrators' announcement on every page, and the class that reads notice files.

``playbooks/announce.yml`` writes and removes :data:`FILE`. The hub reads the file again every few
seconds, so a new text needs no restart. The pages work even if the file is invalid.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar, get_args

log = logging.getLogger("jupyterhub.sge")
FILE = Path("/etc/jupyterhub/announcement.json")

#: Read the file again after this many seconds.
FRESH = 3.0

#: Longest text, in characters. The text appears at the top of every page, so it must be short
#: enough for a phone.
MAX_TEXT = 1000
Level = Literal["info", "warning"]


class AnnouncementError(ValueError):
    """An announcement cannot be used; the message explains what is valid."""


@dataclass(frozen=True)
class Announcement:
    """An announcement by the administrators."""

    text: str
    level: Level = "info"
    #: When the announcement expires; ``None`` if it stays until an administrator removes it.
    until: datetime | None = None

    def applies(self, now: datetime) -> bool:
        """Return whether the announcement is still current."""
        return self.until is None or now < self.until


def parse_announcement(text: str | bytes) -> Announcement:
    """Parse an announcement from JSON: ``text``, and optionally ``level`` and ``until``.

    A time without a zone is in this host's time zone.

    :raises AnnouncementError: naming the invalid value.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnnouncementError(f"the announcement is not JSON: {error}") from error
    if not isinstance(data, dict) or (unknown := set(data) - {"text", "level", "until"}):
        what = f"not {min(unknown)!r}" if isinstance(data, dict) else "in a dictionary"
        raise AnnouncementError(f"an announcement has text, level and until, {what}")
    words, level, until = data.get("text"), data.get("level", "info"), data.get("until", "")
    if not isinstance(words, str) or not 0 < len(words.strip()) <= MAX_TEXT:
        raise AnnouncementError(f"text must have 1 to {MAX_TEXT} characters")
    if level not in get_args(Level):
        raise AnnouncementError(f"level must be {' or '.join(get_args(Level))}, not {level!r}")
    try:
        end = datetime.fromisoformat(until).astimezone(UTC) if until else None
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnouncementError(
            f"until must be a time such as 2030-01-31 18:00, not {until!r}"
        ) from error
    return Announcement(words.strip(), level, end)


class Timely(Protocol):
    """A value that applies for a limited time."""

    def applies(self, now: datetime) -> bool:
        """Return whether the value applies at the time ``now``."""


T = TypeVar("T", bound=Timely)


class WatchedFile(Generic[T]):
    """The content of a file that the pages show; the file is read again every few seconds."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._parse = parse
        self._read_at = float("-inf")
        self._read: T | None = None
        self._trouble = ""

    def current(self) -> T | None:
        """Return the content; ``None`` if it does not apply now, or if the file cannot be used."""
        if time.monotonic() - self._read_at > FRESH:
            self._read_at = time.monotonic()
            self._read = self._look()
        return self._read if self._read and self._read.applies(datetime.now(UTC)) else None

    def _look(self) -> T | None:
        trouble = ""
        try:
            return self._parse(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, AnnouncementError) as error:
            trouble = str(error)
            return None
        finally:
            if trouble != self._trouble and trouble:  # log the same problem only once
                log.error("%s: %s", self._path, trouble)
            self._trouble = trouble
