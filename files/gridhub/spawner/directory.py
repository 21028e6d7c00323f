# SPDX-License-Identifier: BSD-3-Clause
"""Queries to the directory service, in a separate thread pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

#: Threads for queries about accounts, to the directory service and to PAM. Because these threads
#: are separate, a slow query blocks nothing but other queries about accounts.
directory = ThreadPoolExecutor(8, "directory")

#: The pending queries, keyed by event loop, query name and person. Requests that need the same
#: query share its answer, so that many requests by one person take only one thread.
_pending: dict[tuple[asyncio.AbstractEventLoop, str, str], asyncio.Future[Any]] = {}


async def ask_directory(what: str, person: str, query: Callable[[], _T]) -> _T:
    """Query the directory service about a person, in a thread.

    If the same query is already pending, wait for its answer instead.

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
    # If one caller is cancelled, the other callers of the same query must still get the answer.
    return await asyncio.shield(future)
