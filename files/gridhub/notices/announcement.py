# SPDX-License-Identifier: BSD-3-Clause
"""The administrators' announcement, which every page shows, and files that the hub watches.

``playbooks/announce.yml`` writes and removes :data:`FILE`; the hub reads it again every few
seconds, so no restart is needed for a new text. People get their pages whatever is in the file.
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

#: How old what was read may be, in seconds.
_FRESH = 3.0

#: Longest text, in characters: it stands above everything else, also on a phone.
MAX_TEXT = 1000
Level = Literal["info", "warning"]


class AnnouncementError(ValueError):
    """An announcement cannot be used; the message says what would be right."""


@dataclass(frozen=True)
class Announcement:
    """What the administrators have to say."""

    text: str
    level: Level = "info"
    #: When it is over; ``None``: when somebody takes it away.
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it still has something to say."""
        return self.until is None or now < self.until


def parse_announcement(text: str | bytes) -> Announcement:
    """Read an announcement from JSON: ``text``, and optionally ``level`` and ``until``.

    A time without a zone is one of this host's clock, as its administrators read it.

    :raises AnnouncementError: naming the value that is wrong.
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
    """What has its time."""

    def holds(self, now: datetime) -> bool:
        """Whether it has something to say then."""


T = TypeVar("T", bound=Timely)


class WatchedFile(Generic[T]):
    """What a file says, as the pages show it; read again when what was read is old."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = path
        self._parse = parse
        self._read_at = float("-inf")
        self._read: T | None = None
        self._trouble = ""

    def current(self) -> T | None:
        """Return what it says, or ``None`` where there is none or it cannot be read."""
        if time.monotonic() - self._read_at > _FRESH:
            self._read_at = time.monotonic()
            self._read = self._look()
        return self._read if self._read and self._read.holds(datetime.now(UTC)) else None

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
            if trouble != self._trouble and trouble:  # once, not every few seconds
                log.error("%s: %s", self._path, trouble)
            self._trouble = trouble
