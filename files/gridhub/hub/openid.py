# SPDX-License-Identifier: BSD-3-Clause
"""Login at an OpenID Connect provider, with oauthenticator.

The provider only states who a person is. The rules about accounts are those of a login with a
password (:mod:`gridhub.hub.account_rules`), and the broker decides by the Unix account too. The hub
reads the person's claims once, at the login, and keeps no token of the provider.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from tornado.httpclient import HTTPClientError
from tornado.httputil import url_concat
from traitlets import Bool, Float, Set, Unicode, default

from gridhub.hub.account_rules import AccountRules
from gridhub.hub.errors import Refusal
from gridhub.hub.openid_pages import CallbackHandler, LoginHandler, LogoutHandler
from gridhub.hub.openid_provider import (
    END_SESSION,
    ENDPOINTS,
    discovery_url,
    document_problems,
    sends_secret_in_header,
)
from gridhub.spawner.failures import SessionError
from gridhub.tls import is_proxy
from gridhub.words import text

#: How long the provider may take for an answer, in seconds.
ANSWER_LIMIT = 10.0

#: How long the discovery document counts as up to date, in seconds.
DOCUMENT_AGE = 3600.0


class ProviderAway(Exception):
    """The provider does not answer."""


class ProviderTrouble(Exception):
    """The provider's answer cannot be used."""


