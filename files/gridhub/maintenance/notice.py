# SPDX-License-Identifier: BSD-3-Clause
"""The notice on the hub's pages about the next maintenance."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gridhub.clock import zone_name
from gridhub.maintenance import host, timer
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings


def content(settings: Settings, start: datetime, zone: ZoneInfo | None) -> dict[str, Any]:
    """Return the content of the notice file (``gridhub/notices/next_maintenance.py`` reads it)."""
    end = start + timedelta(minutes=settings.expected_minutes)

    def clock(moment: datetime) -> dict[str, str]:
        local = moment.astimezone(zone)
        return {"date": f"{local:%Y-%m-%d}", "time": f"{local:%H:%M} {zone_name(local)}"}

    return {
        "show": (start - timedelta(days=settings.announce_days)).isoformat(),
        "refuse": (start - timedelta(minutes=settings.refuse_minutes)).isoformat(),
        # From midnight before the maintenance, the pages show the notice as a warning. If ``zone``
        # is ``None``, this time is an hour off on a day when the clocks change.
        "day": start.astimezone(zone).replace(hour=0, minute=0, second=0).isoformat(),
        "end": end.isoformat(),
        "begins": clock(start),
        "ends": clock(end),
    }


def publish(settings: Settings, start: datetime | None) -> None:
    """Write the notice for the hub's pages; if ``start`` is ``None``, remove it."""
    if not settings.notice_file:
        return
    path = Path(settings.notice_file)
    if start is None:
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(MaintenanceError):
        zone = timer.zone_of(timer.expression())
        host.write(path, json.dumps(content(settings, start, zone), indent=1), 0o644)
