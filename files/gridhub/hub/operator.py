# SPDX-License-Identifier: BSD-3-Clause
"""What an administrator's programs on the hub's own host may ask the hub.

The programs run as root, and prove it with the hub's own certificate, which only root and the hub
can read. So no token is needed, and no request through the proxy or from a session gets here.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jupyterhub
from aiohttp import ClientError
from jupyterhub.apihandlers import APIHandler, default_handlers
from jupyterhub.httpclient import fetch
from jupyterhub.utils import AnyTimeoutError
from tornado import web

from gridhub.contract import Ending
from gridhub.grid.jobs import Job
from gridhub.hub.server import HubServer
from gridhub.spawner.cluster import Cluster
from gridhub.spawner.ended import stopped_by
from gridhub.tls import hub_context, is_hub, session_name
from sge_spawner import SGESpawner

#: The path of the notifications extension in a session (``gridhub/session/notices.py``).
_INGEST = "jupyterlab-notifications-extension/ingest"

#: How many sessions are sent a notice, or are stopped, at the same time.
_AT_ONCE = 8

#: How long a session may take to accept a notice, in seconds.
_NOTICE_WITHIN = 20.0

#: The longest notice, in characters.
MAX_NOTICE = 1000

#: When this hub started, in seconds since the epoch.
_STARTED = time.time()


def state_of(spawner: SGESpawner) -> str:
    """Return the state of an active session: waiting, starting, running or stopping."""
    if spawner.pending == "stop" or spawner.stopping:
        return "stopping"
    if spawner.ready:
        return "running"
    job = spawner._job()
    return "starting" if isinstance(job, Job) and job.host else "waiting"


class OperatorHandler(APIHandler):
    """The base of the handlers here: other callers get 404, as if there were nothing."""

    def prepare(self) -> Any:
        """Refuse other callers.

        :raises web.HTTPError: 404, for a caller without the hub's own certificate.
        """
        connection = getattr(self.request.connection, "stream", None)
        if connection is None or not is_hub(connection.socket):
            raise web.HTTPError(404, "there is nothing here")
        return super().prepare()

    def check_xsrf_cookie(self) -> None:
        """Accept the request: a browser cannot send one, because it has no certificate."""

    @property
    def cluster(self) -> Cluster:
        """The hub's view of Grid Engine.

        :raises web.HTTPError: 503, before the hub has one.
        """
        if HubServer.cluster is None:
            raise web.HTTPError(503, "the hub is starting")
        return HubServer.cluster

    def sessions(self) -> list[tuple[Any, SGESpawner]]:
        """Return all sessions that are not over, each with its user."""
        return [
            (user, spawner)
            for user in self.users.values()
            for spawner in user.spawners.values()
            if spawner.active
        ]


class StatusHandler(OperatorHandler):
    """The state of the hub."""

    async def get(self) -> None:
        """Return sessions by state, the cluster's queue, and the age of the collector's answer."""
        sessions = []
        for user, spawner in self.sessions():
            started = spawner.orm_spawner.started
            sessions.append(
                {
                    "user": user.name,
                    "name": spawner.name,
                    "state": state_of(spawner),
                    "job": spawner.job_id,
                    "started": started.replace(tzinfo=UTC).isoformat() if started else "",
                }
            )
        collector = self.cluster.collector
        line = await self.cluster.status.line.look(5)
        self.finish(
            {
                "version": jupyterhub.__version__,
                "started": datetime.fromtimestamp(_STARTED, UTC).isoformat(timespec="seconds"),
                "sessions": sessions,
                "collector_age": collector.age,
                "collector_failures": collector.failures,
                "collector_pause": collector.pause(),
                # None: Grid Engine has not answered.
                "waiting_jobs": None if line is None else len(line),
            }
        )


class NoticeHandler(OperatorHandler):
    """Shows a notice in sessions."""

    async def post(self) -> None:
        """Show ``{"message": TEXT}`` in all running sessions; return which have not accepted it.

        :raises web.HTTPError: 400 for a malformed body.
        """
        body = self.get_json_body()
        message = body.get("message") if isinstance(body, dict) else None
        if not isinstance(message, str) or not 0 < len(message) <= MAX_NOTICE:
            raise web.HTTPError(400, f"message must have 1 to {MAX_NOTICE} characters")
        running = [each for each in self.sessions() if each[1].ready]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def send(user: Any, spawner: SGESpawner) -> str:
            async with limit:
                return await self._send(user, spawner, message)

        troubles = await asyncio.gather(*(send(*each) for each in running))
        failed = [
            f"{user.name} {spawner.name} (job {spawner.job_id}): {trouble}"
            for (user, spawner), trouble in zip(running, troubles, strict=True)
            if trouble
        ]
        self.finish({"sent": len(running) - len(failed), "failed": failed})

    async def _send(self, user: Any, spawner: SGESpawner, message: str) -> str:
        """Send a notice to one session; return why it was not accepted."""
        note = "a notice from the administrators"
        scopes = [f"access:servers!server={user.name}/{spawner.name}"]
        token = user.new_api_token(note=note, expires_in=60, scopes=scopes)
        options = {
            "ssl": hub_context(Path(spawner.internal_certs_location)),
            "server_hostname": session_name(spawner.session),
        }
        try:
            async with asyncio.timeout(_NOTICE_WITHIN):
                answer = await fetch(
                    f"{spawner._address()}{_INGEST}",
                    method="POST",
                    headers={"Authorization": f"token {token}"},
                    json={
                        "message": message,
                        "type": "warning",
                        "autoClose": False,
                        "immediate": True,
                    },
                    raise_for_status=False,
                    allow_redirects=False,
                    **options,
                )
        except (OSError, ClientError, *AnyTimeoutError) as error:
            return repr(error)
        return "" if 200 <= answer.status < 300 else f"status {answer.status}"


class EndHandler(OperatorHandler):
    """Ends sessions."""

    async def post(self) -> None:
        """Stop all sessions, as an administrator does on the hub's page; return which are left."""
        stopped_by.set(Ending.ADMINISTRATOR)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def stop(user: Any, spawner: SGESpawner) -> str:
            async with limit:
                if spawner.pending == "stop":
                    return ""
                try:
                    await self.stop_single_user(user, spawner.name)
                except Exception as error:
                    self.log.exception("The session of %s cannot be stopped", spawner._log_name)
                    return f"{user.name} {spawner.name} (job {spawner.job_id}): {error!r}"
                return ""

        sessions = self.sessions()
        troubles = await asyncio.gather(*(stop(*each) for each in sessions))
        self.finish({"asked": len(sessions), "failed": [each for each in troubles if each]})


default_handlers += [
    (r"/api/sge/operator/status", StatusHandler),
    (r"/api/sge/operator/notice", NoticeHandler),
    (r"/api/sge/operator/end", EndHandler),
]
