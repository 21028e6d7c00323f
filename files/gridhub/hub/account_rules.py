# SPDX-License-Identifier: BSD-3-Clause
"""Who may use the hub, however they have proved who they are."""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Callable
from typing import Any, TypeVar

import pamela
from jupyterhub.auth import Authenticator
from jupyterhub.utils import maybe_future
from pydantic import ValidationError

from gridhub.accounts import NoAccount, NoAnswer, NotOneName, account_of, is_listed
from gridhub.broker.protocol import Look
from gridhub.grid.engine import GridEngineError
from gridhub.hub.errors import Refusal
from gridhub.spawner.cluster import SETTING
from gridhub.spawner.directory import ask_directory
from gridhub.spawner.failures import SessionError
from gridhub.words import text

T = TypeVar("T")

#: PAM's results that can only mean a closed account (pam_acct_mgmt(3)): PAM_PERM_DENIED and
#: PAM_ACCT_EXPIRED. Any other result may come from a failure or maintenance (pam_nologin(8)).
CLOSED = (6, 13)

#: PAM's result for a password that has expired: PAM_NEW_AUTHTOK_REQD.
PASSWORD_EXPIRED = 12

#: PAM's result for a password that was not checked, because the account is locked, or because SSSD
#: cannot reach the directory and has never seen the password: PAM_PERM_DENIED.
NOT_CHECKED = 6

#: PAM's results that do not answer the question: PAM_OPEN_ERR, PAM_SYMBOL_ERR, PAM_SERVICE_ERR,
#: PAM_SYSTEM_ERR, PAM_BUF_ERR, PAM_AUTHINFO_UNAVAIL, PAM_TRY_AGAIN, PAM_ABORT, PAM_MODULE_UNKNOWN.
NO_ANSWER = (1, 2, 3, 4, 5, 9, 24, 26, 28)

#: Why the broker refuses an account for good, at the login already (:attr:`Answer.kind`).
NO_SESSIONS = ("refused", "no_home")


