# SPDX-License-Identifier: BSD-3-Clause
"""Login: who gives the right password and still may not in reads why; only PAM is stood in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pamela
import pytest
from jupyterhub.auth import PAMAuthenticator
from tornado import web

from sge_login import ClusterAuthenticator
from sge_spawner import SessionError


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The accounts that PAM does not let be used."""
    names: set[str] = set()

    def check_account(username: str, service: str, encoding: str) -> None:
        if username in names:
            raise pamela.PAMError(13)

    def authenticate(username: str, password: str, **_: Any) -> None:
        if password != "right":
            raise pamela.PAMError(7)

    monkeypatch.setattr(pamela, "check_account", check_account)
    monkeypatch.setattr(pamela, "authenticate", authenticate)
    monkeypatch.setattr(pamela, "open_session", lambda *_, **__: None)
    return names


@pytest.fixture
def authenticator() -> ClusterAuthenticator:
    return ClusterAuthenticator(allowed_users={"alice"})


DATA = {"username": "alice", "password": "right"}


async def test_the_right_password_is_enough(
    authenticator: ClusterAuthenticator, closed: set[str]
) -> None:
    assert await authenticator.authenticate(None, DATA) == "alice"


async def test_a_wrong_password_is_just_wrong(
    authenticator: ClusterAuthenticator, closed: set[str]
) -> None:
    closed.add("alice")  # nobody learns of it without the password
    assert await authenticator.authenticate(None, DATA | {"password": "wrong"}) is None


async def test_a_closed_account_is_told_so(
    authenticator: ClusterAuthenticator, closed: set[str]
) -> None:
    closed.add("alice")
    with pytest.raises(web.HTTPError, match="password is right, but: The account alice cannot"):
        await authenticator.authenticate(None, DATA)


async def test_an_account_that_is_not_named_is_told_so(
    authenticator: ClusterAuthenticator,
) -> None:
    assert authenticator.check_allowed("alice") is True
    with pytest.raises(web.HTTPError, match="bob may not use this service") as caught:
        authenticator.check_allowed("bob")
    assert caught.value.status_code == 403


async def test_an_account_that_was_closed_after_the_login_gets_no_session(
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
