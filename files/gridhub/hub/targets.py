# SPDX-License-Identifier: BSD-3-Clause
"""Keep where a person is going, on every way that leads to the form or back to it.

The target is JupyterHub's argument ``next``: the address to open when the session is up, such as a
notebook that a course links to. A target is always an address of this hub or of its sessions. On
its way through the pages it does not get longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from jupyterhub.handlers import default_handlers
from jupyterhub.handlers.base import BaseHandler, UserRedirectHandler
from jupyterhub.handlers.pages import SpawnPendingHandler
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

#: The argument with the target.
NEXT = "next"

#: A target may contain a page that has a target itself. Deeper nesting than this is not followed.
MAX_NESTING = 8


def simplest(url: str, validate: Callable[[str], str], base_url: str, own: str) -> str:
    """Return the simplest address that leads to the same place; empty for a foreign address.

    The form of the session itself is no target, nor is the login page: the target of such a page is
    taken instead. Otherwise, each round through the form would add a level.

    :param validate: returns an address of this hub as a path, and an empty text for any other.
    :param base_url: the path of the proxy, which ends in a slash. The hub's path is below it.
    :param own: the session: the person's name, with the server's name after a slash if it has one.
    """
    for _ in range(MAX_NESTING):
        # Browsers read a backslash as a slash.
        url = "" if "\\" in url else validate(url)
        parts = urlsplit(url)
        page, _, rest = parts.path.removeprefix(f"{base_url}hub/").partition("/")
        if not parts.path.startswith(f"{base_url}hub/"):
            break
        if page == "user":
            # The hub answers at this address only while the session is not running.
            parts = parts._replace(path=f"{base_url}user/{rest}")
            break
        if page != "login" and (
            page not in ("spawn", "spawn-pending")
            or (unquote(rest).strip("/") or own.partition("/")[0]) != own
        ):
            break
        url = dict(parse_qsl(parts.query)).get(NEXT, "")
    else:
        return ""
    if parts.path.startswith(f"{base_url}user/"):
        # JupyterHub counts redirects here, and refuses the address after a few.
        query = parts.query.split("&")
        kept = [each for each in query if not re.fullmatch(r"redirects=\d*", each)]
        parts = parts._replace(query="&".join(kept))
    return urlunsplit(parts)


class WithTarget(BaseHandler):
    """A page of one session that keeps the target.

    The first two groups of the page's address are the person's name and the server's name; both may
    be missing.
    """

    @property
    def own(self) -> str:
        """The session: the person's name, and the server's name after a slash if it has one."""
        mine = self.current_user.name if self.current_user else ""
        user, server = [*self.path_args, "", ""][:2]
        return "/".join(filter(None, (user or mine, server)))

    @property
    def target(self) -> str:
        """Where the person is going; empty if nowhere in particular."""
        try:
            url = self.get_argument(NEXT, "")
        except web.HTTPError:  # it is not text; an error page needs a target too
            return ""
        return simplest(url, self._validate_next_url, self.base_url, self.own)

    @property
    def form_url(self) -> str:
        """The address of the session's form, with the target."""
        session = [url_escape_path(each) for each in self.own.split("/")]
        return with_target(url_path_join(self.hub.base_url, "spawn", *session), self.target)

    @property
    def template_namespace(self) -> dict[str, Any]:
        """The variables of all templates, with the target and the address of the form."""
        values: dict[str, Any] = super().template_namespace
        return {**values, "target": self.target, "form_url": self.form_url}

    def keep_target(self, *dropped: str) -> None:
        """Put the simplest target into the request, and remove other arguments from its address.

        :param dropped: the arguments to remove.
        """
        target = self.target
        request = self.request
        query = [
            (name, value)
            for name, value in parse_qsl(request.query, keep_blank_values=True)
            if name not in (NEXT, *dropped)
        ] + ([(NEXT, target)] if target else [])
        request.uri = url_concat(request.path, query)
        request.query = urlsplit(request.uri).query
        for arguments in (request.arguments, request.query_arguments):
            for name in (NEXT, *dropped):
                arguments.pop(name, None)
            if target:
                arguments[NEXT] = [target.encode()]


def with_target(url: str, target: str) -> str:
    """Return an address with a target added, if there is one."""
    return str(url_concat(url, {NEXT: target})) if target else url


class PendingHandler(WithTarget, SpawnPendingHandler):
    """Shows the progress of a start, and why a session is not running; keeps the target."""

    async def prepare(self) -> None:
        """Keep only the target."""
        await super().prepare()
        self.keep_target(*self.request.query_arguments)

    def render_template(self, name: str, sync: bool = False, **values: Any) -> Any:
        """Render a page; its link to the form has the target."""
        if "spawn_url" in values:
            values["spawn_url"] = self.form_url
        return super().render_template(name, sync, **values)


class CourseLinkHandler(UserRedirectHandler):
    """Leads to an address in the person's own session, exactly as the link has it.

    JupyterHub would change an address with escaped characters, such as ``%23`` in a file's name,
    and remove arguments without a value.
    """

    @web.authenticated
    async def get(self, path: str) -> None:
        """Redirect to the form, with the address as target."""
        if self.app.user_redirect_hook or self.app.default_server_name:
            await super().get(path)
            return
        user = self.current_user
        _, _, rest = self.request.path.partition("/user-redirect/")
        address = url_path_join(user.url, rest)
        if self.request.query:
            address += f"?{self.request.query}"
        form = url_path_join(self.hub.base_url, "spawn", user.escaped_name)
        self.redirect(with_target(form, address))


_OURS = {SpawnPendingHandler: PendingHandler, UserRedirectHandler: CourseLinkHandler}
default_handlers[:] = [
    (entry[0], _OURS.get(entry[1], entry[1]), *entry[2:]) for entry in default_handlers
]
