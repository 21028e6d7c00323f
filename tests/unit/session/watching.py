# SPDX-License-Identifier: BSD-3-Clause
"""A simulated clock, and a notifier that records what it sends."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gridhub.session.notices import Notifier
from gridhub.session.rules import read_rules

CONTENT: dict[str, Any] = {
    "run_time": 3600,
    "warnings": [1800, 600],
    "idle_timeout": 1200,
    "idle_notice": 300,
    "idle_report": 300,
    "words": {
        "run_time": "ends {end} in {minutes}",
        "idle": "idle, {end} in {minutes}",
        "left": "{hours} h {minutes} min left",
    },
    # The hub's zone, which differs from that of this host.
    "zone": [[0, 20700, "NPT"]],
}


RULES = read_rules(CONTENT)


class Clock:
    """A clock that advances only when a task sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10_000.0
        sleep = asyncio.sleep

        async def pass_time(seconds: float) -> None:
            self.now += seconds
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", pass_time)
        monkeypatch.setattr(time, "time", lambda: self.now)


class RecordingNotifier(Notifier):
    """A notifier that only records notices and times; the first ``failures`` attempts fail."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.failures = 0
        self.to_person: list[tuple[float, str]] = []
        self.to_hub: list[tuple[float, datetime]] = []

    def _succeeds(self) -> bool:
        self.failures -= 1
        return self.failures < 0

    async def notify_person(self, message: str) -> bool:
        sent = self._succeeds()
        if sent:
            self.to_person.append((self.clock.now, message))
        return sent

    async def post_to_hub(self, last: datetime) -> bool:
        sent = self._succeeds()
        if sent:
            self.to_hub.append((self.clock.now, last))
        return sent


def at(seconds: float) -> str:
    hub = datetime.fromtimestamp(seconds, timezone(timedelta(seconds=20700)))
    return f"{hub:%H:%M} NPT"


def moment(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)
