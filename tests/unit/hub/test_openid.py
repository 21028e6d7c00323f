# SPDX-License-Identifier: BSD-3-Clause
"""Login at an OpenID Connect provider. The provider's answers and PAM are stubs."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pamela
import pytest
from tornado import web
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse

from fake_directory import FakeDirectory
from gridhub.broker.protocol import Answer
from gridhub.hub import openid
from gridhub.hub.openid import CallbackHandler, ClusterOpenID
from gridhub.hub.openid_pages import StateHandler
from gridhub.spawner.failures import SessionError

ISSUER = "https://login.example.org/realm"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/me",
    "end_session_endpoint": f"{ISSUER}/end",
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
}
TOKEN = {"access_token": "a", "token_type": "Bearer", "id_token": "i"}


def refused(status: int, body: bytes = b"") -> HTTPClientError:
    """Return the error of a request that the provider refuses."""
    request = HTTPRequest(f"{ISSUER}/token")
    return HTTPClientError(status, "no", HTTPResponse(request, status, buffer=io.BytesIO(body)))


class Provider:
    """The provider's answers by address; an exception is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            f"{ISSUER}/.well-known/openid-configuration": DOCUMENT,
            f"{ISSUER}/token": TOKEN,
            f"{ISSUER}/me": {"sub": "1", "preferred_username": "alice"},
        }
        self.asked: list[str] = []

    @property
    def claims(self) -> dict[str, Any]:
        found: dict[str, Any] = self.answers[f"{ISSUER}/me"]
        return found

    async def fetch(self, url: str, *_: Any, **__: Any) -> Any:
        self.asked.append(url)
        answer = self.answers[url]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Callback(CallbackHandler):
    """A request that a person's browser brings from the provider, through the proxy."""

    def __init__(self, broker: Any) -> None:
        stream = SimpleNamespace(socket="the proxy's")
        self.request = SimpleNamespace(  # type: ignore[assignment]
            connection=SimpleNamespace(stream=stream), remote_ip="192.0.2.1"
        )
        self.users = SimpleNamespace(settings={"cluster": SimpleNamespace(broker=broker)})
        self._state_cookie = openid_state("verifier")

    @property
    def users(self) -> Any:
        return self._users

    @users.setter
    def users(self, users: Any) -> None:
        self._users = users

    def get_argument(self, name: str, *_: Any, **__: Any) -> Any:
        return "the code"


def openid_state(verifier: str) -> str:
    from oauthenticator.oauth2 import _serialize_state

    return str(_serialize_state({"code_verifier": verifier}))


class Broker:
    """The broker: it refuses accounts with these answers."""

    def __init__(self) -> None:
        self.answer = Answer(ok=True)

    async def ask(self, _: object) -> Answer:
        return self.answer


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The results of PAM for accounts that it refuses."""
    found: dict[str, int] = {}

    def check_account(username: str, **_: str) -> None:
        if code := found.get(username):
            raise pamela.PAMError(errno=code)

    monkeypatch.setattr(pamela, "check_account", check_account)
    return found


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> FakeDirectory:
    site = FakeDirectory(monkeypatch)
    site.add("alice", "alice.smith", uid=4711)
    site.add("bob", uid=4712)
    site.add_group("jupyter", gid=7001, members={"alice"})
    return site


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def broker() -> Broker:
    return Broker()


Settings = dict[str, Any]


@pytest.fixture
def make(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    provider: Provider,
    site: FakeDirectory,
    closed: dict[str, int],
) -> Iterator[Any]:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    monkeypatch.setattr("gridhub.hub.openid.is_proxy", lambda socket: socket == "the proxy's")

    def make_one(**settings: Any) -> ClusterOpenID:
        made = ClusterOpenID(
            **{
                "issuer": ISSUER,
                "client_id": "hub",
                "client_secret_file": str(secret),
                "oauth_callback_url": "https://jupyter.example.org/hub/oauth_callback",
                "username_claim": "preferred_username",
                "login_service": "Example ID",
                "allowed_groups": {"jupyter"},
            }
            | settings
        )
        monkeypatch.setattr(made, "httpfetch", provider.fetch)
        return made

    yield make_one


async def logged_in(authenticator: ClusterOpenID, broker: Broker) -> str:
    """Log in as JupyterHub does; return the person's name on the hub."""
    found = await authenticator.get_authenticated_user(Callback(broker), None)
    return str(found["name"]) if found else ""


