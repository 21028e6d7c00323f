# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP server of the hub and of each session, with limits on the connections of each client.

Anyone who can reach a port can open connections, and each connection uses up one of the files that
the process may have open. A connection's certificate is known only when the first request arrives.
Until then, the connection is waiting. A waiting connection counts towards a limit for its address
and a limit for all addresses, and it is closed if no request arrives in time. A few addresses have
a separate limit. When an address reaches its limit, its oldest waiting connection is closed to make
room for a new one. When all addresses together reach their limit, the server takes the address with
the most waiting connections and closes the oldest of these. A real client sends its request at
once, so its connection is hardly ever closed to make room. The limits for waiting connections leave
enough files for connections with a known certificate. A limit also applies to open connections with
the same name in their certificates.
"""

from __future__ import annotations

import html
import json
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

#: A client counts as gone when data for it has waited this many seconds, either for an
#: acknowledgement or for room in the client's receive window (TCP_USER_TIMEOUT, tcp(7)).
GONE_AFTER = 120

#: How to detect a client that vanished silently: seconds of silence before the first probe, seconds
#: between probes, and how many probes may stay unanswered (tcp(7)).
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 20, socket.TCP_KEEPCNT: 3}

#: Log at most this many failed handshakes a minute: anyone can cause them, and they would fill a
#: session's log, which is in the person's home.
FAILURES_LOGGED = 10

#: The source of all connections from the host itself.
LOOPBACK = "loopback"

#: Close at most this many waiting connections a second to make room for new connections. Beyond
#: this rate, close the new connections at once: closing is cheap, but each accepted connection
#: needs an expensive TLS context.
MAKE_ROOM = 500

#: Once the connections use this share of the files that the process may open, only connections from
#: the reserved addresses are accepted.
SHARE = 0.75


#: The page of a refused request.
PAGE = '<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{title}</title>\n<p>{text}</p>\n'


class FewFailures(logging.Filter):
    """A log filter that limits tornado's lines about failed handshakes to a few a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._minute = 0.0
        self._logged = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        if not str(record.msg).startswith("SSL Error"):
            return True
        now = self._clock()
        if now - self._minute >= 60:
            self._minute, self._logged = now, 0
        self._logged += 1
        return self._logged <= FAILURES_LOGGED


class Delegate(HTTPMessageDelegate):
    """A request on its way to the application. Subclasses check the request's head first."""

    def __init__(self, request: HTTPMessageDelegate) -> None:
        self._request = request

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Receive the head."""
        return self._request.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Receive a piece of the body."""
        return self._request.data_received(chunk)

    def finish(self) -> None:
        """Receive the end of the request."""
        self._request.finish()

    def on_connection_close(self) -> None:
        """Handle the client's disconnection."""
        self._request.on_connection_close()


class Refused(HTTPMessageDelegate):
    """A request that is answered with an error without reaching the application.

    :param message: the sentence for the person. Programs such as JupyterLab get it as JSON.
    :param as_page: whether to send a page instead.
    """

    def __init__(self, connection: Any, status: int, message: str, as_page: bool = False) -> None:
        body = json.dumps({"status": status, "message": message})
        if as_page:
            body = PAGE.format(title=HTTPStatus(status).phrase, text=html.escape(message))
        content = body.encode()
        # If the request has an unread body, tornado closes the connection after the answer.
        headers = HTTPHeaders(
            {
                "Content-Type": "text/html; charset=utf-8" if as_page else "application/json",
                "Content-Length": str(len(content)),
                "Cache-Control": "no-store",
            }
        )
        if status in (429, 503):
            headers["Retry-After"] = "10"
        start_line = ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)
        connection.write_headers(start_line, headers, content)
        connection.finish()


