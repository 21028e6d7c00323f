# SPDX-License-Identifier: BSD-3-Clause
"""The hub: JupyterHub that knows, from its first moment on, which jobs are its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from jupyterhub.app import JupyterHub
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from tornado import web

from sge_spawner import watch_sessions
from sge_words import say


class DatabaseTrouble(web.HTTPError, SQLAlchemyError):
    """The database cannot be used: what JupyterHub would show as a bare 500, in words."""

    def __init__(self) -> None:
        #: What JupyterHub's pages show.
        self.jupyterhub_message = say("start.database")
        web.HTTPError.__init__(self, 503, self.jupyterhub_message)


class GridHub(JupyterHub):
    """JupyterHub with the few things that sessions need and no setting gives."""

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
