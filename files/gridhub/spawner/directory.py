# SPDX-License-Identifier: BSD-3-Clause
"""Questions to the directory service, in threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

#: Where questions to the directory service, and to PAM about accounts, wait, so that nothing else
#: waits with them.
directory = ThreadPoolExecutor(8, "directory")

#: The questions that wait there, by question and person: whoever asks meanwhile shares the answer,
#: so that one person's many requests take one thread.
_questions: dict[tuple[asyncio.AbstractEventLoop, str, str], asyncio.Future[Any]] = {}


async def ask_directory(what: str, person: str, question: Callable[[], _T]) -> _T:
    """Ask the directory service about a person, in a thread and not twice at a time.

    :param what: the question's name.
    :raises Exception: whatever the question raises.
    """
    loop = asyncio.get_running_loop()
    key = loop, what, person
    future = _questions.get(key)
    if future is None:
        future = loop.run_in_executor(directory, question)
        _questions[key] = future
        future.add_done_callback(lambda _: _questions.pop(key, None))
    # Whoever gives up takes the answer from no one else.
    return await asyncio.shield(future)