async def refusal(authenticator: ClusterOpenID, broker: Broker) -> tuple[int, str]:
    with pytest.raises(web.HTTPError) as caught:
        await logged_in(authenticator, broker)
    return caught.value.status_code, str(caught.value.log_message)


async def test_the_claim_names_the_account(make: Any, broker: Broker) -> None:
    assert await logged_in(make(), broker) == "alice"


async def test_the_name_on_the_hub_is_the_accounts_own(
    make: Any, broker: Broker, provider: Provider
) -> None:
    provider.claims["preferred_username"] = "alice.smith"
    assert await logged_in(make(), broker) == "alice"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("alice@example.org", "alice"),
        ("alice@evil.example", ""),
        ("alice@example.org@evil.example", ""),
        ("@example.org", ""),
        ("alice", ""),
    ],
)
async def test_the_pattern_decides_about_the_whole_claim(
    make: Any, broker: Broker, provider: Provider, value: str, name: str
) -> None:
    authenticator = make(username_claim="upn", account_pattern="([a-z.]*)@example[.]org")
    provider.claims["upn"] = value
    if name:
        assert await logged_in(authenticator, broker) == name
    else:
        status, words = await refusal(authenticator, broker)
        assert (status, f"knows you as “{value}”" in words) == (403, True)


@pytest.mark.parametrize("value", [None, "", 4711, ["alice"]])
async def test_a_missing_claim_is_named(
    make: Any, broker: Broker, provider: Provider, value: Any
) -> None:
    provider.claims["preferred_username"] = value
    status, words = await refusal(make(), broker)
    assert (status, "“preferred_username”" in words) == (403, True)


@pytest.mark.parametrize("verified", [None, False, "true"])
async def test_an_address_that_nobody_has_checked_is_no_name(
    make: Any, broker: Broker, provider: Provider, verified: Any
) -> None:
    authenticator = make(username_claim="email", account_pattern="(.+)@example[.]org")
    provider.claims.update(email="alice@example.org", email_verified=verified)
    assert "has not checked" in (await refusal(authenticator, broker))[1]
    provider.claims["email_verified"] = True
    assert await logged_in(authenticator, broker) == "alice"


@pytest.mark.parametrize("groups", [None, [], "staff", ["staff"], {"jupyter": True}])
async def test_a_group_of_the_claim_is_needed_besides_the_account(
    make: Any, broker: Broker, provider: Provider, groups: Any
) -> None:
    authenticator = make(allowed_claim_groups={"cluster"})
    provider.claims["groups"] = groups
    assert "in none of the groups" in (await refusal(authenticator, broker))[1]
    provider.claims["groups"] = ["staff", "cluster"]
    assert await logged_in(authenticator, broker) == "alice"
    provider.claims["preferred_username"] = "bob"
    assert "bob may not use this service" in (await refusal(authenticator, broker))[1]


async def test_the_rules_about_accounts_are_those_of_a_password(
    make: Any, broker: Broker, provider: Provider, closed: dict[str, int], site: FakeDirectory
) -> None:
    authenticator = make()
    closed["alice"] = 13
    assert (
        "Example ID knows you, but: The account alice cannot be used"
        in (await refusal(authenticator, broker))[1]
    )
    closed["alice"] = 9
    assert (await refusal(authenticator, broker))[0] == 503
    closed["alice"] = 12  # the password of the account has expired, which nobody uses here
    assert await logged_in(authenticator, broker) == "alice"
    broker.answer = Answer(ok=False, kind="no_home", error="The reason.")
    assert (await refusal(authenticator, broker))[1] == "Example ID knows you, but: The reason."
    provider.claims["preferred_username"] = "nora"
    assert "There is no account nora" in (await refusal(authenticator, broker))[1]
    site.down = True
    status, words = await refusal(authenticator, broker)
    assert (status, "cannot look up accounts" in words) == (503, True)
    assert "password" not in words


