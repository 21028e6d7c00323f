# SPDX-License-Identifier: BSD-3-Clause
"""The broker's connection: check the caller, and receive its request."""

from __future__ import annotations

import pwd
import socket
import struct
import time

from pydantic import ValidationError

from gridhub.broker.person import Refused
from gridhub.broker.protocol import REQUEST, Request
from gridhub.contract import MAX_MESSAGE

#: How long a caller may take to send its request, in seconds.
RECEIVE_TIMEOUT = 5.0


def check_caller(connection: socket.socket, hub_user: str) -> None:
    """Check that the caller is the hub.

    The kernel reports the caller's user id, so a caller cannot forge it (SO_PEERCRED, unix(7)).

    :raises Refused: when the caller is not the hub.
    """
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    if uid != pwd.getpwnam(hub_user).pw_uid:
        raise Refused("refused", f"only {hub_user} may use the broker, not uid {uid}")


def receive(connection: socket.socket) -> Request:
    """Read the whole request.

    :raises Refused: when the request is too long, arrives too slowly or is not valid.
    """
    deadline = time.monotonic() + RECEIVE_TIMEOUT
    data = bytearray()
    try:
        while True:
            # The time limit is for the whole request, so a caller that sends slowly gets no extra
            # time.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = connection.recv(8192)
            if not chunk:
                break
            data += chunk
            if len(data) > MAX_MESSAGE:
                raise Refused("request", f"the request is longer than {MAX_MESSAGE} bytes")
    except TimeoutError as error:
        raise Refused("request", f"no whole request within {RECEIVE_TIMEOUT:g} s") from error
    try:
        return REQUEST.validate_json(bytes(data))
    except ValidationError as error:
        # Report which field is wrong and why, but not the value: it may be a secret.
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in problem["loc"])
        raise Refused("request", f"not a request: {where}: {problem['msg'][:200]}") from error
