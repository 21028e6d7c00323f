# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner in a real hub: only the proxy, the broker and Grid Engine are stood in for.

The broker is a real server on a Unix socket, qstat a real command; the hub's pages, API, database
and tokens are JupyterHub's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pwd
import socket
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from batchspawner.api import BatchSpawnerAPIHandler
from batchspawner.batchspawner import JobStatus
from jupyterhub import orm, roles
from jupyterhub.apihandlers import default_handlers
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, create_signed_value
from traitlets.config import Config

import sge_broker
import sge_client
import sge_spawner
from fake_grid import Qstat, job, listing, until
from sge_broker import SESSION_FOLDER, SESSION_VARIABLES, Answer, Start, Stop, job_name
from sge_client import GridEngine, Job
from sge_hub import GridHub
from sge_spawner import SessionHandler, SGESpawner, hub_mark

pytestmark = pytest.mark.asyncio(loop_scope="module")

MENU = [
    {
        "name": "cores",
        "label": "CPU cores",
        "choices": [1, 2, 4],
        "default": 1,
        "request": {"kind": "slots", "parallel_environment": "smp"},
    },
    {
        "name": "gpus",
        "label": "GPUs",
        "choices": [0, 1, 2],
        "default": 0,
        "groups": ["no-such-group"],
        "request": {"kind": "count", "complex": "gpu", "per": "job"},
    },
]
SERVICE_TOKEN = "a5e7" * 8
PORTS = (40000, 40999)
SECRET = b"x" * 32


