# SPDX-License-Identifier: BSD-3-Clause
"""Queries to the directory service, in a separate thread pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

#: Threads for queries to the directory service, and to PAM about accounts. With these separate
#: threads, a slow query blocks only other such queries.
directory = ThreadPoolExecutor(8, "directory")

#: The pending queries, keyed by event loop, query name and person. Requests with the same query
#: share one answer, so that many requests by one person take only one thread.
_pending: dict[tuple[asyncio.AbstractEventLoop, str, str], asyncio.Future[Any]] = {}


async def ask_directory(what: str, person: str, query: Callable[[], _T]) -> _T:
    """Query the directory service about a person, in a thread; equal queries share one answer.

    :param what: the query's name.
    :raises Exception: any exception that the query raises.
    """
    loop = asyncio.get_running_loop()
    key = loop, what, person
    future = _pending.get(key)
    if future is None:
        future = loop.run_in_executor(directory, query)
        _pending[key] = future
        future.add_done_callback(lambda _: _pending.pop(key, None))
    # A caller that is cancelled must not cancel the query for the others.
    return await asyncio.shield(future)
