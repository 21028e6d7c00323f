# SPDX-License-Identifier: BSD-3-Clause
"""Login: a user with the right password but no access sees why. Only PAM is replaced."""

from __future__ import annotations

import asyncio
import os
import pwd
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pamela
import pytest
from jupyterhub.auth import PAMAuthenticator
from tornado import web

from fake_directory import FakeDirectory
from gridhub.broker.protocol import Answer, Look
from gridhub.grid.engine import GridEngineError
from gridhub.hub import login
from gridhub.hub.login import ClusterAuthenticator
from gridhub.spawner import directory
from gridhub.spawner.failures import SessionError


class Pam:
    """PAM: which accounts it refuses, and with which results."""

    def __init__(self) -> None:
        #: The results of checking accounts; 0 for all others.
        self.accounts: dict[str, int] = {}
        #: The result of checking a password, if it is not about the password.
        self.trouble = 0
        #: The names to which PAM's modules change other names.
        self.users: dict[str, str] = {}
        self.asked: list[str] = []

    def add(self, name: str) -> None:
        """Close an account."""
        self.accounts[name] = 13

    def check_account(self, username: str, service: str, encoding: str) -> None:
        self.asked.append(username)
        if code := self.accounts.get(username):
            raise pamela.PAMError(errno=code)

    def accepted_name(self, username: str, passwords: list[str], *_: str) -> str:
        if self.trouble or passwords != ["right"]:
            raise pamela.PAMError(errno=self.trouble or 7)
        return self.users.get(username, username)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Pam:
    pam = Pam()
    monkeypatch.setattr(pamela, "check_account", pam.check_account)
    monkeypatch.setattr(login, "accepted_name", pam.accepted_name)
    monkeypatch.setattr(pamela, "open_session", lambda *_, **__: None)
    return pam


@pytest.fixture
def authenticator() -> ClusterAuthenticator:
    return ClusterAuthenticator(allowed_users={"alice"})


DATA = {"username": "alice", "password": "right"}


class Broker:
    """The broker: which accounts can have no sessions, and why."""

    def __init__(self) -> None:
        self.refused: dict[str, Answer] = {}
        self.error: Exception | None = None

    async def ask(self, request: Look) -> Answer:
        if self.error:
            raise self.error
        return self.refused.get(request.user, Answer(ok=True))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def by_proxy(monkeypatch: pytest.MonkeyPatch, site: Slow, broker: Broker) -> SimpleNamespace:
    """A request that seems to come through the proxy; test_tls.py sends real requests."""
    monkeypatch.setattr(
        "gridhub.hub.login.is_proxy", lambda connection: connection == "the proxy's"
    )
    stream = SimpleNamespace(socket="the proxy's")
    return SimpleNamespace(
        request=SimpleNamespace(connection=SimpleNamespace(stream=stream)),
        users=SimpleNamespace(settings={"cluster": SimpleNamespace(broker=broker)}),
    )


async def test_the_right_password_is_enough(
    authenticator: ClusterAuthenticator, closed: Pam, by_proxy: SimpleNamespace
) -> None:
    assert await authenticator.authenticate(by_proxy, DATA) == "alice"


async def test_a_wrong_password_does_not_reveal_that_the_account_is_closed(
    authenticator: ClusterAuthenticator, closed: Pam, by_proxy: SimpleNamespace
) -> None:
    closed.add("alice")
    assert await authenticator.authenticate(by_proxy, DATA | {"password": "wrong"}) is None


async def test_the_user_of_a_closed_account_sees_why(
    authenticator: ClusterAuthenticator, closed: Pam, by_proxy: SimpleNamespace
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
    authenticator: ClusterAuthenticator, site: Slow
) -> None:
    assert await authenticator.check_allowed("alice") is True
    with pytest.raises(web.HTTPError, match="bob may not use this service") as caught:
        await authenticator.check_allowed("bob")
    assert caught.value.status_code == 403


