# SPDX-License-Identifier: BSD-3-Clause
"""Provide the handlers of the hub's pages, and the variables of their templates (``pages/``).

JupyterHub's own pages need JavaScript to stop a session, because they use the REST API. Our pages
use a form instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from jupyterhub.slugs import is_valid_safe_slug
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from gridhub.clock import clock, local
from gridhub.hub import guard
from gridhub.hub.errors import Refusal, error_words
from gridhub.hub.starter import SessionHandler
from gridhub.hub.targets import WithTarget
from gridhub.menu.kinds import JUPYTERHUBS_FIELDS, LINK_PREFIX, MAX_TEXT
from gridhub.notices.announcement import FILE, WatchedFile, parse_announcement
from gridhub.notices.next_maintenance import announcements
from gridhub.spawner.form import LESS, MORE, Link, followed, going_to
from gridhub.spawner.view import View
from gridhub.words import number_text, text
from sge_spawner import SGESpawner

#: The folder with the templates, the style sheet and the script. The path is resolved, because a
#: deployment switches the link ``current`` to the new release before restarting the hub. Until the
#: restart, the hub must keep using the release with which it started.
PAGES = Path(__file__).resolve().parents[2] / "pages"


async def views(user: Any) -> list[View]:
    """Return what pages show about a person's sessions, the default session first."""
    named = [name for name in sorted(user.orm_user.orm_spawners) if name]
    if not user.allow_named_servers:
        # The site no longer allows named sessions, but those that are running continue.
        named = [name for name in named if user.spawners[name].active]
    return [await user.spawners[name].view() for name in ["", *named]]


