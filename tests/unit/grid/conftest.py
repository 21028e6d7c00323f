# SPDX-License-Identifier: BSD-3-Clause
"""A collector for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gridhub.grid.collector import Collector
from gridhub.grid.engine import GridEngine


@pytest.fixture
async def collector(grid: GridEngine) -> AsyncIterator[Collector]:
    collector = Collector(grid, short_interval=0.01, long_interval=1000.0)
    yield collector
    await collector.close()