class Routes(Proxy):
    """A proxy that remembers its routes and does nothing with them."""

    should_start = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.routes: dict[str, dict[str, Any]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        return self.routes


class Hub(GridHub):
    """A whole hub, without a configuration file and without a process of its own."""

    base = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before = asyncio.all_tasks()
        self.looks = asyncio.Event()

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Read none: the test says how the hub is configured."""

    def init_logging(self) -> None:
        super().init_logging()
        self.log.handlers.clear()
        self.log.propagate = True

    async def init_spawners(self) -> int:
        self.looks.set()
        return await super().init_spawners()

    async def open(self) -> None:
        """Serve from the moment on from which the hub looks for its sessions."""
        self.opening = asyncio.create_task(self.initialize([]))
        looks = asyncio.create_task(self.looks.wait())
        await asyncio.wait([self.opening, looks], return_when=asyncio.FIRST_COMPLETED)
        if not looks.done():
            looks.cancel()
            await self.opening
        self.server = HTTPServer(self.tornado_application)
        sockets = bind_sockets(0, "127.0.0.1")
        self.server.add_sockets(sockets)
        self.base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"

    async def kill(self, spare: Iterable[asyncio.Task[Any]] = ()) -> None:
        """End as on SIGTERM: all tasks are cancelled; nothing is written to the database."""
        self.server.stop()
        tasks = asyncio.all_tasks() - self.before - {asyncio.current_task()} - set(spare)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.close_all_connections()
        for user in self.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        self.db.rollback()
        self.db.close()
        self.db.get_bind().dispose()
        sge_spawner._collectors.clear()
        sge_spawner._left_behind.clear()

    def person(self, name: str) -> Any:
        found = orm.User.find(self.db, name)
        if found is None:
            found = orm.User(name=name)
            self.db.add(found)
            self.db.commit()
            roles.assign_default_roles(self.db, entity=found)
        return self.users[found]

    def spawner(self, name: str = "alice") -> SGESpawner:
        spawner = self.person(name).spawners[""]
        assert isinstance(spawner, SGESpawner)
        return spawner

    async def ask(
        self, path: str, token: str | None, body: object = None, method: str = "POST"
    ) -> HTTPResponse:
        return await AsyncHTTPClient().fetch(
            f"{self.base}/hub/api/{path}",
            method=method,
            headers={"Authorization": f"token {token}"} if token else {},
            body=body
            if isinstance(body, bytes)
            else None
            if method in ("GET", "DELETE")
            else json.dumps(body),
            raise_error=False,
        )

    async def page(self, path: str, name: str = "alice") -> str:
        """Return a page as the person sees it."""
        cookie = create_signed_value(
            self.cookie_secret, "jupyterhub-hub-login", self.person(name).cookie_id
        )
        answer = await AsyncHTTPClient().fetch(
            f"{self.base}/hub/{path}",
            headers={"Cookie": f"jupyterhub-hub-login={cookie.decode()}"},
            follow_redirects=False,
            raise_error=False,
        )
        return answer.body.decode()


class Cluster:
    """What is in Grid Engine: qstat says so from the next question on."""

    def __init__(self, qstat: Qstat) -> None:
        self.qstat = qstat
        self.jobs: dict[str, Job] = {}
        qstat.says(listing())

    def put(self, session: str, letters: str = "r", **changes: Any) -> None:
        """Add the job of a session, or change what it does."""
        name = job_name(session)
        number = self.jobs[name].id if name in self.jobs else len(self.jobs) + 1
        host = changes.pop("host", "127.0.0.1")
        self.jobs[name] = job(name, letters, **{"number": number, "host": host} | changes)
        self.qstat.says(listing(*self.jobs.values()))

    def remove(self, session: str) -> None:
        self.jobs.pop(job_name(session), None)
        self.qstat.says(listing(*self.jobs.values()))


class Broker:
    """A broker that notes what it is asked and answers as the test says."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: In which state a job begins; empty: it never comes to be.
        self.letters = "qw"
        #: Whether a job stays in deletion.
        self.sticky = False
        self.requests: list[Start | Stop] = []
        self.answers: list[Answer] = []
        self.open = asyncio.Event()
        self.open.set()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        request = sge_broker._REQUEST.validate_json(await reader.read())
        self.requests.append(request)
        await self.open.wait()
        answer = Answer(ok=True)
        if self.answers:
            answer = self.answers.pop(0)
        elif isinstance(request, Start):
            if self.letters:
                self.cluster.put(request.session, self.letters, owner=request.user)
            answer = Answer(ok=True, job_id=len(self.starts))
        elif not self.sticky:
            self.cluster.remove(request.session)
        elif job_name(request.session) in self.cluster.jobs:
            self.cluster.put(request.session, "dr", owner=request.user)
        writer.write(answer.model_dump_json().encode())
        writer.close()

    @property
    def starts(self) -> list[Start]:
        return [request for request in self.requests if isinstance(request, Start)]

    @property
    def stops(self) -> list[Stop]:
        return [request for request in self.requests if isinstance(request, Stop)]

    @property
    def session(self) -> str:
        """The last session that was asked for."""
        return self.starts[-1].session

    @property
    def token(self) -> str:
        """Its token."""
        return self.starts[-1].environment["JUPYTERHUB_API_TOKEN"]


class Lab:
    """A session's server, which answers or does not."""

    def __init__(self) -> None:
        class Api(RequestHandler):
            def get(self) -> None:
                self.set_header("X-JupyterHub-Version", "6.1.1")

        self.server = HTTPServer(Application([(".*", Api)]))
        for self.port in range(PORTS[0], PORTS[1] + 1):
            with contextlib.suppress(OSError):
                self.answer()
                return
        pytest.fail("no port is free")

    def answer(self) -> None:
        self.sockets = bind_sockets(self.port, "127.0.0.1", family=socket.AF_INET)
        self.server.add_sockets(self.sockets)

    async def fall_silent(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()
        self.server = HTTPServer(self.server.request_callback)


@pytest_asyncio.fixture(loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    lab = Lab()
    yield lab
    await lab.fall_silent()


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
    path.write_text(json.dumps(MENU), encoding="utf-8")
    return path


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accounts alice and bob, whatever accounts this machine has."""
    real = pwd.getpwnam

    def find(name: str) -> pwd.struct_passwd:
        if name in ("alice", "bob"):
            return pwd.struct_passwd((name, "x", 4711, 4711, "", str(tmp_path), "/bin/sh"))
        return real(name)

    monkeypatch.setattr(pwd, "getpwnam", find)


def configuration(folder: Path, database: str) -> Config:
    config = Config()
    config.JupyterHub.db_url = database
    config.JupyterHub.cookie_secret = SECRET
    config.JupyterHub.proxy_class = Routes
    config.JupyterHub.authenticator_class = "dummy"
    config.JupyterHub.spawner_class = SGESpawner
    config.JupyterHub.log_level = logging.WARNING
    config.JupyterHub.init_spawners_timeout = 1
    config.JupyterHub.services = [{"name": "helper", "api_token": SERVICE_TOKEN}]
    config.JupyterHub.load_roles = [
        {"name": "helper", "services": ["helper"], "scopes": ["admin:users", "admin:servers"]}
    ]
    config.JupyterHub.pid_file = str(folder / "hub.pid")
    config.Authenticator.allow_all = True
    config.SGESpawner.sge_bin_dir = str(folder)
    return config


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """One hub for all tests that restart none; to make one takes a quarter of a second."""
    hub = Hub(config=configuration(tmp_path_factory.mktemp("hub"), "sqlite:///:memory:"))
    await hub.open()
    await hub.opening
    await end_collectors()
    yield hub
    await hub.kill()
    await JupyterHubHTTPClient.loop_instance().close()


async def end_collectors() -> None:
    for collector in sge_spawner._collectors.values():
        tasks = [task for task in (collector._task, *collector._deletions.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    sge_spawner._collectors.clear()
    sge_spawner._left_behind.clear()


@pytest.fixture
def settings(tmp_path: Path, grid: GridEngine, menu_file: Path, monkeypatch: Any) -> Config:
    """How spawners are configured, in a hurry."""
    monkeypatch.setattr(sge_client, "DELETION_PAUSE", 0.02)
    monkeypatch.setattr(sge_spawner, "_LOOKS", (0.01,))
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
    """The hub with nobody in it, and with the menu, the broker and the Grid Engine of this test."""
    hub = whole_hub
    hub.config.SGESpawner = settings
    yield hub
    await end_collectors()
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


async def starting(alice: Any, broker: Broker, **options: object) -> asyncio.Task[Any]:
    """Start a session; return when its job is submitted."""
    spawner = alice.spawners[""]
    start = asyncio.create_task(alice.spawn(options=options))
    await until(lambda: start.done() or spawner.job_id)
    return start


async def running(alice: Any, broker: Broker, lab: Lab) -> SGESpawner:
    """Start a session; return when it is up."""
    spawner = alice.spawners[""]
    start = await starting(alice, broker)
    broker.cluster.put(broker.session)
    spawner.announce(lab.port)
    await asyncio.wait_for(start, 10)
    return spawner


async def answers(qstat: Qstat, spawner: SGESpawner, count: int = 2) -> None:
    """Return when Grid Engine has been asked, and has answered, so many times more."""
    before = len(qstat.calls)
    while len(qstat.calls) < before + count + 1:
        await asyncio.wait_for(spawner.collector.news(10), 10)


def stored(hub: Hub) -> list[dict[str, Any] | None]:
    """What is left in the database when the hub dies now: what it has committed."""
    hub.db.rollback()
    return [spawner.state for spawner in hub.db.query(orm.Spawner)]


class TestHandlers:
    async def test_the_handler_that_sets_any_attribute_is_gone(self) -> None:
        assert not [entry for entry in default_handlers if entry[1] is BatchSpawnerAPIHandler]
        assert [entry for entry in default_handlers if "batchspawner" in entry[0]] == []
        assert default_handlers.count((r"/api/sge/(port|failure)", SessionHandler)) == 1

    async def test_the_hub_does_not_answer_it(self, hub: Hub, spawner: SGESpawner) -> None:
        token = spawner.user.new_api_token()
        for body in ({"port": 40001}, {"job_id": "1"}):
            assert (await hub.ask("batchspawner", token, body)).code == 404


class TestChoice:
    async def test_a_checked_choice_is_what_the_broker_is_asked_for(
        self, alice: Any, spawner: SGESpawner, broker: Broker
    ) -> None:
        await starting(alice, broker, cores="2")
        assert spawner.user_options == {"cores": 2}
        assert broker.starts[0].amounts == {"cores": 2}
        assert broker.starts[0].user == "alice"

    async def test_a_choice_off_the_menu_is_refused_on_the_api_in_words(
        self, hub: Hub, broker: Broker, token: str, subtests: pytest.Subtests
    ) -> None:
        wrong: list[tuple[dict[str, object], str]] = [
            ({"cores": 3}, "choose 1, 2 or 4"),
            ({"cores": [1, 2]}, "choose 1, 2 or 4"),
            ({"cores": None}, "choose 1, 2 or 4"),
            ({"cores": True}, "choose 1, 2 or 4"),
            ({"gpus": 1}, "members of no-such-group"),
            ({"queue": "root.q"}, "not on the menu"),
            ({"job_id": "1"}, "not on the menu"),
            ({"-l": "h_rt=1"}, "not on the menu"),
        ]
        for options, words in wrong:
            with subtests.test(options=options):
                answer = await hub.ask("users/alice/server", token, options)
                assert answer.code == 400
                assert words in json.loads(answer.body)["message"]
        assert not broker.requests

    async def test_a_refused_choice_is_not_taken_for_the_next_start(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        assert spawner.orm_spawner.user_options == {}
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await hub.ask("users/alice/server", token, None)
        assert "no more today" in json.loads(answer.body)["message"]
        assert broker.starts[0].amounts == {"cores": 1}

    async def test_an_accepted_choice_is_the_next_ones_default(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        await hub.ask("users/alice/server", token, None)
        assert [start.amounts for start in broker.starts] == [{"cores": 4}] * 2

    async def test_nothing_of_an_earlier_choice_survives_a_refusal(
        self, spawner: SGESpawner
    ) -> None:
        await spawner._run_apply_user_options({"cores": 4})
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert spawner.choice is None

    async def test_a_form_is_read_without_its_meaning(self, spawner: SGESpawner) -> None:
        fields = {"cores": ["2"], "gpus": ["0", "1"], "_xsrf": ["abc"], "empty": []}
        assert await maybe_future(spawner.run_options_from_form(fields)) == {
            "cores": "2",
            "gpus": ["0", "1"],
            "empty": [],
        }

    async def test_the_form_shows_what_the_person_may_use(self, spawner: SGESpawner) -> None:
        spawner.user_options = {"cores": 4}
        form = await spawner.get_options_form()
        assert 'name="cores"' in form
        assert '<option value="4" selected>' in form
        assert "gpus" not in form

    async def test_a_new_menu_needs_no_restart(self, spawner: SGESpawner, menu_file: Path) -> None:
        menu_file.write_text(json.dumps([MENU[0] | {"choices": [1, 64]}]), encoding="utf-8")
        await spawner._run_apply_user_options({"cores": 64})
        assert spawner.user_options == {"cores": 64}

    async def test_a_broken_menu_is_told_without_details(
        self, hub: Hub, spawner: SGESpawner, menu_file: Path, token: str, broker: Broker
    ) -> None:
        menu_file.write_text("secret words", encoding="utf-8")
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 500
        assert b"cannot be read" in answer.body
        assert b"secret" not in answer.body
        assert str(menu_file).encode() not in answer.body
        assert not broker.requests

    async def test_a_person_without_an_account_is_told_so(self, hub: Hub, broker: Broker) -> None:
        nobody = hub.person("no-such-account")
        with pytest.raises(SpawnException, match="no account no-such-account"):
            await nobody.spawners[""]._run_apply_user_options({})
