# SPDX-License-Identifier: BSD-3-Clause
"""Answer requests for sessions that are not running or do not answer: they come to the hub.

JupyterLab's pages stay open after their session has ended. They show the message of an answer only
if the answer is JSON, and they cannot follow a redirect to another host name. So programs get JSON
at once; people are redirected to the page that shows why the session has ended.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import PrefixRedirectHandler, UserUrlHandler
from tornado import web
from tornado.httputil import HTTPHeaders

from gridhub.hub.errors import Refusal
from gridhub.words import text

#: The header in which nginx states in which form a client can read errors: ``json`` or ``page``,
#: followed by 1 if the path belongs to a session (``roles/proxy/templates/nginx.conf.j2``).
FORM = "X-Error-Form"

#: After how many seconds to try again while there is no route to a running session. The hub adds
#: missing routes sooner (:mod:`gridhub.hub.routes`).
RETRY_AFTER = 5


def wants_json(method: str, path: str, headers: HTTPHeaders) -> bool:
    """Return whether the client of a request reads JSON, not pages."""
    if form := headers.get(FORM, ""):
        return form.startswith("json")
    return method not in ("GET", "HEAD") or "api" in path.split("/")


def not_running() -> str:
    """Return the message for a program, such as JupyterLab, whose session is not running."""
    return text("error.no_session", home=text("page.home"))


def _fail(handler: web.RequestHandler, status: int, message: str) -> None:
    handler.set_status(status)
    handler.set_header("Content-Type", "application/json")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    handler.finish(json.dumps({"status": status, "message": message}))


class StrayHandler(PrefixRedirectHandler):
    """Answers all requests for paths outside the hub's own."""

    def check_xsrf_cookie(self) -> None:
        """Accept any request, because none changes anything here."""

    def get(self) -> None:
        """Answer a program, and redirect a person."""
        parts = self.request.path.removeprefix(self.base_url).split("/")
        is_sessions = parts[0] == "user" and len(parts) > 1
        if not is_sessions or not wants_json("GET", self.request.path, self.request.headers):
            super().get()
        elif not (running := self._running(parts)):
            _fail(self, HTTPStatus.FAILED_DEPENDENCY, not_running())
        elif any(each.silent for each in running):
            self.set_header("Retry-After", str(RETRY_AFTER))
            _fail(self, HTTPStatus.SERVICE_UNAVAILABLE, text("error.text_503"))
        else:
            super().get()

    def post(self) -> None:
        """Refuse a request that would change something.

        :raises Refusal: with a message for the person, for a page.
        """
        parts = self.request.path.removeprefix(self.base_url).split("/")
        status, message = HTTPStatus.FAILED_DEPENDENCY, not_running()
        if parts[0] != "user":
            status, message = HTTPStatus.NOT_FOUND, text("error.text_404")
        elif self._running(parts):
            # The session does not answer, or the proxy has restarted and does not have its route
            # yet.
            self.set_header("Retry-After", str(RETRY_AFTER))
            status, message = HTTPStatus.SERVICE_UNAVAILABLE, text("error.text_503")
        if not wants_json("POST", self.request.path, self.request.headers):
            raise Refusal(status, message)
        _fail(self, status, message)

    put = patch = delete = post

    def _running(self, parts: list[str]) -> list[Any]:
        """Return the running sessions that a path may belong to, without a route in the proxy.

        :param parts: the parts of the path after the base URL: ``user``, the person's name, and
            perhaps the session's name.
        """
        user = self.find_user(unquote(parts[1]))
        if user is None:
            return []
        names = {"", *(unquote(each) for each in parts[2:3])} & {*user.orm_spawners, ""}
        return [user.spawners[name] for name in names if user.spawners[name].ready]


class UserHandler(UserUrlHandler):
    """Answers requests for sessions without a route in the proxy, of a person who is logged in."""

    def _fail_api_request(self, user_name: str = "", server_name: str = "") -> None:
        _fail(self, HTTPStatus.FAILED_DEPENDENCY, not_running())

    async def _redirect_to_user_server(self, user: Any, spawner: Any) -> None:
        """Give the reason if the session does not answer; otherwise redirect to the session.

        The page asks again automatically until the session answers.
        """
        if not spawner.silent:
            await super()._redirect_to_user_server(user, spawner)
            return
        words = spawner.why_silent or text("error.text_503")
        self.set_header("Retry-After", str(RETRY_AFTER))
        if wants_json("GET", self.request.path, self.request.headers):
            _fail(self, HTTPStatus.SERVICE_UNAVAILABLE, words)
            return
        self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Cache-Control", "no-store")
        html = await self.render_template("silent.html", message=words, seconds=RETRY_AFTER)
        self.finish(html)


default_handlers[:] = [
    (entry[0], UserHandler, *entry[2:]) if entry[1] is UserUrlHandler else entry
    for entry in default_handlers
]
