# SPDX-License-Identifier: BSD-3-Clause
"""Check whether a session's server answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError, ClientResponse
from jupyterhub.httpclient import fetch
from jupyterhub.utils import AnyTimeoutError

#: Pauses between attempts to reach a session that does not answer yet, in seconds; the last pause
#: repeats.
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger("jupyterhub.sge")


async def answer(
    address: str, host: str, port: int, tls: Callable[[], dict[str, Any]]
) -> ClientResponse | None:
    """Query a session's server once; return ``None`` if it does not answer, or answers with 5xx.

    :param address: the URL of the server's API.
    :param tls: a function that returns the TLS arguments for :func:`jupyterhub.httpclient.fetch`.
    """
    try:
        # A connection to an unreachable worker hangs. In the small connection pool of JupyterHub's
        # HTTP client, such a connection would delay other requests. Therefore, try a plain TCP
        # connection first.
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        async with asyncio.timeout(5):
            response = await fetch(address, raise_for_status=False, allow_redirects=False, **tls())
    except (OSError, ClientError, *AnyTimeoutError) as error:
        log.debug("The session at %s:%s does not answer: %r", host, port, error)
        return None
    return None if response.status >= 500 else response