async def test_blocked_people_are_blocked(make: Any, broker: Broker) -> None:
    assert "may not use" in (await refusal(make(blocked_users={"alice.smith"}), broker))[1]


@pytest.mark.parametrize("data", [{"username": "alice", "password": "x"}, None])
async def test_a_password_or_a_code_on_another_page_is_no_login(
    make: Any, broker: Broker, provider: Provider, data: Any
) -> None:
    handler = SimpleNamespace(**vars(Callback(broker)), get_argument=lambda *_: "the code")
    assert await make().authenticate(handler, data) is None
    assert provider.asked == []


async def test_a_code_that_does_not_come_through_the_proxy_is_ignored(
    make: Any, broker: Broker, provider: Provider
) -> None:
    handler = Callback(broker)
    handler.request.connection.stream.socket = "a session's"  # type: ignore[union-attr]
    assert await make().authenticate(handler) is None
    assert provider.asked == []


@pytest.mark.parametrize(
    ("path", "answer", "status", "words"),
    [
        ("/.well-known/openid-configuration", ConnectionRefusedError(), 503, "does not answer"),
        ("/.well-known/openid-configuration", refused(503), 503, "does not answer"),
        (
            "/.well-known/openid-configuration",
            {"issuer": "https://evil.example"},
            502,
            "understand",
        ),
        ("/.well-known/openid-configuration", ValueError("no JSON"), 502, "understand"),
        ("/token", TimeoutError(), 503, "does not answer"),
        ("/token", refused(599), 503, "does not answer"),
        ("/token", refused(401, b'{"error": "invalid_client"}'), 502, "understand"),
        ("/token", refused(400, b'{"error": "invalid_grant"}'), 400, "no longer valid"),
        ("/token", {"error_description": "no"}, 502, "understand"),
        ("/token", {}, 502, "understand"),
        ("/token", None, 502, "understand"),
        ("/me", refused(500), 503, "does not answer"),
        ("/me", None, 502, "understand"),
        ("/me", [], 502, "understand"),
    ],
)
async def test_people_read_what_is_wrong_with_the_provider(
    make: Any, broker: Broker, provider: Provider, path: str, answer: Any, status: int, words: str
) -> None:
    provider.answers[ISSUER + path] = answer
    found = await refusal(make(), broker)
    assert (found[0], words in found[1]) == (status, True), found


async def test_the_claims_of_a_token_by_another_issuer_do_not_count(
    make: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"iss": "https://evil.example", "preferred_username": "alice"}
    monkeypatch.setattr("oauthenticator.oauth2.jwt.decode", lambda *_, **__: claims)
    authenticator = make(userdata_from_id_token=True)
    assert (await refusal(authenticator, broker))[0] == 502
    claims["iss"] = ISSUER
    assert await logged_in(authenticator, broker) == "alice"


@pytest.mark.parametrize(
    ("with_host_names", "place"),
    [
        (False, ("oauthenticator-state", "/jupyter/hub/")),
        # A session at another host name cannot set a cookie with this prefix for the hub's.
        (True, ("__Host-oauthenticator-state", "/")),
    ],
)
def test_no_session_receives_or_replaces_the_state_of_a_login(
    with_host_names: bool, place: tuple[str, str]
) -> None:
    calls: list[tuple[str, str]] = []

    class Handler(StateHandler):
        settings = {"cookie_host_prefix_enabled": with_host_names}
        hub = SimpleNamespace(base_url="/jupyter/hub/")

        def _set_cookie(self, name: str, _: str, expires_days: float, path: str) -> None:
            assert expires_days == pytest.approx(1 / 24)
            calls.append((name, path))

        def clear_cookie(self, name: str, path: str, secure: bool) -> None:
            assert secure
            calls.append((name, path))

    handler = Handler()
    handler.set_state_cookie("state")
    handler.forget_state()
    assert calls == [place, place]