class TestNames:
    """Whatever name people type, their name on the hub is the account's own."""

    async def logged_in(
        self, authenticator: ClusterAuthenticator, request: SimpleNamespace, name: str
    ) -> str:
        """Log in as JupyterHub does; return the person's name on the hub."""
        data = {"username": name, "password": "right"}
        found = await authenticator.get_authenticated_user(request, data)
        return str(found["name"]) if found else ""

    @pytest.mark.parametrize("name", ["Ann", "ANN", "ann", "ann@example.org", "EXAMPLE\\ann"])
    async def test_all_names_of_an_account_are_one_user(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam, name: str
    ) -> None:
        site.add("Ann", "ANN", "ann", "ann@example.org", "EXAMPLE\\ann", uid=5001)
        authenticator = ClusterAuthenticator(allowed_users={"ann"})
        assert await self.logged_in(authenticator, by_proxy, name) == "Ann"
        assert set(closed.asked) == {name, "Ann"}

    async def test_two_accounts_with_names_in_other_case_stay_two_users(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam
    ) -> None:
        site.add("Ann", uid=5001)
        site.add("ann", uid=5002)
        authenticator = ClusterAuthenticator(allowed_users={"Ann"})
        assert await self.logged_in(authenticator, by_proxy, "Ann") == "Ann"
        with pytest.raises(web.HTTPError, match="ann may not use this service"):
            await self.logged_in(authenticator, by_proxy, "ann")

    async def test_the_name_that_pam_found_counts(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam
    ) -> None:
        closed.users["carol"] = "alice"
        authenticator = ClusterAuthenticator(allowed_users={"alice", "carol"})
        assert await self.logged_in(authenticator, by_proxy, "carol") == "alice"

    @pytest.mark.parametrize("listed", ["ann", "ann.smith"])
    async def test_another_name_gets_no_blocked_person_in(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam, listed: str
    ) -> None:
        site.add("ann.smith", "ann", uid=5001)
        authenticator = ClusterAuthenticator(
            allowed_users={"ann", "ann.smith"}, blocked_users={listed, "no-such-account"}
        )
        for name in ("ann", "ann.smith"):
            with pytest.raises(web.HTTPError, match="ann.smith may not use this service"):
                await self.logged_in(authenticator, by_proxy, name)
        user = SimpleNamespace(name="ann.smith", spawners={})
        with pytest.raises(web.HTTPError, match="may not have sessions here"):
            await authenticator.refresh_user(user, Handler())

    async def test_an_account_that_is_closed_under_one_name_is_closed(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam
    ) -> None:
        site.add("ann.smith", "ann", uid=5001)
        closed.add("ann.smith")
        authenticator = ClusterAuthenticator(allowed_users={"ann"})
        with pytest.raises(web.HTTPError, match="The account ann.smith cannot be used"):
            await self.logged_in(authenticator, by_proxy, "ann")

    async def test_a_user_of_an_older_name_logs_in_again_when_there_is_no_session(
        self, site: Slow, closed: Pam
    ) -> None:
        site.add("ann.smith", "alice", uid=5001)
        authenticator = ClusterAuthenticator(allowed_users={"alice"})
        session = SimpleNamespace(active=True)
        user = SimpleNamespace(name="alice", spawners={"": session})
        assert await authenticator.refresh_user(user, Handler()) is True
        session.active = False
        with pytest.raises(web.HTTPError, match="called ann.smith, not alice"):
            await authenticator.refresh_user(user, Handler())

    async def test_a_name_that_leads_to_another_account_is_refused(
        self, by_proxy: SimpleNamespace, site: Slow, closed: Pam
    ) -> None:
        site.add("mallory", uid=5001)
        site.own[5001] = site.accounts["alice"]
        authenticator = ClusterAuthenticator(allowed_users={"alice", "mallory"})
        with pytest.raises(web.HTTPError, match="whose name alice belongs to uid 4711"):
            await self.logged_in(authenticator, by_proxy, "mallory")

    async def test_an_account_that_only_pam_has_is_refused(
        self, by_proxy: SimpleNamespace, closed: Pam
    ) -> None:
        with pytest.raises(web.HTTPError, match="There is no account nora on the hub's host"):
            await self.logged_in(ClusterAuthenticator(), by_proxy, "nora")

    @pytest.mark.parametrize("name", ["alice\0", "ali\nce", "\u202ealice"])
    async def test_names_with_control_characters_do_not_reach_pam(
        self, by_proxy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(login, "accepted_name", lambda *_: "alice")
        assert await self.logged_in(ClusterAuthenticator(), by_proxy, name) == ""

    @pytest.mark.parametrize("kind", ["refused", "no_home"])
    async def test_an_account_that_can_have_no_sessions_is_refused_with_the_reason(
        self, by_proxy: SimpleNamespace, broker: Broker, closed: Pam, kind: str
    ) -> None:
        broker.refused["alice"] = Answer(ok=False, kind=kind, error="The reason.")
        authenticator = ClusterAuthenticator(allowed_users={"alice"})
        with pytest.raises(web.HTTPError, match="password is correct, but: The reason.") as caught:
            await self.logged_in(authenticator, by_proxy, "alice")
        assert caught.value.status_code == 403

    async def test_without_an_answer_of_the_broker_people_can_log_in(
        self, by_proxy: SimpleNamespace, broker: Broker, closed: Pam
    ) -> None:
        authenticator = ClusterAuthenticator(allowed_users={"alice"})
        for error in (ConnectionRefusedError(), TimeoutError(), GridEngineError("died")):
            broker.error = error
            assert await self.logged_in(authenticator, by_proxy, "alice") == "alice"

    async def test_no_name_of_a_list_keeps_the_hub_from_starting(
        self, site: Slow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.down = True
        authenticator = ClusterAuthenticator()
        for name in ("no-such-account", "ann@example.org", "a/b"):
            await authenticator.add_user(SimpleNamespace(name=name))


class TestNoAnswer:
    """A directory service that does not answer is no wrong password."""

    @pytest.mark.parametrize("code", login.NO_ANSWER)
    async def test_pam_without_an_answer(
        self,
        authenticator: ClusterAuthenticator,
        by_proxy: SimpleNamespace,
        closed: Pam,
        code: int,
    ) -> None:
        closed.trouble = code
        with pytest.raises(web.HTTPError, match="Your password may be right") as caught:
            await authenticator.authenticate(by_proxy, DATA)
        assert caught.value.status_code == 503

    async def test_a_password_that_nobody_has_checked(
        self, authenticator: ClusterAuthenticator, by_proxy: SimpleNamespace, closed: Pam
    ) -> None:
        """SSSD without its directory, for a person whose password it has never seen."""
        closed.trouble = 6
        with pytest.raises(web.HTTPError, match="or it has locked your account") as caught:
            await authenticator.authenticate(by_proxy, DATA)
        assert caught.value.status_code == 503

    async def test_pam_hides_that_the_directory_does_not_answer(
        self,
        authenticator: ClusterAuthenticator,
        by_proxy: SimpleNamespace,
        closed: Pam,
        site: Slow,
    ) -> None:
        wrong = DATA | {"password": "wrong"}
        assert await authenticator.authenticate(by_proxy, wrong) is None
        site.down = True
        with pytest.raises(web.HTTPError, match="Your password may be right"):
            await authenticator.authenticate(by_proxy, wrong)

    async def test_a_directory_that_is_lost_after_the_password(
        self,
        authenticator: ClusterAuthenticator,
        by_proxy: SimpleNamespace,
        closed: Pam,
        site: Slow,
    ) -> None:
        site.down = True
        with pytest.raises(web.HTTPError, match="Your password may be right"):
            await authenticator.authenticate(by_proxy, DATA)

    async def test_an_account_phase_without_an_answer(
        self, authenticator: ClusterAuthenticator, by_proxy: SimpleNamespace, closed: Pam
    ) -> None:
        closed.accounts["alice"] = 9
        with pytest.raises(web.HTTPError, match="Your password may be right"):
            await authenticator.authenticate(by_proxy, DATA)
        with pytest.raises(SessionError, match="cannot look up accounts") as caught:
            await authenticator.pre_spawn_start(ALICE, None)
        assert caught.value.status_code == 503

    async def test_a_slow_directory(
        self,
        authenticator: ClusterAuthenticator,
        by_proxy: SimpleNamespace,
        closed: Pam,
        site: Slow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(directory, "LIMIT", 0.05)
        site.answers.clear()
        with pytest.raises(web.HTTPError, match="Your password may be right"):
            await authenticator.authenticate(by_proxy, DATA)

    async def test_a_slow_pam(
        self,
        authenticator: ClusterAuthenticator,
        by_proxy: SimpleNamespace,
        monkeypatch: pytest.MonkeyPatch,
        holding_up: Callable[[ThreadPoolExecutor], None],
    ) -> None:
        monkeypatch.setattr(login, "PASSWORD_LIMIT", 0.05)
        holding_up(login.PASSWORD_CHECKS)
        with pytest.raises(web.HTTPError, match="Your password may be right"):
            await authenticator.authenticate(by_proxy, DATA)

    async def test_an_expired_password(
        self, authenticator: ClusterAuthenticator, by_proxy: SimpleNamespace, closed: Pam
    ) -> None:
        closed.accounts["alice"] = 12
        with pytest.raises(web.HTTPError, match="Log in to the cluster with SSH to set a new one"):
            await authenticator.authenticate(by_proxy, DATA)


async def test_an_account_closed_after_the_login_gets_no_session(
    authenticator: ClusterAuthenticator, closed: Pam, monkeypatch: pytest.MonkeyPatch
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


class Slow(FakeDirectory):
    """The accounts and groups of a site; it may also be slow, or know fewer memberships."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        for uid, name in enumerate(("alice", "bob", "carol", "eve"), 4711):
            self.add(name, uid=uid)
        self.add_group("jupyter", gid=7001, members={"alice", "bob"})
        self.answers = threading.Event()
        self.answers.set()
        known, members = pwd.getpwnam, os.getgrouplist
        self.knows_memberships = True

        def getpwnam(name: str) -> pwd.struct_passwd:
            self.answers.wait(10)
            return known(name)

        def getgrouplist(name: str, gid: int) -> list[int]:
            # A directory that is down raises no error here; it only returns fewer groups.
            return members(name, gid) if self.knows_memberships else [gid]

        monkeypatch.setattr(pwd, "getpwnam", getpwnam)
        monkeypatch.setattr(os, "getgrouplist", getgrouplist)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    site = Slow(monkeypatch)
    yield site
    site.answers.set()


class Handler:
    """A request that is authenticated by a cookie or by a token."""

    def __init__(self, token: str = "") -> None:
        self.token = SimpleNamespace(hashed=token) if token else None

    def get_token(self) -> SimpleNamespace | None:
        return self.token


ALICE = SimpleNamespace(
    name="alice", spawners={"": SimpleNamespace(token_hash="of the session", active=False)}
)


@pytest.mark.usefixtures("closed")
class TestRefresh:
    """Only users who have lost access to the hub are logged out."""

    @pytest.fixture
    def authenticator(self, site: Slow) -> ClusterAuthenticator:
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
        self, authenticator: ClusterAuthenticator, site: Slow
    ) -> None:
        site.groups["jupyter"].gr_mem.remove("alice")
        await self.is_logged_out(authenticator)
        with pytest.raises(SessionError, match="alice may not have sessions here"):
            await authenticator.pre_spawn_start(ALICE, None)

    async def test_a_user_removed_from_the_list_is_logged_out(
        self, authenticator: ClusterAuthenticator
    ) -> None:
        authenticator.allowed_users = {"dave"}
        await self.is_logged_out(authenticator, "carol")

    async def test_a_user_whose_account_has_expired_is_logged_out(
        self, authenticator: ClusterAuthenticator, closed: Pam
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
        self, authenticator: ClusterAuthenticator, site: Slow
    ) -> None:
        site.down = True
        assert await authenticator.refresh_user(ALICE, Handler()) is True
        site.down = False
        # After a failure, a cache may know the account before it knows the account's groups.
        # Therefore the user stays logged in if the group's list of members names the account.
        site.knows_memberships = False
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_a_group_that_does_not_exist_keeps_nobody_logged_in(
        self, authenticator: ClusterAuthenticator, site: Slow
    ) -> None:
        authenticator.allowed_groups = {"jupyter", "mistyped"}
        assert await authenticator.refresh_user(ALICE, Handler()) is True
        site.groups["jupyter"].gr_mem.remove("alice")
        await self.is_logged_out(authenticator)

    async def test_a_group_that_has_gone_logs_nobody_out(
        self, authenticator: ClusterAuthenticator, site: Slow
    ) -> None:
        """One of two directories may be down."""
        site.add_group("local", gid=7002, members={"dave"})
        authenticator.allowed_groups = {"jupyter", "local"}
        await self.is_logged_out(authenticator, "eve")
        del site.groups["jupyter"]
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_a_directory_that_does_not_answer_does_not_log_users_out(
        self,
        authenticator: ClusterAuthenticator,
        site: Slow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(directory, "LIMIT", 0.05)
        site.answers.clear()
        assert await authenticator.refresh_user(ALICE, Handler()) is True

    async def test_tokens_are_refused_except_that_of_a_running_session(
        self, authenticator: ClusterAuthenticator, site: Slow
    ) -> None:
        assert await authenticator.refresh_user(ALICE, Handler("of a browser")) is True
        site.groups["jupyter"].gr_mem.remove("alice")
        await self.is_logged_out(authenticator, token="of a browser")
        # JupyterHub accepts the token despite the result False, because auth_refresh_strict is off.
        assert await authenticator.refresh_user(ALICE, Handler("of the session")) is False
        assert authenticator.auth_refresh_strict is False
