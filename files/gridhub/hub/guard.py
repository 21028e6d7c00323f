# SPDX-License-Identifier: BSD-3-Clause
"""Apply the limits of :mod:`gridhub.hub.rate_limits` to each person's requests for any path.

Importing this module is enough: the module replaces :meth:`BaseHandler.prepare`, which identifies
the requester of every request. The proxy, not the hub, counts the requests of clients that are not
logged in. If a session sends a request without a token, the request counts for the session that the
certificate names.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from math import ceil
from typing import Any, NamedTuple

from jupyterhub import orm
from jupyterhub.apihandlers import default_handlers
from jupyterhub.apihandlers.auth import OAuthAuthorizeHandler, OAuthTokenHandler
from jupyterhub.apihandlers.users import (
    ActivityAPIHandler,
    SelfAPIHandler,
    SpawnProgressAPIHandler,
    UserServerAPIHandler,
    UserTokenAPIHandler,
    UserTokenListAPIHandler,
)
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.log import log_request as log_every_request
from jupyterhub.metrics import prometheus_log_method
from jupyterhub.scopes import Scope
from jupyterhub.user import User
from jupyterhub.utils import utcnow
from sqlalchemy import or_
from tornado import web

from gridhub.hub.errors import Refusal
from gridhub.hub.rate_limits import Limits, rates, whole_wait
from gridhub.spawner import metrics
from gridhub.spawner.session_log import requester
from gridhub.tls import session_of
from gridhub.words import number_text, text

#: The name of the hub's setting that holds the :class:`~gridhub.hub.rate_limits.Limits`.
SETTING = "person_limits"

#: The longest body of a person's request, in bytes. The hub stores parts of the body unchanged, so
#: the body must not be long. The broker has an equal limit for its requests.
MAX_BODY = 65_536

#: The maximum length of a token's note, in characters.
MAX_NOTE = 255

#: How many progress streams of starting sessions a person may have open at the same time.
MAX_STREAMS = 20
open_streams: Counter[str] = Counter()

#: How many of a person's logins to sessions the hub keeps; older logins are dropped. A browser
#: whose login was dropped logs in again automatically when it loads a page.
MAX_LOGINS = 200


class Counted(NamedTuple):
    """How a request is counted."""

    #: A key of :func:`gridhub.hub.rate_limits.rates`.
    kind: str
    #: Requests do not count if the requester has this right for all people, like an administrator.
    right: str = ""


#: How requests are counted, keyed by handler and method. Unlisted requests count as ``requests``.
COUNTED: dict[tuple[type, str], Counted] = {
    (SpawnHandler, "GET"): Counted("looks"),
    (SpawnHandler, "POST"): Counted("starts", "servers"),
    (UserServerAPIHandler, "POST"): Counted("starts", "start:servers"),
    (UserServerAPIHandler, "DELETE"): Counted("reports", "delete:servers"),
    (UserTokenAPIHandler, "DELETE"): Counted("reports", "tokens"),
    (ActivityAPIHandler, "POST"): Counted("reports", "users:activity"),
    (SelfAPIHandler, "GET"): Counted("reports"),
    (OAuthTokenHandler, "POST"): Counted("reports"),
    (OAuthAuthorizeHandler, "GET"): Counted("logins"),
    (OAuthAuthorizeHandler, "POST"): Counted("logins"),
}


def counted(handler: type, method: str) -> Counted:
    """Return how requests to a handler are counted; an entry for a base class applies too."""
    found = (COUNTED.get((each, method)) for each in handler.__mro__)
    return next(filter(None, found), Counted("requests"))


class TooMany(Refusal):
    """A refusal because a person has reached a limit; it is logged at most once a minute."""

    def __init__(self, name: str, seconds: float) -> None:
        wait, unit = whole_wait(seconds)
        shown = "requests" if name == "reports" else name
        words = text(f"limit.{shown}", wait=f"{wait} {number_text(f'unit.{unit}', wait)}")
        super().__init__(429, words)
        # With a log message, Tornado would log every refusal.
        self._log_message = None
        self.headers = {"Retry-After": str(max(ceil(seconds), 1))}


def _limits(handler: BaseHandler) -> Limits:
    limits: Limits | None = handler.settings.get(SETTING)
    if limits is None:
        limits = handler.settings[SETTING] = Limits(rates())
    return limits


def _has_for_all(handler: BaseHandler, right: str) -> bool:
    return bool(right) and handler.parsed_scopes.get(right) is Scope.ALL


def _socket(handler: BaseHandler) -> Any:
    return getattr(getattr(handler.request.connection, "stream", None), "socket", None)


def _name(handler: BaseHandler) -> str:
    """Return the sender of a request; empty for a service, or if the proxy counts the request."""
    requester = handler.current_user
    if isinstance(requester, User):
        return str(requester.name)
    if requester is None and (session := session_of(_socket(handler))):
        return f"session {session}"  # account names contain no spaces
    return ""


def count_request(handler: BaseHandler, kind: str) -> None:
    """Count a request.

    :param kind: a key of :func:`gridhub.hub.rate_limits.rates`.
    :raises TooMany: when the person has reached the limit for that kind.
    """
    name = _name(handler)
    if not name:
        return
    limits = _limits(handler)
    if wait := limits.take(name, kind):
        _refuse(handler, limits, name, kind, wait)


def _refuse(handler: BaseHandler, limits: Limits, name: str, kind: str, wait: float) -> None:
    metrics.refusal(f"limit_{kind}")
    if limits.take(name, "lines", kind):
        handler.is_quiet = True
    else:
        handler.log.warning(
            "%s has reached the limit for %s; further refusals are not logged for a minute",
            name,
            kind,
        )
    raise TooMany(kind, wait)


_prepare = BaseHandler.prepare


async def prepare(self: BaseHandler) -> None:
    """Identify the requester, as JupyterHub does, then apply the requester's limits."""
    await _prepare(self)
    requester.set(str(self.current_user.name) if isinstance(self.current_user, User) else "")
    how = counted(type(self), self.request.method)
    if not _has_for_all(self, how.right):
        count_request(self, how.kind)
    if len(self.request.body) > MAX_BODY and _name(self) and not _has_for_all(self, "admin:users"):
        raise Refusal(413, text("most.body", most=MAX_BODY // 1024))


BaseHandler.prepare = prepare


def log_request(handler: web.RequestHandler) -> None:
    """Log a request, unless it was refused because of a limit that the log already mentions."""
    if getattr(handler, "is_quiet", False):
        prometheus_log_method(handler)
    else:
        log_every_request(handler)


class TokensHandler(UserTokenListAPIHandler):
    """Makes tokens, up to the number that a person may have."""

    _is_counted = False

    def _resolve_roles_and_scopes(self) -> None:
        """Find out what the requester may do, and count the request.

        The requester may have sent a password in the body. JupyterHub checks the password only in
        this method, so :func:`prepare` could not know the requester.
        """
        super()._resolve_roles_and_scopes()
        if self.request.method == "POST" and self.current_user is not None and not self._is_counted:
            self._is_counted = True
            if not _has_for_all(self, "tokens"):
                count_request(self, "tokens")

    async def post(self, user_name: str) -> None:
        """Make a token, unless the note is too long or the person has too many tokens.

        :raises Refusal: with a message for the person.
        """
        body = self.get_json_body()
        note = body.get("note") if isinstance(body, dict) else None
        if note is not None and (not isinstance(note, str) or len(note) > MAX_NOTE):
            raise Refusal(400, text("most.note", most=MAX_NOTE))
        await super().post(user_name)

    def get_scope_filter(self, req_scope: str) -> Any:
        """Return a filter that selects the people for whom the requester may make a token.

        The filter raises :class:`Refusal` for a person who already has the maximum number of
        tokens. JupyterHub calls the filter right before making a token.
        """
        may = super().get_scope_filter(req_scope)
        if self.request.method != "POST" or req_scope != "tokens":
            return may

        def may_have_one_more(user: Any, kind: str) -> bool:
            if not may(user, kind=kind):
                return False
            most = _limits(self).tokens
            if own_tokens(self.db, user) >= most:
                raise Refusal(409, text("most.tokens", number=most))
            return True

        return may_have_one_more


def own_tokens(database: Any, user: Any) -> int:
    """Return how many valid tokens a person has made for themselves.

    The tokens of sessions, and of logins to sessions, do not count, because JupyterHub makes them.
    The tokens' notes are not checked, because a person can give a token any note.
    """
    hashes = [getattr(spawner, "token_hash", "") for spawner in user.spawners.values()]
    return int(
        database.query(orm.APIToken)
        .filter(orm.APIToken.user_id == user.id)
        .filter(orm.APIToken.client_id == "jupyterhub")
        .filter(or_(orm.APIToken.expires_at.is_(None), orm.APIToken.expires_at >= utcnow()))
        .filter(orm.APIToken.hashed.not_in(hashes))
        .count()
    )


def forget_old_logins(database: Any, user: Any) -> int:
    """Delete the tokens of a person's logins to sessions, except the newest :data:`MAX_LOGINS`.

    :returns: how many tokens were deleted.
    """
    old = (
        database.query(orm.APIToken)
        .filter(orm.APIToken.user_id == user.id)
        .filter(orm.APIToken.client_id != "jupyterhub")
        .order_by(orm.APIToken.id.desc())
        .offset(MAX_LOGINS)
        .all()
    )
    for token in old:
        database.delete(token)
    if old:
        database.commit()
    return len(old)


class AuthorizeHandler(OAuthAuthorizeHandler):
    """Logs a person in to a session; each login stores a token for two weeks."""

    async def prepare(self) -> None:
        """Delete old login tokens to make room for a new one."""
        await super().prepare()
        if isinstance(self.current_user, User):
            forget_old_logins(self.db, self.current_user)


class ProgressHandler(SpawnProgressAPIHandler):
    """Streams the progress of a start to a limited number of the person's open pages."""

    _streams_of = ""
    _work: asyncio.Future[None] | None = None

    async def get(self, user_name: str, server_name: str = "") -> None:
        """Stream the progress until the start is over or the page is closed.

        :raises TooMany: when the person has too many streams open.
        """
        name = _name(self)
        if name:
            if open_streams[name] >= MAX_STREAMS:
                _refuse(self, _limits(self), name, "streams", 10.0)
            self._streams_of = name
            open_streams[name] += 1
        self._work = asyncio.ensure_future(super().get(user_name, server_name))
        with suppress(asyncio.CancelledError):
            await self._work

    async def keepalive(self) -> None:
        """Send keep-alive lines from time to time.

        Wait a moment first, so that no keep-alive line is sent before a refusal.
        """
        await asyncio.wait([self._finish_future], timeout=0.5)
        await super().keepalive()

    def on_connection_close(self) -> None:
        """Stop the stream at once; JupyterHub would wait for an event that may never come."""
        super().on_connection_close()
        self._release()
        if self._work:
            self._closing = asyncio.ensure_future(self._end(self._work))

    @staticmethod
    async def _end(work: asyncio.Future[None]) -> None:
        # JupyterHub mistakes the first cancellation for the end of the progress, and then waits
        # until the session has started. So cancel the work repeatedly until it ends.
        while not work.done():
            work.cancel()
            await asyncio.wait([work], timeout=0.1)

    def on_finish(self) -> None:
        """Make room for another stream."""
        super().on_finish()
        self._release()

    def _release(self) -> None:
        name, self._streams_of = self._streams_of, ""
        if name:
            open_streams[name] -= 1
            if not open_streams[name]:
                del open_streams[name]


_OURS = {
    UserTokenListAPIHandler: TokensHandler,
    OAuthAuthorizeHandler: AuthorizeHandler,
    SpawnProgressAPIHandler: ProgressHandler,
}
default_handlers[:] = [
    (entry[0], _OURS.get(entry[1], entry[1]), *entry[2:]) for entry in default_handlers
]
