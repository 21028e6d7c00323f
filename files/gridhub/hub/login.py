# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a plain word to people who may not use the hub."""

from __future__ import annotations

import asyncio
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

#: How long a person waits at most until it is known whether they may stay, in seconds. A directory
#: service that takes longer is asked again later.
DIRECTORY_LIMIT = 5.0

#: Where PAM checks passwords. It takes seconds over a wrong one (pam_fail_delay(3)): whoever tries
#: many must not hold up the questions about the people who are there, nor these a login.
_passwords = ThreadPoolExecutor(8, "password")

#: What PAM answers about an account that is closed for sure (pam_acct_mgmt(3)): PAM_PERM_DENIED and
#: PAM_ACCT_EXPIRED. Others also mean trouble, or a maintenance (pam_nologin(8)).
CLOSED = (6, 13)


class ClusterAuthenticator(PAMAuthenticator):
    """PAM login for the people the inventory names, and nobody else by accident.

    Whoever gives the right password but is not named, or whose account is closed, is told so,
    instead of being left to try the password again.
    """

    def _objection(self, username: str) -> str:
        """Return why PAM does not let an account be used (pam_acct_mgmt(3)); empty if it does."""
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            self.log.warning("The account %s cannot be used: %s", username, error)
            return text("account.closed", name=username, reason=error.message)
        return ""

    def _check_password(self, username: str, password: object) -> bool:
        """Tell whether PAM takes the password; of the account it says nothing.

        JupyterHub's way asks about both at once, and cannot tell the answers apart.
        """
        try:
            pamela.authenticate(
                username, password, service=self.service, encoding=self.encoding, check=False
            )
        except pamela.PAMError as error:
            # Cut, because people type their password here by mistake.
            self.log.warning("PAM refuses the login of %.32r: %s", username, error)
            return False
        return True

    async def _ask(self, question: Callable[[str], T], username: str) -> T:
        return await ask_directory(question.__name__, username, lambda: question(username))

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password, which the proxy alone may bring: it limits how often.

        :raises Refusal: 403 with a message for the person when the account is closed.
        """
        username = data["username"]
        if not is_proxy(handler.request.connection.stream.socket):
            self.log.warning(
                "A password for %.32r has come from %s, past the proxy; not looked at",
                username,
                handler.request.remote_ip,
            )
            return None
        # A second factor is asked for in the same conversation.
        password = (data["password"], data["otp"]) if "otp" in data else data["password"]
        if not await asyncio.get_running_loop().run_in_executor(
            _passwords, self._check_password, username, password
        ):
            return None
        if objection := await self._ask(self._objection, username):
            raise Refusal(403, text("login.but", objection=objection))
        return username

    def _is_listed(self, username: str) -> bool:
        """Tell whether the inventory names a person, or a group of theirs.

        :raises LookupError: when the account or a group is not found: gone, or the directory
            service is down, which looks the same.
        """
        if super().check_allowed(username):
            return True
        groups = [self._getgrnam(name) for name in self.allowed_groups]
        return any(username in group.gr_mem for group in groups)

    def _is_closed(self, username: str) -> bool:
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            return error.errno in CLOSED
        return False

    def _may_stay(self, username: str) -> bool:
        """Tell whether a person who once logged in may go on: no is only what is known for sure.

        :raises LookupError, OSError: when it is not known.
        """
        return self._is_listed(username) and not self._is_closed(username)

    async def _stays(self, username: str) -> bool:
        try:
            async with asyncio.timeout(DIRECTORY_LIMIT):
                return await self._ask(self._may_stay, username)
        except (LookupError, OSError) as error:
            self.log.warning("Whether %s may stay cannot be told now: %r", username, error)
            return True

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        """Log a person out who may not use the hub any more; their session runs on.

        JupyterHub asks at a request, when the last answer is ``auth_refresh_age`` seconds old.

        :returns: False for the session's own token, with which it still tells the hub that it is in
            use (``auth_refresh_strict``).
        :raises Refusal: 403 for all else. JupyterHub takes that for nobody who has
            logged in; it could not do so with False, after which it fails (6.1.1).
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
        """Refuse a session to whoever may not have one since they logged in.

        :raises SessionError: with a message for the person.
        """
        if objection := await self._ask(self._objection, user.name):
            raise SessionError(objection, reason="account")
        if not await self._stays(user.name):
            raise SessionError(text("account.not_here", name=user.name), reason="account")
        await super().pre_spawn_start(user, spawner)

    def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Tell whether a person who has logged in may use the hub.

        :raises Refusal: 403 with a message for the person.
        """
        if super().check_allowed(username, authentication):
            return True
        raise Refusal(403, text("login.not_allowed", name=username))
