# SPDX-License-Identifier: BSD-3-Clause
"""Show times to people: always in the time zone of the hub's host, and always with its name.

Workers, the hub and browsers may be in different zones. The pages and the notices in sessions use
the hub's zone, so that both show the same time; a page adds the browser's own time if it differs.
A worker does not need the zone's rules (package ``tzdata``), because each session gets the changes
of the hub's clock with its other rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

DAY = 24 * 3600

#: How far ahead a session knows the changes of the hub's clock, in seconds. A session that waits in
#: the queue and then runs for longer than this may show the time with the wrong offset and name.
HORIZON = 400 * DAY

#: The time between two changes of a clock is longer than this, in seconds.
STEP = 7 * DAY


class Change(NamedTuple):
    """From a time on, local time has a certain offset from UTC."""

    #: In seconds since the epoch.
    begin: float
    #: Seconds to add to UTC.
    offset: int
    #: The name of the zone with this offset, such as ``CEST``.
    name: str


def zone_name(moment: datetime) -> str:
    """Return the name of a time's zone, such as ``CET`` or ``UTC-03:00``.

    Many zones have no abbreviation, only a number such as "-03", which reads like a part of the
    time.
    """
    name = moment.tzname() or ""
    return name if name.isalpha() else str(timezone(moment.utcoffset() or timedelta()))


def _local(moment: float) -> tuple[int, str]:
    shown = datetime.fromtimestamp(moment, UTC).astimezone()
    return int((shown.utcoffset() or timedelta()).total_seconds()), zone_name(shown)


def changes(begin: float, end: float) -> tuple[Change, ...]:
    """Return this host's offset from UTC at ``begin``, and its changes until ``end``.

    :param begin: in seconds since the epoch.
    :param end: in seconds since the epoch.
    """
    found = [Change(begin, *_local(begin))]
    low = int(begin)
    while low < end:
        high = later = low + STEP
        if _local(high) != found[-1][1:]:
            while high - low > 1:
                middle = (low + high) // 2
                if _local(middle) == found[-1][1:]:
                    low = middle
                else:
                    high = middle
            found.append(Change(high, *_local(high)))
        low = later
    return tuple(found)


def local(moment: float, zone: Sequence[Change] = ()) -> datetime:
    """Return a time in the given zone, or in this host's zone if none is given.

    :param moment: in seconds since the epoch.
    """
    known = [each for each in zone if each.begin <= moment] or list(zone[:1])
    offset, name = known[-1][1:] if known else _local(moment)
    return datetime.fromtimestamp(moment, timezone(timedelta(seconds=offset), name))


def clock(moment: float, now: float, zone: Sequence[Change] = ()) -> str:
    """Return a time of day with the zone's name; also the date, unless it is today.

    :param moment: in seconds since the epoch.
    :param now: in seconds since the epoch.
    """
    shown, today = local(moment, zone), local(now, zone).date()
    return f"{shown:%H:%M %Z}" if shown.date() == today else f"{shown:%Y-%m-%d %H:%M %Z}"
