# SPDX-License-Identifier: BSD-3-Clause
"""Receive the report of a starting session: its port, or why it cannot start."""

from __future__ import annotations

import hmac

from batchspawner.api import BatchSpawnerAPIHandler
from jupyterhub.apihandlers import APIHandler, default_handlers
from tornado import web

from gridhub.contract import MAX_REASON
from gridhub.words import text
from sge_spawner import SGESpawner


class SessionHandler(APIHandler):
    """Accepts only a starting session's port, or the reason why the session cannot start."""

    @web.authenticated
    def post(self, what: str) -> None:
        """Accept a report: ``port`` with ``{"port": N}``, or ``failure`` with ``{"reason": TEXT}``.

        The request must carry a starting session's own token.

        :raises web.HTTPError: 403 for any other token, 400 for a malformed body.
        """
        token = self.get_token()
        # A service is not a person, so it has no sessions.
        sessions = getattr(self.current_user, "spawners", {})
        spawner = next(
            (
                spawner
                for spawner in sessions.values()
                if isinstance(spawner, SGESpawner)
                and spawner.token_hash
                and token is not None
                and hmac.compare_digest(spawner.token_hash, token.hashed)
            ),
            None,
        )
        body = self.get_json_body()
        if what == "port" and spawner and not spawner.stopping:
            port = self._read_port(body, *spawner.session_ports)
            if spawner.port == port:
                # The session has reported this port before, but the hub's answer was lost.
                self._answer(spawner)
                return
        if spawner is None or not spawner.is_starting:
            raise web.HTTPError(403, "this token belongs to no session that is starting")
        if what == "port":
            spawner.announce(port)
        else:
            spawner.give_up(self._read_reason(body))
        self._answer(spawner)

    def _answer(self, spawner: SGESpawner) -> None:
        """Tell the session when it must end, if a maintenance shortens its run time."""
        if spawner.ends:
            words = text("session.maintenance", end="{end}", minutes="{minutes}")
            self.finish({"end": spawner.ends, "words": words})
        else:
            self.set_status(204)

    @staticmethod
    def _read_port(body: object, first: int, last: int) -> int:
        if not isinstance(body, dict) or set(body) != {"port"}:
            raise web.HTTPError(400, 'the body must be {"port": N}')
        port = body["port"]
        if isinstance(port, bool) or not isinstance(port, int) or not first <= port <= last:
            raise web.HTTPError(400, f"the port must be a number from {first} to {last}")
        return port

    @staticmethod
    def _read_reason(body: object) -> str:
        if not isinstance(body, dict) or set(body) != {"reason"}:
            raise web.HTTPError(400, 'the body must be {"reason": TEXT}')
        reason = body["reason"]
        if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON:
            raise web.HTTPError(400, f"the reason must have 1 to {MAX_REASON} characters")
        return reason


# Remove the handler that batchspawner registers when it is imported: a request to that handler can
# set any attribute of a spawner.
default_handlers[:] = [
    entry for entry in default_handlers if entry[1] is not BatchSpawnerAPIHandler
] + [(r"/api/sge/(port|failure)", SessionHandler)]