class TestProvider:
    """The provider's addresses come from its discovery document."""

    URL = f"{ISSUER}/.well-known/openid-configuration"

    async def test_the_document_is_read_once_an_hour(
        self, make: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authenticator = make()
        await authenticator.find_endpoints()
        await authenticator.find_endpoints()
        assert provider.asked == [self.URL]
        monkeypatch.setattr(openid, "DOCUMENT_AGE", 0.0)
        provider.answers[self.URL] = ConnectionRefusedError()
        await authenticator.find_endpoints()  # the older document still counts
        assert authenticator.token_url == f"{ISSUER}/token"
        assert len(provider.asked) == 2

    async def test_the_secret_is_sent_as_the_provider_wants_it(
        self, make: Any, provider: Provider
    ) -> None:
        authenticator = make()
        await authenticator.find_endpoints()
        assert authenticator.basic_auth is False
        provider.answers[self.URL] = {
            name: value
            for name, value in DOCUMENT.items()
            if not name.startswith("token_endpoint_")
        }
        authenticator = make()
        await authenticator.find_endpoints()
        assert authenticator.basic_auth is True
        assert authenticator.client_secret == "s3cret"

    async def test_people_are_logged_out_at_the_provider_too(
        self, make: Any, provider: Provider
    ) -> None:
        back = "post_logout_redirect_uri=https%3A%2F%2Fjupyter.example.org%2Fhub%2Flogin"
        url = await make().end_session_url()
        assert url == f"{ISSUER}/end?client_id=hub&{back}"
        assert await make(end_session=False).end_session_url() == ""
        provider.answers[self.URL] = DOCUMENT | {"end_session_endpoint": None}
        assert await make().end_session_url() == ""
        provider.answers[self.URL] = TimeoutError()
        assert await make().end_session_url() == ""


class TestCheckAgain:
    """People pass the provider again after some hours; their open sessions go on."""

    ALICE = SimpleNamespace(name="alice", spawners={})
    BY_COOKIE = SimpleNamespace(get_token=lambda: None)
    BY_TOKEN = SimpleNamespace(get_token=lambda: SimpleNamespace(hashed="x"))

    async def test_a_login_expires(
        self, make: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authenticator = make(check_again_hours=2)
        await logged_in(authenticator, broker)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 7100)
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
        monkeypatch.setattr(time, "time", lambda: now + 7300)
        with pytest.raises(web.HTTPError, match="Log in with Example ID again"):
            await authenticator.refresh_user(self.ALICE, self.BY_COOKIE)
        assert await authenticator.refresh_user(self.ALICE, self.BY_TOKEN) is True
        with pytest.raises(SessionError, match="Log in with Example ID again"):
            await authenticator.pre_spawn_start(self.ALICE, None)
        await logged_in(authenticator, broker)
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
        await authenticator.pre_spawn_start(self.ALICE, None)

    async def test_a_restarted_hub_logs_nobody_out(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authenticator = make(check_again_hours=2)
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 7300)
        with pytest.raises(web.HTTPError):
            await authenticator.refresh_user(self.ALICE, self.BY_COOKIE)

    async def test_zero_means_never(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        authenticator = make(check_again_hours=0)
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
        monkeypatch.setattr(time, "time", lambda: 9e9)
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True

    async def test_the_unix_account_decides_as_well(self, make: Any, site: FakeDirectory) -> None:
        authenticator = make()
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
        site.groups["jupyter"].gr_mem.clear()
        with pytest.raises(web.HTTPError, match="alice may not have sessions here"):
            await authenticator.refresh_user(self.ALICE, self.BY_COOKIE)
        site.down = True
        assert await authenticator.refresh_user(self.ALICE, self.BY_COOKIE) is True
