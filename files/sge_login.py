# SPDX-License-Identifier: BSD-3-Clause
"""Login through PAM, with a plain word to people who may not use the hub."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import PAMAuthenticator
from tornado import web


class ClusterAuthenticator(PAMAuthenticator):
    """PAM login for the people the inventory names, and nobody else by accident.

    Whoever gives the right password but is not named is told so, instead of being left to try
    the password again.
    """

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
