# SPDX-License-Identifier: BSD-3-Clause
"""Helpers around the collector."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from gridhub.grid.collector import Collector

Recorded = Callable[[str], str]


async def news_until(collector: Collector, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await collector.news(10)


OURS = re.compile("jupyterhub-a{8}[0-9a-f]{24}")
