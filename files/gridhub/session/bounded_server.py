# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP server of a session, with limits for clients without a login."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
    parse_cookie,
)
from tornado.web import decode_signed_value

from gridhub.bounded_server import BoundedServer, Delegate, Refused
from gridhub.session.memory import LARGE, memory_left

#: More bytes than any body has; the edge limits the bodies of people (``proxy_max_body_size``).
NO_LIMIT = 2**62

#: To store a notebook, the server needs up to this many times the size of the request.
MEMORY_FACTOR = 7


class SessionServer(BoundedServer):
    """The session's server: it limits how much clients without a login can send.

    The limit is needed because Jupyter reads a whole body before it authenticates the client.
    """

    #: Limits for clients without a login: how many bytes of memory all their request bodies
    #: together may take, and how many seconds one body may take to arrive.
    strangers_may_send = 2**27
    strangers_may_take = 600.0
    #: The sentences of :attr:`gridhub.session.rules.Rules.words`.
    words: ClassVar[Mapping[str, str]] = {}

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Initialize the server with the arguments that Jupyter Server passes."""
        super().initialize(*args, **kwargs)
        #: For each connection of a client without a login, how many bytes of the current request's
        #: body have arrived.
        self._sent: dict[Any, int] = {}

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Start a request on a connection, and stop counting the body of the previous request."""
        self._sent.pop(server_conn, None)
        request = super().start_request(server_conn, request_conn)
        return _Request(request, self, server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection."""
        self._sent.pop(server_conn, None)
        super().on_close(server_conn)

    def is_known(self, headers: HTTPHeaders) -> bool:
        """Return whether a request has the cookie that this server sets after a login."""
        settings = self.request_callback.settings  # type: ignore[union-attr]
        name = settings["identity_provider"].hub_auth.cookie_name
        sent = parse_cookie(headers.get("Cookie", "")).get(name)
        return bool(sent and decode_signed_value(settings["cookie_secret"], name, sent))

    def has_room(self, server_conn: Any, length: int) -> bool:
        """Return whether clients without a login may send ``length`` more bytes.

        If so, count the bytes as sent.
        """
        if sum(self._sent.values()) + length > self.strangers_may_send:
            return False
        self._sent[server_conn] = self._sent.get(server_conn, 0) + length
        return True


class _Request(Delegate):
    """A request whose body is refused if clients without a login have sent too much in total."""

    def __init__(
        self, request: HTTPMessageDelegate, server: SessionServer, server_conn: Any, connection: Any
    ) -> None:
        super().__init__(request)
        self._server = server
        self._server_conn = server_conn
        self._connection = connection
        self._is_strangers = False
        self._length = 0

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        has_body = "Content-Length" in headers or "Transfer-Encoding" in headers
        self._is_strangers = has_body and not self._server.is_known(headers)
        length = headers.get("Content-Length", "")
        self._length = int(length) if length.isascii() and length.isdecimal() else 0
        # Without this limit, tornado would refuse a long body with a bare status 400.
        self._connection.set_max_body_size(NO_LIMIT)
        if self._is_strangers:
            self._connection.set_body_timeout(self._server.strangers_may_take)
            if self._length > self._server.strangers_may_send:
                self._refuse(413, "too_long", self._server.strangers_may_send)
                return None
        elif self._length >= LARGE:
            room = memory_left()
            if room is not None and self._length * MEMORY_FACTOR > room:
                self._refuse(413, "no_memory", room)
                return None
        return super().headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._is_strangers and not self._server.has_room(self._server_conn, len(chunk)):
            self._is_strangers = False
            super().on_connection_close()  # to the application, this looks like a closed connection
            self._refuse(429, "crowded", 0)
        return super().data_received(chunk)

    def finish(self) -> None:
        super().finish()
        # Tornado has joined the pieces of the body, but keeps them until the request is answered.
        getattr(self._request, "chunks", []).clear()

    def _refuse(self, status: int, name: str, most: int) -> None:
        """Refuse the request with a sentence, in which sizes are in millions of bytes."""
        # Do not use str.format: the broker has already formatted the words.
        words = self._server.words.get(name) or HTTPStatus(status).phrase
        for placeholder, size in (("{sent}", self._length), ("{most}", most)):
            words = words.replace(placeholder, f"{size / 1e6:.1f}")
        self._is_strangers = False
        self._request = Refused(self._connection, status, words)
