# SPDX-License-Identifier: BSD-3-Clause
"""How the hub watches the proxy's routes.

These tests replace JupyterHub's repair of routes with a counter of calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.proxy import ConfigurableHTTPProxy

from fake_grid import until
from gridhub.hub.routes import WatchedProxy


class Proxy(WatchedProxy):
    """A proxy whose routes the test sets."""

    routes: dict[str, Any] | None
    looks = 0
    repairs = 0

    async def get_all_routes(self, client: Any = None) -> dict[str, Any]:
        self.looks += 1
        if self.routes is None:
            raise OSError("connection refused")
        return self.routes


HUB: dict[str, Any] = {"data": {"hub": True}}
SESSION: dict[str, Any] = {"data": {"user": "someone"}}


def person(
    *specs: str,
    ready: bool = True,
    active: bool | None = None,
    host: str = "exec1",
    silent: bool = False,
) -> Any:
    active = ready if active is None else active
    return SimpleNamespace(
        name="alice",
        spawners={
            spec: SimpleNamespace(
                proxy_spec=spec,
                ready=ready,
                active=active,
                host=host,
                pending=None,
                server=SimpleNamespace(host="https://exec1:40000"),
                certified_name="",
                silent=silent,
                check_silence=check_silence,
            )
            for spec in specs
        },
    )


async def check_silence() -> None:
    """Find nothing: the tests set whether a session is silent."""


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    async def check_routes(self: Proxy, users: Any, services: Any, routes: Any = None) -> None:
        self.repairs += 1

    monkeypatch.setattr(ConfigurableHTTPProxy, "check_routes", check_routes)
    proxy = Proxy(watch_interval=0.01, auth_token="x")
    proxy.routes = {"/": HUB}
    object.__setattr__(proxy, "users", {})
    proxy.app = SimpleNamespace(hub=SimpleNamespace(routespec="/"), users=proxy.users)
    await proxy.check_routes(proxy.users, {})
    proxy.repairs = 0
    yield proxy
    assert proxy.watching
    proxy.watching.cancel()
    await asyncio.gather(proxy.watching, return_exceptions=True)


async def looked(proxy: Proxy) -> None:
    before = proxy.looks
    await until(lambda: proxy.looks > before + 2)


async def test_a_proxy_with_all_its_routes_is_left_alone(proxy: Proxy) -> None:
    proxy.users[1] = person("/user/alice/")
    proxy.users[2] = person("/user/bob/", ready=False, active=True)
    proxy.routes = {"/": HUB, "/user/alice/": SESSION, "/user/bob/": SESSION, "/extra/": HUB}
    await looked(proxy)
    assert proxy.repairs == 0


async def test_a_route_without_a_session_is_removed(proxy: Proxy) -> None:
    proxy.users[1] = person("/user/alice/", ready=False)
    proxy.routes = {"/": HUB, "/user/alice/": SESSION}
    await until(lambda: proxy.repairs)


async def test_a_sessions_route_is_added_and_deleted(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: dict[str, str] = {}

    async def add_route(_: Any, path: str, target: str, data: dict[str, str]) -> None:
        added[path] = target

    async def delete_route(_: Any, path: str) -> None:
        del added[path]

    monkeypatch.setattr(ConfigurableHTTPProxy, "add_route", add_route)
    monkeypatch.setattr(ConfigurableHTTPProxy, "delete_route", delete_route)
    alice = proxy.users[1] = person("/user/alice/")
    await proxy.add_user(alice, "/user/alice/")
    assert added == {"/user/alice/": "https://exec1:40000"}
    # With TLS, the target of a session's route contains the session's name, so that the proxy can
    # check the session's certificate. The target of the hub's route contains no name.
    alice.spawners["/user/alice/"].certified_name = "0a" * 16
    await proxy.add_user(alice, "/user/alice/")
    await proxy.add_route("/", "https://hub:8081", {"hub": True})
    assert added == {"/user/alice/": f"https://{'0a' * 16}@exec1:40000", "/": "https://hub:8081"}
    del added["/"]
    alice.proxy_spec = "/user/alice/"
    await proxy.delete_user(alice)
    assert added == {}


async def test_an_unavailable_proxy_neither_ends_nor_keeps_a_session(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: Any) -> None:
        raise TimeoutError("the proxy does not answer")

    monkeypatch.setattr(ConfigurableHTTPProxy, "add_route", refuse)
    monkeypatch.setattr(ConfigurableHTTPProxy, "delete_route", refuse)
    alice = person("/user/alice/")
    alice.proxy_spec = "/user/alice/"
    await proxy.add_user(alice, "/user/alice/")
    await proxy.delete_user(alice)
    assert caplog.text.count("the route of alice now: the proxy does not answer") == 2


@pytest.mark.parametrize("left", [{}, {"/": HUB}, {"/user/alice/": SESSION}])
async def test_a_missing_route_is_sent_again(proxy: Proxy, left: dict[str, Any]) -> None:
    proxy.users[1] = person("/user/alice/")
    proxy.routes = left
    await until(lambda: proxy.repairs)


async def test_a_session_that_is_not_ready_needs_no_route(proxy: Proxy) -> None:
    proxy.users[1] = person("/user/alice/", ready=False)
    proxy.users[2] = person("/user/bob/", host="")
    await looked(proxy)
    assert proxy.repairs == 0


async def test_a_silent_session_has_no_route(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    async def delete_route(_: Any, path: str) -> None:
        assert proxy.routes
        del proxy.routes[path]

    async def add_route(*_: Any) -> None:
        added.append(True)

    added: list[bool] = []
    monkeypatch.setattr(ConfigurableHTTPProxy, "delete_route", delete_route)
    monkeypatch.setattr(ConfigurableHTTPProxy, "add_route", add_route)
    proxy.routes = {"/": HUB, "/user/alice/": SESSION, "/user/bob/": SESSION}
    proxy.users[1] = person("/user/alice/", silent=True)
    proxy.users[2] = person("/user/bob/")
    await until(lambda: proxy.routes == {"/": HUB, "/user/bob/": SESSION})
    await proxy.add_user(proxy.users[1], "/user/alice/")
    await looked(proxy)
    assert not proxy.repairs
    assert not added
    # It answers again.
    proxy.users[1].spawners["/user/alice/"].silent = False
    await until(lambda: proxy.repairs)
    await proxy.add_user(proxy.users[1], "/user/alice/")
    assert added


async def test_a_failed_check_of_one_session_does_not_end_the_checks(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    checks = []

    async def fail() -> None:
        checks.append(True)
        raise RuntimeError("a fault of ours")

    proxy.users[1] = person("/user/alice/")
    proxy.users[1].spawners["/user/alice/"].check_silence = fail
    await until(lambda: len(checks) > 2)
    assert "a fault of ours" in caplog.text


async def test_an_unavailable_proxy_is_still_watched(proxy: Proxy) -> None:
    proxy.routes = None
    await looked(proxy)
    assert proxy.repairs == 0
    proxy.routes = {}
    await until(lambda: proxy.repairs)


async def test_traffic_on_a_route_does_not_count_as_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def get_all_routes(self: Any) -> dict[str, Any]:
        data = {"user": "alice", "last_activity": "2026-01-01T00:00Z"}
        return {"/user/alice/": {"target": f"https://{'0a' * 16}@exec1:40000", "data": data}}

    monkeypatch.setattr(ConfigurableHTTPProxy, "get_all_routes", get_all_routes)
    proxy = WatchedProxy(auth_token="x")
    # JupyterHub sees neither the last activity nor the session's name in the target.
    assert await proxy.get_all_routes() == {
        "/user/alice/": {"target": "https://exec1:40000", "data": {"user": "alice"}}
    }
