# SPDX-License-Identifier: BSD-3-Clause
"""Run JupyterHub with a few changes that cannot be made through its settings."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import os
import re
import signal
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import jupyterhub.user
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.handlers.base import PrefixRedirectHandler
from jupyterhub.log import SCRUB_PARAM_KEYS, CoroutineLogFormatter
from jupyterhub.utils import subdomain_hook_idna
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from tornado.httpserver import HTTPServer
from traitlets import default

from gridhub.bounded_server import source_of

# Importing the module adds its handlers to the hub.
from gridhub.hub import operator as _operator  # noqa: F401
from gridhub.hub.database import AWAY, Connections, DatabaseTrouble
from gridhub.hub.metrics import CLUSTER_METRICS
from gridhub.hub.rotation import keep_trusting_retired
from gridhub.hub.server import HubServer
from gridhub.hub.strays import StrayHandler
from gridhub.log import one_line
from gridhub.spawner.cluster import SETTING, hub_mark
from sge_spawner import SGESpawner

# Cached, because JupyterHub makes an SSL context for each session, and each new context reads the
# certificates of all authorities that the system trusts. For a thousand sessions, reading them
# would take minutes.
jupyterhub.user.make_ssl_context = lru_cache(maxsize=4)(jupyterhub.user.make_ssl_context)


def check_version(hub: str, session: str | None, log: logging.Logger) -> None:
    """Log a difference between the versions of JupyterHub, as JupyterHub does.

    :param session: what the session's server states. The server is the user's, so this can be
        anything. JupyterHub's own function would end a hub that takes up a session again.
    """
    try:
        _compare_versions(hub, session, log)
    except ValueError:  # no version, or one with too many digits
        log.warning("A session's server states an impossible version: %.50r", session)


_compare_versions = jupyterhub.user._check_version
jupyterhub.user._check_version = check_version


#: The values of secret arguments in addresses. JupyterHub hides them in its own messages, but not
#: in Tornado's, such as those about uncaught errors.
_SECRETS = re.compile(rf"([?&][^=&\s]*(?:{'|'.join(SCRUB_PARAM_KEYS)})[^=&\s]*=)[^&\s'\",)]+")


def _without_secrets(message: str) -> str:
    return _SECRETS.sub(r"\1[secret]", message)


class OneLineFormatter(CoroutineLogFormatter):
    """Keeps each log message on one line, because some messages contain text from users."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        record = copy.copy(record)
        if record.module == "_xsrf_utils" and isinstance(record.args, tuple):
            # ``_xsrf_utils`` logs a login's id. The id is a secret cookie.
            record.args = tuple("[secret]" if isinstance(a, bytes) else a for a in record.args)
        record.msg, record.args = one_line(_without_secrets(record.getMessage())), None
        return str(super().format(record))

    def formatException(self, ei: Any) -> str:
        """Return a traceback with a mark on each line, so that no line looks like a log entry."""
        lines = _without_secrets(super().formatException(ei)).splitlines()
        return "\n".join(f"| {one_line(line)}" for line in lines)


async def addresses(hosts: list[str]) -> frozenset[str]:
    """Return the loopback addresses and the addresses of ``hosts``; skip unresolvable hosts."""
    found = {source_of(("127.0.0.1",)), source_of(("::1",))}
    for host in hosts:
        with contextlib.suppress(OSError):
            results = await asyncio.get_running_loop().getaddrinfo(host, None)
            found |= {source_of(each[4]) for each in results}
    return frozenset(found)


def host_for(name: str, domain: str, kind: str) -> str:
    """Return the host name for a person's sessions, or for a service.

    Host names ignore case, but names of accounts may not. So JupyterHub's own hook would give the
    accounts ``Ann`` and ``ann`` the same host name, and browsers would not keep them apart.
    """
    # JupyterHub adds a hash to names that contain --.
    return str(subdomain_hook_idna(name if name == name.lower() else f"{name}--", domain, kind))


