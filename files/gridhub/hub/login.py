# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a clear message for people who may not use the hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pamela
from jupyterhub.auth import PAMAuthenticator

from gridhub.hub.errors import Refusal
from gridhub.spawner.directory import ask_directory
from gridhub.spawner.failures import SessionError
from gridhub.tls import is_proxy
from gridhub.words import text

T = TypeVar("T")

#: Time limit, in seconds, for checking whether a person may stay logged in. If the directory
#: service takes longer, the person stays logged in until the next check.
DIRECTORY_LIMIT = 5.0

#: Threads in which PAM checks only passwords. A wrong password occupies a thread for seconds
#: (pam_fail_delay(3)). In shared threads, many wrong passwords would delay the checks of people who
#: are logged in, and those checks would delay logins.
PASSWORD_CHECKS = ThreadPoolExecutor(8, "password")

#: PAM's results that can only mean a closed account (pam_acct_mgmt(3)): PAM_PERM_DENIED and
#: PAM_ACCT_EXPIRED. Any other result may come from a failure or maintenance (pam_nologin(8)).
CLOSED = (6, 13)


class ClusterAuthenticator(PAMAuthenticator):
    """PAM login, only for people whom the inventory names.

    Even a person with the right password is refused if the account is closed or if the inventory
    does not name the person. A message gives the reason, so that nobody blames the password.
    """

    #: The allowed groups that this hub has found.
    _known_groups: frozenset[str] = frozenset()

    def objection_to(self, username: str) -> str:
        """Return why PAM refuses an account (pam_acct_mgmt(3)); empty if PAM accepts it."""
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            self.log.warning("The account %s cannot be used: %s", username, error)
            return text("account.closed", name=username, reason=error.message)
        return ""

    def _check_password(self, username: str, password: object) -> bool:
        """Return whether PAM accepts the password; do not check the account.

        JupyterHub's own method also checks the account, and does not show which check failed.
        """
        try:
            pamela.authenticate(
                username, password, service=self.service, encoding=self.encoding, check=False
            )
        except pamela.PAMError as error:
            # Log only the first characters of the name: some people type their password into the
            # name field by mistake.
            self.log.warning("PAM refuses the login of %.32r: %s", username, error)
            return False
        return True

    async def ask(self, query: Callable[[str], T], username: str) -> T:
        """Query the directory service about an account, without blocking the hub."""
        return await ask_directory(query.__name__, username, lambda: query(username))

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password; accept them only from the proxy, which limits login attempts.

        :raises Refusal: 403 with a message for the person when the account is closed.
        """
        username = data["username"]
        if not is_proxy(handler.request.connection.stream.socket):
            self.log.warning(
                "A password for %.32r came from %s, not through the proxy; ignored",
                username,
                handler.request.remote_ip,
            )
            return None
        # PAM asks for the password and the second factor in one conversation, so pass both at once.
        password = (data["password"], data["otp"]) if "otp" in data else data["password"]
        if not await asyncio.get_running_loop().run_in_executor(
            PASSWORD_CHECKS, self._check_password, username, password
        ):
            return None
        if objection := await self.ask(self.objection_to, username):
            raise Refusal(403, text("login.but", objection=objection))
        return username

    def _is_listed(self, username: str) -> bool:
        """Return whether the inventory names a person or one of their groups.

        A group that this hub has never found is left out: it may be mistyped, or not exist yet.

        :raises LookupError: when the account, all groups, or a group that was found before are not
            found; perhaps only because the directory service is down.
        """
        if super().check_allowed(username):
            return True
        found = {}
        for name in self.allowed_groups:
            with contextlib.suppress(KeyError):
                found[name] = self._getgrnam(name)
        lost = self._known_groups - found.keys()
        if lost or (self.allowed_groups and not found):
            raise LookupError(f"no group {', '.join(sorted(lost or self.allowed_groups))}")
        self._known_groups |= found.keys()
        return any(username in group.gr_mem for group in found.values())

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
            async with asyncio.timeout(DIRECTORY_LIMIT):
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
            return True
        self.log.warning("%s may not use the hub any more", user.name)
        token = handler.get_token() if handler else None
        hashes = [getattr(spawner, "token_hash", "") for spawner in user.spawners.values()]
        if token and token.hashed in hashes:
            return False
        raise Refusal(403, text("account.not_here", name=user.name))

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a session if the person has lost the right to use the hub since their login.

        :raises SessionError: with a message for the person.
        """
        if objection := await self.ask(self.objection_to, user.name):
            raise SessionError(objection, reason="account")
        if not await self._stays(user.name):
            raise SessionError(text("account.not_here", name=user.name), reason="account")
        await super().pre_spawn_start(user, spawner)

    def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Return whether a person who has logged in may use the hub.

        :raises Refusal: 403 with a message for the person.
        """
        if super().check_allowed(username, authentication):
            return True
        raise Refusal(403, text("login.not_allowed", name=username))
