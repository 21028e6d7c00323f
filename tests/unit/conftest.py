# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of all unit tests: recorded outputs, fake Grid Engine commands, and a whole hub.

The outputs in ``data/qstat`` were recorded from Grid Engine 8.1.9 (Debian 12); the README.md there
explains how. A fake command is an executable file; the tested code starts it like a real command.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio
from jupyterhub import orm
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.httpclient import JupyterHubHTTPClient
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from traitlets.config import Config

from fake_directory import FakeDirectory
from fake_grid import Qstat
from folders import QSTAT
from gridhub.grid.engine import GridEngine
from gridhub.hub import guard
from gridhub.hub.rate_limits import Limits
from hub_menus import MENU
from sge_spawner import SGESpawner
from whole_hub import AMPLE, PORTS, Broker, Cluster, Hub, Lab, Visit, configuration, end_cluster

# By default, every run uses the same examples, so that results depend on the code and not on
# chance. With `--hypothesis-profile=thorough`, the examples are random.
hypothesis.settings.register_profile("gridhub", max_examples=80, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("gridhub")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], str]:
    """Return a function that reads the recorded output in the file with a given name."""
    return lambda name: (QSTAT / name).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def tornados_own_server() -> Iterator[None]:
    """Restore Tornado's own HTTP server class after each test."""
    yield
    HTTPServer.configure(None)


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(bin_dir: Path) -> Callable[[str, str], Path]:
    """Return a function that makes a fake Grid Engine command from a shell script."""

    def make(name: str, script: str) -> Path:
        path = bin_dir / name
        new = bin_dir / f".{name}.new"
        new.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        new.chmod(0o755)
        # Replace the file instead of changing it: a running shell keeps reading the old script.
        new.rename(path)
        return path

    return make


@pytest.fixture
def grid(tmp_path: Path, bin_dir: Path) -> GridEngine:
    return GridEngine(root=tmp_path / "root", cell="default", bin_dir=bin_dir, timeout=10.0)


@pytest.fixture
def qstat(fake: Callable[[str, str], Path], tmp_path: Path) -> Qstat:
    return Qstat(fake, tmp_path / "qstat")


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    lab = Lab()
    yield lab
    await lab.close()


@pytest.fixture
def cluster(qstat: Qstat) -> Cluster:
    return Cluster(qstat)


@pytest_asyncio.fixture(loop_scope="module")
async def broker(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Broker]:
    broker = Broker(cluster)
    async with await asyncio.start_unix_server(broker.serve, tmp_path / "broker.sock"):
        yield broker
        broker.open.set()


@pytest.fixture
def menu_file(tmp_path: Path) -> Path:
    path = tmp_path / "menu.json"
    path.write_text(json.dumps({"items": MENU}), encoding="utf-8")
    return path


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDirectory:
    """Pretend that the accounts alice and bob exist on this machine."""
    directory = FakeDirectory(monkeypatch)
    for uid, name in enumerate(("alice", "bob"), 4711):
        directory.add(name, uid=uid, gid=4711, home=str(tmp_path))
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_hub(
    connections: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hub]:
    """One hub that a module's tests share, because making a hub takes 0.25 s.

    Tests that restart the hub do not use this fixture.
    """
    hub = Hub(config=configuration(tmp_path_factory.mktemp("hub"), "sqlite:///:memory:"))
    await hub.open()
    await hub.opening
    await end_cluster(hub)
    yield hub
    await hub.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connections() -> AsyncIterator[None]:
    # All modules are loaded now. To save time, exempt their objects from garbage collection.
    gc.freeze()
    yield
    gc.unfreeze()
    await JupyterHubHTTPClient.loop_instance().close()


@pytest.fixture
def settings(tmp_path: Path, grid: GridEngine, menu_file: Path, monkeypatch: Any) -> Config:
    """The spawners' configuration, with short pauses."""
    monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 0.02)
    monkeypatch.setattr("gridhub.spawner.reach.PAUSES", (0.01,))
    monkeypatch.setattr("sge_spawner.EXPLAIN_START_FOR", 0.0)
    return Config(
        menu_file=str(menu_file),
        broker_socket=str(tmp_path / "broker.sock"),
        sge_root=str(grid.root),
        sge_bin_dir=str(grid.bin_dir),
        short_interval=0.01,
        long_interval=1000.0,
        session_ports=PORTS,
    )


@pytest_asyncio.fixture(loop_scope="module")
async def hub(
    whole_hub: Hub, settings: Config, accounts: None, broker: Broker
) -> AsyncIterator[Hub]:
    """Prepare the module's hub for one test.

    The hub begins without users. Each test has its own menu, broker and Grid Engine.
    """
    hub = whole_hub
    hub.config.SGESpawner = settings
    # Raise the limits: within seconds, alice sends as many requests as a person sends in days.
    hub.tornado_application.settings[guard.SETTING] = Limits(AMPLE, tokens=1000)
    yield hub
    await end_cluster(hub)
    hub.db.rollback()
    for person in hub.db.query(orm.User).all():
        for spawner in hub.users[person].spawners.values():
            spawner.stop_polling()
        hub.users.delete(person.id)
    hub.proxy.routes.clear()


@pytest.fixture
def alice(hub: Hub) -> Any:
    return hub.person("alice")


@pytest.fixture
def spawner(alice: Any) -> SGESpawner:
    spawner = alice.spawners[""]
    assert isinstance(spawner, SGESpawner)
    return spawner


@pytest.fixture
def token(alice: Any) -> str:
    return str(alice.new_api_token())


@pytest.fixture
def visit(hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Load or send the form as alice, with a token instead of the login and XSRF cookies."""
    monkeypatch.setattr(SpawnHandler, "_accept_token_auth", True)
    monkeypatch.setattr(SpawnHandler, "check_xsrf_cookie", lambda self: None)

    async def visit(path: str, body: str | bytes | None = None) -> HTTPResponse:
        return await AsyncHTTPClient().fetch(
            f"{hub.base}/hub/{path}",
            method="GET" if body is None else "POST",
            headers={"Authorization": f"token {token}"},
            body=body,
            follow_redirects=False,
            raise_error=False,
        )

    return visit
