# SPDX-License-Identifier: BSD-3-Clause
"""Queries to the directory service, in a separate thread pool and within a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gridhub.accounts import NoAnswer

_T = TypeVar("_T")

#: Threads for queries about accounts, to the directory service and to PAM. Because these threads
#: are separate, a slow query blocks nothing but other queries about accounts.
directory = ThreadPoolExecutor(8, "directory")

#: How long a request waits for the directory service, in seconds.
LIMIT = 5.0

#: The pending queries, keyed by event loop, query name and person. Requests that need the same
#: query share its answer, so that many requests by one person take only one thread.
_pending: dict[tuple[asyncio.AbstractEventLoop, str, str], asyncio.Future[Any]] = {}


async def ask_directory(what: str, person: str, query: Callable[[], _T]) -> _T:
    """Query the directory service about a person, in a thread.

    If the same query is already pending, wait for its answer instead.

    :param what: the query's name.
    :raises NoAnswer: when there is no answer within :data:`LIMIT`.
    :raises Exception: any exception that the query raises.
    """
    loop = asyncio.get_running_loop()
    key = loop, what, person
    future = _pending.get(key)
    if future is None:
        future = loop.run_in_executor(directory, query)
        _pending[key] = future
        future.add_done_callback(lambda _: _pending.pop(key, None))
    try:
        async with asyncio.timeout(LIMIT):
            # If one caller is cancelled, the others must still get the answer.
            return await asyncio.shield(future)
    except TimeoutError as error:
        raise NoAnswer(f"no answer about {person} within {LIMIT:g} s") from error
