# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a clear message for people who may not use the hub."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pamela
from jupyterhub.auth import Authenticator, PAMAuthenticator
from pydantic import ValidationError

from gridhub.accounts import NoAccount, NoAnswer, NotOneName, account_of, is_listed
from gridhub.broker.protocol import Look
from gridhub.grid.engine import GridEngineError
from gridhub.hub.errors import Refusal
from gridhub.spawner.cluster import SETTING
from gridhub.spawner.directory import ask_directory
from gridhub.spawner.failures import SessionError
from gridhub.tls import is_proxy
from gridhub.words import text

T = TypeVar("T")

#: Threads in which PAM checks only passwords. A wrong password occupies a thread for seconds
#: (pam_fail_delay(3)). In shared threads, many wrong passwords would delay the checks of people who
#: are logged in, and those checks would delay logins.
PASSWORD_CHECKS = ThreadPoolExecutor(8, "password")

#: How long a login waits for PAM, in seconds.
PASSWORD_LIMIT = 40.0

#: PAM's results that can only mean a closed account (pam_acct_mgmt(3)): PAM_PERM_DENIED and
#: PAM_ACCT_EXPIRED. Any other result may come from a failure or maintenance (pam_nologin(8)).
CLOSED = (6, 13)

#: PAM's result for a password that has expired: PAM_NEW_AUTHTOK_REQD.
PASSWORD_EXPIRED = 12

#: PAM's results that do not answer the question: PAM_OPEN_ERR, PAM_SYMBOL_ERR, PAM_SERVICE_ERR,
#: PAM_SYSTEM_ERR, PAM_BUF_ERR, PAM_AUTHINFO_UNAVAIL, PAM_TRY_AGAIN, PAM_ABORT, PAM_MODULE_UNKNOWN.
NO_ANSWER = (1, 2, 3, 4, 5, 9, 24, 26, 28)

#: Why the broker refuses an account for good, at the login already (:attr:`Answer.kind`).
NO_SESSIONS = ("refused", "no_home")


def accepted_name(username: str, passwords: Sequence[str], service: str, encoding: str) -> str:
    """Return the name under which PAM accepts the passwords, without checking the account.

    PAM's modules may change the name (PAM_USER, pam_get_item(3)), such as when a person types an
    e-mail address. :func:`pamela.authenticate` does not report it, or does not end the transaction.

    :raises pamela.PAMError: when PAM refuses them, or cannot check them.
    """
    answers = pamela.new_simple_password_conv(passwords, encoding)
    transaction = pamela.pam_start(service, username, conv_func=answers, encoding=encoding)
    code = pamela.PAM_AUTHENTICATE(transaction, 0)
    name = username
    if code == pamela.PAM_SUCCESS:
        pamela.PAM_SETCRED(transaction, pamela.PAM_REINITIALIZE_CRED)
        name = transaction.get_item(pamela.PAM_USER, encoding) or username
    pamela.pam_end(transaction, code)
    return name


class ClusterAuthenticator(PAMAuthenticator):
    """PAM login, only for people whom the inventory names.

    Even a person with the right password is refused if the account is closed or if the inventory
    does not name the person. A message gives the reason, so that nobody blames the password.

    A person's name on the hub is the account's own (:mod:`gridhub.accounts`), whatever they type.
    """

    #: The allowed groups that this hub has found.
    _known_groups: frozenset[str] = frozenset()

    def normalize_username(self, username: str) -> str:
        """Keep a name: :meth:`authenticate` has asked the directory for the account's own name."""
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
                return text("account.password_expired", name=username, reason=error.message)
            return text("account.closed", name=username, reason=error.message)
        return ""

    def _check_password(self, username: str, passwords: Sequence[str]) -> str | None:
        """Return the name under which PAM accepts the password; ``None`` if it refuses it.

        Do not check the account: JupyterHub's own method does, and does not show which check
        failed.

        :raises NoAnswer: when the directory service cannot be asked.
        """
        try:
            return accepted_name(username, passwords, self.service, self.encoding)
        except pamela.PAMError as error:
            # Log only the first characters of the name: some people type their password into the
            # name field by mistake.
            self.log.warning("PAM refuses the login of %.32r: %s", username, error)
            if error.errno in NO_ANSWER:
                raise NoAnswer(f"PAM: {error}") from error
            # Most systems' PAM files hide that a module had no answer. NSS may have none either.
            with contextlib.suppress(NoAccount, NotOneName):
                account_of(username)
            return None

    async def ask(self, query: Callable[[str], T], username: str) -> T:
        """Query the directory service about an account, without blocking the hub.

        :raises NoAnswer: when it does not answer in time.
        """
        return await ask_directory(query.__name__, username, lambda: query(username))

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password; accept them only from the proxy, which limits login attempts.

        :returns: the account's own name; ``None`` if name or password is wrong.
        :raises Refusal: with a message for the person: 403 when the account cannot be used, 503
            when nobody can find out.
        """
        username = data["username"]
        if not is_proxy(handler.request.connection.stream.socket):
            self.log.warning(
                "A password for %.32r came from %s, not through the proxy; ignored",
                username,
                handler.request.remote_ip,
            )
            return None
        if not username.isprintable():  # PAM would read it only up to a NUL character
            return None
        # PAM asks for the password and the second factor in one conversation, so pass both at once.
        passwords = [data[each] for each in ("password", "otp") if each in data]
        try:
            async with asyncio.timeout(PASSWORD_LIMIT):
                login = await asyncio.get_running_loop().run_in_executor(
                    PASSWORD_CHECKS, self._check_password, username, passwords
                )
            if login is None:
                return None
            login = self.username_map.get(login, login)
            name = (await self.ask(account_of, login)).pw_name
            for each in dict.fromkeys((login, name)):
                if objection := await self.ask(self.objection_to, each):
                    raise Refusal(403, text("login.but", objection=objection))
        except (NoAnswer, TimeoutError) as error:
            self.log.error("The login of %.32r cannot be checked now: %r", username, error)
            raise Refusal(503, text("account.no_answer")) from error
        except NoAccount as error:
            objection = text("account.not_on_hub", name=login)
            raise Refusal(403, text("login.but", objection=objection)) from error
        except NotOneName as error:
            objection = text("account.not_one_name", reason=error)
            raise Refusal(403, text("login.but", objection=objection)) from error
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
            raise Refusal(403, text("login.but", objection=answer.error))

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
            words = text("account.no_answer")
            raise SessionError(words, reason="account", status_code=503) from error
        if objection:
            raise SessionError(objection, reason="account")
        if not await self._stays(user.name):
            raise SessionError(text("account.not_here", name=user.name), reason="account")
        await super().pre_spawn_start(user, spawner)

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
            raise Refusal(503, text("account.no_answer")) from error
        raise Refusal(403, text("login.not_allowed", name=username))
