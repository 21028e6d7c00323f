# SPDX-License-Identifier: BSD-3-Clause
"""The hub: JupyterHub that knows, from its first moment on, which jobs are its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
from collections.abc import Awaitable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import jupyterhub.user
from jupyterhub.app import JupyterHub
from jupyterhub.log import CoroutineLogFormatter
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream

from sge_broker import one_line
from sge_doors import BoundedServer, Delegate, Refused, source_of
from sge_limits import Limits, Rate
from sge_spawner import is_watched, watch_sessions
from sge_tls import is_proxy, session_of
from sge_words import say

# JupyterHub makes one for each session that starts or is taken up, and reads all authorities of the
# system for it: a hub that starts with a thousand sessions would do nothing else for minutes.
jupyterhub.user.make_ssl_context = lru_cache(maxsize=4)(jupyterhub.user.make_ssl_context)

#: The longest body of a request, in bytes, as at the edge for the hub's pages. Whatever belongs to
#: no session comes here as well, and a body is held in memory.
MAX_BODY = 2**20

#: The longest of a request that belongs to no session that runs. It is answered all the same.
MAX_STRAY_BODY = 65_536

#: How long a whole body may take, in seconds. The proxy sends it at once; a session's is short.
BODY_WITHIN = 20.0


class OneLineFormatter(CoroutineLogFormatter):
    """Keeps each message to one line: what people send is in some of them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as the log has it."""
        record = copy.copy(record)
        if record.module == "_xsrf_utils" and isinstance(record.args, tuple):
            # Each login has an id, a cookie, which JupyterHub writes down there.
            record.args = tuple("[secret]" if isinstance(a, bytes) else a for a in record.args)
        record.msg, record.args = one_line(record.getMessage()), None
        return str(super().format(record))

    def formatException(self, ei: Any) -> str:
        """Return a traceback, a mark before each line: the exception's text may have some."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"| {one_line(line)}" for line in lines)


class DatabaseTrouble(web.HTTPError, SQLAlchemyError):
    """The database cannot be used: what JupyterHub would show as a bare 500, in words."""

    def __init__(self) -> None:
        #: What JupyterHub's pages show.
        self.jupyterhub_message = say("start.database")
        web.HTTPError.__init__(self, 503, self.jupyterhub_message)


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
        return name if not name or is_watched(name) else "ended"

    def start_request(self, server_conn: Any, request_conn: Any) -> HTTPMessageDelegate:
        """Begin with a request of a connection."""
        request = super().start_request(server_conn, request_conn)
        return _Request(request, self, server_conn.stream, request_conn)


async def addresses(hosts: list[str]) -> frozenset[str]:
    """Return the addresses of hosts, and loopback's; of one that has none now there are none."""
    found = {source_of(("127.0.0.1",)), source_of(("::1",))}
    for host in hosts:
        with contextlib.suppress(OSError):
            told = await asyncio.get_running_loop().getaddrinfo(host, None)
            found |= {source_of(each[4]) for each in told}
    return frozenset(found)


class GridHub(JupyterHub):
    """JupyterHub with the few things that sessions need and no setting gives."""

    _log_formatter_cls = OneLineFormatter

    def init_logging(self) -> None:
        """Set up the log; at the level debug, oauthlib would put the codes of logins into it."""
        super().init_logging()
        logging.getLogger("oauthlib").setLevel(max(self.log.level, logging.INFO))

    def init_db(self) -> None:
        """Open the database; what goes wrong with it is said in words from then on."""
        super().init_db()
        event.listen(self.db.get_bind(), "handle_error", self._say_so)

    def _say_so(self, context: ExceptionContext) -> None:
        if not isinstance(context.sqlalchemy_exception, OperationalError):
            return
        # All of JupyterHub shares one database session, which is of no use to anybody after a
        # failure until it is rolled back: before anybody else has their turn, then.
        with contextlib.suppress(RuntimeError):  # no loop yet: the hub is only starting
            asyncio.get_running_loop().call_soon(self._roll_back)
        raise DatabaseTrouble from context.original_exception

    def _roll_back(self) -> None:
        if not self.db.is_active:
            self.db.rollback()

    async def init_spawners(self) -> int:
        """Have Grid Engine asked about all sessions at once; then each is taken up."""
        watch_sessions(self)
        return int(await super().init_spawners())

    async def start(self) -> None:
        """Start the hub, and then spare the garbage collector what was made until now.

        To look through the objects of all modules takes it more than 100 ms, in which no page is
        served; they live as long as the hub anyway.
        """
        ours = [urlsplit(url).hostname for url in (self.hub_connect_url, self.proxy.api_url)]
        HubServer.reserved = await addresses([each for each in ours if each])
        HubServer.prefix = self.hub_prefix
        HTTPServer.configure(HubServer)
        await super().start()
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    GridHub.launch_instance()
