# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for the tests of a session: a hub, a clock and a notifier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from started import Hub
from watching import Clock, RecordingNotifier


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.0,))
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def notifier(clock: Clock) -> RecordingNotifier:
    return RecordingNotifier(clock)
