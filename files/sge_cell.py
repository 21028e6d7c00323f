# SPDX-License-Identifier: BSD-3-Clause
"""Run a cell in a kernel, through the kernel's websocket, for the smoke test.

Standard input is a :class:`Request` as a JSON object, because it has secrets. Standard output is
what the cell prints. The exit status is 1 if the cell does not run; standard error then has the
reason. The messages are those of https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPError, HTTPRequest
from tornado.netutil import OverrideResolver, Resolver
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect


@dataclass(frozen=True)
class Request:
    """A cell, and the kernel that is to run it.

    :param url: the address of the kernel's websocket (``wss://NAME/…/api/kernels/ID/channels``).
    :param place: host and port of the proxy, which may have another name than ``url``.
    :param headers: the headers that a browser would send, with its cookies.
    :param verify: whether the proxy's certificate is checked.
    :param seconds: how long everything may take.
    """

    url: str
    place: tuple[str, int]
    headers: Mapping[str, str]
    verify: bool
    code: str
    seconds: float


class CellError(Exception):
    """The cell did not run."""


async def run_cell(request: Request) -> str:
    """Run a cell; return what it prints.

    :raises CellError: with the reason.
    """
    target = urlsplit(request.url)
    named = (target.hostname or "", target.port or (443 if target.scheme == "wss" else 80))
    context = ssl.create_default_context()
    if not request.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(request.seconds):
            channel = await websocket_connect(
                HTTPRequest(request.url, headers=dict(request.headers), ssl_options=context),
                resolver=OverrideResolver(Resolver(), {named: tuple(request.place)}),
            )
            try:
                return await _printed_by(channel, request.code)
            finally:
                channel.close()
    except TimeoutError as error:
        raise CellError(f"the kernel did not run the cell within {request.seconds:g} s") from error
    except HTTPError as error:
        raise CellError(f"no websocket: status {error.code} {error.message}") from error
    except (OSError, WebSocketError) as error:
        raise CellError(f"the websocket failed: {error or repr(error)}") from error
    except ValueError as error:
        raise CellError(f"the kernel's answer cannot be read: {error}") from error


async def _printed_by(channel: WebSocketClientConnection, code: str) -> str:
    number = uuid.uuid4().hex
    header = {
        "msg_id": number,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    await channel.write_message(json.dumps({**request, "channel": "shell"}))
    printed = ""
    while (received := await channel.read_message()) is not None:
        message: dict[str, Any] = json.loads(received)
        if message.get("parent_header", {}).get("msg_id") != number:
            continue
        kind, body = message.get("msg_type"), message.get("content", {})
        if kind == "stream":
            printed += str(body.get("text", ""))
        elif kind == "error":
            raise CellError(f"the cell failed: {body.get('ename')}: {body.get('evalue')}")
        elif kind == "status" and body.get("execution_state") == "idle":
            return printed
    raise CellError(f"the websocket was closed {channel.close_reason or ''}".strip())


def main() -> int:
    """Run the cell that standard input describes; return the exit status."""
    try:
        print(asyncio.run(run_cell(Request(**json.load(sys.stdin)))), end="")
    except CellError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
