# SPDX-License-Identifier: BSD-3-Clause
"""A client for a kernel's websocket (RFC 6455), as small as the check of a session needs it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any

from gridhub.maintenance.errors import MaintenanceError

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10

#: The longest message that is accepted, in bytes. The answers to one small cell are far shorter.
MAX_MESSAGE = 1 << 20


class Websocket:
    """An open websocket.

    :param link: a connection on which no request has been sent.
    :raises MaintenanceError: with the status, when the server does not open a websocket.
    :raises OSError: when the connection fails.
    """

    def __init__(
        self, link: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
    ) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._link = link
        link.request(
            "GET",
            path,
            headers={
                **headers,
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": key,
            },
        )
        # Read the head byte by byte: `http.client` would buffer the first messages after it.
        assert link.sock is not None
        self._socket: socket.socket = link.sock
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < 65536:
            head += self._read(1)
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if " 101 " not in f"{status} ":
            raise MaintenanceError(f"no websocket: {status}")

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            block = self._socket.recv(size - len(found))
            if not block:
                raise MaintenanceError("the websocket was closed")
            found += block
        return found

    def _write(self, kind: int, content: bytes) -> None:
        size = len(content)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        if size >= 1 << 16:
            length = b"\xff" + size.to_bytes(8, "big")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
        self._socket.sendall(bytes([0x80 | kind]) + length + mask + masked)

    def send(self, text: str) -> None:
        """Send a text message."""
        self._write(_TEXT, text.encode())

    def receive(self) -> bytes:
        """Return the next message.

        :raises MaintenanceError: when the server closes the websocket.
        """
        message = b""
        while True:
            first, second = self._read(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
            if size + len(message) > MAX_MESSAGE:
                raise MaintenanceError(f"a message of more than {MAX_MESSAGE} bytes")
            content = self._read(size)
            kind = first & 0x0F
            if kind == _CLOSE:
                reason = content[2:].decode(errors="replace")
                raise MaintenanceError(f"the websocket was closed {reason}".strip())
            if kind == _PING:
                self._write(_PONG, content)
            elif kind in (_CONTINUATION, _TEXT, _BINARY):
                message += content
                if first & 0x80:
                    return message

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def wait_at_most(self, seconds: float) -> None:
        """Limit the time that each following step on the connection may take."""
        self._socket.settimeout(seconds)


def run_cell(channel: Websocket, code: str, seconds: float) -> str:
    """Run a cell in a kernel, and return what it prints.

    :param channel: the websocket of the kernel (``api/kernels/ID/channels``).
    :raises MaintenanceError: with the kernel's error, or when it takes too long.
    :raises OSError: when the connection fails.
    """
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
    channel.send(json.dumps({**request, "channel": "shell"}))
    printed = ""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        channel.wait_at_most(left)
        try:
            message: dict[str, Any] = json.loads(channel.receive())
        except TimeoutError:
            break
        except ValueError as error:
            raise MaintenanceError(f"the kernel's answer cannot be read: {error}") from error
        if message.get("parent_header", {}).get("msg_id") != number:
            continue
        kind, body = message.get("msg_type"), message.get("content", {})
        if kind == "stream":
            printed += str(body.get("text", ""))
        elif kind == "error":
            raise MaintenanceError(f"the cell failed: {body.get('ename')}: {body.get('evalue')}")
        elif kind == "status" and body.get("execution_state") == "idle":
            return printed
    raise MaintenanceError(f"the kernel did not run the cell within {seconds:.0f} s")