def span(seconds: float) -> str:
    """Return a length of time in words."""
    minutes = max(int(seconds // 60), 0)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return text("time.days", days=days, hours=hours)
    if hours:
        return text("time.hours", hours=hours, minutes=minutes)
    return text("time.minutes", minutes=minutes) if minutes else text("time.moment")


def utc_now() -> datetime:
    """Return the current time in UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)  # like the times in JupyterHub and in View


def ago(moment: datetime) -> str:
    """Return in words how much time has passed since a moment."""
    return span((utc_now() - moment).total_seconds())


def left(moment: datetime) -> str:
    """Return in words how much time is left until a moment."""
    return span((moment - utc_now()).total_seconds())


def time_of_day(moment: datetime) -> str:
    """Return a time in words: the time of day in the zone of the hub's host, with its name.

    :param moment: naive UTC, as in a ``View``.
    """
    now = datetime.now(UTC).timestamp()
    return clock(moment.replace(tzinfo=UTC).timestamp(), now)


def hub_time(moment: datetime) -> str:
    """Return a time for scripts: ISO 8601 with the hub's offset from UTC.

    :param moment: naive UTC, as in a ``View``.
    """
    return local(moment.replace(tzinfo=UTC).timestamp()).isoformat(timespec="seconds")


def asset_url(base_url: str, name: str) -> str:
    """Return the URL of a file in ``pages/``.

    The URL changes when the file changes, so browsers can cache the file.
    """
    mark = hashlib.sha256((PAGES / name).read_bytes()).hexdigest()[:12]
    return f"{base_url}pages/{name}?v={mark}"


def template_vars(
    site_name: str, help_at: str, named_servers: int, idle_minutes: int
) -> dict[str, Any]:
    """Return the template variables that we add to JupyterHub's own.

    :param site_name: the site's name for this service.
    :param help_at: where people get help: the address of a page, an e-mail address, or a text.
    :param named_servers: how many sessions a person may have besides the default one.
    :param idle_minutes: after how many minutes an idle session is ended; 0 means never.
    """
    functions: dict[str, Callable[..., object]] = {
        "text": text,
        "number_text": number_text,
        "error_words": error_words,
        "announcements_now": partial(announcements, WatchedFile(FILE, parse_announcement)),
        "asset_url": asset_url,
        "sessions": views,
        "ago": ago,
        "left": left,
        "time_of_day": time_of_day,
        "hub_time": hub_time,
    }
    # If a variable is a function, JupyterHub calls the function with the user, and the templates
    # get only the result. The templates must get our functions themselves, so wrap each function in
    # a second one that returns the first.
    return {
        "site_name": site_name,
        "help_at": help_at,
        "named_servers": named_servers,
        "idle_minutes": idle_minutes,
        **{name: partial(lambda function, _user: function, it) for name, it in functions.items()},
    }


class FormHandler(WithTarget, SpawnHandler):
    """Shows the form, filled in from a link.

    Unlike in plain JupyterHub, a link never starts a session.
    """

    async def prepare(self) -> None:
        """Refuse arguments that are not UTF-8, because JupyterHub would fail to read them.

        Then simplify the target, and remove the token that the form has sent from the request's
        address: JupyterHub adds it again for each form, and would also add it to the next page's.

        :raises Refusal: 400 with a message for the person.
        """
        await super().prepare()
        for arguments in (self.request.query_arguments, self.request.body_arguments):
            for name, values in arguments.items():
                try:
                    [value.decode() for value in values]
                except UnicodeDecodeError as error:
                    raise Refusal(400, text("error.not_text", name=name[:MAX_TEXT])) from error
        self.keep_target("_xsrf")
        going_to.set(self.target)

    @property
    def template_namespace(self) -> dict[str, Any]:
        """The variables of all templates; the error page of a sent form links to a new form."""
        sent = self.request.method == "POST" or self.get_status() == HTTPStatus.TOO_MANY_REQUESTS
        return {**super().template_namespace, "again_url": self.form_url if sent else ""}

    async def _get(self, user_name: str, server_name: str, display_name: str) -> None:
        fields: dict[str, list[str]] = {}
        for name, values in self.request.query_arguments.items():
            if name not in JUPYTERHUBS_FIELDS:
                # Accept field names with JupyterHub's prefix as well.
                fields[name.removeprefix(LINK_PREFIX)] = [value.decode() for value in values]
        shifts = {name: ",".join(fields.get(name, [])) for name in (LESS, MORE)}
        named = ",".join(shifts.values()).strip(",")
        if fields:
            link = Link(
                SGESpawner.read_form(fields),
                tuple(named.split(",")) if named else (),
                more=bool(shifts[MORE]),
            )
            followed.set(link)
        # The form must not repeat the link's arguments.
        self.keep_target(*(self.request.query_arguments.keys() - JUPYTERHUBS_FIELDS))
        await super()._get(user_name=user_name, server_name=server_name, display_name=display_name)

    async def _wrap_spawn_single_user(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._wrap_spawn_single_user(*args, **kwargs)
        except web.HTTPError as error:
            if not hasattr(error, "jupyterhub_message"):
                # Without our message, the form would show JupyterHub's own.
                vars(error)["jupyterhub_message"] = error_words(error, error.status_code)
            raise

    async def _render_form(self, for_user: Any, spawner_options_form: str, **values: str) -> str:
        name = self.path_args[1] if len(self.path_args) > 1 else ""
        if name and self.request.method == "POST":
            # JupyterHub would show the form of the default session here, without the refusal.
            spawner_options_form = await for_user.spawners[name].get_options_form()
        form: str = await super()._render_form(for_user, spawner_options_form, **values)
        return form


class StopHandler(WithTarget):
    """Stops a session, or cancels its start, when a person submits a page's form."""

    #: A named session can be stopped even if the site no longer allows named sessions.
    allow_named_servers = True

    def get_json_body(self) -> dict[str, bool]:
        """Return the body that JupyterHub's own handler expects."""
        return {"remove": self.get_body_argument("then", "") == "remove"}

    @web.authenticated
    async def post(self, user_name: str, server_name: str = "") -> None:
        """Do the same as ``DELETE /hub/api/users/NAME/server``, then redirect to the next page.

        The next page is the form if the argument ``then`` is ``choose``, and otherwise the home
        page. The form gets the target. If ``then`` is ``remove``, the named server is removed as
        well.
        """
        user = self.find_user(user_name)
        spawner = user.spawners[server_name] if user and server_name in user.orm_spawners else None
        unavailable = spawner.unavailable if spawner and spawner._start_pending else ()
        await UserServerAPIHandler.delete(self, user_name, server_name)
        url = url_path_join(self.hub.base_url, "home")
        if self.get_body_argument("then", "") == "choose":
            less = {LESS: ",".join(unavailable)} if unavailable else {}
            url = url_concat(self.form_url, less)
        self.set_header("Content-Type", "text/html")
        self.redirect(url, status=303)


class ForecastHandler(BaseHandler):
    """Reports what is free, and whether a session with the form's values could start."""

    @web.authenticated
    async def get(self) -> None:
        """Return the forecast as JSON, in sentences; the query string has the form's fields."""
        spawner = self.current_user.spawner
        fields = {
            name: [value.decode(errors="replace") for value in values]
            for name, values in self.request.query_arguments.items()
        }
        forecast = await spawner.forecast(spawner.read_form(fields))
        free = [
            text("forecast.free", what=each.label, total=each.total, largest=each.largest)
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
                else text("forecast.age", seconds=round(forecast.age)),
            }
        )


class NewSessionHandler(BaseHandler):
    """Redirects a person who typed a session's name to the form of that session."""

    @web.authenticated
    def get(self) -> None:
        """Refuse a wrong name with a clearer message than JupyterHub's; otherwise redirect."""
        name = self.get_argument("name", "")
        if not is_valid_safe_slug(name):
            raise Refusal(400, text("error.bad_name"))
        user = url_escape_path(self.current_user.name)
        self.redirect(url_path_join(self.hub.base_url, "spawn", user, name))


guard.COUNTED |= {
    (ForecastHandler, "GET"): guard.Counted("looks"),
    (StopHandler, "POST"): guard.Counted("reports", "delete:servers"),
    (SessionHandler, "POST"): guard.Counted("reports"),
}


default_handlers[:] = [
    (entry[0], FormHandler, *entry[2:]) if entry[1] is SpawnHandler else entry
    for entry in default_handlers
] + [
    (r"/stop/([^/]+)", StopHandler),
    (r"/stop/([^/]+)/([^/]+)", StopHandler),
    (r"/forecast", ForecastHandler),
    (r"/new-session", NewSessionHandler),
    (r"/pages/(pages\.(?:css|js))", CacheControlStaticFilesHandler, {"path": str(PAGES)}),
]
