# SPDX-License-Identifier: BSD-3-Clause
"""A Jupyter server and a hub for tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from started import Hub
from watching import Clock, Told


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
def told(clock: Clock) -> Told:
    return Told(clock)
