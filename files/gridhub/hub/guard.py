# SPDX-License-Identifier: BSD-3-Clause
"""Holds each person to the limits of :mod:`gridhub.hub.limits`, at every way into the hub.

To import it is enough: every request of JupyterHub's goes through :meth:`BaseHandler.prepare`,
which finds out whose it is. What comes from nobody is counted by the proxy; what comes from a
session without saying for whom, by the session's certificate.
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
from gridhub.hub.limits import Limits, rates, whole_wait
from gridhub.tls import session_of
from gridhub.words import number_text, text

#: The setting of the hub's that holds its :class:`~gridhub.hub.limits.Limits`.
SETTING = "person_limits"

#: The longest body of a person's request, in bytes: some of it is stored as it is. The broker
#: takes no longer choice either.
MAX_BODY = 65_536

#: The longest note of a token, in characters.
MAX_NOTE = 255

#: How many streams of one person's sessions that start the hub serves at a time.
MAX_STREAMS = 20
_streams: Counter[str] = Counter()

#: How many logins of a person to sessions are remembered: a browser whose login is dropped logs in
#: again by itself, when it loads a page.
MAX_LOGINS = 200


class Counted(NamedTuple):
    """How a request is counted."""

    #: One of :func:`gridhub.hub.limits.rates`.
    kind: str
    #: With this right over everybody's sessions it is not counted: an administrator's work.
    right: str = ""


#: By handler and method, where it is not ``requests``.
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
    """Return how requests of a handler are counted, as what it inherits from are."""
    found = (COUNTED.get((each, method)) for each in handler.__mro__)
    return next(filter(None, found), Counted("requests"))


class TooMany(Refusal):
    """A person has met a limit; the message is for them. What goes wrong is logged once."""

    def __init__(self, name: str, seconds: float) -> None:
        wait, unit = whole_wait(seconds)
        told = "requests" if name == "reports" else name
        words = text(f"limit.{told}", wait=f"{wait} {number_text(f'unit.{unit}', wait)}")
        super().__init__(429, words)
        # Tornado would log it each time.
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
    """Return whose request it is; empty where it is a service's, or the proxy counts it."""
    requester = handler.current_user
    if isinstance(requester, User):
        return str(requester.name)
    if requester is None and (session := session_of(_socket(handler))):
        return f"session {session}"  # no account has a blank in its name
    return ""


def hold(handler: BaseHandler, kind: str) -> None:
    """Count a request.

    :param kind: one of :func:`gridhub.hub.limits.rates`.
    :raises TooMany: when its person has had enough of that kind.
    """
    name = _name(handler)
    if not name:
        return
    limits = _limits(handler)
    if wait := limits.take(name, kind):
        _refuse(handler, limits, name, kind, wait)


def _refuse(handler: BaseHandler, limits: Limits, name: str, kind: str, wait: float) -> None:
    if limits.take(name, "lines", kind):
        handler.is_quiet = True
    else:
        handler.log.warning(
            "%s has met the limit for %s; what else is refused is not logged for a minute",
            name,
            kind,
        )
    raise TooMany(kind, wait)


_prepare = BaseHandler.prepare


async def prepare(self: BaseHandler) -> None:
    """Find out whose request it is, as JupyterHub does, and hold them to their limits."""
    await _prepare(self)
    how = counted(type(self), self.request.method)
    if not _has_for_all(self, how.right):
        hold(self, how.kind)
    if len(self.request.body) > MAX_BODY and _name(self) and not _has_for_all(self, "admin:users"):
        raise Refusal(413, text("most.body", most=MAX_BODY // 1024))


BaseHandler.prepare = prepare


def log_request(handler: web.RequestHandler) -> None:
    """Log a request, but for those that a limit has refused, of which one line tells."""
    if getattr(handler, "is_quiet", False):
        prometheus_log_method(handler)
    else:
        log_every_request(handler)


class TokensHandler(UserTokenListAPIHandler):
    """Makes tokens, as many as a person may have."""

    _held = False

    def _resolve_roles_and_scopes(self) -> None:
        """Find out what the requester may do: it is known only now who it is.

        A person may also give their password in the body, which JupyterHub looks at late.
        """
        super()._resolve_roles_and_scopes()
        if self.request.method == "POST" and self.current_user is not None and not self._held:
            self._held = True
            if not _has_for_all(self, "tokens"):
                hold(self, "tokens")

    async def post(self, user_name: str) -> None:
        """Make a token, unless the note is too long or the person has too many.

        :raises Refusal: with a message for the person.
        """
        body = self.get_json_body()
        note = body.get("note") if isinstance(body, dict) else None
        if note is not None and (not isinstance(note, str) or len(note) > MAX_NOTE):
            raise Refusal(400, text("most.note", most=MAX_NOTE))
        await super().post(user_name)

    def get_scope_filter(self, req_scope: str) -> Any:
        """Return who may be made tokens for: of these nobody who has too many already.

        JupyterHub asks for it right before it makes one.
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
    """Return how many tokens a person has that they have made themselves and that are still good.

    Those of sessions, and those that logins to sessions leave, are JupyterHub's own affair. What a
    token's note says is the person's to choose, and tells nothing.
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
    """Drop what the oldest logins of a person to sessions have left, but for the newest ones.

    :returns: how many were dropped.
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
    """Logs a person in to a session, which leaves a token for two weeks."""

    async def prepare(self) -> None:
        """Make room for one more."""
        await super().prepare()
        if isinstance(self.current_user, User):
            forget_old_logins(self.db, self.current_user)


class ProgressHandler(SpawnProgressAPIHandler):
    """Streams how far a start is, to so many pages of a person and as long as they are there."""

    _streams_of = ""
    _work: asyncio.Future[None] | None = None

    async def get(self, user_name: str, server_name: str = "") -> None:
        """Stream it until the start is over, or the page is closed.

        :raises TooMany: when the person has too many of them open.
        """
        name = _name(self)
        if name:
            if _streams[name] >= MAX_STREAMS:
                _refuse(self, _limits(self), name, "streams", 10.0)
            self._streams_of = name
            _streams[name] += 1
        self._work = asyncio.ensure_future(super().get(user_name, server_name))
        with suppress(asyncio.CancelledError):
            await self._work

    async def keepalive(self) -> None:
        """Write something now and then; not before a refusal, which has an answer of its own."""
        await asyncio.wait([self._finish_future], timeout=0.5)
        await super().keepalive()

    def on_connection_close(self) -> None:
        """Stop at once: JupyterHub would notice with the next thing there is to say, if ever."""
        super().on_connection_close()
        self._release()
        if self._work:
            self._closing = asyncio.ensure_future(self._end(self._work))

    @staticmethod
    async def _end(work: asyncio.Future[None]) -> None:
        # JupyterHub takes one cancellation for the end of the start, and waits for that.
        while not work.done():
            work.cancel()
            await asyncio.wait([work], timeout=0.1)

    def on_finish(self) -> None:
        """Let another one in."""
        super().on_finish()
        self._release()

    def _release(self) -> None:
        name, self._streams_of = self._streams_of, ""
        if name:
            _streams[name] -= 1
            if not _streams[name]:
                del _streams[name]


_OURS = {
    UserTokenListAPIHandler: TokensHandler,
    OAuthAuthorizeHandler: AuthorizeHandler,
    SpawnProgressAPIHandler: ProgressHandler,
}
default_handlers[:] = [
    (entry[0], _OURS.get(entry[1], entry[1]), *entry[2:]) for entry in default_handlers
]
