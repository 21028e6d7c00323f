# SPDX-License-Identifier: BSD-3-Clause
"""Requests to the hub and to the session's own server."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from gridhub.contract import EXIT_REFUSED, MAX_REASON
from gridhub.session.rules import EarlyEnd, RulesError, read_early_end

#: Read at most this many bytes of an answer.
MAX_ANSWER = 65_536


def post(
    url: str, token: str, body: Mapping[str, Any], context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Post once; return the HTTP status and the body of the answer.

    If there is no answer, the status is 0, and the reason takes the place of the body.

    The token goes only into a header, never into the address or a message.
    """
    request = urllib.request.Request(  # noqa: S310  # the address is the hub's, or our own
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
        method="POST",
    )
    # Ignore the environment's proxy settings: the hub is on the cluster's own network.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as response:
            return int(response.status), response.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        return error.code, b""
    except (OSError, http.client.HTTPException) as error:
        return 0, str(getattr(error, "reason", "") or error or repr(error)).encode()


#: Seconds to wait between attempts while the hub does not answer; the last pause repeats.
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def post_to_hub(
    environment: dict[str, str],
    what: str,
    body: dict[str, Any],
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Post to ``/hub/api/sge/`` once; return the HTTP status and the answer.

    If the hub did not answer, the status is 0, and the reason takes the place of the answer.
    """
    url = environment["JUPYTERHUB_API_URL"].rstrip("/") + f"/sge/{what}"
    status, answer = post(url, environment["JUPYTERHUB_API_TOKEN"], body, context)
    if not status or status >= 500:
        reason = f"status {status}" if status else answer.decode()
        print(f"The hub does not answer at {url}: {reason}", file=sys.stderr, flush=True)
    return status, answer


def is_refusal(status: int) -> bool:
    """Return whether an HTTP status means that the hub refuses this session permanently."""
    return 400 <= status < 500 and status not in (408, 429)


async def announce(
    environment: dict[str, str], port: int, context: ssl.SSLContext | None = None
) -> EarlyEnd | None:
    """Report the port until the hub answers; end the job if the hub refuses the session.

    :returns: the early end that the hub sets for this session, if any.
    """
    pauses = iter(PAUSES)
    pause = 0.0
    while True:
        body = {"port": port}
        status, answer = await asyncio.to_thread(post_to_hub, environment, "port", body, context)
        if 200 <= status < 300:
            try:
                return read_early_end(answer)
            except RulesError as error:
                print(f"The hub's answer: {error}", file=sys.stderr, flush=True)
                return None
        if is_refusal(status):
            print(
                f"The hub no longer wants this session (HTTP {status}); ending.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(EXIT_REFUSED)
        pause = next(pauses, pause)
        await asyncio.sleep(pause)


def report(environment: dict[str, str], reason: str, context: ssl.SSLContext | None = None) -> None:
    """Report to the hub why the session cannot start; the hub shows the reason to the user."""
    for pause in (*PAUSES[:4], 0.0):
        status, _ = post_to_hub(environment, "failure", {"reason": reason[:MAX_REASON]}, context)
        if status not in (0, 429, 503):
            return
        time.sleep(pause)
