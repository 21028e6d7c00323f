# SPDX-License-Identifier: BSD-3-Clause
"""The hub's pages: what their templates (``pages/``) can use, and the addresses they need.

JupyterHub stops a session through its REST API only, which takes JavaScript; a form does here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.slugs import is_valid_safe_slug
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web

from sge_announcement import FILE, Board, parse_announcement
from sge_notice import announcements
from sge_view import View
from sge_words import say

#: Templates, style and script. Those of the release the hub was started with: a deployment switches
#: the link before it restarts the hub.
PAGES = Path(__file__).resolve().with_name("pages")


async def views(user: Any) -> list[View]:
    """Return what the pages show of a person's sessions, the default one first."""
    named = sorted(user.orm_user.orm_spawners) if user.allow_named_servers else []
    return [await user.spawners[name].view() for name in ["", *filter(None, named)]]


def span(seconds: float) -> str:
    """Return a length of time as people say it."""
    minutes = max(int(seconds // 60), 0)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return say("time.days", days=days, hours=hours)
    if hours:
        return say("time.hours", hours=hours, minutes=minutes)
    return say("time.minutes", minutes=minutes) if minutes else say("time.moment")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # as JupyterHub and View have their times


def ago(moment: datetime) -> str:
    """Return how long something has been so."""
    return span((_now() - moment).total_seconds())


def left(moment: datetime) -> str:
    """Return how long something goes on."""
    return span((moment - _now()).total_seconds())


def asset_url(base_url: str, name: str) -> str:
    """Return the address of a file of ours, with a mark of its content: browsers keep it."""
    mark = hashlib.sha256((PAGES / name).read_bytes()).hexdigest()[:12]
    return f"{base_url}pages/{name}?v={mark}"


def template_vars(
    site_name: str, help_at: str, named_servers: int, idle_minutes: int
) -> dict[str, Any]:
    """Return what the templates can use besides JupyterHub's own names.

    :param site_name: what the site calls this service.
    :param help_at: where people get help: an address of a page or of e-mail, or a text.
    :param named_servers: how many sessions a person may have besides the default one.
    :param idle_minutes: after how long an idle session is ended; 0: never.
    """
    functions: dict[str, Callable[..., object]] = {
        "say": say,
        "announcements_now": partial(announcements, Board(FILE, parse_announcement)),
        "asset_url": asset_url,
        "sessions": views,
        "ago": ago,
        "left": left,
    }
    # JupyterHub calls what it finds here, with the person, and gives the templates the result.
    return {
        "site_name": site_name,
        "help_at": help_at,
        "named_servers": named_servers,
        "idle_minutes": idle_minutes,
        **{name: partial(lambda function, _user: function, it) for name, it in functions.items()},
    }


class StopHandler(BaseHandler):
    """Stops a session, or gives up its start, at the press of a form's button."""

    def get_json_body(self) -> dict[str, bool]:
        """Return what JupyterHub's own handler takes as the request's body."""
        return {"remove": self.get_body_argument("then", "") == "remove"}

    @web.authenticated
    async def post(self, user_name: str, server_name: str = "") -> None:
        """Do what ``DELETE /hub/api/users/NAME/server`` does, and show what comes next.

        ``then`` says what the person wants: ``choose`` again, ``remove`` the named server as well,
        or neither.
        """
        await UserServerAPIHandler.delete(self, user_name, server_name)
        goal = ["home"]
        if self.get_body_argument("then", "") == "choose":
            goal = ["spawn", url_escape_path(user_name), url_escape_path(server_name)]
        self.set_header("Content-Type", "text/html")
        self.redirect(url_path_join(self.hub.base_url, *filter(None, goal)), status=303)


class ForecastHandler(BaseHandler):
    """Says what is free, and what would become of the choice a person is about to make."""

    @web.authenticated
    async def get(self) -> None:
        """Answer in whole sentences; the form's fields are the query's arguments."""
        spawner = self.current_user.spawner
        fields = {
            name: [value.decode(errors="replace") for value in values]
            for name, values in self.request.query_arguments.items()
        }
        forecast = await spawner.forecast(spawner.read_form(fields))
        free = [
            say("forecast.free", what=each.label, total=each.total, largest=each.largest)
            for each in forecast.free
        ]
        self.finish(
            {
                "message": forecast.message,
                "verdict": forecast.verdict,
                "item": forecast.item,
                "raw": forecast.raw,
                "free": free,
                "age": ""
                if forecast.age is None
                else say("forecast.age", seconds=round(forecast.age)),
            }
        )


class NewSessionHandler(BaseHandler):
    """Leads from a name that somebody has typed to the form of the session of that name."""

    @web.authenticated
    def get(self) -> None:
        """Check the name, because JupyterHub's own refusal says nothing to people."""
        name = self.get_argument("name", "")
        if not is_valid_safe_slug(name):
            raise web.HTTPError(400, say("sessions.bad_name"))
        user = url_escape_path(self.current_user.name)
        self.redirect(url_path_join(self.hub.base_url, "spawn", user, name))


default_handlers += [
    (r"/stop/([^/]+)", StopHandler),
    (r"/stop/([^/]+)/([^/]+)", StopHandler),
    (r"/forecast", ForecastHandler),
    (r"/new-session", NewSessionHandler),
    (r"/pages/(pages\.(?:css|js))", CacheControlStaticFilesHandler, {"path": str(PAGES)}),
]
