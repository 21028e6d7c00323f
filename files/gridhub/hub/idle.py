# SPDX-License-Identifier: BSD-3-Clause
"""Handle requests to stop sessions, from administrators and from jupyterhub-idle-culler.

The culler asks the hub to stop sessions that seem idle, but the culler knows only the last use that
was reported to the hub. So the hub checks whether the session is really idle. A session that has
not reported lately may be busy: perhaps the hub has just restarted, or the worker is unreachable.
The hub does not end such a session, nor a session that was used after the culler's query.
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
from gridhub.hub.errors import refusal_words
from gridhub.spawner.ended import stopped_by

#: The culler's name among the hub's services.
SERVICE = "idle-culler"

#: The name of the Tornado setting that says when a session is idle:
#: ``{"timeout": …, "report": …}``, in seconds.
SETTING = "idle"

#: The time (:func:`time.monotonic`) at which the hub last heard from each spawner's session.
last_heard: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def why_not(rule: dict[str, float], silent: float | None, unused: float) -> str:
    """Return the reason why a session must not be ended as idle; empty if it may be ended.

    :param silent: seconds since the session's last report; None if it has never reported.
    :param unused: seconds since the session's last use, according to its reports.
    """
    # A report may be late by half an interval plus 30 s.
    if silent is None or silent > 1.5 * rule["report"] + 30:
        return "the hub has not heard from it lately"
    if unused < rule["timeout"]:
        return "it has been used meanwhile"
    return ""


class HeardHandler(ActivityAPIHandler):
    """Receives the sessions' reports about their last use, and notes the time of each report."""

    def post(self, user_name: str) -> None:
        """Store a report."""
        super().post(user_name)
        spawners = self.find_user(user_name).spawners
        for name in self.get_json_body().get("servers") or ():
            last_heard[spawners[name]] = time.monotonic()


class ServerHandler(UserServerAPIHandler):
    """Starts and stops sessions, and notes who requested a stop.

    When the culler requests a stop, this handler stops the session only if it is still idle.
    """

    async def post(self, user_name: str, server_name: str = "") -> None:
        """Start a session.

        :raises web.HTTPError: with the message that pages show, when the session cannot start.
        """
        try:
            await super().post(user_name, server_name)
        except web.HTTPError as error:
            if words := refusal_words(error):
                vars(error)["jupyterhub_message"] = words
            raise

    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a session.

        :raises web.HTTPError: 409, when the culler must not stop the session.
        """
        requester = self.current_user
        if requester and requester.kind == "service" and requester.name == SERVICE:
            self._check(user_name, server_name)
            stopped_by.set(Ending.IDLE)
        elif requester and requester.kind == "user" and requester.name != user_name:
            stopped_by.set(Ending.ADMINISTRATOR)
        await super().delete(user_name, server_name)

    def _check(self, user_name: str, server_name: str) -> None:
        user = self.find_user(user_name)
        spawner = user.spawners.get(server_name) if user else None
        if spawner is None:
            return  # JupyterHub reports the error
        heard_at = last_heard.get(spawner)
        silent = None if heard_at is None else time.monotonic() - heard_at
        used = spawner.orm_spawner.last_activity
        unused = (utcnow(with_tz=False) - used).total_seconds() if used else 0.0
        if reason := why_not(self.settings[SETTING], silent, unused):
            self.log.info("%s is not ended as idle: %s", spawner._log_name, reason)
            raise web.HTTPError(409, f"not ended: {reason}")


_OURS = {ActivityAPIHandler: HeardHandler, UserServerAPIHandler: ServerHandler}
default_handlers[:] = [
    (path, _OURS.get(kind, kind), *more) for path, kind, *more in default_handlers
]
