# SPDX-License-Identifier: BSD-3-Clause
"""The hub's HTTP server: who may speak for whom, and how much each may send."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream

from gridhub.doors import BoundedServer, Delegate, Refused, source_of
from gridhub.hub.limits import Limits, Rate
from gridhub.spawner.cluster import Cluster
from gridhub.tls import is_proxy, session_of

#: The longest body of a request, in bytes, as at the edge for the hub's pages. Whatever belongs to
#: no session comes here as well, and a body is held in memory.
MAX_BODY = 2**20

#: The longest of a request that belongs to no session that runs. It is answered all the same.
MAX_STRAY_BODY = 65_536

#: How long a whole body may take, in seconds. The proxy sends it at once; a session's is short.
BODY_WITHIN = 20.0


def _is_forwarded(header: str) -> bool:
    """Tell whether a header says on whose behalf a request comes, and how it came in."""
    name = header.lower()
    return name in ("forwarded", "x-real-ip", "x-scheme") or name.startswith("x-forwarded-")


class _Request(Delegate):
    """A request whose sender is believed to speak for others only if it is the proxy.

    What belongs to no session that runs comes to the hub as well: of that it takes little.
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
        # Only now: when the request began, the certificates had not been exchanged.
        if not is_proxy(self._stream.socket):
            for header in filter(_is_forwarded, list(headers)):
                del headers[header]
        assert isinstance(start_line, RequestStartLine)
        if not start_line.path.startswith(self._server.prefix):
            address = headers.get("X-Real-IP")
            source = source_of([address]) if address else ""
            if self._server.strays.take(source, "strays"):
                self._request = Refused(self._connection, 429)
                return None
            length = headers.get("Content-Length", "0")
            is_long = len(length) > 5 or (length.isdecimal() and int(length) > MAX_STRAY_BODY)
            if is_long or "Transfer-Encoding" in headers:
                self._request = Refused(self._connection, 503)
                return None
        return super().headers_received(start_line, headers)


class HubServer(BoundedServer):
    """The hub's server: what a request says of where it comes from, the proxy alone may say.

    A session has few connections at a time, and whoever it belongs to has few sessions.
    """

    certified_each = 32
    #: Knows which sessions there are; set when the hub starts.
    cluster: Cluster | None = None
    #: What the addresses of the hub's own pages begin with.
    prefix = "/hub/"
    #: How many other requests there may be, of one address that the proxy has seen. A class whose
    #: sessions have ended has pages that go on asking.
    strays = Limits({"strays": Rate(burst=1200, per_minute=3600)})

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Set the server up as JupyterHub asks for it."""
        ours = {"max_body_size": MAX_BODY, "body_timeout": BODY_WITHIN}
        super().initialize(*args, **kwargs | ours)

    def name_of(self, stream: IOStream) -> str:
        """Return the session's name; hub and proxy are not counted.

        A certificate outlives its session: all of these count as one.
        """
        name = session_of(stream.socket)
        is_here = self.cluster is not None and self.cluster.watches(name)
        return name if not name or is_here else "ended"

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Begin with a request of a connection."""
        request = super().start_request(server_conn, request_conn)
        return _Request(request, self, server_conn.stream, request_conn)
