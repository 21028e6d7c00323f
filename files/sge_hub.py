# SPDX-License-Identifier: BSD-3-Clause
"""The hub: JupyterHub that knows, from its first moment on, which jobs are its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.log import CoroutineLogFormatter
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from tornado import web

from sge_broker import one_line
from sge_spawner import DATABASE_TROUBLE, watch_sessions


class OneLineFormatter(CoroutineLogFormatter):
    """Keeps each message to one line: what people send is in some of them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as the log has it."""
        record = copy.copy(record)
        record.msg, record.args = one_line(record.getMessage()), None
        return str(super().format(record))

    def formatException(self, ei: Any) -> str:
        """Return a traceback, a mark before each line: the exception's text may have some."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"| {one_line(line)}" for line in lines)


class DatabaseTrouble(web.HTTPError, SQLAlchemyError):
    """The database cannot be used: what JupyterHub would show as a bare 500, in words."""

    #: What JupyterHub's pages show.
    jupyterhub_message = DATABASE_TROUBLE

    def __init__(self) -> None:
        web.HTTPError.__init__(self, 503, DATABASE_TROUBLE)


class GridHub(JupyterHub):
    """JupyterHub with the few things that sessions need and no setting gives."""

    _log_formatter_cls = OneLineFormatter

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
        await super().start()
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    GridHub.launch_instance()
