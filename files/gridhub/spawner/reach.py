# SPDX-License-Identifier: BSD-3-Clause
"""Whether a session's server answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError, ClientResponse
from jupyterhub.httpclient import fetch
from jupyterhub.utils import AnyTimeoutError

#: Pauses between looks at a session that does not answer yet, in seconds; the last one repeats.
LOOKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("jupyterhub.sge")


async def answer(
    address: str, host: str, port: int, tls: Callable[[], dict[str, Any]]
) -> ClientResponse | None:
    """Ask a session's server once; ``None`` if it does not answer, or with a fault of its own.

    :param address: the URL of its API.
    :param tls: returns how to speak TLS to it, as :func:`jupyterhub.httpclient.fetch` takes it.
    """
    try:
        # A worker that is cut off swallows connections; JupyterHub's own HTTP client has few to
        # spare, and others wait for theirs.
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        async with asyncio.timeout(5):
            response = await fetch(address, raise_for_status=False, allow_redirects=False, **tls())
    except (OSError, ClientError, *AnyTimeoutError) as error:
        log.debug("The session at %s:%s does not answer: %r", host, port, error)
        return None
    return None if response.status >= 500 else response
