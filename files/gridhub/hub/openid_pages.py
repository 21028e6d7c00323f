# SPDX-License-Identifier: BSD-3-Clause
"""The hub's addresses that people pass on the way to and from an OpenID Connect provider."""

from __future__ import annotations

from typing import Any

from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import (
    STATE_COOKIE_NAME,
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
)
from tornado import web

from gridhub.hub.errors import Refusal
from gridhub.words import text

#: How long a person may take to log in at the provider, in days.
STATE_AGE = 1 / 24

#: Errors with which a provider says that it cannot be used now (OAuth 2.0, section 4.1.2.1).
AWAY = frozenset({"server_error", "temporarily_unavailable"})


class StateHandler:
    """Keeps the state of a login in a cookie that only the hub's own pages receive."""

    @property
    def _state_place(self) -> tuple[str, str]:
        """The cookie's name and path."""
        handler: Any = self
        # With host names for people, no session can set a cookie with this prefix for the hub.
        if handler.settings.get("cookie_host_prefix_enabled"):
            return f"__Host-{STATE_COOKIE_NAME}", "/"
        return STATE_COOKIE_NAME, handler.hub.base_url

    def set_state_cookie(self, state_cookie_value: str) -> None:
        """Store the state."""
        handler: Any = self
        name, path = self._state_place
        handler._set_cookie(name, state_cookie_value, expires_days=STATE_AGE, path=path)

    def get_state_cookie(self) -> str:
        """Return the state, and forget it; empty if there is none, or if it is too old."""
        handler: Any = self
        if handler._state_cookie is None:
            found = handler.get_secure_cookie(self._state_place[0], max_age_days=STATE_AGE)
            handler._state_cookie = (found or b"").decode("utf-8", "replace")
            self.forget_state()
        return str(handler._state_cookie)

    def forget_state(self) -> None:
        """Delete the cookie."""
        handler: Any = self
        name, path = self._state_place
        handler.clear_cookie(name, path=path, secure=True)


class LoginHandler(StateHandler, OAuthLoginHandler):
    """Sends people to the provider."""

    async def get(self) -> None:
        """Redirect to the provider, if it can be asked for its addresses.

        :raises Refusal: 503 or 502 with a message for the person.
        """
        await self.authenticator.find_endpoints()
        super().get()

    def _get_next_url(self) -> str:
        """Return the page to open after the login, by JupyterHub's rules; empty if not given."""
        return str(self._validate_next_url(self.get_argument("next", "")))


class CallbackHandler(StateHandler, OAuthCallbackHandler):
    """Receives people whom the provider has sent back."""

    @property
    def template_namespace(self) -> dict[str, Any]:
        """The variables of all templates; the error page links to another login."""
        return {
            **super().template_namespace,
            "again_url": url_path_join(self.hub.base_url, "login"),
            "other_url": url_path_join(self.hub.base_url, "logout"),
        }

    def check_arguments(self) -> None:
        """Check what the provider has sent, beginning with whether this browser asked for it.

        :raises Refusal: with a message for the person.
        """
        try:
            self.check_state()
        except web.HTTPError as error:
            raise Refusal(400, text("openid.state_lost")) from error
        if error_code := self.get_argument("error", ""):
            self.log.warning(
                "The provider has refused a login: %.64r %.256r",
                error_code,
                self.get_argument("error_description", ""),
            )
            if error_code in AWAY:
                raise self.authenticator.away()
            raise Refusal(403, text("openid.refused", service=self.authenticator.login_service))
        if not self.get_argument("code", ""):
            raise Refusal(400, text("openid.state_lost"))

    async def get(self) -> None:
        """Log the person in, unless this page is loaded again after a login."""
        try:
            self.check_arguments()
        except Refusal as refusal:
            if refusal.status_code == 400 and self.current_user:
                self.redirect(url_path_join(self.hub.base_url, "home"))
                return
            raise
        await super().get()


class LogoutHandler(StateHandler, OAuthLogoutHandler):
    """Logs people out of the hub, and sends them to the provider to log out there."""

    async def handle_logout(self) -> None:
        """Forget a login that has begun."""
        self.forget_state()

    async def render_logout_page(self) -> None:
        """Redirect to the provider, or show that the person is still logged in there."""
        if url := await self.authenticator.end_session_url():
            self.redirect(url)
            return
        service = self.authenticator.login_service
        self.finish(await self.render_template("logout.html", logged_in_at=service))
