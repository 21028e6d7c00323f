# SPDX-License-Identifier: BSD-3-Clause
"""Login: a user with the right password but no access sees why. Only PAM is replaced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pamela
import pytest
from jupyterhub.auth import PAMAuthenticator
from tornado import web

from gridhub.hub import login
from gridhub.hub.login import ClusterAuthenticator
from gridhub.spawner import directory
from gridhub.spawner.failures import SessionError


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The accounts that PAM rejects."""
    names: set[str] = set()

    def check_account(username: str, service: str, encoding: str) -> None:
        if username in names:
            raise pamela.PAMError(errno=13)

    def authenticate(username: str, password: str, **_: Any) -> None:
        if password != "right":
            raise pamela.PAMError(errno=7)

    monkeypatch.setattr(pamela, "check_account", check_account)
    monkeypatch.setattr(pamela, "authenticate", authenticate)
    monkeypatch.setattr(pamela, "open_session", lambda *_, **__: None)
    return names


@pytest.fixture
def authenticator() -> ClusterAuthenticator:
    return ClusterAuthenticator(allowed_users={"alice"})


DATA = {"username": "alice", "password": "right"}


@pytest.fixture
def by_proxy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A request that seems to come through the proxy; test_tls.py sends real requests."""
    monkeypatch.setattr(
        "gridhub.hub.login.is_proxy", lambda connection: connection == "the proxy's"
    )
    stream = SimpleNamespace(socket="the proxy's")
    return SimpleNamespace(request=SimpleNamespace(connection=SimpleNamespace(stream=stream)))


async def test_the_right_password_is_enough(
    authenticator: ClusterAuthenticator, closed: set[str], by_proxy: SimpleNamespace
) -> None:
    assert await authenticator.authenticate(by_proxy, DATA) == "alice"


async def test_a_wrong_password_does_not_reveal_that_the_account_is_closed(
    authenticator: ClusterAuthenticator, closed: set[str], by_proxy: SimpleNamespace
) -> None:
    closed.add("alice")
    assert await authenticator.authenticate(by_proxy, DATA | {"password": "wrong"}) is None


async def test_the_user_of_a_closed_account_sees_why(
    authenticator: ClusterAuthenticator, closed: set[str], by_proxy: SimpleNamespace
) -> None:
    closed.add("alice")
    with pytest.raises(web.HTTPError, match="password is correct, but: The account alice cannot"):
        await authenticator.authenticate(by_proxy, DATA)


@pytest.fixture
def holding_up() -> Iterator[Callable[[ThreadPoolExecutor], None]]:
    """Keep all threads of a pool busy, with more tasks waiting behind them."""
    end = threading.Event()

    def hold_up(pool: ThreadPoolExecutor) -> None:
        for _ in range(50):
            pool.submit(end.wait, 20)

    yield hold_up
    end.set()


@pytest.mark.usefixtures("closed")
async def test_a_flood_of_passwords_does_not_delay_other_checks(
    authenticator: ClusterAuthenticator, holding_up: Callable[[ThreadPoolExecutor], None]
) -> None:
    holding_up(login.PASSWORD_CHECKS)
    async with asyncio.timeout(10):
        assert await authenticator.ask(authenticator.objection_to, "alice") == ""


@pytest.mark.usefixtures("closed")
async def test_a_slow_directory_does_not_delay_password_checks(
    authenticator: ClusterAuthenticator,
    by_proxy: SimpleNamespace,
    holding_up: Callable[[ThreadPoolExecutor], None],
) -> None:
    holding_up(directory.directory)
    async with asyncio.timeout(10):
        wrong = DATA | {"password": "wrong"}
        assert await authenticator.authenticate(by_proxy, wrong) is None


async def test_the_user_of_an_account_that_is_not_allowed_sees_why(
    authenticator: ClusterAuthenticator,
) -> None:
    assert authenticator.check_allowed("alice") is True
    with pytest.raises(web.HTTPError, match="bob may not use this service") as caught:
        authenticator.check_allowed("bob")
    assert caught.value.status_code == 403


async def test_an_account_closed_after_the_login_gets_no_session(
    authenticator: ClusterAuthenticator, closed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        PAMAuthenticator, "pre_spawn_start", lambda self, user, spawner: started.append(user.name)
    )

    async def parent(self: PAMAuthenticator, user: Any, spawner: Any) -> None:
        started.append(user.name)

    monkeypatch.setattr(PAMAuthenticator, "pre_spawn_start", parent)
    alice = SimpleNamespace(name="alice")
    await authenticator.pre_spawn_start(alice, None)
    assert started == ["alice"]
    closed.add("alice")
    with pytest.raises(SessionError, match="The account alice cannot be used at the moment"):
        await authenticator.pre_spawn_start(alice, None)
    assert started == ["alice"]


class Directory:
    """A directory service: groups with their members."""

    def __init__(self) -> None:
        self.groups = {"jupyter": {"alice", "bob"}}
        self.accounts = {"alice", "bob", "carol", "eve"}
        self.down = False
        self.knows_memberships = True
        self.answers = threading.Event()
        self.answers.set()

    def account(self, name: str) -> SimpleNamespace:
        self.answers.wait(10)
        if self.down or name not in self.accounts:
            raise KeyError(name)
        return SimpleNamespace(pw_gid=0)

    def group(self, name: str) -> SimpleNamespace:
        if self.down or name not in self.groups:
            raise KeyError(name)
        return SimpleNamespace(
            gr_gid=sorted(self.groups).index(name) + 1, gr_mem=sorted(self.groups[name])
        )

    def groups_of(self, name: str, group: int) -> list[int]:
        # A directory that is down raises no error here; it only returns fewer groups.
        known = self.knows_memberships and not self.down
        mine = [each for each in self.groups if known and name in self.groups[each]]
        return [group, *(sorted(self.groups).index(each) + 1 for each in mine)]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    site = Directory()
    for name, function in (
        ("_getpwnam", site.account),
        ("_getgrnam", site.group),
        ("_getgrouplist", site.groups_of),
    ):
        monkeypatch.setattr(ClusterAuthenticator, name, staticmethod(function))
    yield site
    site.answers.set()


class Handler:
    """A request that is authenticated by a cookie or by a token."""

    def __init__(self, token: str = "") -> None:
        self.token = SimpleNamespace(hashed=token) if token else None

    def get_token(self) -> SimpleNamespace | None:
        return self.token


ALICE = SimpleNamespace(name="alice", spawners={"": SimpleNamespace(token_hash="of the session")})


@pytest.mark.usefixtures("closed")
class TestRefresh:
    """Only users who have lost access to the hub are logged out."""

    @pytest.fixture
    def authenticator(self, site: Directory) -> ClusterAuthenticator:
        return ClusterAuthenticator(allowed_users={"carol"}, allowed_groups={"jupyter"})

    async def is_logged_out(
        self, authenticator: ClusterAuthenticator, name: str = "alice", token: str = ""
    ) -> None:
        user = SimpleNamespace(name=name, spawners=ALICE.spawners)
        with pytest.raises(web.HTTPError, match="may not have sessions here") as refused:
            await authenticator.refresh_user(user, Handler(token))
        assert refused.value.status_code == 403

    async def test_users_with_access_stay_logged_in(
        self, authenticator: ClusterAuthenticator
    ) -> None:
        for name in ("alice", "bob", "carol"):
            user = SimpleNamespace(name=name, spawners={})
            assert await authenticator.refresh_user(user, Handler()) is True

    async def test_a_user_removed_from_the_group_is_logged_out(
        self, authenticator: ClusterAuthenticator, site: Directory
    ) -> None:
        site.groups["jupyter"].remove("alice")
        await self.is_logged_out(authenticator)
        with pytest.raises(SessionError, match="alice may not have sessions here"):
            await authenticator.pre_spawn_start(ALICE, None)

    async def test_a_user_removed_from_the_list_is_logged_out(
        self, authenticator: ClusterAuthenticator
    ) -> None:
        authenticator.allowed_users = {"dave"}
        await self.is_logged_out(authenticator, "carol")

    async def test_a_user_whose_account_has_expired_is_logged_out(
        self, authenticator: ClusterAuthenticator, closed: set[str]
    ) -> None:
        closed.add("alice")
        await self.is_logged_out(authenticator)

    async def test_an_error_of_pam_does_not_log_users_out(
        self, authenticator: ClusterAuthenticator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def trouble(*_: object, **__: object) -> None:
            raise pamela.PAMError(errno=9)  # PAM_AUTHINFO_UNAVAIL

        monkeypatch.setattr(pamela, "check_account", trouble)
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_a_directory_that_is_down_does_not_log_users_out(
        self, authenticator: ClusterAuthenticator, site: Directory
    ) -> None:
        site.down = True
        assert await authenticator.refresh_user(ALICE, Handler()) is True
        site.down = False
        # After a failure, a cache may know the account before it knows the account's groups.
        # Therefore the user stays logged in if the group's list of members names the account.
        site.knows_memberships = False
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_a_group_that_does_not_exist_keeps_nobody_logged_in(
        self, authenticator: ClusterAuthenticator, site: Directory
    ) -> None:
        authenticator.allowed_groups = {"jupyter", "mistyped"}
        assert await authenticator.refresh_user(ALICE, Handler()) is True
        site.groups["jupyter"].remove("alice")
        await self.is_logged_out(authenticator)

    async def test_a_group_that_has_gone_logs_nobody_out(
        self, authenticator: ClusterAuthenticator, site: Directory
    ) -> None:
        """One of two directories may be down."""
        site.groups["local"] = {"dave"}
        authenticator.allowed_groups = {"jupyter", "local"}
        await self.is_logged_out(authenticator, "eve")
        del site.groups["jupyter"]
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_a_directory_that_does_not_answer_does_not_log_users_out(
        self,
        authenticator: ClusterAuthenticator,
        site: Directory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("gridhub.hub.login.DIRECTORY_LIMIT", 0.05)
        site.answers.clear()
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_tokens_are_refused_except_that_of_a_running_session(
        self, authenticator: ClusterAuthenticator, site: Directory
    ) -> None:
        assert await authenticator.refresh_user(ALICE, Handler("of a browser")) is True
        site.groups["jupyter"].remove("alice")
        await self.is_logged_out(authenticator, token="of a browser")
        # JupyterHub accepts the token despite the result False, because auth_refresh_strict is off.
        assert await authenticator.refresh_user(ALICE, Handler("of the session")) is False
        assert authenticator.auth_refresh_strict is False
