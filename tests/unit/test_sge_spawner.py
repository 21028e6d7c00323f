# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner in a real hub: only the proxy, the broker and Grid Engine are stood in for.

The broker is a real server on a Unix socket, qstat a real command; the hub's pages, API, database
and tokens are JupyterHub's own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pwd
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from batchspawner.api import BatchSpawnerAPIHandler
from batchspawner.batchspawner import JobStatus
from jupyterhub import orm, roles
from jupyterhub.apihandlers import default_handlers
from jupyterhub.app import JupyterHub
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from traitlets.config import Config

import sge_broker
import sge_spawner
from fake_grid import Qstat, listing, until
from sge_broker import SESSION_VARIABLES, Answer, Start, Stop
from sge_client import GridEngine
from sge_spawner import PortHandler, SGESpawner

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


class Hub(JupyterHub):
    """A whole hub, without a configuration file and without a process of its own."""

    base = ""

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Read none: the test says how the hub is configured."""

    def init_logging(self) -> None:
        super().init_logging()
        self.log.handlers.clear()
        self.log.propagate = True

    def person(self, name: str) -> Any:
        found = orm.User.find(self.db, name)
        if found is None:
            found = orm.User(name=name)
            self.db.add(found)
            self.db.commit()
            roles.assign_default_roles(self.db, entity=found)
        return self.users[found]

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


class Broker:
    """A broker that notes what it is asked and answers as the test says."""

    def __init__(self) -> None:
        self.requests: list[Start | Stop] = []
        self.answers: list[Answer] = []
        self.open = asyncio.Event()
        self.open.set()
        self.jobs = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = sge_broker._REQUEST.validate_json(await reader.read())
        self.requests.append(request)
        await self.open.wait()
        if self.answers:
            answer = self.answers.pop(0)
        elif isinstance(request, Start):
            self.jobs += 1
            answer = Answer(ok=True, job_id=self.jobs)
        else:
            answer = Answer(ok=True, job_id=request.job_id)
        writer.write(answer.model_dump_json().encode())
        writer.close()

    @property
    def starts(self) -> list[Start]:
        return [request for request in self.requests if isinstance(request, Start)]

    @property
    def stops(self) -> list[Stop]:
        return [request for request in self.requests if isinstance(request, Stop)]


@pytest_asyncio.fixture(loop_scope="module")
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker()
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """One hub for all tests of this file; to make one takes a quarter of a second."""
    config = Config()
    config.JupyterHub.db_url = "sqlite:///:memory:"
    config.JupyterHub.cookie_secret = b"x" * 32
    config.JupyterHub.proxy_class = Routes
    config.JupyterHub.authenticator_class = "dummy"
    config.JupyterHub.spawner_class = SGESpawner
    config.JupyterHub.log_level = logging.WARNING
    config.JupyterHub.services = [{"name": "helper", "api_token": SERVICE_TOKEN}]
    config.JupyterHub.load_roles = [
        {"name": "helper", "services": ["helper"], "scopes": ["admin:users", "admin:servers"]}
    ]
    config.JupyterHub.pid_file = str(tmp_path_factory.mktemp("hub") / "hub.pid")
    config.Authenticator.allow_all = True
    hub = Hub(config=config)
    await hub.initialize([])
    server = HTTPServer(hub.tornado_application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    hub.base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    yield hub
    server.stop()
    await server.close_all_connections()
    await JupyterHubHTTPClient.loop_instance().close()
    hub.db.close()


@pytest_asyncio.fixture(loop_scope="module")
async def hub(
    whole_hub: Hub,
    tmp_path: Path,
    grid: GridEngine,
    menu_file: Path,
    accounts: None,
    qstat: Qstat,
) -> AsyncIterator[Hub]:
    """The hub with nobody in it, and with the menu, the broker and the Grid Engine of this test."""
    hub = whole_hub
    qstat.says(listing())
    hub.config.SGESpawner = Config(
        menu_file=str(menu_file),
        broker_socket=str(tmp_path / "broker.sock"),
        sge_root=str(grid.root),
        sge_bin_dir=str(grid.bin_dir),
        short_interval=0.01,
        long_interval=1000.0,
        session_ports=PORTS,
    )
    yield hub
    for collector in sge_spawner._collectors.values():
        collector._watched.clear()
        collector.hurry()
        if collector._task:
            await collector._task
    sge_spawner._collectors.clear()
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
def spawner(alice: Any, broker: Broker) -> SGESpawner:
    spawner = alice.spawners[""]
    assert isinstance(spawner, SGESpawner)
    return spawner


@pytest.fixture
def token(alice: Any) -> str:
    return str(alice.new_api_token())


async def ready(spawner: SGESpawner, **options: object) -> None:
    """Bring a spawner to where JupyterHub calls its start."""
    spawner.clear_state()
    spawner.api_token = spawner.user.new_api_token()
    await spawner._run_apply_user_options(options)
    spawner._start_pending = True


async def starting(spawner: SGESpawner, broker: Broker) -> asyncio.Task[str]:
    """Start a session; return when its job is submitted."""
    await ready(spawner)
    before = len(broker.starts)
    start = asyncio.create_task(spawner.start())
    await until(lambda: start.done() or (spawner.job_id and len(broker.starts) > before))
    return start


async def answers(qstat: Qstat, spawner: SGESpawner, count: int = 2) -> None:
    """Return when Grid Engine has been asked, and has answered, so many times more."""
    before = len(qstat.calls)
    while len(qstat.calls) < before + count + 1:
        await asyncio.wait_for(spawner.collector.news(10), 10)


def stored(hub: Hub) -> list[dict[str, Any] | None]:
    """What is left in the database when the hub dies now: what it has committed."""
    hub.db.rollback()
    return [spawner.state for spawner in hub.db.query(orm.Spawner)]


def running(number: int = 1, letters: str = "r", host: str = "exec1") -> str:
    return listing((number, "alice", letters), host=host)


class TestHandlers:
    async def test_the_handler_that_sets_any_attribute_is_gone(self) -> None:
        assert not [entry for entry in default_handlers if entry[1] is BatchSpawnerAPIHandler]
        assert [entry for entry in default_handlers if "batchspawner" in entry[0]] == []
        assert default_handlers.count((r"/api/sge/port", PortHandler)) == 1

    async def test_the_hub_does_not_answer_it(self, hub: Hub, spawner: SGESpawner) -> None:
        token = spawner.user.new_api_token()
        for body in ({"port": 40001}, {"job_id": "1"}):
            assert (await hub.ask("batchspawner", token, body)).code == 404


class TestChoice:
    async def test_a_checked_choice_is_what_the_broker_is_asked_for(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        await ready(spawner, cores="2")
        assert spawner.user_options == {"cores": 2}
        await spawner.submit_batch_script()
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
        await ready(spawner, cores=4)
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
        await ready(spawner, cores=64)
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


class TestStart:
    async def test_a_session_starts_through_the_api(
        self,
        hub: Hub,
        spawner: SGESpawner,
        broker: Broker,
        token: str,
        qstat: Qstat,
    ) -> None:
        class Lab(RequestHandler):
            def get(self) -> None:
                self.set_header("X-JupyterHub-Version", "6.1.1")

        server = HTTPServer(Application([(".*", Lab)]))
        for port in range(PORTS[0], PORTS[1] + 1):
            try:
                sockets = bind_sockets(port, "127.0.0.1", family=socket.AF_INET)
            except OSError:
                continue
            break
        server.add_sockets(sockets)
        try:
            qstat.says(listing((1, "alice", "qw")))
            asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
            await until(lambda: broker.starts)
            session_token = broker.starts[0].environment["JUPYTERHUB_API_TOKEN"]
            qstat.says(running(host="127.0.0.1"))
            told = await hub.ask("sge/port", session_token, {"port": port})
            assert told.code == 204
            answer = await asking
            assert answer.code == 201, answer.body
            assert spawner.ready
            assert spawner.server.url == f"http://127.0.0.1:{port}/user/alice/"
            assert stored(hub) == [{"job_id": "1"}]
            assert hub.proxy.routes["/user/alice/"]["target"] == f"http://127.0.0.1:{port}"
            # And it ends through the API.
            qstat.says(listing())
            answer = await hub.ask("users/alice/server", token, method="DELETE")
            assert answer.code == 204
            assert broker.stops == [Stop(user="alice", job_id=1)]
            assert "/user/alice/" not in hub.proxy.routes
        finally:
            server.stop()
            await server.close_all_connections()

    async def test_the_port_alone_is_not_enough(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "qw")))
        start = await starting(spawner, broker)
        spawner.announce(40001)
        await answers(qstat, spawner)
        assert not start.done()
        qstat.says(running())
        assert await asyncio.wait_for(start, 10) == "http://exec1:40001"

    async def test_the_host_alone_is_not_enough(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(running())
        start = await starting(spawner, broker)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(40001)
        assert await asyncio.wait_for(start, 10) == "http://exec1:40001"

    async def test_the_port_of_an_earlier_session_does_not_count(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        spawner.port = 40001
        qstat.says(running())
        start = await starting(spawner, broker)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(40002)
        assert await asyncio.wait_for(start, 10) == "http://exec1:40002"

    async def test_not_knowing_does_not_end_a_start(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.fails()
        start = await starting(spawner, broker)
        await until(lambda: len(qstat.calls) > 3)
        assert not start.done()
        qstat.says(running())
        qstat.recovers()
        spawner.announce(40001)
        assert await asyncio.wait_for(start, 10) == "http://exec1:40001"

    async def test_a_job_that_dies_is_told_at_once_with_its_log(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        start = await starting(spawner, broker)
        with pytest.raises(
            SpawnException, match=r"Job 1 ended before .*jupyterhub-sessions/1\.log"
        ):
            await asyncio.wait_for(start, 10)

    async def test_a_job_that_runs_and_dies_is_told_too(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(running())
        start = await starting(spawner, broker)
        await answers(qstat, spawner)
        qstat.says(listing())
        with pytest.raises(SpawnException, match="Job 1 ended before"):
            await asyncio.wait_for(start, 10)

    async def test_an_error_state_is_told_with_its_letters(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "Eqw")))
        start = await starting(spawner, broker)
        with pytest.raises(SpawnException, match=r"could not start job 1 \(state Eqw\)"):
            await asyncio.wait_for(start, 10)

    async def test_a_refusal_of_the_broker_reaches_the_person(
        self,
        hub: Hub,
        spawner: SGESpawner,
        broker: Broker,
        token: str,
        subtests: pytest.Subtests,
    ) -> None:
        kinds = {"choice": 400, "home": 400, "grid": 400, "refused": 400}
        for kind, status in (kinds | {"request": 500, "broker": 500}).items():
            with subtests.test(kind=kind):
                broker.answers = [Answer(ok=False, kind=kind, error="cannot run: no <b>host</b>")]
                answer = await hub.ask("users/alice/server", token, {})
                assert answer.code == status
                assert "cannot run: no <b>host</b>" in json.loads(answer.body)["message"]
                assert not spawner.active
        assert not broker.stops

    @pytest.mark.parametrize("fault", ["absent", "silent", "hanging"])
    async def test_a_broker_that_does_not_answer_is_told_without_details(
        self,
        hub: Hub,
        spawner: SGESpawner,
        broker: Broker,
        token: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
    ) -> None:
        if fault == "absent":
            (tmp_path / "broker.sock").unlink()
        elif fault == "silent":
            monkeypatch.setattr(Answer, "model_dump_json", lambda self: "")
        else:
            spawner.broker_timeout = 0.1
            broker.open.clear()
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 503
        assert b"submission service does not answer" in answer.body
        assert str(tmp_path).encode() not in answer.body

    async def test_the_session_gets_its_variables_and_no_others(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
        monkeypatch.setenv("LD_PRELOAD", "")
        spawner.environment = {"PYTHONPATH": "/tmp", "JUPYTERHUB_DEBUG": "1"}
        broker.answers = [Answer(ok=False, kind="grid", error="not now")]
        with pytest.raises(SpawnException):
            await alice.spawn(options={})
        environment = broker.starts[0].environment
        assert set(environment) <= SESSION_VARIABLES
        assert environment["JUPYTERHUB_USER"] == "alice"
        assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/alice/"
        assert {"JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN"} <= set(environment)

    async def test_the_job_number_is_stored_before_the_session_is_up(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "qw")))
        start = await starting(spawner, broker)
        assert not start.done()
        assert stored(hub) == [{"job_id": "1"}]
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    async def test_a_start_given_up_while_submitting_gives_up_at_once_and_leaves_no_job(
        self, spawner: SGESpawner, broker: Broker
    ) -> None:
        await ready(spawner)
        broker.open.clear()
        start = asyncio.create_task(spawner.start())
        await until(lambda: broker.starts)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert not broker.stops
        broker.open.set()
        await until(lambda: broker.stops)
        assert broker.stops == [Stop(user="alice", job_id=1)]

    async def test_a_start_that_takes_too_long_leaves_no_job(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        spawner.start_timeout = 1
        broker.open.clear()
        # The time is over while the broker is at work.
        asyncio.get_running_loop().call_later(1.2, broker.open.set)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(alice.spawn(options={}), 10)
        await until(lambda: broker.stops)
        assert broker.stops == [Stop(user="alice", job_id=1)]
        assert spawner.job_id == ""

    async def test_a_start_given_up_while_submitting_that_is_refused_has_no_job(
        self, spawner: SGESpawner, broker: Broker
    ) -> None:
        await ready(spawner)
        broker.open.clear()
        broker.answers = [Answer(ok=False, kind="grid", error="no")]
        start = asyncio.create_task(spawner.start())
        await until(lambda: broker.starts)
        start.cancel()
        await asyncio.sleep(0)
        broker.open.set()
        with pytest.raises((asyncio.CancelledError, SpawnException)):
            await start
        assert spawner.job_id == ""

    async def test_a_failed_start_cleans_up(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(listing((1, "alice", "Eqw")))
        with pytest.raises(SpawnException, match="Eqw"):
            spawn = asyncio.create_task(alice.spawn(options={}))
            await until(lambda: broker.stops)
            qstat.says(listing())
            await asyncio.wait_for(spawn, 10)
        assert broker.stops == [Stop(user="alice", job_id=1)]
        assert not spawner.job_id
        assert not spawner.collector._watched

    async def test_all_sessions_share_one_collector(self, hub: Hub, broker: Broker) -> None:
        alice, bob = (hub.person(name).spawners[""] for name in ("alice", "bob"))
        assert alice.collector is bob.collector

    async def test_the_person_reads_what_the_job_does(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        messages: list[str] = []

        async def read() -> None:
            async for event in spawner.progress():
                messages.append(event["message"])

        qstat.says(listing((1, "alice", "qw")))
        start = await starting(spawner, broker)
        reading = asyncio.create_task(read())
        for text, words in (
            (listing((1, "alice", "qw")), "waits for a free place"),
            (listing((1, "alice", "hqw")), "is held"),
            (running(letters="t"), "is being started on exec1"),
            (running(), "runs on exec1"),
        ):
            qstat.says(text)
            await until(lambda words=words: messages and words in messages[-1])
        spawner.announce(40001)
        await start
        spawner._start_pending = False
        await asyncio.wait_for(reading, 10)
        assert len(messages) == len(set(messages))


class TestPoll:
    async def test_a_session_that_is_not_known_yet_lives(
        self, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        qstat.fails()
        spawner.load_state({"job_id": "1"})
        assert await spawner.poll() is None
        await until(lambda: len(qstat.calls) >= 1)
        assert await spawner.poll() is None
        assert await spawner.query_job_status() is JobStatus.UNKNOWN

    async def test_a_session_whose_job_is_listed_lives(
        self, spawner: SGESpawner, qstat: Qstat, subtests: pytest.Subtests
    ) -> None:
        letters = dict.fromkeys(("qw", "hqw", "Eqw"), JobStatus.PENDING)
        letters |= dict.fromkeys(("t", "r", "hr", "s", "dr"), JobStatus.RUNNING)
        spawner.load_state({"job_id": "1"})
        for state, status in letters.items():
            with subtests.test(state=state):
                qstat.says(listing((1, "alice", state)))
                assert await spawner.poll() is None
                async with asyncio.timeout(10):
                    while getattr(spawner.collector.look_up(1), "letters", None) != state:
                        spawner.collector.hurry()
                        await spawner.collector.news(10)
                assert await spawner.poll() is None
                assert await spawner.query_job_status() is status

    async def test_a_session_is_over_after_two_answers_without_it(
        self, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        qstat.says_once(1, running())
        qstat.says_once(2, listing())
        pipe = qstat.holds_back(3)
        spawner.load_state({"job_id": "1"})
        assert await spawner.poll() is None
        await spawner.collector.news(10)
        spawner.collector.hurry()
        await until(lambda: len(qstat.calls) == 3)
        assert await spawner.poll() is None  # one answer without it
        await asyncio.to_thread(pipe.write_text, listing())
        await spawner.collector.news(10)
        assert await spawner.poll() == 1
        assert spawner.job_id == ""
        assert spawner.get_state() == {}
        assert not spawner.collector._watched
        assert await spawner.poll() == 1

    async def test_a_session_survives_a_hub_restart_while_the_qmaster_is_down(
        self, hub: Hub, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        before = alice.spawners[""]
        qstat.says(running())
        start = await starting(before, broker)
        before.announce(40001)
        await start
        state = before.get_state()
        qstat.fails()
        after = alice._new_spawner("")
        after.load_state(state)
        for calls in range(1, 4):
            before.collector.hurry()
            await until(lambda calls=calls: len(qstat.calls) > calls)
            assert await after.poll() is None
        assert after.job_id == "1"

    async def test_no_job_is_no_session(self, spawner: SGESpawner, qstat: Qstat) -> None:
        assert await spawner.poll() == 1
        assert qstat.calls == []

    async def test_a_poll_asks_grid_engine_nothing(self, spawner: SGESpawner, qstat: Qstat) -> None:
        qstat.says(running())
        spawner.load_state({"job_id": "1"})
        await spawner.poll()
        await spawner.collector.news(10)
        for _ in range(100):
            assert await spawner.poll() is None
        await spawner.collector.news(0.1)
        assert len(qstat.calls) == 1


class TestStop:
    async def test_without_a_job_nothing_is_done(self, spawner: SGESpawner, broker: Broker) -> None:
        await spawner.stop()
        await spawner.stop(now=True)
        assert not broker.requests

    async def test_stopping_twice_is_stopping_once(
        self, spawner: SGESpawner, broker: Broker
    ) -> None:
        spawner.load_state({"job_id": "7"})
        await asyncio.wait_for(spawner.stop(), 10)
        await asyncio.wait_for(spawner.stop(), 10)
        assert broker.requests == [Stop(user="alice", job_id=7)]
        assert spawner.job_id == ""

    async def test_stopping_waits_for_the_job_to_be_gone(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(running(7, "dr"))
        spawner.load_state({"job_id": "7"})
        stop = asyncio.create_task(spawner.stop())
        await until(lambda: broker.stops)
        await answers(qstat, spawner, 3)
        assert not stop.done()
        qstat.says(listing())
        await asyncio.wait_for(stop, 10)
        assert spawner.job_id == ""
        assert not spawner.collector._watched

    async def test_stopping_now_does_not_wait(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(running(7, "dr"))
        spawner.load_state({"job_id": "7"})
        await asyncio.wait_for(spawner.stop(now=True), 10)
        assert broker.stops == [Stop(user="alice", job_id=7)]
        assert spawner.job_id == ""

    async def test_a_job_that_does_not_go_away_is_not_waited_for_for_ever(
        self,
        spawner: SGESpawner,
        broker: Broker,
        qstat: Qstat,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        qstat.says(running(7, "dr"))
        spawner.stop_timeout = 0.3
        spawner.load_state({"job_id": "7"})
        await asyncio.wait_for(spawner.stop(), 10)
        assert "Job 7 of alice was deleted but is still there after 0.3 s" in caplog.text

    async def test_a_qmaster_that_is_down_is_not_waited_for_for_ever(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.fails()
        spawner.stop_timeout = 0.3
        spawner.load_state({"job_id": "7"})
        await asyncio.wait_for(spawner.stop(), 10)

    async def test_a_job_that_cannot_be_deleted_now_is_deleted_later(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # JupyterHub forgets the session whatever happens: nobody else would delete the job.
        monkeypatch.setattr(sge_spawner, "_DELETION_PAUSES", (0.05,))
        spawner.load_state({"job_id": "7"})
        broker.answers = [Answer(ok=False, kind="grid", error="qmaster is down")] * 3
        await alice.stop()
        await until(lambda: len(broker.stops) == 4)
        await until(lambda: not sge_spawner._deletions)
        assert set(broker.stops) == {Stop(user="alice", job_id=7)}

    async def test_a_job_that_is_no_session_is_not_asked_about_again(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sge_spawner, "_DELETION_PAUSES", (0.05,))
        spawner.load_state({"job_id": "7"})
        broker.answers = [Answer(ok=False, kind="refused", error="not a session")] * 2
        await alice.stop()
        await until(lambda: not sge_spawner._deletions)
        assert len(broker.stops) == 2

    async def test_waiting_for_the_end_asks_no_more_often_than_any_waiting(
        self, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.says(running(7, "dr"))
        spawner.short_interval = 0.5
        spawner.stop_timeout = 1.0
        spawner.load_state({"job_id": "7"})
        began = time.monotonic()
        await spawner.stop()
        least = spawner.collector.least_interval
        assert len(qstat.calls) <= (time.monotonic() - began) / least + 1


class TestPort:
    @pytest_asyncio.fixture(loop_scope="module")
    async def session(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> AsyncIterator[str]:
        """The token of a session that is starting."""
        qstat.says(listing((1, "alice", "qw")))
        start = await starting(spawner, broker)
        yield spawner.api_token
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    async def test_a_starting_session_may_tell_its_port(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        for port in (40000, 40500, 40999):
            with subtests.test(port=port):
                spawner.port = 0
                assert (await hub.ask("sge/port", session, {"port": port})).code == 204
                assert spawner.port == port

    async def test_nothing_else_may_be_told(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        wrong: list[object] = [
            {},
            [],
            [40001],
            40001,
            "40001",
            None,
            {"port": "40001"},
            {"port": 40001.0},
            {"port": True},
            {"port": None},
            {"port": [40001]},
            {"port": 39999},
            {"port": 41000},
            {"port": 0},
            {"port": -40001},
            {"port": 10**30},
            {"port": 40001, "ip": "10.0.0.1"},
            {"port": 40001, "job_id": "1"},
            {"ip": "10.0.0.1"},
            {"Port": 40001},
            b"",
            b"{",
            b"\xff",
            b"port=40001",
        ]
        before = (spawner.ip, spawner.job_id, spawner.get_state())
        for body in wrong:
            with subtests.test(body=body):
                assert (await hub.ask("sge/port", session, body)).code == 400
                assert spawner.port == 0
                assert (spawner.ip, spawner.job_id, spawner.get_state()) == before

    async def test_a_port_is_told_once(self, hub: Hub, spawner: SGESpawner, session: str) -> None:
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert (await hub.ask("sge/port", session, {"port": 40002})).code == 403
        assert spawner.port == 40001

    async def test_no_other_token_will_do(
        self, hub: Hub, spawner: SGESpawner, session: str
    ) -> None:
        bob = hub.person("bob")
        bob.spawners[""].api_token = bob.new_api_token()
        others = {
            "none": None,
            "wrong": "0" * 32,
            "alice's own": spawner.user.new_api_token(),
            "bob's own": bob.new_api_token(),
            "of a session of bob": bob.spawners[""].api_token,
            "a service's": SERVICE_TOKEN,
        }
        found = {
            name: (await hub.ask("sge/port", other, {"port": 40001})).code
            for name, other in others.items()
        }
        assert found == dict.fromkeys(others, 403)
        assert spawner.port == 0

    async def test_a_session_that_is_not_starting_may_tell_nothing(
        self, hub: Hub, spawner: SGESpawner, session: str
    ) -> None:
        spawner._start_pending = False
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 403
        assert spawner.port == 0

    async def test_a_session_may_be_faster_than_the_brokers_answer(
        self, hub: Hub, spawner: SGESpawner, session: str
    ) -> None:
        spawner.job_id = ""
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert spawner.port == 40001

    async def test_it_can_only_be_told(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        for method in ("GET", "DELETE", "PUT"):
            with subtests.test(method=method):
                answer = await hub.ask("sge/port", session, {"port": 40001}, method=method)
                assert answer.code in (404, 405)
                assert spawner.port == 0
