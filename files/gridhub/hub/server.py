# SPDX-License-Identifier: BSD-3-Clause
"""The hub's HTTP server: it limits requests, and lets only the proxy state a client's address."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream

from gridhub.bounded_server import BoundedServer, Delegate, Refused, source_of
from gridhub.hub.rate_limits import Limits, Rate
from gridhub.hub.strays import not_running, wants_json
from gridhub.spawner.cluster import Cluster
from gridhub.tls import is_proxy, session_of
from gridhub.words import text

#: The longest request body that is allowed, in bytes. The hub keeps each body in memory, and cannot
#: rely on nginx: nginx allows much longer bodies for sessions, and requests for sessions that are
#: not running arrive at the hub.
MAX_BODY = 2**20

#: The longest body, in bytes, of a request for a session that is not running. The hub answers such
#: a request itself.
MAX_STRAY_BODY = 65_536

#: How long a client may take to send a whole body, in seconds. The limit is low because the proxy
#: sends a body at once, and sessions send only short bodies.
BODY_WITHIN = 20.0


def _is_forwarded(header: str) -> bool:
    """Return whether proxies use this header to describe the original request."""
    name = header.lower()
    return name in ("forwarded", "x-real-ip", "x-scheme") or name.startswith("x-forwarded-")


class _Request(Delegate):
    """A request; unless it comes from the proxy, its forwarding headers are removed.

    Requests for sessions that are not running arrive at the hub too; their number and size are
    limited.
    """

    def __init__(
        self, request: HTTPMessageDelegate, server: HubServer, stream: IOStream, connection: Any
    ) -> None:
        super().__init__(request)
        self._server = server
        self._stream = stream
        self._connection = connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        # Check the certificate here and not earlier: when the request began, client and hub had not
        # exchanged certificates yet.
        if not is_proxy(self._stream.socket):
            for header in filter(_is_forwarded, list(headers)):
                del headers[header]
        assert isinstance(start_line, RequestStartLine)
        if not start_line.path.startswith(self._server.prefix):
            address = headers.get("X-Real-IP")
            source = source_of([address]) if address else ""
            as_page = not wants_json(start_line.method, start_line.path.partition("?")[0], headers)
            if self._server.strays.take(source, "strays"):
                self._request = Refused(
                    self._connection, 429, text("proxy.too_many_requests"), as_page
                )
                return None
            length = headers.get("Content-Length", "0")
            is_long = len(length) > 5 or (length.isdecimal() and int(length) > MAX_STRAY_BODY)
            if is_long or "Transfer-Encoding" in headers:
                self._request = Refused(self._connection, 503, not_running(), as_page)
                return None
        return super().headers_received(start_line, headers)


class HubServer(BoundedServer):
    """The hub's HTTP server: only the proxy may state where a request comes from.

    A session may have only a few connections at a time. A person may have only a few sessions, so a
    person's connections are limited too.
    """

    certified_each = 32
    #: The object that lists the sessions; :mod:`gridhub.hub.app` sets it when the hub starts.
    cluster: Cluster | None = None
    #: The prefix of the paths that belong to the hub itself.
    prefix = "/hub/"
    #: How many requests for paths without the prefix may come from one client address. The rate is
    #: high because a whole class may share an address, and open pages keep sending requests after
    #: their sessions have ended.
    strays = Limits({"strays": Rate(burst=1200, per_minute=3600)})

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Set up the server with JupyterHub's arguments and our limits for bodies."""
        ours = {"max_body_size": MAX_BODY, "body_timeout": BODY_WITHIN}
        super().initialize(*args, **kwargs | ours)

    def name_of(self, stream: IOStream) -> str:
        """Return the session that a connection comes from; empty for the hub and the proxy.

        A session's certificate stays valid after the session has ended. All connections with
        certificates of ended sessions are counted together, under the name "ended".
        """
        name = session_of(stream.socket)
        is_here = self.cluster is not None and self.cluster.watches(name)
        return name if not name or is_here else "ended"

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Start a request on a connection."""
        request = super().start_request(server_conn, request_conn)
        return _Request(request, self, server_conn.stream, request_conn)
