# SPDX-License-Identifier: BSD-3-Clause
"""The end of sessions by others: an administrator, or jupyterhub-idle-culler for idle ones.

What the culler proposes, the hub looks at once more.

The culler goes by the last use the hub has been told of. A session the hub has not heard from, be
it that the hub has just come back or that the worker is cut off, may be as busy as can be: it is
not ended. And a session that has been used since the culler looked is not ended either.
"""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from jupyterhub.apihandlers import default_handlers
from jupyterhub.apihandlers.users import ActivityAPIHandler, UserServerAPIHandler
from jupyterhub.utils import utcnow
from tornado import web

from gridhub.contract import Ending
from gridhub.hub.errors import meant
from gridhub.spawner.ended import stopped_by

#: The culler's name among the hub's services.
SERVICE = "idle-culler"

#: The name of the rule in the hub's Tornado settings: ``{"timeout": …, "report": …}``, in seconds.
SETTING = "idle"

#: When the hub last heard from the session of each spawner, by :func:`time.monotonic`.
_heard: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def why_not(rule: dict[str, float], silent: float | None, unused: float) -> str:
    """Say why a session must not be ended as idle; nothing where it may.

    :param silent: for how many seconds the hub has not heard from it; None: it never has.
    :param unused: for how many seconds it has not been in use, as far as the hub has heard.
    """
    # Half again, and half a minute, for reports that are late.
    if silent is None or silent > 1.5 * rule["report"] + 30:
        return "the hub has not heard from it lately"
    if unused < rule["timeout"]:
        return "it has been used meanwhile"
    return ""


class HeardHandler(ActivityAPIHandler):
    """Where sessions say when they were last in use; the hub notes that they said something."""

    def post(self, user_name: str) -> None:
        """Take a report."""
        super().post(user_name)
        spawners = self.find_user(user_name).spawners
        for name in self.get_json_body().get("servers") or ():
            _heard[spawners[name]] = time.monotonic()


class ServerHandler(UserServerAPIHandler):
    """Starts sessions; stops them and notes for whom, for the culler only those idle just now."""

    async def post(self, user_name: str, server_name: str = "") -> None:
        """Start a session.

        :raises web.HTTPError: with the words of the page, where that cannot be.
        """
        try:
            await super().post(user_name, server_name)
        except web.HTTPError as error:
            if words := meant(error):
                vars(error)["jupyterhub_message"] = words
            raise

    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a session.

        :raises web.HTTPError: 409, where the culler must leave it alone.
        """
        asker = self.current_user
        if asker and asker.kind == "service" and asker.name == SERVICE:
            self._check(user_name, server_name)
            stopped_by.set(Ending.IDLE)
        elif asker and asker.kind == "user" and asker.name != user_name:
            stopped_by.set(Ending.ADMINISTRATOR)
        await super().delete(user_name, server_name)

    def _check(self, user_name: str, server_name: str) -> None:
        user = self.find_user(user_name)
        spawner = user.spawners.get(server_name) if user else None
        if spawner is None:
            return  # JupyterHub says so
        heard = _heard.get(spawner)
        silent = None if heard is None else time.monotonic() - heard
        used = spawner.orm_spawner.last_activity
        unused = (utcnow(with_tz=False) - used).total_seconds() if used else 0.0
        if reason := why_not(self.settings[SETTING], silent, unused):
            self.log.info("%s is not ended as idle: %s", spawner._log_name, reason)
            raise web.HTTPError(409, f"not ended: {reason}")


_OURS = {ActivityAPIHandler: HeardHandler, UserServerAPIHandler: ServerHandler}
default_handlers[:] = [
    (path, _OURS.get(kind, kind), *more) for path, kind, *more in default_handlers
]
