"""HTTP/2 that no client library would send: what a test sends is neither checked nor corrected."""

from __future__ import annotations

import contextlib
import ssl
from email.message import Message
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from raw_http import tls_link

Head = list[tuple[str, str]]

#: After one of these events, there is no more of the answer.
ENDS = (StreamEnded, StreamReset, ConnectionTerminated)


class Answer2(NamedTuple):
    """The answer to a request; the status is 0 if there was none, but the end of the stream."""

    status: int
    headers: Message
    body: bytes


def connection() -> H2Connection:
    """Return the client's end of a connection; its first bytes wait to be sent."""
    begun = H2Connection(
        H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    begun.initiate_connection()
    return begun


def head(host: str, path: str, method: str = "GET", **headers: str) -> Head:
    """Return the head of a request; underscores in the names of headers become hyphens."""
    return [
        (":method", method),
        (":scheme", "https"),
        (":authority", host),
        (":path", path),
        *((name.replace("_", "-").lower(), value) for name, value in headers.items()),
    ]


def ask(base_url: str, head: Head, body: bytes | None = None, seconds: float = 20.0) -> Answer2:
    """Send one request on a connection of its own; return the answer."""
    begun = connection()
    begun.send_headers(1, head, end_stream=body is None)
    status, headers, received = 0, Message(), b""
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3, "h2") as link:
        link.settimeout(seconds)
        # A server that refuses a request may close the connection before it has read all of it.
        with contextlib.suppress(OSError, ProtocolError):
            is_over = False
            while not is_over:
                body = send_some(begun, body)
                link.sendall(begun.data_to_send())
                data = link.recv(65536)
                is_over = not data
                for event in begun.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        for name, value in event.headers:
                            headers[str(name)] = str(value)
                        status = int(headers[":status"])
                    elif isinstance(event, DataReceived):
                        received += event.data
                        begun.acknowledge_received_data(event.flow_controlled_length, 1)
                    is_over |= isinstance(event, ENDS)
    return Answer2(status, headers, received)


def send_some(begun: H2Connection, body: bytes | None) -> bytes | None:
    """Send as much of the only request's body as the server takes; return the rest."""
    while body is not None:
        room = min(begun.local_flow_control_window(1), begun.max_outbound_frame_size)
        if body and not room:
            return body
        begun.send_data(1, body[:room], end_stream=len(body) <= room)
        body = body[room:] or None
    return None
