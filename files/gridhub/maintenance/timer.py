# SPDX-License-Identifier: BSD-3-Clause
"""The timer and its dates, which systemd computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError

TIMER = "jupyterhub-maintenance.timer"
#: The timer's unit file. Its modification time is the time at which the timer got its current
#: schedule. Earlier dates do not count as missed.
UNIT = Path(f"/etc/systemd/system/{TIMER}")

#: Maintenance may begin at most this long after its date. Without this limit, a machine that was
#: off, paused or asleep at the date could reboot in the middle of the day.
MAX_DELAY = timedelta(minutes=30)

#: systemd up to 252 writes ``Iter. #2``; newer versions write ``Iteration #2``.
_ELAPSE = re.compile(
    r"^\s*(Next elapse|Iter(?:\.|ation) #\d+|\(in UTC\)):"
    r" \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
)


def parse_dates(shown: str) -> list[datetime]:
    """Parse the output of ``systemd-analyze calendar``; return its dates in UTC.

    If this host's time zone is not UTC, systemd lists each date twice, the second time in UTC.
    """
    found: list[datetime] = []
    for line in shown.splitlines():
        if match := _ELAPSE.match(line):
            date = datetime.fromisoformat(match[2]).replace(tzinfo=UTC)
            if match[1] == "(in UTC)":
                found[-1] = date
            else:
                found.append(date)
    return found


def parse_expression(shown: str) -> str:
    """Return the calendar expression in a timer's property ``TimersCalendar``.

    :raises MaintenanceError: unless the timer has exactly one calendar expression.
    """
    found = re.findall(r"OnCalendar=(.*?) ;", shown)
    if len(found) != 1:
        raise MaintenanceError(
            f"{TIMER} must have one OnCalendar and has {len(found)}: run the role maintenance again"
        )
    return str(found[0])


def zone_of(calendar: str) -> ZoneInfo | None:
    """Return the time zone in a calendar expression; ``None`` stands for this host's zone."""
    last = calendar.rpartition(" ")[2]
    if not re.fullmatch(r"[A-Za-z][A-Za-z_+-]*(/[A-Za-z0-9_+-]+)*", last):
        return None
    return ZoneInfo(last)


def due(dates: Sequence[datetime], moment: datetime) -> datetime | None:
    """Return the scheduled date whose maintenance may start at ``moment``, or ``None``."""
    return next((date for date in dates if date <= moment < date + MAX_DELAY), None)


def expression() -> str:
    """Return the timer's calendar expression as systemd has loaded it."""
    return parse_expression(host.run(["systemctl", "show", "--property=TimersCalendar", TIMER]))


def is_active() -> bool:
    """Return whether the timer is active in systemd."""
    return host.run(["systemctl", "is-active", TIMER], check=False).strip() == "active"


def dates(calendar: str, since: datetime, count: int) -> list[datetime]:
    """Return the first ``count`` dates of a calendar expression after ``since``, in UTC."""
    base = f"--base-time={since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return parse_dates(
        host.run(["systemd-analyze", "calendar", f"--iterations={count}", base, calendar])
    )


def installed() -> datetime:
    """Return the time at which the timer got its current schedule."""
    return datetime.fromtimestamp(UNIT.stat().st_mtime, UTC)