class ClusterOpenID(AccountRules, GenericOAuthenticator):
    """Login at an OpenID Connect provider, only for people whom the inventory names."""

    login_handler = LoginHandler
    callback_handler = CallbackHandler
    logout_handler = LogoutHandler
    uses_password = False

    issuer = Unicode(config=True, help="The provider's issuer, exactly as it states it.")
    client_secret_file = Unicode(config=True, help="The file with the client's secret.")
    account_pattern = Unicode(
        "(.+)",
        config=True,
        help="The whole value of the claim; its group is the name of the account.",
    )
    groups_claim = Unicode("groups", config=True, help="The claim with the person's groups.")
    allowed_claim_groups = Set(
        Unicode(),
        config=True,
        help="If set, a person needs one of these groups in the claim, besides the account.",
    )
    check_again_hours = Float(
        24.0,
        config=True,
        help="After so many hours, a person must pass the provider again; 0 means never.",
    )
    end_session = Bool(True, config=True, help="Whether to log people out at the provider too.")
    ca_file = Unicode(
        config=True, help="The file with the provider's authority; empty for the system's."
    )
    allowed_groups = Set(Unicode(), config=True, help="Unix groups whose members may use the hub.")
    service = Unicode("login", config=True, help="The PAM service that checks accounts.")
    encoding = Unicode("utf8", config=True, help="The encoding that PAM uses.")

    _document: Mapping[str, Any] | None = None
    _read_at = 0.0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        #: When each person has last passed the provider, in seconds since 1970.
        self._passed: dict[str, float] = {}
        self._reading = asyncio.Lock()

    @default("http_request_kwargs")
    def _default_http_request_kwargs(self) -> dict[str, Any]:
        limits = {"connect_timeout": ANSWER_LIMIT / 2, "request_timeout": ANSWER_LIMIT}
        return {**limits, "ca_certs": self.ca_file or None}

    def _requires_manage_groups(self, change: object) -> None:
        """Accept Unix groups; oauthenticator's groups of this name are JupyterHub's."""

    def _client_secret_default(self) -> str:
        return Path(self.client_secret_file).read_text(encoding="utf-8").strip()

    def but(self, objection: str) -> str:
        """Return the message for a person whom the provider knows, and who may not log in."""
        return text("openid.but", service=self.login_service, objection=objection)

    def not_allowed(self, name: str) -> str:
        """Return the message for a person whom the inventory does not name."""
        return text("openid.not_allowed", service=self.login_service, name=name)

    def no_answer(self) -> str:
        """Return the message for a person whose account cannot be looked up now."""
        return text("openid.no_accounts")

    def away(self) -> Refusal:
        """Return the refusal while the provider does not answer."""
        return Refusal(503, text("openid.away", service=self.login_service))

    # -- the provider -----------------------------------------------------------------------------

    async def _read_document(self) -> Mapping[str, Any]:
        """Read the discovery document.

        :raises ProviderAway: when the provider does not answer.
        :raises ProviderTrouble: when the document cannot be used.
        """
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                document = await self.httpfetch(
                    discovery_url(self.issuer), "reading the discovery document"
                )
        except (OSError, TimeoutError, HTTPClientError) as error:
            raise ProviderAway(f"{discovery_url(self.issuer)}: {error!r}") from error
        except ValueError as error:
            raise ProviderTrouble(f"{discovery_url(self.issuer)}: {error!r}") from error
        needed = ENDPOINTS[:2] if self.userdata_from_id_token else ENDPOINTS
        if problems := list(document_problems(document, self.issuer, needed)):
            raise ProviderTrouble("; ".join(problems))
        return dict(document)

    async def provider(self) -> Mapping[str, Any]:
        """Return the discovery document, at most an hour old if the provider answers.

        :raises ProviderAway, ProviderTrouble: when it has never been read.
        """
        async with self._reading:
            if self._document is None or time.monotonic() - self._read_at > DOCUMENT_AGE:
                try:
                    self._document = await self._read_document()
                    self._read_at = time.monotonic()
                except (ProviderAway, ProviderTrouble) as error:
                    self.log.error("The OpenID Connect provider cannot be used: %s", error)
                    if self._document is None:
                        raise
            return self._document

    async def find_endpoints(self) -> None:
        """Set the provider's addresses.

        :raises Refusal: 503 or 502 with a message for the person.
        """
        try:
            document = await self.provider()
        except ProviderAway as error:
            raise self.away() from error
        except ProviderTrouble as error:
            raise Refusal(502, text("openid.failed", service=self.login_service)) from error
        self.authorize_url = document["authorization_endpoint"]
        self.token_url = document["token_endpoint"]
        if not self.userdata_from_id_token:
            self.userdata_url = document["userinfo_endpoint"]
        if sends_secret_in_header(document):
            self.basic_auth = True

    async def end_session_url(self) -> str:
        """Return where people log out at the provider; empty if they cannot, or need not."""
        if not self.end_session:
            return ""
        try:
            address = (await self.provider()).get(END_SESSION)
        except (ProviderAway, ProviderTrouble):
            return ""
        if not isinstance(address, str) or not address.startswith("https://"):
            return ""
        back = urljoin(self.oauth_callback_url, "login")
        return str(
            url_concat(address, {"client_id": self.client_id, "post_logout_redirect_uri": back})
        )

    async def token_to_user(self, token_info: dict[str, Any]) -> dict[str, Any]:
        """Return the person's claims.

        :raises ProviderTrouble: when they cannot be used.
        """
        claims = await super().token_to_user(token_info)
        if not isinstance(claims, dict):
            raise ProviderTrouble("the claims are no object")
        if self.userdata_from_id_token and claims.get("iss") != self.issuer:
            raise ProviderTrouble(f"the token is by {claims.get('iss')!r}")
        return claims

    async def _claims(self, handler: Any) -> dict[str, Any]:
        """Exchange the code that the provider has sent for the person's claims.

        :raises Refusal: with a message for the person.
        """
        await self.find_endpoints()
        parameters = self.build_access_tokens_request_params(handler)
        try:
            async with asyncio.timeout(2 * ANSWER_LIMIT):
                token_info = await self.get_token_info(handler, parameters)
                return await self.token_to_user(token_info)
        except HTTPClientError as error:
            if error.code >= 500:  # tornado's own errors have the code 599
                raise self.away() from error
            if error.response and b"invalid_grant" in error.response.body:
                raise Refusal(400, text("openid.state_lost")) from error
            self.log.error("The OpenID Connect provider has refused the hub: %r", error)
        except (OSError, TimeoutError) as error:
            self.log.error("The OpenID Connect provider does not answer: %r", error)
            raise self.away() from error
        except (web.HTTPError, ProviderTrouble, LookupError, TypeError, ValueError) as error:
            self.log.error("The answer of the OpenID Connect provider is wrong: %r", error)
        raise Refusal(502, text("openid.failed", service=self.login_service))

    # -- the person -------------------------------------------------------------------------------

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """Return the name of the account that belongs to a person's claims.

        :raises Refusal: 403 with a message for the person.
        """
        claim, service = self.username_claim, self.login_service
        value = user_info.get(claim)
        if not isinstance(value, str) or not value:
            self.log.error("The provider has sent no claim %s; it has sent %s", claim, [*user_info])
            raise Refusal(403, text("openid.no_claim", service=service, claim=claim))
        if claim == "email" and user_info.get("email_verified") is not True:
            raise Refusal(403, text("openid.not_verified", service=service))
        found = re.fullmatch(self.account_pattern, value)
        if not found or not found[1]:
            self.log.warning("The claim %s is %.64r, which names no account", claim, value)
            raise Refusal(403, text("openid.no_account", service=service, value=value[:64]))
        return found[1]

    def check_claim_groups(self, claims: Mapping[str, Any]) -> None:
        """Check that a person has one of the groups that the inventory asks for.

        :raises Refusal: 403 with a message for the person.
        """
        if not self.allowed_claim_groups:
            return
        groups = claims.get(self.groups_claim)
        names = {groups} if isinstance(groups, str) else set(groups or ())
        if not names & self.allowed_claim_groups:
            self.log.warning("The claim %s has none of the allowed groups", self.groups_claim)
            raise Refusal(403, text("openid.no_group", service=self.login_service))

    async def authenticate(self, handler: Any, data: Any = None, **more: Any) -> Any:
        """Check the code that the provider has sent through a person's browser.

        :returns: the account's own name; None for a password, which nobody has here.
        :raises Refusal: with a message for the person.
        """
        if not isinstance(handler, CallbackHandler):
            return None
        if not is_proxy(handler.request.connection.stream.socket):
            self.log.warning(
                "A login came from %s, not through the proxy; ignored", handler.request.remote_ip
            )
            return None
        claims = await self._claims(handler)
        login = self.user_info_to_username(claims)
        self.check_claim_groups(claims)
        name = await self.admit(handler, login)
        self._passed[name] = time.time()
        return name

    def _is_due(self, name: str) -> bool:
        """Return whether a person must pass the provider again.

        After a restart of the hub, the time begins again.
        """
        if not self.check_again_hours:
            return False
        passed = self._passed.setdefault(name, time.time())
        return time.time() - passed > self.check_again_hours * 3600

    async def refresh_user(self, user: Any, handler: Any = None, **more: Any) -> bool:
        """Log out a person who may no longer use the hub, or must pass the provider again.

        Pages of sessions send tokens, so an open session goes on.

        :raises Refusal: as for a login with a password.
        """
        if handler and not handler.get_token() and self._is_due(user.name):
            raise Refusal(403, text("openid.again", service=self.login_service))
        return await super().refresh_user(user, handler)

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Refuse a session if the person has lost the right, or must pass the provider again.

        :raises SessionError: with a message for the person.
        """
        if self._is_due(user.name):
            words = text("openid.again", service=self.login_service)
            raise SessionError(words, reason="account")
        await super().pre_spawn_start(user, spawner)