class BoundedServer(HTTPServer):
    """An HTTP server that limits the connections of each client."""

    #: How many connections may wait for their first request: from one address, and in total.
    waiting_each: ClassVar[int] = 256
    waiting_all: ClassVar[int] = 1024
    #: Connections from these addresses count separately, so other clients cannot keep these
    #: addresses out.
    reserved: ClassVar[frozenset[str]] = frozenset()
    waiting_reserved: ClassVar[int] = 2048
    #: Time limits in seconds for the first request on a connection, and for each later request.
    first_request_within: ClassVar[float] = 15.0
    next_request_within: ClassVar[float] = 75.0
    #: How many open connections may have the same name in their certificate.
    certified_each: ClassVar[int] = 64

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Set up the server as tornado does, but with a time limit for each later request."""
        super().initialize(*args, **{"idle_connection_timeout": self.next_request_within} | kwargs)
        #: The source of each connection that waits for its first request.
        self._waiting: dict[IOStream, str] = {}
        self._waiting_of: dict[str, dict[IOStream, None]] = {}
        self._second = 0.0
        self._made_room = 0
        #: The name in the certificate of each connection that counts towards ``certified_each``.
        self._certified: dict[IOStream, str] = {}
        self._certified_of: Counter[str] = Counter()
        if not any(isinstance(each, FewFailures) for each in gen_log.filters):
            gen_log.addFilter(FewFailures())
        self._most = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE)

    def name_of(self, stream: IOStream) -> str:
        """Return the name in a connection's certificate; empty if no limit for the name applies."""
        return ""

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        # Close a surplus connection here, before tornado makes an expensive TLS context for it.
        if not self._has_room_for(source_of(address)):
            connection.close()
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER * 1000)
        super()._handle_connection(connection, address)

    def _has_room_for(self, source: str) -> bool:
        """Make room for one more waiting connection; return whether there is room."""
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
        """Serve an accepted connection."""
        source = source_of(address)
        self._waiting[stream] = source
        self._waiting_of.setdefault(source, {})[stream] = None
        IOLoop.current().call_later(self.first_request_within, self._give_up, stream)
        super().handle_stream(stream, address)

    def _give_up(self, stream: IOStream) -> None:
        if stream in self._waiting:
            stream.close()

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Begin to handle a request on a connection."""
        request = super().start_request(server_conn, request_conn)
        stream = server_conn.stream
        return _FirstRequest(request, self, stream) if stream in self._waiting else request

    def admit(self, stream: IOStream) -> bool:
        """Admit a connection at its first request, or close it.

        The connection is closed if too many open connections have the name in its certificate.

        :returns: whether the connection was admitted.
        """
        self._stop_waiting(stream)
        if name := self.name_of(stream):
            if self._certified_of[name] >= self.certified_each:
                stream.close()
                return False
            self._certified[stream] = name
            self._certified_of[name] += 1
        return True

    def on_close(self, server_conn: Any) -> None:
        """Stop counting a closed connection."""
        self._stop_waiting(server_conn.stream)
        name = self._certified.pop(server_conn.stream, None)
        if name is not None:
            self._certified_of[name] -= 1
            if not self._certified_of[name]:
                del self._certified_of[name]
        super().on_close(server_conn)


def source_of(address: Any) -> str:
    """Return the source that a connection counts towards: an IPv4 address or an IPv6 /64.

    All addresses of a /64 are one source, because a single host can own them all. All loopback
    addresses are one source too, because any account on the host can use them all.
    """
    host = ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, IPv6Address) and host.ipv4_mapped:
        host = host.ipv4_mapped  # a dual-stack socket shows IPv4 addresses in this form
    if host.is_loopback:
        return LOOPBACK
    return str(IPv6Address(int(host) >> 64 << 64) if isinstance(host, IPv6Address) else host)


class _FirstRequest(Delegate):
    """A connection's first request; when its head arrives, the connection is admitted or closed."""

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
            self._request = HTTPMessageDelegate()  # this object ignores the rest of the request
            return None
        return super().headers_received(start_line, headers)