class GridHub(JupyterHub):
    """JupyterHub with a few changes that cannot be made through its settings."""

    @default("subdomain_hook")
    def _default_subdomain_hook(self) -> Any:
        return host_for

    _log_formatter_cls = OneLineFormatter

    def init_logging(self) -> None:
        """Set up the log.

        The log level of oauthlib is never below info: at level debug, oauthlib would log login
        codes.
        """
        super().init_logging()
        logging.getLogger("oauthlib").setLevel(max(self.log.level, logging.INFO))

    def init_handlers(self) -> None:
        """Set up JupyterHub's handlers, with ours for paths that do not belong to the hub."""
        super().init_handlers()
        self.handlers[:] = [
            (entry[0], StrayHandler, *entry[2:]) if entry[1] is PrefixRedirectHandler else entry
            for entry in self.handlers
        ]

    def init_internal_ssl(self) -> None:
        """Set up TLS inside the cluster, and go on trusting authorities that were replaced."""
        keep_trusting_retired()
        super().init_internal_ssl()

    def init_db(self) -> None:
        """Open the database, and turn later failures into :class:`DatabaseTrouble`.

        If the database is away, this waits for it, so that the hub comes up when it is back. If it
        was lost later, systemd restarts the hub when it is back.
        """
        self._connections = Connections(self.log)
        self._connections.install()
        self._connections.wait(self.db_url)
        self._connections.when_back = partial(os.kill, os.getpid(), signal.SIGTERM)
        # Replace connections that have broken since their last use, before they are used again.
        self.db_kwargs.setdefault("pool_pre_ping", True)
        super().init_db()
        event.listen(self.db.get_bind(), "handle_error", self._raise_trouble)

    def _raise_trouble(self, context: ExceptionContext) -> None:
        # SQLAlchemy itself handles the failed check of an idle connection: it opens another one.
        if context.is_pre_ping or not isinstance(context.sqlalchemy_exception, AWAY):
            return
        if context.is_disconnect:
            self._connections.lose(context.original_exception)
        # JupyterHub has only one database session. A failed session is unusable until a rollback,
        # so roll back in the next turn of the event loop.
        with contextlib.suppress(RuntimeError):  # no loop yet: the hub is starting
            asyncio.get_running_loop().call_soon(self._roll_back)
        raise DatabaseTrouble from context.original_exception

    def _roll_back(self) -> None:
        if not self.db.is_active:
            self.db.rollback()

    async def init_api_tokens(self) -> None:
        """Load the services' tokens, and delete those that the configuration no longer has.

        JupyterHub would go on accepting a token that was replaced.
        """
        await super().init_api_tokens()
        kept = {orm.APIToken.find(self.db, token).id for token in self.service_tokens}
        configured = self.db.query(orm.APIToken).filter(
            orm.APIToken.service_id.is_not(None), orm.APIToken.note == "from config"
        )
        for token in configured:
            if token.id not in kept:
                self.log.info("Deleting a replaced API token of %s", token.service.name)
                self.db.delete(token)
        self.db.commit()

    async def init_spawners(self) -> int:
        """Watch all sessions with one query to Grid Engine, then let JupyterHub resume them."""
        cluster = SGESpawner(parent=self).make_cluster()
        self.tornado_settings[SETTING] = cluster
        HubServer.cluster = cluster
        CLUSTER_METRICS.cluster = cluster
        cluster.watch_all(self.db, hub_mark(self.cookie_secret))
        return int(await super().init_spawners())

    async def start(self) -> None:
        """Start the hub, then exempt all existing objects from garbage collection.

        These objects live as long as the hub. The garbage collector would need more than 100 ms to
        search them, and the hub would serve no page meanwhile.
        """
        ours = [urlsplit(url).hostname for url in (self.hub_connect_url, self.proxy.api_url)]
        HubServer.reserved = await addresses([each for each in ours if each])
        HubServer.prefix = self.hub_prefix
        HTTPServer.configure(HubServer)
        await super().start()
        gc.collect()
        gc.freeze()
