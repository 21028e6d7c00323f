# SPDX-License-Identifier: BSD-3-Clause
"""Keep the hub responsive and its sessions running while PostgreSQL is away.

JupyterHub queries its database in the thread that serves all pages. So each wait for PostgreSQL has
a time limit here, and while the server is known to be away, queries fail at once. SQLite needs none
of this: it is a file.

Importing this module is enough for the pages: if the database cannot be used to identify the sender
of a request, the answer is 503 with a sentence. JupyterHub would treat the sender as somebody who
is not logged in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from jupyterhub.handlers.base import BaseHandler
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from tornado import web

from gridhub.log import one_line
from gridhub.words import text

#: How long PostgreSQL may take to answer a statement, in seconds. The hub serves no page meanwhile.
ANSWER_WITHIN = 10.0

#: Seconds between two attempts to reach a server that is away.
RETRY = 2.0

#: Seconds between two messages in the log about a server that is still away.
REPORT = 60.0

#: Errors of a database that is away or cannot be written. Any other error is a mistake of a
#: program. PostgreSQL reports a read-only server as an internal error.
AWAY = (OperationalError, InterfaceError, InternalError)


class DatabaseTrouble(web.HTTPError, SQLAlchemyError):
    """The database cannot be used; pages show a clear message instead of a bare status 500."""

    def __init__(self) -> None:
        #: The message that JupyterHub's pages show.
        self.jupyterhub_message = text("start.database")
        web.HTTPError.__init__(self, 503, self.jupyterhub_message)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer within :data:`ANSWER_WITHIN`."""

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Wait for the server, but not for ever: a frozen server keeps its connections open.

        :raises psycopg.OperationalError: when there is no answer in time.
        """
        try:
            return super().wait(*arguments, **{"timeout": ANSWER_WITHIN, **options})
        except psycopg.OperationalError:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()  # the answer may still come, and would be taken for another one
            raise


def open_connection(*words: Any, **options: Any) -> BoundedConnection:
    """Connect to PostgreSQL. JupyterHub reads without an end of transaction, so allow that."""
    connection = BoundedConnection.connect(*words, **options)
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    connection.commit()
    return connection


class Connections:
    """Opens the hub's connections to PostgreSQL, and notices when the server is away.

    While it is away, a thread tries to reach it, so that the hub does not wait again for each
    query. When it is back, the hub is restarted: the failed queries may have left JupyterHub's
    objects half changed, and a restart makes them anew from the database. It ends no session.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._away = ""
        self._open: Callable[[], BoundedConnection] | None = None
        #: Called in a thread when the server is back.
        self.when_back: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Open all connections of this process to PostgreSQL, also those of Alembic."""
        event.listen(Engine, "do_connect", self.connect)

    def connect(self, dialect: Any, _record: Any, words: Any, options: Any) -> Any:
        """Return a new connection; None lets SQLAlchemy connect to another kind of database.

        :raises psycopg.OperationalError: when the server cannot be reached.
        """
        if dialect.name != "postgresql":
            return None
        if self._away:
            raise psycopg.OperationalError(self._away)
        self._open = partial(open_connection, *words, **options)
        try:
            return self._open()
        except psycopg.OperationalError as error:
            self.lose(error)
            raise

    def lose(self, error: object) -> None:
        """Note that the server is away: no query waits for it until it answers again."""
        if self._open and not self._away:
            self._away = one_line(str(error))
            threading.Thread(target=self._watch, args=(self._open,), daemon=True).start()

    def _watch(self, connect: Callable[[], BoundedConnection]) -> None:
        """Try to reach the server until it answers; report that in the log."""
        reported = float("-inf")
        while self._away:
            if time.monotonic() - reported > REPORT:
                reported = time.monotonic()
                self._log.error(
                    "The database does not answer: %s. Sessions go on; trying again every %g s",
                    self._away,
                    RETRY,
                )
            time.sleep(RETRY)
            try:
                connect().close()
            except psycopg.OperationalError as error:
                self._away = one_line(str(error))
            else:
                self._away = ""
        self._log.warning("The database answers again")
        self.when_back()

    def wait(self, url: str) -> None:
        """Wait until the database of a starting hub answers. The process is ended by SIGTERM."""
        if not url.startswith("postgresql"):
            return
        engine = create_engine(url, poolclass=NullPool)
        while True:
            try:
                engine.connect().close()
            except OperationalError:
                time.sleep(RETRY / 4)
            else:
                return


_identify = BaseHandler.get_current_user
_prepare = BaseHandler.prepare
_write_error = BaseHandler.write_error


async def get_current_user(self: BaseHandler) -> Any:
    """Return the sender of a request, as JupyterHub does; None if the database is away."""
    try:
        return await _identify(self)
    except DatabaseTrouble:
        self.has_no_database = True
        return None


async def prepare(self: BaseHandler) -> None:
    """Answer 503 if the sender is unknown because the database is away.

    Otherwise, the answer would be 403 or the login page: a job that gets 403 ends, and people would
    believe that they have to log in again.
    """
    try:
        await _prepare(self)
    finally:
        if getattr(self, "has_no_database", False):
            raise DatabaseTrouble


def write_error(self: BaseHandler, status_code: int, **options: Any) -> None:
    """Send the page of an error. Without the database, even the person's name cannot be read."""
    if isinstance((options.get("exc_info") or (None, None))[1], DatabaseTrouble):
        self._jupyterhub_user = None
    _write_error(self, status_code, **options)


BaseHandler.get_current_user = get_current_user
BaseHandler.prepare = prepare
BaseHandler.write_error = write_error
