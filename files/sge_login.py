# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a plain word to people who may not use the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pamela
from jupyterhub.auth import PAMAuthenticator
from tornado import web

from sge_spawner import SessionError, directory
from sge_words import say

T = TypeVar("T")


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
            return say("account.closed", name=username, reason=error.message)
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

    async def _ask(self, question: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(directory, question, *arguments)

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password.

        :raises tornado.web.HTTPError: 403 with a message for the person when the account is closed.
        """
        username = data["username"]
        # A second factor is asked for in the same conversation.
        password = (data["password"], data["otp"]) if "otp" in data else data["password"]
        if not await self._ask(self._check_password, username, password):
            return None
        if objection := await self._ask(self._objection, username):
            raise web.HTTPError(403, say("login.but", objection=objection))
        return username

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a session to an account that was closed after its person had logged in.

        :raises SessionError: with a message for the person.
        """
        if objection := await self._ask(self._objection, user.name):
            raise SessionError(objection, reason="account")
        await super().pre_spawn_start(user, spawner)

    def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Tell whether a person who has logged in may use the hub.

        :raises tornado.web.HTTPError: 403 with a message for the person.
        """
        if super().check_allowed(username, authentication):
            return True
        raise web.HTTPError(403, say("login.not_allowed", name=username))
