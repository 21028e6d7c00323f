# SPDX-License-Identifier: BSD-3-Clause
"""The hold file, with which an administrator suspends the maintenance until a given time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError

FILE = Path("/etc/gridhub/hold-maintenance")


@dataclass(frozen=True)
class Hold:
    """Why the maintenance is suspended, and until when."""

    reason: str
    until: datetime

    def applies(self, moment: datetime) -> bool:
        """Return whether the hold is still in force at a given time."""
        return moment < self.until

    def __str__(self) -> str:
        """Return the hold in words."""
        return f"held until {self.until:%Y-%m-%d %H:%M} UTC: {self.reason}"


def parse(text: str) -> Hold:
    """Parse a hold file, which has a line ``reason: TEXT`` and a line ``until: 2030-01-31 18:00``.

    :raises MaintenanceError: naming the line that is missing or wrong.
    """
    lines = {
        name.strip().lower(): value.strip()
        for name, sign, value in (line.partition(":") for line in text.splitlines())
        if sign
    }
    if not lines.get("reason"):
        raise MaintenanceError(f"{FILE} must have a line 'reason: TEXT'")
    try:
        until = datetime.fromisoformat(lines.get("until", "")).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MaintenanceError(
            f"{FILE} must have a line 'until: 2030-01-31 18:00', not {lines.get('until')!r}"
        ) from error
    return Hold(lines["reason"], until)


def read() -> Hold | None:
    """Return the hold if there is one, even if it has expired.

    :raises MaintenanceError: when the file cannot be read; in that case no maintenance may begin.
    """
    try:
        return parse(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise MaintenanceError(f"{FILE}: {error}") from error


def current() -> Hold | None:
    """Return the hold if there is one that applies now.

    :raises MaintenanceError: when the hold file cannot be read.
    """
    found = read()
    return found if found and found.applies(host.now()) else None


def reason_now() -> str:
    """Return why maintenance cannot begin now, not even by hand; empty if it can."""
    try:
        found = current()
    except MaintenanceError as error:
        return str(error)
    return str(found) if found else ""
