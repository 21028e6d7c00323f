# SPDX-License-Identifier: BSD-3-Clause
"""The hub's connections to a database that is away; the server here is a stub."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, InternalError, OperationalError
from sqlalchemy.pool import NullPool

from gridhub.hub import database
from gridhub.hub.database import Connections, DatabaseTrouble
from whole_hub import Hub, page_says

AWAY = "postgresql+psycopg://hub@127.0.0.1:{port}/hub?connect_timeout=2"


class Server:
    """Stands for PostgreSQL: it is there or not, and counts the attempts to reach it."""

    def __init__(self) -> None:
        self.is_there = False
        self.tries = 0

    def connect(self, *_: object, **__: object) -> Any:
        self.tries += 1
        if not self.is_there:
            raise psycopg.OperationalError("connection refused\nIs the server running?")
        return SimpleNamespace(close=lambda: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(database, "open_connection", server.connect)
    monkeypatch.setattr(database, "RETRY", 0.01)
    return server


POSTGRESQL = SimpleNamespace(name="postgresql")


def ask(connections: Connections) -> Any:
    return connections.connect(POSTGRESQL, None, [], {})


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_while_the_server_is_away_nobody_waits_for_it(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RETRY", 1000.0)
    connections = Connections(logging.getLogger("hub"))
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError, match="connection refused"):
            ask(connections)
    assert server.tries == 1
    until(lambda: "The database does not answer: connection refused" in caplog.text)
    connections._away = ""  # ends the thread when it looks next


def test_the_hub_uses_the_server_when_it_is_back(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    connections = Connections(logging.getLogger("hub"))
    with pytest.raises(psycopg.OperationalError):
        ask(connections)
    server.is_there = True
    until(lambda: "The database answers again" in caplog.text)
    ask(connections)
    # One report for all attempts, in one line.
    assert caplog.text.count("does not answer") == 1
    assert "Is the server running?" in caplog.text


def test_a_hub_that_has_lost_its_database_is_restarted_when_it_is_back(server: Server) -> None:
    connections = Connections(logging.getLogger("hub"))
    restarts: list[str] = []
    connections.when_back = lambda: restarts.append("restart")
    server.is_there = True
    ask(connections)
    server.is_there = False
    # Two statements on an open connection fail.
    connections.lose("the connection was closed")
    connections.lose("the connection was closed")
    with pytest.raises(psycopg.OperationalError, match="closed|refused"):
        ask(connections)
    assert restarts == []
    server.is_there = True
    until(lambda: restarts)
    ask(connections)
    assert restarts == ["restart"]


def test_a_starting_hub_waits_for_its_database(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections(logging.getLogger("hub"))
    engine = create_engine(AWAY.format(port=1), poolclass=NullPool)
    seen: list[object] = []

    class Link:
        def close(self) -> None:
            seen.append("open")

    def connect() -> Link:
        try:
            connections.connect(POSTGRESQL, None, [], {})
        except psycopg.OperationalError as error:
            raise OperationalError("", {}, error) from error
        return Link()

    monkeypatch.setattr(database, "create_engine", lambda *_, **__: engine)
    monkeypatch.setattr(engine, "connect", connect)
    waiting = threading.Thread(target=connections.wait, args=(AWAY.format(port=1),))
    waiting.start()
    until(lambda: server.tries > 2)
    assert waiting.is_alive() and not seen
    server.is_there = True
    waiting.join(10)
    assert seen == ["open"]


def test_a_hub_with_sqlite_waits_for_nothing() -> None:
    Connections(logging.getLogger("hub")).wait("sqlite:////no/such/file")


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that accepts connections and says nothing, like one that is frozen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_connecting_to_a_frozen_server_ends_in_time(silent: int) -> None:
    connections = Connections(logging.getLogger("hub"))
    connections.install()
    engine = create_engine(AWAY.format(port=silent), poolclass=NullPool)
    try:
        before = time.monotonic()
        for _ in range(3):
            with pytest.raises(OperationalError, match="timeout expired"):
                engine.connect()
        assert time.monotonic() - before < 5
    finally:
        event.remove(Engine, "do_connect", connections.connect)
        connections._away = ""
        engine.dispose()


@pytest.mark.asyncio(loop_scope="module")
class TestPages:
    async def test_a_person_whose_database_is_away_is_not_sent_to_the_login_page(
        self, hub: Hub
    ) -> None:
        assert (await hub.visit("home")).code == 200
        cookie = hub.person("alice").cookie_id
        with self.away(hub):
            page = await self.visit(hub, cookie)
        assert page.code == 503 and page_says(page, "start.database")
        assert "Set-Cookie" not in page.headers or "=;" not in page.headers["Set-Cookie"]
        assert (await hub.visit("home")).code == 200

    @pytest.mark.parametrize(
        ("is_lost", "is_ping", "error", "is_trouble"),
        [
            (True, False, OperationalError("", {}, Exception()), True),
            (False, False, OperationalError("", {}, Exception()), True),
            (False, False, InternalError("", {}, Exception()), True),
            (False, False, IntegrityError("", {}, Exception()), False),
            # SQLAlchemy opens another connection.
            (True, True, OperationalError("", {}, Exception()), False),
        ],
    )
    async def test_only_a_lost_connection_counts_as_away(
        self,
        is_lost: bool,
        is_ping: bool,
        error: Exception,
        is_trouble: bool,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        lost: list[object] = []
        monkeypatch.setattr(hub._connections, "lose", lost.append)
        context = SimpleNamespace(
            is_disconnect=is_lost,
            is_pre_ping=is_ping,
            sqlalchemy_exception=error,
            original_exception=error,
        )
        with pytest.raises(DatabaseTrouble) if is_trouble else nullcontext():
            hub._raise_trouble(context)  # type: ignore[arg-type]
        assert bool(lost) is (is_lost and is_trouble)

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_a_token_is_not_refused_while_the_database_is_away(
        self, method: str, hub: Hub
    ) -> None:
        token = hub.person("alice").new_api_token()
        with self.away(hub):
            answer = await hub.ask("users/alice/server", token, {}, method)
        assert answer.code == 503

    @staticmethod
    def away(hub: Hub) -> Any:
        """Let each statement fail, as if the server had gone."""

        class Gone:
            def __enter__(self) -> None:
                event.listen(hub.db.get_bind(), "before_cursor_execute", self.fail, retval=True)

            def __exit__(self, *_: object) -> None:
                event.remove(hub.db.get_bind(), "before_cursor_execute", self.fail)
                hub.db.rollback()

            @staticmethod
            def fail(*arguments: Any) -> Any:
                return "SELECT * FROM no_such_table", ()

        return Gone()

    @staticmethod
    async def visit(hub: Hub, cookie: str) -> Any:
        person = SimpleNamespace(cookie_id=cookie)
        asked, hub.person = hub.person, lambda name: person  # type: ignore[method-assign]
        try:
            return await hub.visit("home")
        finally:
            hub.person = asked  # type: ignore[method-assign]
