# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a plain word to people who may not use the hub."""

from __future__ import annotations

import asyncio
from typing import Any

import pamela
from jupyterhub.auth import PAMAuthenticator
from tornado import web

from sge_spawner import SessionError


class ClusterAuthenticator(PAMAuthenticator):
    """PAM login for the people the inventory names, and nobody else by accident.

    Whoever gives the right password but is not named, or whose account is closed, is told so,
    instead of being left to try the password again.
    """

    # JupyterHub's own check takes a closed account for a wrong password.
    check_account = False

    def _objection(self, username: str) -> str:
        """Return why PAM does not let an account be used (pam_acct_mgmt(3)); empty if it does."""
        try:
            pamela.check_account(username, service=self.service, encoding=self.encoding)
        except pamela.PAMError as error:
            self.log.warning("The account %s cannot be used: %s", username, error)
            return (
                f"The account {username} cannot be used at the moment: {error.message}. "
                "Ask the administrators of the cluster."
            )
        return ""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Check name and password.

        :raises tornado.web.HTTPError: 403 with a message for the person when the account is closed.
        """
        username: str | None = await super().authenticate(handler, data)
        if username and (objection := await asyncio.to_thread(self._objection, username)):
            raise web.HTTPError(403, f"Your password is right, but: {objection}")
        return username

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a session to an account that was closed after its person had logged in.

        :raises SessionError: with a message for the person.
        """
        if objection := await asyncio.to_thread(self._objection, user.name):
            raise SessionError(objection, reason="account")
        await super().pre_spawn_start(user, spawner)

    def check_allowed(self, username: str, authentication: Any = None) -> bool:
        """Tell whether a person who has logged in may use the hub.

        :raises tornado.web.HTTPError: 403 with a message for the person.
        """
        if super().check_allowed(username, authentication):
            return True
        raise web.HTTPError(
            403,
            f"Your password is right, but the account {username} may not use this service. "
            "Ask the administrators of the cluster to be added.",
        )
