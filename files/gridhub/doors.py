# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP server of the hub and of each session: what one client may take of it, and for how long.

Whoever reaches a port can open connections, and the process may have only so many files open. Until
its first request a connection has shown no certificate. Such connections are counted for each
address and in all, and closed when no request comes; a few addresses have a share of their own.
Where there are too many the oldest one makes room: whoever means to ask something does so at once,
and is kept out by nobody who only waits. The rest of what the process may open is for those who
have shown a certificate. These are counted by its name.
"""

from __future__ import annotations

import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.log import gen_log

#: After so many seconds without an acknowledgement, or without room for what is to be sent, the
#: client is gone (tcp(7)).
GONE_AFTER = 120

#: How a client that has vanished without a word is noticed: seconds of silence, between questions,
#: and how many of these may stay unanswered (tcp(7)).
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 20, socket.TCP_KEEPCNT: 3}

#: How many lines a minute the log has about failed handshakes: anybody can make them fail, and the
#: log of a session is in its person's home.
FAILURES_LOGGED = 10

#: The source of whatever comes from the host itself.
LOOPBACK = "loopback"

#: How many connections a second make room for others. Each that is let in costs a TLS context; more
#: are closed at once, which costs little.
MAKE_ROOM = 500

#: Share of the files that the process may open which connections may take.
SHARE = 0.75


class FewFailures(logging.Filter):
    """Lets a few of tornado's lines about failed handshakes through each minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._minute = 0.0
        self._logged = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be logged."""
        if not str(record.msg).startswith("SSL Error"):
            return True
        now = self._clock()
        if now - self._minute >= 60:
            self._minute, self._logged = now, 0
        self._logged += 1
        return self._logged <= FAILURES_LOGGED


class Delegate(HTTPMessageDelegate):
    """A request on its way to the application; subclasses look at its head first."""

    def __init__(self, request: HTTPMessageDelegate) -> None:
        self._request = request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Take the head."""
        return self._request.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take a piece of the body."""
        return self._request.data_received(chunk)

    def finish(self) -> None:
        """Take the end of the request."""
        self._request.finish()

    def on_connection_close(self) -> None:
        """Learn that the client has gone."""
        self._request.on_connection_close()


class Refused(HTTPMessageDelegate):
    """A request that is answered without the application."""

    def __init__(self, connection: Any, status: int) -> None:
        # A connection with a body that nobody has read is closed after the answer.
        headers = HTTPHeaders({"Content-Length": "0", "Retry-After": "10"})
        start_line = ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)
        connection.write_headers(start_line, headers)
        connection.finish()


class BoundedServer(HTTPServer):
    """An HTTP server at which nobody takes more than a bounded share."""

    #: How many connections may wait for their first request: of one address, and of all.
    waiting_each: ClassVar[int] = 256
    waiting_all: ClassVar[int] = 1024
    #: Those of these addresses count apart: nobody else can keep them out.
    reserved: ClassVar[frozenset[str]] = frozenset()
    waiting_reserved: ClassVar[int] = 2048
    #: Seconds until the first request has come, and until the next one has.
    first_request_within: ClassVar[float] = 15.0
    next_request_within: ClassVar[float] = 75.0
    #: How many connections may be open with one name in their certificate.
    certified_each: ClassVar[int] = 64

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Set the server up as tornado does, with a time limit for the next request."""
        super().initialize(*args, **{"idle_connection_timeout": self.next_request_within} | kwargs)
        #: The addresses of connections that wait for their first request.
        self._waiting: dict[IOStream, str] = {}
        self._waiting_of: dict[str, dict[IOStream, None]] = {}
        self._second = 0.0
        self._made_room = 0
        #: The names of those that have shown a certificate and are counted.
        self._certified: dict[IOStream, str] = {}
        self._certified_of: Counter[str] = Counter()
        if not any(isinstance(each, FewFailures) for each in gen_log.filters):
            gen_log.addFilter(FewFailures())
        self._most = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE)

    def name_of(self, stream: IOStream) -> str:
        """Return the name in a connection's certificate; empty where it is not counted."""
        return ""

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        # Before the costly part: a TLS context for each.
        if not self._has_room_for(source_of(address)):
            connection.close()
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER * 1000)
        super()._handle_connection(connection, address)

    def _has_room_for(self, source: str) -> bool:
        """Make room for one more connection that waits; tell whether there is some."""
        is_reserved = source in self.reserved
        if not is_reserved and len(self._connections) >= self._most:
            return False
        others = {
            each: streams for each, streams in self._waiting_of.items() if each not in self.reserved
        }
        if len(self._waiting_of.get(source, ())) >= (
            self.waiting_reserved if is_reserved else self.waiting_each
        ):
            fullest = source
        elif not is_reserved and sum(map(len, others.values())) >= self.waiting_all:
            fullest = max(others, key=lambda each: len(others[each]), default="")
        else:
            return True
        if not fullest or not self._may_make_room():
            return False
        oldest = next(iter(self._waiting_of[fullest]))
        self._stop_waiting(oldest)
        oldest.close()
        return True

    def _may_make_room(self) -> bool:
        now = IOLoop.current().time()
        if now - self._second >= 1:
            self._second, self._made_room = now, 0
        self._made_room += 1
        return self._made_room <= MAKE_ROOM

    def _stop_waiting(self, stream: IOStream) -> None:
        source = self._waiting.pop(stream, None)
        if source is not None:
            del self._waiting_of[source][stream]
            if not self._waiting_of[source]:
                del self._waiting_of[source]

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection that has been accepted."""
        source = source_of(address)
        self._waiting[stream] = source
        self._waiting_of.setdefault(source, {})[stream] = None
        IOLoop.current().call_later(self.first_request_within, self._give_up, stream)
        super().handle_stream(stream, address)

    def _give_up(self, stream: IOStream) -> None:
        if stream in self._waiting:
            stream.close()

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Begin with a request of a connection."""
        request = super().start_request(server_conn, request_conn)
        stream = server_conn.stream
        return _FirstRequest(request, self, stream) if stream in self._waiting else request

    def admit(self, stream: IOStream) -> bool:
        """Take a connection whose first request has come, unless there are too many like it."""
        self._stop_waiting(stream)
        if name := self.name_of(stream):
            if self._certified_of[name] >= self.certified_each:
                stream.close()
                return False
            self._certified[stream] = name
            self._certified_of[name] += 1
        return True

    def on_close(self, server_conn: Any) -> None:
        """Let go of a connection."""
        self._stop_waiting(server_conn.stream)
        name = self._certified.pop(server_conn.stream, None)
        if name is not None:
            self._certified_of[name] -= 1
            if not self._certified_of[name]:
                del self._certified_of[name]
        super().on_close(server_conn)


def source_of(address: Any) -> str:
    """Return what is counted as one: an address, or a network (/64) of IPv6, which one host has.

    All of loopback is one as well: any account of the host may use each of its addresses.
    """
    host = ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, IPv6Address) and host.ipv4_mapped:
        host = host.ipv4_mapped  # what a socket for both kinds says of IPv4
    if host.is_loopback:
        return LOOPBACK
    return str(IPv6Address(int(host) >> 64 << 64) if isinstance(host, IPv6Address) else host)


class _FirstRequest(Delegate):
    """The first request of a connection; only now its certificate is known."""

    def __init__(
        self, request: HTTPMessageDelegate, server: BoundedServer, stream: IOStream
    ) -> None:
        super().__init__(request)
        self._server = server
        self._stream = stream

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        if not self._server.admit(self._stream):
            self._request = HTTPMessageDelegate()  # nobody hears of the rest
            return None
        return super().headers_received(start_line, headers)