class AccountRules(Authenticator):
    """The rules about accounts, for each way to log in.

    A person's name on the hub is the account's own (:mod:`gridhub.accounts`), by whatever name they
    log in. Even a person who has proved who they are is refused if the account is closed or if the
    inventory does not name the person. A message gives the reason.

    Each way to log in is a subclass, with the settings ``service`` and ``encoding`` of PAM, which
    decides whether an account is open, and ``allowed_groups``.
    """

    #: Whether the person has just used the account's own password.
    uses_password = True

    #: The allowed groups that this hub has found.
    _known_groups: frozenset[str] = frozenset()

    def but(self, objection: str) -> str:
        """Return the message for a person who has proved who they are, and may not log in."""
        return text("login.but", objection=objection)

    def not_allowed(self, name: str) -> str:
        """Return the message for a person whom the inventory does not name."""
        return text("login.not_allowed", name=name)

    def no_answer(self) -> str:
        """Return the message for a person whose account cannot be looked up now."""
        return text("account.no_answer")

    def normalize_username(self, username: str) -> str:
        """Keep a name: :meth:`admit` has asked the directory for the account's own name."""
        return username

    def validate_username(self, username: str) -> bool:
        """Return whether the hub can have a user of this name."""
        return username.isprintable() and bool(super().validate_username(username))

    async def add_user(self, user: Any) -> None:
        """Accept a user without looking for the account.

        JupyterHub calls this method for all users when it starts, and waits for each. A directory
        service that is slow or down must not keep the hub from starting.
        """
        with contextlib.suppress(ValueError):  # a name from a list that nobody can have
            Authenticator.add_user(self, user)

    def objection_to(self, username: str) -> str:
        """Return why PAM refuses an account (pam_acct_mgmt(3)); empty if PAM accepts it.

        :raises NoAnswer: when PAM cannot find out.
        """
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            self.log.warning("The account %s cannot be used: %s", username, error)
            if error.errno in NO_ANSWER:
                raise NoAnswer(f"PAM: {error}") from error
            if error.errno == PASSWORD_EXPIRED:
                if not self.uses_password:
                    return ""
                return text("account.password_expired", name=username, reason=error.message)
            return text("account.closed", name=username, reason=error.message)
        return ""

    async def ask(self, query: Callable[[str], T], username: str) -> T:
        """Query the directory service about an account, without blocking the hub.

        :raises NoAnswer: when it does not answer in time.
        """
        return await ask_directory(query.__name__, username, lambda: query(username))

    async def admit(self, handler: Any, login: str) -> str:
        """Return the account's own name for the name with which a person has logged in.

        :raises Refusal: with a message for the person: 403 when the account cannot be used, 503
            when nobody can find out.
        """
        login = self.username_map.get(login, login)
        try:
            name = (await self.ask(account_of, login)).pw_name
            for each in dict.fromkeys((login, name)):
                if objection := await self.ask(self.objection_to, each):
                    raise Refusal(403, self.but(objection))
        except (NoAnswer, TimeoutError) as error:
            self.log.error("The login of %.32r cannot be checked now: %r", login, error)
            raise Refusal(503, self.no_answer()) from error
        except NoAccount as error:
            objection = text("account.not_on_hub", name=login)
            raise Refusal(403, self.but(objection)) from error
        except NotOneName as error:
            objection = text("account.not_one_name", reason=error)
            raise Refusal(403, self.but(objection)) from error
        await self._look(handler, name)
        return name

    async def _look(self, handler: Any, name: str) -> None:
        """Ask the broker whether an account can have sessions.

        Without an answer, the person may log in: the start of a session asks again.

        :raises Refusal: 403 with a message for the person.
        """
        broker = handler.users.settings[SETTING].broker
        try:
            answer = await broker.ask(Look(user=name))
        except (OSError, TimeoutError, GridEngineError, ValidationError) as error:
            self.log.warning("The broker cannot be asked about the account %s: %r", name, error)
            return
        if answer.kind in NO_SESSIONS:
            self.log.warning("The account %s can have no sessions: %s", name, answer.error)
            raise Refusal(403, self.but(answer.error))

    def _is_listed(self, username: str) -> bool:
        """Return whether the inventory names a person or one of their groups.

        A group that this hub has never found is left out: it may be mistyped, or not exist yet.

        :raises LookupError, OSError: when the account, all groups, or a group that was found before
            are not found; perhaps only because the directory service is down.
        """
        account = account_of(username)
        if is_listed(account, self.blocked_users):
            return False
        if is_listed(account, self.allowed_users):
            return True
        found = {}
        for name in self.allowed_groups:
            with contextlib.suppress(KeyError, ValueError):
                found[name] = grp.getgrnam(name)
        gids = os.getgrouplist(account.pw_name, account.pw_gid)
        if any(each.gr_gid in gids or account.pw_name in each.gr_mem for each in found.values()):
            self._known_groups |= found.keys()
            return True
        lost = self._known_groups - found.keys()
        if lost or (self.allowed_groups and not found):
            raise LookupError(f"no group {', '.join(sorted(lost or self.allowed_groups))}")
        self._known_groups |= found.keys()
        return False

    def _is_closed(self, username: str) -> bool:
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            return error.errno in CLOSED
        return False

    def _may_stay(self, username: str) -> bool:
        """Return whether a person may stay logged in.

        :raises LookupError, OSError: when the directory service gives no clear answer.
        """
        return self._is_listed(username) and not self._is_closed(username)

    async def _stays(self, username: str) -> bool:
        try:
            return await self.ask(self._may_stay, username)
        except (LookupError, OSError) as error:
            self.log.warning("Cannot check now whether %s may stay: %r", username, error)
            return True

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        """Log out a person who may no longer use the hub; their session continues.

        JupyterHub calls this method during a request if the person's last check is at least
        ``auth_refresh_age`` seconds old.

        :returns: True if the person may stay. False if the person may not stay, but the request
            carries the token of their session: JupyterHub still accepts the request, so that the
            session can report its use (``auth_refresh_strict``).
        :raises Refusal: 403 if the person may not stay, and the request carries no such token.
            JupyterHub treats the request as not logged in; False would make JupyterHub 6.1.1 fail.
        """
        if await self._stays(user.name):
            await self._check_name(user)
            return True
        self.log.warning("%s may not use the hub any more", user.name)
        token = handler.get_token() if handler else None
        hashes = [getattr(spawner, "token_hash", "") for spawner in user.spawners.values()]
        if token and token.hashed in hashes:
            return False
        raise Refusal(403, text("account.not_here", name=user.name))

    async def _check_name(self, user: Any) -> None:
        """Log out a person whose account has got another name, so that they log in under that one.

        While the person has a session, only this user of the hub can reach it.

        :raises Refusal: 403 if the account's own name is another one, and there is no session.
        """
        try:
            name = (await self.ask(account_of, user.name)).pw_name
        except (LookupError, OSError):
            return
        if name != user.name and not any(each.active for each in user.spawners.values()):
            raise Refusal(403, text("account.renamed", old=user.name, name=name))

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a session if the person has lost the right to use the hub since their login.

        :raises SessionError: with a message for the person.
        """
        try:
            objection = await self.ask(self.objection_to, user.name)
        except NoAnswer as error:
            raise SessionError(self.no_answer(), reason="account", status_code=503) from error
        if objection:
            raise SessionError(objection, reason="account")
        if not await self._stays(user.name):
            raise SessionError(text("account.not_here", name=user.name), reason="account")
        await maybe_future(super().pre_spawn_start(user, spawner))

    def check_blocked_users(self, username: str, authentication: Any = None) -> bool:
        """Leave blocked people to :meth:`check_allowed`, which knows all names of an account."""
        return True

    async def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Return whether a person who has logged in may use the hub.

        :raises Refusal: with a message for the person: 403 if the person may not, 503 if it cannot
            be found out.
        """
        try:
            if await self.ask(self._is_listed, username):
                return True
        except (LookupError, OSError) as error:
            self.log.error("Cannot find out now whether %s may log in: %r", username, error)
            raise Refusal(503, self.no_answer()) from error
        raise Refusal(403, self.not_allowed(username))
