# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner in a real hub: only the proxy, the broker and Grid Engine are stood in for.

The broker is a real server on a Unix socket, qstat a real command; the hub's pages, API, database
and tokens are JupyterHub's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import pwd
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from batchspawner.api import BatchSpawnerAPIHandler
from batchspawner.batchspawner import JobStatus
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jupyterhub import orm, roles
from jupyterhub.apihandlers import default_handlers
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future, utcnow
from markupsafe import escape
from sqlalchemy import text as sql
from sqlalchemy.orm import object_session
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, create_signed_value
from traitlets.config import Config

from fake_grid import HERE, SINCE, Qstat, details, job, listing, until
from gridhub import contract
from gridhub.broker import protocol
from gridhub.broker.protocol import SESSION_VARIABLES, Answer, Check, Request, Start, Stop, job_name
from gridhub.contract import NO_PORT, SESSION_FOLDER, Ending
from gridhub.grid import accounting
from gridhub.grid.accounting import Record
from gridhub.grid.details import Details
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.grid.places import QueueInstance
from gridhub.grid.status import CachedQuery
from gridhub.hub import guard, idle, pages
from gridhub.hub.app import GridHub
from gridhub.hub.limits import Limits, Rate, rates
from gridhub.hub.starter import SessionHandler
from gridhub.menu.file import load_menu
from gridhub.menu.items import Choice
from gridhub.menu.job import Requested
from gridhub.notices import next_maintenance
from gridhub.spawner import form, waiting
from gridhub.spawner.cluster import SETTING, hub_mark
from gridhub.spawner.ended import SessionEnd
from gridhub.spawner.failures import Holders, read_no_port
from gridhub.spawner.form import Link
from gridhub.spawner.view import Amount, Free, View, amounts
from gridhub.words import text
from sge_spawner import SGESpawner

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
MEMORY = {
    "name": "memory",
    "label": "Memory",
    "unit": "GB",
    "choices": [2, 4],
    "default": 2,
    "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
}
HOURS = {
    "name": "hours",
    "label": "Run time",
    "unit": "hours",
    "choices": [1, 2],
    "default": 2,
    "request": {"kind": "run_time", "complex": "h_rt"},
}
INTERFACE = {
    "name": "interface",
    "label": "Opens in",
    "options": [
        {"value": "lab", "label": "JupyterLab"},
        {"value": "notebook", "label": "Jupyter Notebook"},
    ],
    "default": "lab",
    "request": {"kind": "interface"},
}
MAIL = {
    "name": "mail",
    "label": "Mail to",
    "text": {"pattern": "[a-z.]+@example[.]org", "example": "j@example.org"},
    "default": "",
    "request": {"kind": "mail"},
}
MEMORY = {
    "name": "memory",
    "label": "Memory",
    "unit": "GB",
    "choices": [1, 2, 4, 8],
    "default": 1,
    "request": {"kind": "memory", "complex": "h_vmem", "per": "job"},
}
QUEUE = {
    "name": "queue",
    "label": "Queue",
    "options": [{"value": "", "label": "Any"}, {"value": "big.q", "label": "Big"}],
    "default": "",
    "request": {"kind": "queue"},
}
FUZZED = [*MENU, INTERFACE, MAIL]
PRESETS = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]
#: What may be sent: names and values of the menu and close to it, and anything else.
HOSTILE = "<script>alert(1)</script>"
SENT = st.dictionaries(
    st.sampled_from(["cores", "gpus", "interface", "mail", "preset", "queue", "_more"])
    | st.text(max_size=8),
    st.lists(
        st.sampled_from(
            ["1", "2", "3", "4", "0", "04", "٤", "", "lab", "large", "a@example.org"]
        ).map(str.encode)
        | st.sampled_from([HOSTILE.encode(), b"a@example.org\n", b"\xff", b"\x00", b"-l h_rt=1"])
        | st.binary(max_size=12)
        | st.text(max_size=300).map(str.encode),
        min_size=1,
        max_size=2,
    ),
    max_size=4,
)
SERVICE_TOKEN = "a5e7" * 8
CULLER_TOKEN = "c0de" * 8
CULLER_SCOPES = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
PORTS = (40000, 40999)
SECRET = b"x" * 32
AMPLE = dict.fromkeys(rates(), Rate(1_000_000, 1_000_000))


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
    looked = False

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
        count = await super().init_spawners()
        self.looked = True
        return count

    async def open(self) -> None:
        """Serve from the moment on from which the hub looks for its sessions."""
        # A hub replaces the HTTP client of the process, and does not close the one before.
        await JupyterHubHTTPClient.loop_instance().close()
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
        while tasks:  # JupyterHub's progress page takes one cancellation for the end of a start
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.5)
        for user in self.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        self.db.rollback()
        self.db.close()
        self.db.get_bind().dispose()
        gc.collect()  # what was left open here is found here, and in no other test

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
        return (await self.visit(path, name)).body.decode()

    async def visit(self, path: str, name: str = "alice", body: str | None = None) -> HTTPResponse:
        """Do what the person's browser does, which has a cookie."""
        cookie = create_signed_value(
            self.cookie_secret, "jupyterhub-hub-login", self.person(name).cookie_id
        )
        return await AsyncHTTPClient().fetch(
            f"{self.base}/hub/{path}",
            method="GET" if body is None else "POST",
            headers={"Cookie": f"jupyterhub-hub-login={cookie.decode()}"},
            body=body,
            follow_redirects=False,
            raise_error=False,
        )


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
        #: Whether it deletes nothing.
        self.deaf = False
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.open = asyncio.Event()
        self.open.set()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        request = protocol.REQUEST.validate_json(await reader.read())
        self.requests.append(request)
        await self.open.wait()
        answer = Answer(ok=True)
        if self.answers:
            answer = self.answers.pop(0)
        elif isinstance(request, Start):
            if self.letters:
                self.cluster.put(request.session, self.letters, owner=request.user)
            answer = Answer(ok=True, job_id=len(self.starts))
        elif self.deaf:
            pass
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
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen()
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self.server.add_socket(listener)

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
    path.write_text(json.dumps({"items": MENU}), encoding="utf-8")
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
    config.JupyterHub.template_paths = [str(pages.PAGES)]
    config.JupyterHub.template_vars = pages.template_vars("GridHub", "", 2, 60)
    config.JupyterHub.services = [
        {"name": "helper", "api_token": SERVICE_TOKEN},
        {"name": idle.SERVICE, "api_token": CULLER_TOKEN},
    ]
    config.JupyterHub.load_roles = [
        {"name": "helper", "services": ["helper"], "scopes": ["admin:users", "admin:servers"]},
        {"name": "culler", "services": [idle.SERVICE], "scopes": CULLER_SCOPES},
    ]
    config.JupyterHub.tornado_settings = {idle.SETTING: {"timeout": 60, "report": 15}}
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
    await end_cluster(hub)
    yield hub
    await hub.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def connections() -> AsyncIterator[None]:
    gc.freeze()  # all modules are loaded: what is collected from here on is little
    yield
    gc.unfreeze()
    await JupyterHubHTTPClient.loop_instance().close()


async def end_cluster(hub: Hub) -> None:
    """Forget the hub's cluster: the next test has another one."""
    if cluster := hub.tornado_settings.pop(SETTING, None):
        await cluster.collector.close()


@pytest.fixture
def settings(tmp_path: Path, grid: GridEngine, menu_file: Path, monkeypatch: Any) -> Config:
    """How spawners are configured, in a hurry."""
    monkeypatch.setattr("gridhub.grid.collector.DELETION_PAUSE", 0.02)
    monkeypatch.setattr("gridhub.spawner.reach.LOOKS", (0.01,))
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
    """The hub with nobody in it, and with the menu, the broker and the Grid Engine of this test."""
    hub = whole_hub
    hub.config.SGESpawner = settings
    # Alice does in seconds here what a person does in days.
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


async def starting(alice: Any, broker: Broker, **options: object) -> asyncio.Task[Any]:
    """Start a session; return when its job is submitted."""
    spawner = alice.spawners[""]
    start = asyncio.create_task(alice.spawn(options=options))
    await until(lambda: start.done() or spawner.job_id)
    return start


async def press(
    hub: Hub, path: str, body: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> HTTPResponse:
    """Send a form of a page, as a person who has a cookie instead of a token."""
    monkeypatch.setattr(pages.StopHandler, "_accept_token_auth", True)
    monkeypatch.setattr(pages.StopHandler, "check_xsrf_cookie", lambda self: None)
    return await AsyncHTTPClient().fetch(
        f"{hub.base}/hub/{path}",
        method="POST",
        headers={"Authorization": f"token {token}"},
        body=body,
        follow_redirects=False,
        raise_error=False,
    )


Visit = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def visit(hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Ask for the form or send it, as alice, who has a cookie and a form drawn for her."""
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


async def led(spawner: SGESpawner, link: Link) -> str:
    """Return the form as the request that has come by a link draws it."""
    context = copy_context()
    context.run(form.followed.set, link)
    return str(await asyncio.create_task(spawner.get_options_form(), context=context))


def page_says(answer: HTTPResponse, name: str, /, **told: object) -> bool:
    """Tell whether a page has a sentence of words.toml."""
    return str(escape(text(name, **told))) in answer.body.decode()


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


@contextlib.contextmanager
def readonly(database: Any) -> Iterator[None]:
    """A database that cannot be written, as with a full disk."""
    database.execute(sql("PRAGMA query_only = 1"))
    try:
        yield
    finally:
        database.rollback()
        database.execute(sql("PRAGMA query_only = 0"))


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
        assert broker.starts[0].choice == {"cores": 2}
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
        assert hub.spawner().orm_spawner.user_options == {}
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await hub.ask("users/alice/server", token, None)
        assert "no more today" in json.loads(answer.body)["message"]
        assert broker.starts[0].choice == {"cores": 1}

    async def test_what_grid_engine_can_never_start_is_refused_in_words_of_ours(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        refused = Answer(
            ok=False, kind="grid", error="Unable to run job: error: no suitable queues"
        )
        barred = 'Job 1 has no permission for cluster queue "all.q"'
        never = Answer(ok=True, verdict="never", words=barred)
        for verdict, told in (
            (never, "It can never start: your account may not use any worker or queue"),
            (Answer(ok=True, verdict="now"), "no suitable queues"),
        ):
            spawner.cluster.verdicts.kept.clear()
            broker.answers = [refused, verdict]
            answer = await hub.ask("users/alice/server", token, {"cores": 4})
            assert answer.code == 400
            assert told in json.loads(answer.body)["message"]
            assert broker.requests[-1] == Check(user="alice", choice={"cores": 4})
        spawner.cluster.verdicts.kept.clear()

    async def test_an_accepted_choice_is_the_next_ones_default(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        await hub.ask("users/alice/server", token, None)
        assert [start.choice for start in broker.starts] == [{"cores": 4}] * 2

    async def test_a_refused_choice_leaves_the_last_accepted_one_for_the_next_form(
        self, hub: Hub, alice: Any, broker: Broker, token: str
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        for cores in (3, 99):
            assert (await hub.ask("users/alice/server", token, {"cores": cores})).code == 400
        assert '<option value="4" selected>' in await hub.page("spawn")
        alice.spawners[""] = alice._new_spawner("")  # as after a restart of the hub
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        await hub.ask("users/alice/server", token, None)
        assert [start.choice for start in broker.starts] == [{"cores": 4}] * 2

    async def test_nothing_of_an_earlier_choice_survives_a_refusal(
        self, spawner: SGESpawner
    ) -> None:
        await spawner._run_apply_user_options({"cores": 4})
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert spawner.choice is None

    async def test_no_session_starts_in_the_last_minutes_before_a_maintenance(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(
            "gridhub.notices.next_maintenance.refusal", lambda: "Come back at 03:46."
        )
        answer = await hub.ask("users/alice/server", token, {"cores": 4})
        assert answer.code == 400
        assert json.loads(answer.body)["message"] == "Come back at 03:46."
        assert not broker.requests
        assert (await spawner.forecast({"cores": 4})).message == "Come back at 03:46."

    @pytest.mark.parametrize(
        ("rule", "minutes", "outcome"),
        [
            ("refuse", 125, 2),
            ("refuse", 120.5, "Choose at most 1 hour."),  # it would cross it once it has started
            ("refuse", 115, "Choose at most 1 hour."),
            ("cap", 115, 1),
            ("cap", 30, "no session would be over before"),
            ("refuse", -30, "no session would be over before"),
        ],
    )
    async def test_no_session_runs_into_the_window_of_the_workers(
        self,
        spawner: SGESpawner,
        menu_file: Path,
        rule: Any,
        minutes: float,
        outcome: int | str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, HOURS]}), encoding="utf-8")
        begin = datetime.now(UTC) + timedelta(minutes=minutes)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), rule)
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        if isinstance(outcome, int):
            await spawner._run_apply_user_options({})
            assert spawner.user_options["hours"] == outcome
            return
        with pytest.raises(SpawnException) as caught:
            await spawner._run_apply_user_options({})
        assert outcome in str(caught.value.message)
        assert spawner.refusal and spawner.refusal.item == "hours"

    async def test_a_run_time_that_is_cut_is_told_before_and_while_it_waits(
        self,
        hub: Hub,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        menu_file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, HOURS]}), encoding="utf-8")
        begin = datetime.now(UTC) + timedelta(minutes=115)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), "cap")
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        known(spawner.status.places, [])
        spawner.cluster.verdicts.kept.clear()
        broker.answers = [Answer(ok=True, verdict="now")]  # both are the same to the broker
        words = "The run time is 1 hour, because the workers are maintained from"
        message = (await spawner.forecast({"hours": "2"})).message
        assert message.startswith(f"It can start now. {words}")
        assert words not in (await spawner.forecast({"hours": "1"})).message
        spawner.cluster.verdicts.kept.clear()
        start = await starting(alice, broker, hours="2")
        broker.cluster.put(broker.session, "qw")
        assert words in (await spawner.view()).message
        assert (stored(hub)[0] or {})["note"].startswith(words)
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)
        assert hub.spawner().note == ""

    @pytest.mark.parametrize(
        ("rule", "run_time", "left", "code", "ends"),
        [
            ("refuse", 3600, 3700, 204, False),
            ("refuse", 3600, 3500, 409, False),
            ("cap", 3600, 3500, 200, True),
            ("cap", 3600, 1, 200, True),
            ("cap", 3600, -1, 409, False),
            # Without a run time there is nothing that the person could choose less of.
            ("refuse", None, 3500, 200, True),
            ("refuse", None, -1, 409, False),
        ],
    )
    async def test_a_session_that_has_waited_is_held_against_the_window_when_it_starts(
        self,
        hub: Hub,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        rule: Any,
        run_time: int | None,
        left: int,
        code: int,
        ends: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        start = await starting(alice, broker)
        spawner.asked = HAD[:-1] if run_time is None else HAD
        if run_time is not None:
            assert HAD[-1].kind == "run_time"
            spawner.asked = (*HAD[:-1], HAD[-1].model_copy(update={"total": run_time}))
        # The window was set while the session waited.
        begin = datetime.now(UTC) + timedelta(seconds=left)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), rule)
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        answer = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert answer.code == code
        if code == 409:
            with pytest.raises(SpawnException, match="waited in the queue for too long"):
                await asyncio.wait_for(start, 10)
            assert broker.stops == [Stop(user="alice", session=broker.session)]
            return
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)
        if ends:
            assert json.loads(answer.body)["end"] == begin.timestamp()
            assert "its worker is maintained" in json.loads(answer.body)["words"]
            assert (stored(hub)[0] or {})["ends"] == begin.timestamp()
            spawner.asked = HAD[:-1]
            assert (await spawner.view()).ends == begin.replace(tzinfo=None)
        # Told again, when the answer was lost, it is the same one.
        again = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert (again.code, again.body) == (answer.code, answer.body)

    async def test_how_long_a_session_ran_already_counts_against_the_window(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub was away when it started."""
        spawner = alice.spawners[""]
        start = await starting(alice, broker)
        spawner.asked = (HAD[-1].model_copy(update={"total": 3600}),)
        job = Job(1, "n", "alice", "r", "127.0.0.1", 1, since=time.time() - 600)
        monkeypatch.setattr(spawner, "_job", lambda: job)
        begin = datetime.now(UTC) + timedelta(seconds=3100)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), "refuse")
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        monkeypatch.undo()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)

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

    async def test_a_refused_form_says_why_at_the_field_and_once(
        self, hub: Hub, visit: Visit, token: str
    ) -> None:
        async def page(path: str = "spawn", body: str | None = None) -> str:
            return (await visit(path, body)).body.decode()

        told = 'id="error-menu-cores">CPU cores: “3” is not possible; choose 1, 2 or 4.</div>'
        assert told in await page(body="cores=3")
        assert "is-invalid" not in await page()
        # JupyterHub's own page starts what a link says; ours fills it in.
        for link in ("spawn?cores=2", "spawn/alice?opt-cores=2&next=%2Fhub%2Fhome"):
            form = await page(link)
            assert '<option value="2" selected>' in form
            assert "The link has filled in this form. Nothing is started yet." in form
            assert re.search(r'action="/hub/spawn(/alice)?\?[^"]*_xsrf=', form)
            assert "cores=" not in form, "the form does not send the link on"
        assert not hub.spawner().active
        left_out = "Not taken from the link: CPU cores: “3” is not possible; choose 1, 2 or 4."
        assert left_out in await page("spawn?cores=3")
        assert "the link" not in (await page()).lower()
        # A refusal of what was sent afterwards is what the person sees, and what they sent.
        form = await page("spawn?cores=2", body="cores=4&nothing=1")
        assert "The link" not in form
        assert '<option value="4" selected>' in form
        # What a program was refused is no answer to a person.
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        assert "is-invalid" not in await page()

    @pytest.mark.parametrize(
        ("path", "body", "code", "words"),
        [
            ("spawn", b"cores=%FF", 400, "error.not_text"),
            ("spawn?cores=%FF", None, 400, "error.not_text"),
            ("spawn?next=%FF", None, 400, "error.not_text"),
            ("spawn/alice/%3Cb%3E", b"cores=1", 400, "error.bad_name"),
            ("spawn/alice/b", b"cores=1", 400, "error.no_room"),
            ("spawn/nobody", None, 404, "error.text_404"),
        ],
    )
    async def test_what_cannot_be_done_is_said_in_words_of_ours(
        self,
        path: str,
        body: bytes | None,
        code: int,
        words: str,
        hub: Hub,
        visit: Visit,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settings = hub.tornado_application.settings
        monkeypatch.setitem(settings, "allow_named_servers", True)
        monkeypatch.setitem(settings, "named_server_limit_per_user", 1 + ("room" not in words))
        hub.spawner().user.get_or_create_spawner("a", "a")
        answer = await visit(path, body)
        assert answer.code == code
        assert page_says(answer, words, name="next" if "next" in path else "cores")

    async def test_a_form_without_named_sessions_says_so(self, visit: Visit) -> None:
        assert page_says(await visit("spawn/alice/b", b"cores=1"), "error.not_named")

    @pytest.mark.parametrize(
        ("limit", "name", "words"),
        [
            (1, "b", "error.no_room"),
            (2, "%3Cb%3E", "error.bad_name"),
            (None, "b", "error.not_named"),
        ],
    )
    async def test_the_rest_api_refuses_what_the_page_refuses_in_the_same_words(
        self, limit: int | None, name: str, words: str, hub: Hub, token: str, monkeypatch: Any
    ) -> None:
        settings = hub.tornado_application.settings
        monkeypatch.setitem(settings, "allow_named_servers", limit is not None)
        monkeypatch.setitem(settings, "named_server_limit_per_user", limit)
        hub.spawner().user.get_or_create_spawner("a", "a")
        answer = await hub.ask(f"users/alice/servers/{name}", token, {"cores": 1})
        assert answer.code == 400
        assert json.loads(answer.body)["message"] == text(words)

    @pytest.mark.parametrize("body", [None, b"cores=1"])
    async def test_a_fault_of_our_own_is_told_without_its_details(
        self, body: bytes | None, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object, **__: object) -> str:
            raise RuntimeError("secret")

        monkeypatch.setattr(SGESpawner, "get_options_form", fail)
        monkeypatch.setattr(SGESpawner, "options_from_form", fail)
        answer = await visit("spawn", body)
        assert answer.code == 500
        assert page_says(answer, "error.text_other")
        assert not {"secret", "Traceback"} & set(re.findall(r"\w+", answer.body.decode()))

    async def test_a_second_press_of_start_is_told_that_it_starts_and_that_it_runs(
        self, alice: Any, broker: Broker, lab: Lab, visit: Visit
    ) -> None:
        start = await starting(alice, broker)
        answer = await visit("spawn", b"cores=1")
        assert answer.code == 400
        assert page_says(answer, "error.active")
        broker.cluster.put(broker.session)
        alice.spawners[""].announce(lab.port)
        await asyncio.wait_for(start, 10)
        assert page_says(await visit("spawn", b"cores=1"), "error.active")
        assert len(broker.starts) == 1

    async def test_a_full_hub_says_so_on_the_form(
        self, hub: Hub, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob = hub.person("bob")
        start = asyncio.create_task(bob.spawn())
        await until(lambda: bob.spawners[""].job_id)
        monkeypatch.setitem(hub.tornado_application.settings, "active_server_limit", 1)
        answer = await visit("spawn", b"cores=2")
        assert answer.code == 429
        assert page_says(answer, "error.text_429")
        assert 'name="cores"' in answer.body.decode(), "the form"
        start.cancel()

    @hypothesis_settings(
        max_examples=40,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(sent=SENT)
    @example(sent={"cores": [b"2"], "interface": [b"notebook"], "mail": [b"a@example.org"]})
    @example(sent={"preset": [b"large"]})
    @example(sent={"cores": [b"\xff"]})
    async def test_whatever_is_sent_form_link_and_api_agree_and_only_the_menu_is_started(
        self,
        sent: dict[str, list[bytes]],
        hub: Hub,
        broker: Broker,
        visit: Visit,
        token: str,
        menu_file: Path,
    ) -> None:
        menu_file.write_text(json.dumps({"items": FUZZED, "presets": PRESETS}), encoding="utf-8")
        menu = load_menu(menu_file)
        body = urlencode(sent, doseq=True)
        verdicts = []

        def judged(answer: HTTPResponse) -> None:
            assert answer.code in (400, 403), answer.body
            if answer.headers["Content-Type"] != "application/json":
                assert HOSTILE not in answer.body.decode()
            choices = [start.choice for start in broker.starts]
            broker.requests.clear()
            for choice in choices:
                assert menu.choose(choice, ()).values == choice
            verdicts.append(choices)

        broker.answers = [Answer(ok=False, kind="grid", error=HOSTILE)]
        judged(await visit("spawn", body.encode()))
        try:
            fields = {name: [value.decode() for value in values] for name, values in sent.items()}
        except UnicodeDecodeError:
            assert verdicts == [[]]
            fields = {}
        else:
            options = {
                name: values[0] if len(values) == 1 else values
                for name, values in fields.items()
                if not name.startswith("_")
            }
            hub.spawner().orm_spawner.user_options = {}
            broker.answers = [Answer(ok=False, kind="grid", error=HOSTILE)]
            judged(await hub.ask("users/alice/server", token, options))
            assert verdicts[0] == verdicts[1]
        # A link starts nothing, and its form offers what the menu has.
        link = await visit(f"spawn?{body}")
        assert link.code in (200, 400)
        assert not broker.requests
        assert HOSTILE not in link.body.decode()
        # No more does what is no JSON at all.
        broken = await hub.ask("users/alice/server", token, body.encode() + b"\xff")
        assert broken.code == 400
        assert not broker.requests

    async def test_an_old_form_is_told_to_be_old(self, hub: Hub) -> None:
        for path in ("spawn", "stop/alice", "login"):
            answer = await hub.visit(path, body="_xsrf=old")
            assert answer.code == 403
            assert page_says(answer, "error.stale_form")

    async def test_more_and_less_are_filled_in_and_said_at_the_field(
        self, spawner: SGESpawner
    ) -> None:
        async def form(*, more: bool, places: list[QueueInstance] | None = None) -> str:
            known(spawner.status.places, places)
            spawner.user_options = {"cores": "2", "preset": ""}  # as a form sends it
            html = await led(spawner, Link({}, ("cores", "gpus", "?"), more=more))
            assert html.count(" autofocus") == 1
            assert "gpus" not in html, "for members only"
            return html

        more = await form(more=True)
        assert '<option value="4" selected>' in more
        assert "CPU cores: 4 instead of 2, the next larger amount" in more
        less = await form(more=False)
        assert '<option value="1" selected>' in less
        assert "CPU cores: 1 instead of 2, the next smaller amount" in less
        room = QueueInstance("all.q", "exec1", 4, 1, True)
        assert "because no worker that it may use has 2 free now" in await form(
            more=False, places=[room]
        )
        full = await form(more=False, places=[replace(room, free=0)])
        assert '<option value="2" selected>' in full
        assert "CPU cores: less than 2 does not help now" in full
        spawner.user_options = {"cores": 4}
        assert "you may not have more than 4" in await led(spawner, Link({}, ("cores",), more=True))
        assert "changed" not in await spawner.get_options_form(), "of this link alone"

    async def test_of_two_links_opened_at_once_each_fills_in_its_own_form(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = asyncio.Barrier(2)
        groups = SGESpawner._groups

        async def wait_for_both(spawner: SGESpawner) -> frozenset[str]:
            await both.wait()
            return await groups(spawner)

        monkeypatch.setattr(SGESpawner, "_groups", wait_for_both)
        links = [visit(f"spawn?cores={cores}") for cores in (2, 4)]
        first, second = await asyncio.wait_for(asyncio.gather(*links), 10)
        assert '<option value="2" selected>' in first.body.decode()
        assert '<option value="4" selected>' in second.body.decode()

    async def test_what_a_waiting_session_lacks_is_named_by_its_items(
        self, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 9e9})])
        assert spawner.missing == ("cores", "gpus")
        known(spawner.status.places, None)
        assert spawner.missing == ()

    @pytest.mark.parametrize(
        ("cores", "said", "items"),
        [
            (
                2,
                'queue "exec2" because it offers only hc:h_vmem=1.000G\nonly offers 0 slots',
                "memory",
            ),
            (2, 'queue instance "all.q@exec1" dropped because it is full', "cores"),
            (2, "because it only offers 0 slots", "cores"),
            (2, 'exceeds limit "alice/////" in rule "mine/1"\nonly offers 0 slots', ""),
            (2, "because it offers only hc:h_vmem=1.000G due to a reservation", ""),
            (2, "", ""),
            # One slot is on one host, whatever the parallel environment is.
            (1, "", "gpus"),
        ],
    )
    async def test_where_a_parallel_environment_may_spread_it_the_scheduler_says_what_it_lacks(
        self,
        cores: int,
        said: str,
        items: str,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        chosen = HAD[0].model_copy(update={"value": cores, "total": cores})
        spawner.asked = (chosen, *HAD[1:], PARALLEL)
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 9e9})])
        known(spawner.status.details, {7: Details(7, "alice", reasons=tuple(said.splitlines()))})
        assert spawner.missing == tuple(items.split())

    async def test_less_is_what_the_chosen_queue_has(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [MENU[0], QUEUE]}), encoding="utf-8")
        known(
            spawner.status.places,
            [
                QueueInstance("all.q", "exec1", 4, 4, True),
                QueueInstance("big.q", "exec2", 4, 1, True),
            ],
        )
        for queue, cores in (("big.q", 1), ("", 2)):
            spawner.user_options = {"cores": 4, "queue": queue}
            form = await led(spawner, Link({}, ("cores",)))
            assert f"CPU cores: {cores} instead of 4" in form

    async def test_less_of_one_thing_may_take_less_of_another_first(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "memory <= 4 * cores", "item": "memory", "message": "Less."}
        menu_file.write_text(
            json.dumps({"items": [MENU[0], MEMORY], "limits": [limit]}), encoding="utf-8"
        )
        room = QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 5 * 2.0**30})
        known(spawner.status.places, [room])
        spawner.user_options = {"cores": 2, "memory": 8}
        form = await led(spawner, Link({}, ("cores", "memory")))
        assert "CPU cores: 1 instead of 2, because" in form
        assert "Memory: 4 GB instead of 8 GB, because" in form
        assert re.search(r'autofocus="" id="menu-cores"', form), "the first on the form"

    async def test_a_link_that_breaks_a_rule_is_filled_in_and_marked(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "cores < 4", "item": "cores", "message": "Fewer."}
        menu_file.write_text(json.dumps({"items": MENU, "limits": [limit]}), encoding="utf-8")
        form = await led(spawner, Link({"cores": "4"}))
        assert '<option value="4" selected>' in form
        assert 'id="error-menu-cores">Fewer.' in form

    async def test_a_refusal_is_gone_once_a_form_has_said_it(self, spawner: SGESpawner) -> None:
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert "is-invalid" in await spawner.get_options_form()
        assert "is-invalid" not in await spawner.get_options_form()
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        await spawner._run_apply_user_options({"cores": 2})
        assert "is-invalid" not in await spawner.get_options_form()

    async def test_a_preset_is_accepted_and_its_values_are_remembered(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        presets = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]
        menu_file.write_text(json.dumps({"items": MENU, "presets": presets}), encoding="utf-8")
        await spawner._run_apply_user_options({"preset": "large", "cores": "1"})
        assert spawner.user_options == {"cores": 4}

    async def test_the_interface_says_where_the_session_opens(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, INTERFACE]}), encoding="utf-8")
        for interface, url in (("notebook", "/tree"), ("lab", "/lab")):
            await spawner._run_apply_user_options({"interface": interface})
            assert spawner.get_env()["JUPYTERHUB_DEFAULT_URL"] == url
        menu_file.write_text(json.dumps({"items": MENU}), encoding="utf-8")
        await spawner._run_apply_user_options({})
        assert "JUPYTERHUB_DEFAULT_URL" not in spawner.get_env()

    async def test_a_new_menu_needs_no_restart(self, spawner: SGESpawner, menu_file: Path) -> None:
        menu_file.write_text(
            json.dumps({"items": [MENU[0] | {"choices": [1, 64]}]}), encoding="utf-8"
        )
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


class TestStart:
    async def test_a_session_starts_and_ends_through_the_api(
        self, hub: Hub, broker: Broker, lab: Lab, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await until(lambda: broker.starts)
        broker.cluster.put(broker.session)
        told = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert told.code == 204
        answer = await asking
        assert answer.code == 201, answer.body
        spawner = hub.spawner()
        assert spawner.ready
        assert spawner.server.url == f"http://127.0.0.1:{lab.port}/user/alice/"
        (token_row,) = [
            found for found in spawner.orm_spawner.user.api_tokens if found.match(broker.token)
        ]
        assert stored(hub) == [
            {
                "job_id": "1",
                "session": broker.session,
                "token_hash": token_row.hashed,
                "host": "127.0.0.1",
                "port": lab.port,
                "stopping": False,
                "ends": 0.0,
                "note": "",
                "asked": [
                    {
                        "item": "cores",
                        "label": "CPU cores",
                        "value": 2,
                        "words": "2",
                        "kind": "slots",
                        "complex": "",
                        "total": 2.0,
                    }
                ],
            }
        ]
        assert hub.proxy.routes["/user/alice/"]["target"] == f"http://127.0.0.1:{lab.port}"
        # And it ends through the API.
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert "/user/alice/" not in hub.proxy.routes
        assert stored(hub) == [{}]

    async def test_the_session_carries_the_mark_of_this_hub(
        self, alice: Any, broker: Broker
    ) -> None:
        await starting(alice, broker)
        assert re.fullmatch("[0-9a-f]{32}", broker.session)
        assert broker.session.startswith(hub_mark(SECRET))
        assert hub_mark(SECRET) != hub_mark(b"y" * 32)
        assert re.fullmatch("[0-9a-f]{8}", hub_mark(SECRET))

    async def test_what_the_broker_cannot_take_is_told_without_values(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = "s3cret" * 2000
        monkeypatch.setattr(SGESpawner, "get_env", lambda self: {"JUPYTERHUB_API_TOKEN": secret})
        with pytest.raises(SpawnException) as caught:
            await alice.spawn("", options={})
        assert "takes no such environment" in caught.value.jupyterhub_message
        assert secret not in str(caught.value)
        assert broker.requests == []
        assert not alice.spawners[""].session

    async def test_the_port_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)

    async def test_the_host_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        broker.letters = "r"
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_does_not_answer_is_not_up(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        lab.answer()
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_cannot_be_reached_is_told_with_its_address(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        spawner.http_timeout = 1
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        with pytest.raises(SpawnException, match=f"on 127.0.0.1 in job 1.* at port {lab.port}"):
            await asyncio.wait_for(start, 10)

    async def test_a_server_that_never_answered_and_whose_job_ends_is_told(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await until(lambda: spawner.host)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Your last session, job 1, has ended"):
            await asyncio.wait_for(start, 10)

    async def test_not_knowing_does_not_end_a_start(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.fails()
        start = await starting(alice, broker)
        await until(lambda: len(qstat.calls) > 3)
        assert not start.done()
        broker.cluster.put(broker.session)
        qstat.recovers()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)

    @pytest.mark.parametrize("letters", ["", "r"])
    async def test_a_job_that_dies_is_told_at_once_with_its_log(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat, letters: str
    ) -> None:
        broker.letters = letters
        start = await starting(alice, broker)
        if letters:
            await answers(qstat, spawner)
            broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{SESSION_FOLDER}/1\.log"):
            await asyncio.wait_for(start, 10)
        # The record may come later: whoever looks then finds it.
        assert spawner.last
        assert spawner.last.why == "unknown"
        assert "Job 1 ended before JupyterLab was up" in spawner.last.words

    async def test_a_job_that_leaves_the_queue_was_deleted(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)
        # Its file, which nobody has read, is removed by the broker.
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_why_nothing_came_up_is_told_to_who_was_not_looking(
        self, hub: Hub, alice: Any, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: hub.spawner().job_id)
        await hub.ask("sge/failure", broker.token, {"reason": "no <b>space</b>"})
        await asking
        words = "Your last session could not start. JupyterLab could not start in job 1: no "
        assert (await hub.spawner().view()).ended == words + "<b>space</b>"
        # The form has a new spawner, as after a restart of the hub.
        assert words + "&lt;b&gt;" in await hub.page("spawn")
        assert (await hub.spawner().view()).ended == words + "<b>space</b>"
        assert (stored(hub)[0] or {})["last"]["why"] == "start"
        # The next session makes it old news.
        start = await starting(alice, broker)
        assert hub.spawner().last is None
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)

    async def test_a_start_that_fails_before_the_persons_eyes_is_told_once(
        self, hub: Hub, broker: Broker, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SpawnHandler, "_accept_token_auth", True)
        monkeypatch.setattr(SpawnHandler, "check_xsrf_cookie", lambda self: None)
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await AsyncHTTPClient().fetch(
            f"{hub.base}/hub/spawn",
            method="POST",
            headers={"Authorization": f"token {token}"},
            body="cores=1",
            raise_error=False,
        )
        assert answer.body.decode().count("no more today") == 1
        assert "could not start. no more today" in (await hub.spawner().view()).ended
        assert "could not start. no more today" in await hub.page("spawn")

    @pytest.mark.parametrize(
        ("like", "words", "why"),
        [
            ("t-mem", "together went above its memory", "memory"),
            ("t-qdel", "job 1, was deleted from outside", "deleted"),
            ("t-exit3", "Its messages are in", "start"),
        ],
    )
    async def test_why_a_job_ended_before_it_was_up_is_read_in_its_record(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        grid: GridEngine,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        like: str,
        words: str,
        why: str,
    ) -> None:
        monkeypatch.setattr("sge_spawner.EXPLAIN_START_FOR", 10.0)
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.asked = HAD
        await answers(qstat, spawner)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await until(lambda: "Looking for the reason" in spawner._progress()[1])
        # Grid Engine writes it late.
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{words}"):
            await asyncio.wait_for(start, 10)
        assert spawner.last
        assert spawner.last.why == why
        assert words in spawner.last.words

    async def test_an_error_state_is_told_in_grid_engines_words(
        self, alice: Any, broker: Broker, qstat: Qstat, recorded: Callable[[str], str]
    ) -> None:
        broker.letters = "Eqw"
        qstat.explains(recorded("job_error.xml").replace(">20<", ">1<"))
        start = await starting(alice, broker)
        with pytest.raises(
            SpawnException,
            match=r"could not start job 1 \(state Eqw\): can't chdir to /no/such/folder: No such",
        ):
            await asyncio.wait_for(start, 10)
        assert "-xml -j 1" in qstat.calls
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_an_error_of_another_persons_job_explains_nothing(
        self, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        broker.letters = "Eqw"
        qstat.explains(details(owner="bob", errors=["words of bob"]))
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_an_error_state_nobody_can_explain_is_told_too(
        self, alice: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*arguments: object) -> dict[int, Details]:
            raise GridEngineError("qmaster is down")

        monkeypatch.setattr("sge_spawner.ask_details", fail)
        broker.letters = "Eqw"
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_a_job_that_somebody_deletes_is_told_at_once(
        self, alice: Any, broker: Broker, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.put(broker.session, "dr")
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)

    async def test_why_the_starter_gave_up_reaches_the_persons_page_as_text(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        told = await hub.ask("sge/failure", broker.token, {"reason": "no <script>alert()</script>"})
        assert told.code == 204
        answer = await asking
        words = "JupyterLab could not start in job 1: no <script>alert()</script>"
        assert words in json.loads(answer.body)["message"]
        page = await hub.page("spawn-pending/alice")
        assert "JupyterLab could not start in job 1: no &lt;script&gt;alert()" in page
        assert "<script>alert" not in page
        progress = await hub.ask("users/alice/server/progress", token, method="GET")
        assert b"JupyterLab could not start in job 1" in progress.body

    async def test_that_every_port_is_taken_is_said_by_the_hub(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        # Grid Engine has not said yet that it runs, nor where.
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        await hub.ask("sge/failure", broker.token, {"reason": contract.NO_PORT})
        message = json.loads((await asking).body)["message"]
        # The one who says it may be an older release's, and says no more.
        assert "every port from 40000 to 40999 " in message

    @staticmethod
    async def full(hub: Hub, broker: Broker, place: int, words: str) -> None:
        """Have the session of a start, the first or a later one, find no port."""
        await until(lambda: len(broker.starts) == place)
        told = await hub.ask("sge/failure", broker.token, {"reason": f"{NO_PORT} {words}"})
        assert told.code == 204

    async def test_where_every_port_is_taken_the_session_starts_elsewhere(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        token: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Another account's programs hold all ports of a worker; this person meets it first."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await self.full(hub, broker, 1, "exec1 bob=998,alice=1")
        await until(lambda: len(broker.starts) == 2)
        first, second = broker.starts
        assert (first.avoid, second.avoid) == ((), ("exec1",))
        assert first.session != second.session and first.choice == second.choice
        spawner = hub.spawner()
        words = spawner._progress()[1]
        assert words.endswith(text("start.no_port_elsewhere", host="exec1"))
        assert "bob" not in words
        assert "40000 to 40999 of exec1 is taken. It says by whom: bob 998, alice 1" in caplog.text
        # The job that could not is let go of, and the other one is the session.
        await until(lambda: not spawner.collector.watches(job_name(first.session)))
        broker.cluster.put(second.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        assert (await asking).code == 201
        assert spawner.ready and spawner.session == second.session
        assert stored(hub)[0]["session"] == second.session

    async def test_the_worker_is_the_one_grid_engine_names(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts and isinstance(hub.spawner()._job(), Job))
        await self.full(hub, broker, 1, "another-name")
        await until(lambda: len(broker.starts) == 2)
        assert broker.starts[1].avoid == ("127.0.0.1",)
        await hub.ask("users/alice/server", token, method="DELETE")
        await asking

    async def test_after_three_workers_the_person_is_told(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2, 3):
            await self.full(hub, broker, place, f"exec{place} bob=1000")
        answer = await asking
        told = {"first": 40000, "last": 40999, "host": "exec3"}
        assert json.loads(answer.body)["message"] == text("start.no_port_other", **told)
        assert [each.avoid for each in broker.starts] == [(), ("exec1",), ("exec1", "exec2")]
        assert "bob" not in answer.body.decode()

    async def test_a_worker_that_was_left_out_is_not_tried_for_ever(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        """A site's own request for a host may win."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2):
            await self.full(hub, broker, place, "exec1 alice=1000")
        answer = await asking
        told = {"first": 40000, "last": 40999, "host": "exec1"}
        assert json.loads(answer.body)["message"] == text("start.no_port_own", **told)

    @pytest.mark.parametrize(
        ("kind", "also"), [("grid", ""), ("home", " Your home folder is full")]
    )
    async def test_where_no_other_worker_takes_it_this_is_said_and_what_else_there_is(
        self, hub: Hub, broker: Broker, token: str, kind: str, also: str
    ) -> None:
        refused = also.strip() or "Grid Engine refused the session: no suitable queues"
        broker.answers = [
            Answer(ok=True, job_id=1),
            Answer(ok=False, kind=kind, error=refused),
            Answer(ok=True, verdict="now"),
        ]
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await self.full(hub, broker, 1, "exec1 bob=1000")
        told = {"first": 40000, "last": 40999, "host": "exec1"}
        words = text("start.no_port_other", **told) + also
        assert json.loads((await asking).body)["message"] == words

    @pytest.mark.parametrize(
        ("reason", "found"),
        [
            ("no_port", Holders("", {})),
            ("no_port exec1", Holders("exec1", {})),
            ("no_port exec1.x a=1,DOM\\b=22", Holders("exec1.x", {"a": 1, "DOM\\b": 22})),
            ("no_port exec1 a=x,=3,b", Holders("exec1", {})),
            ("no_port exec1|exec2", None),
            ("no_port exec1 a=1 b=2", None),
            ("no_port exec1\n", None),
            ("no_ports", None),
        ],
    )
    async def test_of_what_a_starter_says_only_that_is_read(
        self, reason: str, found: Holders | None
    ) -> None:
        assert read_no_port(reason) == found

    @pytest.mark.parametrize(
        ("letters", "words"),
        [
            ("qw", "no place for it has become free. What was known last: Job 1 waits"),
            ("hqw", "it is still held"),
            ("r", "JupyterLab has not come up on 127.0.0.1"),
            ("t", "JupyterLab has not come up on 127.0.0.1"),
        ],
    )
    async def test_a_session_whose_time_is_over_is_told_what_it_was_waiting_for(
        self, alice: Any, spawner: SGESpawner, broker: Broker, letters: str, words: str
    ) -> None:
        spawner.wait_limit = 0.2
        broker.letters = letters
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=f"Job 1 was given up after 0.2 seconds: {words}"):
            await asyncio.wait_for(start, 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    @pytest.mark.parametrize("why", ["old answer", "suspended", "host does not report"])
    async def test_no_time_is_over_while_something_else_may_be_the_reason(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        why: str,
    ) -> None:
        spawner.wait_limit = 0.1
        broker.letters = "s" if why == "suspended" else "r"
        if why == "old answer":
            monkeypatch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
        before = Cluster.put
        if why == "host does not report":
            monkeypatch.setattr(
                Cluster,
                "put",
                lambda self, session, letters="r", **more: before(
                    self, session, letters, **{"reports": False} | more
                ),
            )
        start = await starting(alice, broker)
        await asyncio.wait([start], timeout=0.5)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        broker.cluster.put(broker.session, reports=True)
        await asyncio.wait_for(start, 10)

    async def test_a_refusal_of_the_broker_reaches_the_person(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, subtests: pytest.Subtests
    ) -> None:
        kinds = {"choice": 400, "home": 400, "grid": 400, "refused": 400}
        for kind, status in (kinds | {"request": 500, "broker": 500}).items():
            with subtests.test(kind=kind):
                broker.answers = [Answer(ok=False, kind=kind, error="cannot run: no <b>host</b>")]
                answer = await hub.ask("users/alice/server", token, {})
                assert "cannot run: no <b>host</b>" in json.loads(answer.body)["message"]
                assert not broker.stops  # it says that there is no job
                assert answer.code == status
                assert not hub.spawner().active

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
        if fault == "hanging":
            # What the broker does after all is undone.
            broker.open.set()
            await until(lambda: len(broker.stops) > 0 and not broker.cluster.jobs)

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

    async def test_the_name_is_stored_before_the_job_is_asked_for(
        self, hub: Hub, alice: Any, broker: Broker
    ) -> None:
        broker.open.clear()
        start = asyncio.create_task(alice.spawn(options={}))
        await until(lambda: broker.starts)
        (state,) = stored(hub)
        assert state
        assert state["session"] == broker.session
        assert not state.get("job_id")
        broker.open.set()
        await until(lambda: (stored(hub)[0] or {}).get("job_id") == "1")
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    async def test_without_a_database_no_job_is_asked_for(
        self, hub: Hub, broker: Broker, alice: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit = SGESpawner.submit_batch_script

        async def submit_without(self: SGESpawner) -> str:
            # No longer than that: JupyterHub has writes of its own, before and after.
            with readonly(hub.db):
                return await submit(self)

        monkeypatch.setattr(SGESpawner, "submit_batch_script", submit_without)
        with pytest.raises(SpawnException, match="cannot write to its database"):
            await alice.spawn(options={})
        assert not hub.spawner().active
        assert not broker.requests

    async def test_a_start_given_up_while_the_broker_is_at_work_leaves_no_job(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str
    ) -> None:
        spawner.stop_timeout = 0.1
        spawner.broker_timeout = 0.2
        broker.open.clear()
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops
        broker.deaf = True
        broker.open.set()  # the broker submits only now, after all there was to delete
        await until(lambda: broker.cluster.jobs)
        broker.deaf = False
        await until(lambda: not broker.cluster.jobs)
        await asking

    async def test_all_sessions_share_one_collector(self, hub: Hub) -> None:
        alice, bob = (hub.person(name).spawners[""] for name in ("alice", "bob"))
        assert alice.collector is bob.collector

    async def test_the_person_reads_what_the_job_does(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        messages: list[str] = []

        async def read() -> None:
            async for said in spawner.progress():
                messages.append(said["message"])

        await lab.fall_silent()
        start = await starting(alice, broker)
        reading = asyncio.create_task(read())
        for letters, reports, words in (
            ("qw", True, "Job 1 waits for a free place"),
            ("hqw", True, "Job 1 is held"),
            ("t", True, "Job 1 is being started on 127.0.0.1"),
            ("r", True, "Job 1 runs on 127.0.0.1"),
            ("r", False, "127.0.0.1, where job 1 runs, does not report"),
            ("s", True, "Job 1 is suspended on 127.0.0.1"),
        ):
            broker.cluster.put(broker.session, letters, reports=reports)
            await until(lambda words=words: messages and words in messages[-1])
        with monkeypatch.context() as patch:
            patch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
            await until(lambda: "Grid Engine does not answer" in messages[-1])
        spawner.announce(lab.port)
        broker.cluster.put(broker.session)
        await until(lambda: "waiting for it to answer" in messages[-1])
        lab.answer()
        await asyncio.wait_for(start, 10)
        await asyncio.wait_for(reading, 10)


class TestPoll:
    @pytest.fixture
    def session(self, alice: Any, spawner: SGESpawner, broker: Broker) -> str:
        """The name of a session of which no more is known."""
        spawner.load_state({"job_id": "1", "session": "a" * 32, "host": "exec1", "port": 40001})
        return "a" * 32

    async def test_a_session_that_is_not_known_yet_lives(
        self, spawner: SGESpawner, session: str, qstat: Qstat
    ) -> None:
        qstat.fails()
        assert await spawner.poll() is None
        await until(lambda: len(qstat.calls) >= 1)
        assert await spawner.poll() is None
        assert await spawner.query_job_status() is JobStatus.UNKNOWN

    async def test_a_session_whose_job_is_listed_lives(
        self, spawner: SGESpawner, session: str, cluster: Cluster, subtests: pytest.Subtests
    ) -> None:
        letters = dict.fromkeys(("qw", "hqw", "Eqw"), JobStatus.PENDING)
        letters |= dict.fromkeys(("t", "r", "hr", "s", "dr"), JobStatus.RUNNING)
        for state, status in letters.items():
            with subtests.test(state=state):
                cluster.put(session, state)
                assert await spawner.poll() is None
                async with asyncio.timeout(10):
                    while getattr(spawner._job(), "letters", None) != state:
                        spawner.collector.hurry()
                        await spawner.collector.news(10)
                assert await spawner.poll() is None
                assert await spawner.query_job_status() is status

    async def test_a_session_is_over_after_two_answers_without_it(
        self, spawner: SGESpawner, session: str, qstat: Qstat, cluster: Cluster
    ) -> None:
        cluster.put(session)
        qstat.says_once(2, listing())
        pipe = qstat.holds_back(3)
        assert await spawner.poll() is None
        await spawner.collector.news(10)
        spawner.collector.hurry()
        await until(lambda: len(qstat.calls) == 3)
        assert await spawner.poll() is None  # one answer without it
        await asyncio.to_thread(pipe.write_text, listing())
        await spawner.collector.news(10)
        assert await spawner.poll() == 1
        assert set(spawner.get_state()) == {"last"}
        assert not spawner.collector._watched
        assert await spawner.poll() == 1

    async def test_a_session_that_is_over_loses_its_token(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        assert orm.APIToken.find(hub.db, broker.token)
        async with asyncio.timeout(10):
            while await spawner.poll() is None:
                spawner.collector.hurry()
                await spawner.collector.news(1)
        assert not orm.APIToken.find(hub.db, broker.token)

    async def test_no_job_is_no_session(self, spawner: SGESpawner, qstat: Qstat) -> None:
        assert await spawner.poll() == 1
        assert qstat.calls == []

    async def test_a_poll_asks_grid_engine_nothing(
        self, spawner: SGESpawner, session: str, qstat: Qstat, cluster: Cluster
    ) -> None:
        cluster.put(session)
        await spawner.poll()
        await spawner.collector.news(10)
        for _ in range(100):
            assert await spawner.poll() is None
        await spawner.collector.news(0.1)
        assert len(qstat.calls) == 1


HAD = tuple(
    Requested(
        item=item, label=label, value=value, words=words, kind=kind, complex=resource, total=total
    )
    for item, label, value, words, kind, resource, total in (
        ("cores", "CPU cores", 2, "2", "slots", "", 2),
        ("memory", "Memory", 300, "300 MB", "memory", "h_vmem", 3e8),
        ("gpus", "GPUs", 1, "1", "count", "gpu", 1),
        ("queue", "Queue", "all.q", "any", "queue", "", 0),
        ("project", "Project", "", "none", "project", "", 0),
        ("run_time", "Run time", 1, "1 hour", "run_time", "h_rt", 20),
    )
)


PARALLEL = Requested(
    item="where", label="Cores are", value="mpi", words="anywhere", kind="parallel_environment"
)


def known(glance: CachedQuery[Any], answer: object) -> None:
    """Let Grid Engine have answered so, and not be asked again."""
    glance._answer, glance._asked_at, glance._due = answer, glance._clock(), float("inf")


async def over(alice: Any) -> None:
    """Let the session be seen to have ended, and JupyterHub do what it does then."""
    spawner = alice.spawners[""]
    while await spawner.poll() is None:
        spawner.collector.hurry()  # the last question may have been on its way already
        await spawner.collector.news(0.1)
    await alice.stop()


def record(like: str, session: str) -> str:
    """Return an accounting record that was really written, as if it were of a session."""
    lines = (HERE / "data" / "accounting").read_text("utf-8").splitlines()
    return next(line for line in lines if f":{like}:" in line).replace(like, job_name(session))


#: HAD where memory is a complex that does not limit address space.
WITH_RMEM = tuple(
    each.model_copy(update={"complex": "rmem"}) if each.kind == "memory" else each for each in HAD
)


class TestWhySessionsEnd:
    @pytest.mark.parametrize(
        ("like", "words", "short_of"),
        [
            ("t-hrt", "because its run time, 1 hour, was used up", ("run_time",)),
            ("t-mem", "went above its memory: they used 418.5 MB of 286.1 MB", ("memory",)),
            ("t-qdel", "job 1, was deleted from outside", ()),
            ("t-exit0", "was shut down from within", ()),
            ("t-exit3", "with exit status 3. Its messages are in ~/.jupyterhub-sessions/1.log", ()),
        ],
    )
    async def test_the_accounting_record_is_read_to_the_person(
        self,
        like: str,
        words: str,
        short_of: tuple[str, ...],
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        broker.cluster.remove(broker.session)
        await over(alice)
        # JupyterHub has made a new spawner of what is in the database, as after a restart.
        assert hub.spawner() is not spawner
        assert words in (await hub.spawner().view()).ended
        assert (await hub.spawner().view()).short_of == short_of
        form = await hub.spawner().get_options_form()
        assert words in form
        link = f'<a class="alert-link" href="?_more={"".join(short_of)}">Start again with more</a>'
        assert (link in form) == bool(short_of)
        # Whoever has followed it is not sent there again.
        assert "with more" not in await led(hub.spawner(), Link({}, ("memory",), more=True))

    @pytest.mark.parametrize(
        ("like", "words"),
        [("t-hrt", "because its run time, 1 hour, was used up"), ("t-mem", "ended by a limit")],
    )
    async def test_address_space_is_not_taken_for_other_memory(
        self,
        like: str,
        words: str,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.asked = WITH_RMEM
        grid.accounting_file.parent.mkdir(parents=True)
        line = record(like, broker.session).replace(":1830912.", ":30172000000.")
        grid.accounting_file.write_text(line, encoding="utf-8")
        broker.cluster.remove(broker.session)
        await over(alice)
        assert words in (await hub.spawner().view()).ended

    async def test_what_went_above_its_memory_reads_as_above_it(self) -> None:
        memory = HAD[1].model_copy(update={"total": 4 * 2.0**30, "words": "4 GB"})
        words = SessionEnd(job="1", why=Ending.MEMORY, used=4.02 * 2**30, had=(memory,)).words
        assert "they used 4.1 GB of 4.0 GB" in words

    async def test_a_record_that_is_written_late_is_found_by_who_looks_then(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await over(alice)
        assert "it went above its memory" in await hub.spawner().get_options_form()
        grid.accounting_file.write_text(record("t-qdel", broker.session), encoding="utf-8")
        assert "it went above its memory" in await hub.spawner().get_options_form(), "not at once"
        monkeypatch.setattr(hub.spawner(), "_explain_due", 0.0)
        assert "job 1, was deleted from outside" in await hub.spawner().get_options_form()
        assert stored(hub)[0]["last"]["why"] == "deleted"  # type: ignore[index]

    async def test_without_the_file_the_person_reads_what_may_have_been(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert (
            "its run time was over, it went above its memory" in (await hub.spawner().view()).ended
        )

    async def test_a_worker_that_did_not_report_any_more_is_named(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.cluster.put(broker.session, reports=False)
        await until(lambda: isinstance(seen := spawner._job(), Job) and not seen.reports)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert (
            "was lost because its worker, 127.0.0.1, failed" in (await hub.spawner().view()).ended
        )

    async def test_the_reason_of_an_older_session_does_not_come_back(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine, monkeypatch: Any
    ) -> None:
        await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await over(alice)
        looks, goes_on = threading.Event(), threading.Event()

        def find(*_: object) -> Record:
            looks.set()
            goes_on.wait(10)
            return Record(1, "exec1", 0, 0, 100, 137, 0)

        monkeypatch.setattr("gridhub.spawner.cluster.find_record", find)
        looking = asyncio.create_task(hub.spawner().explain_last())
        await asyncio.to_thread(looks.wait, 10)
        spawner = await running(alice, broker, lab)
        goes_on.set()
        await looking
        assert spawner.last is None
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    @pytest.mark.parametrize("fault", [RuntimeError("ours"), TimeoutError()])
    async def test_a_record_that_cannot_be_read_keeps_no_session_from_ending(
        self,
        fault: Exception,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def find(*_: object) -> None:
            raise fault

        monkeypatch.setattr("gridhub.spawner.cluster.find_record", find)
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert not hub.spawner().active
        assert "it went above its memory" in (await hub.spawner().view()).ended

    async def test_an_accounting_file_that_hangs_keeps_no_session_from_ending(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        back = threading.Event()
        monkeypatch.setattr("gridhub.spawner.cluster.find_record", lambda *_: back.wait(60))
        monkeypatch.setattr("gridhub.spawner.ended.READ_WITHIN", 0.05)
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await asyncio.wait_for(over(alice), 10)
        assert not hub.spawner().active
        back.set()

    async def test_what_another_release_has_written_costs_no_session(
        self, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.load_state(
            spawner.get_state() | {"asked": [{"item": 1}], "last": {"new": 1, "had": []}}
        )
        assert (spawner.asked, spawner.last) == ((), None)
        assert spawner.session == broker.session
        assert await spawner.poll() is None

    async def test_what_was_seen_of_the_last_session_is_not_written_over_the_next_one(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        before = await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = before.last
        assert last is not None
        await running(alice, broker, lab)
        # The spawner JupyterHub has let go of still has a look under way.
        before._store_last(last, replace(last, why=Ending.DELETED))
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    async def test_who_comes_the_next_morning_reads_the_reason(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = hub.spawner().last
        assert last is not None
        hub.spawner().last = replace(last, ended=time.time() - 10 * 3600)
        others = b"#\n" * (accounting.LOOK_BACK // 2)  # more than the first look goes through
        grid.accounting_file.parent.mkdir(parents=True)
        line = record("t-qdel", broker.session).encode()
        grid.accounting_file.write_bytes(line + b"\n" + others)
        assert "job 1, was deleted from outside" in (await hub.spawner().view()).ended

    @pytest.mark.parametrize(
        ("hours", "pause", "farther"),
        [(0.0, 5, 1), (0.1, 90, 1), (10.0, 9000, 11), (1000.0, 900_000, 16)],
    )
    async def test_a_record_that_never_comes_is_looked_for_more_and_more_seldom(
        self,
        hours: float,
        pause: float,
        farther: int,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        looks: list[int] = []
        monkeypatch.setattr(
            "gridhub.spawner.cluster.find_record", lambda *told: looks.append(told[3])
        )
        spawner.last = SessionEnd(
            job="1", why=Ending.UNKNOWN, name="x", ended=time.time() - hours * 3600
        )
        for _ in range(5):
            await spawner.view()
        assert looks == [farther * accounting.LOOK_BACK]
        assert spawner._explain_due == pytest.approx(time.time() + pause, abs=5)
        spawner._explain_due = time.time()
        await spawner.view()
        assert len(looks) == 2

    async def test_no_page_waits_for_an_accounting_file_that_hangs(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        back = threading.Event()
        monkeypatch.setattr(
            "gridhub.spawner.cluster.find_record", lambda *_: back.wait(60) and None
        )
        monkeypatch.setattr("gridhub.spawner.pages.GLIMPSE", 0.05)
        view = await asyncio.wait_for(hub.spawner().view(), 3)
        assert "it went above its memory" in view.ended
        back.set()


class TestWhyJobsWait:
    FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 9e9, "gpu": 1.0})

    @pytest.mark.parametrize(
        ("places", "words"),
        [
            (None, "Job 7 waits for a free place in the queue."),
            (
                [FULL],
                "Job 7 waits until one worker has all of this free: CPU cores (2). "
                "Free now on one worker that it may use: CPU cores 0 of 2.",
            ),
            (
                [replace(FULL, free=4, resources={"h_vmem": 1e8, "gpu": 0.0})],
                "Job 7 waits until one worker has all of this free: Memory (300 MB), GPUs (1). "
                "Free now on one worker that it may use: Memory 95.3 MB of 300 MB, GPUs 0 of 1.",
            ),
            ([replace(FULL, free=4)], "Job 7 waits for its turn; there is room for it."),
            ([replace(FULL, is_open=False)], "Job 7 waits: the queue takes no jobs"),
        ],
    )
    async def test_the_person_reads_what_is_missing(
        self, places: list[QueueInstance] | None, words: str, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, places)
        known(spawner.status.line, [3, 5, 7])
        said = spawner._why_queued(job(letters="qw", number=7))
        assert said.startswith(words)
        assert said.endswith("Jobs in front of it: 2.")
        known(spawner.status.line, [7, 8])
        assert "in front" not in spawner._why_queued(job(letters="qw", number=7))

    async def test_what_another_worker_has_enough_of_is_not_told_as_missing(self) -> None:
        roomy = replace(self.FULL, host="exec2", free=1, resources={"h_vmem": 9e9})
        words = waiting.free_at_most(HAD, {"slots", "gpu"}, [self.FULL, roomy])
        assert words == " Free now on one worker that it may use: CPU cores 1 of 2."

    async def test_what_other_queues_have_free_is_not_told(self) -> None:
        other = replace(self.FULL, queue="other.q", host="exec2", free=4)
        words = waiting.free_at_most(HAD, {"slots"}, [replace(self.FULL, free=1), other])
        assert words == " Free now on one worker that it may use: CPU cores 1 of 2."

    @pytest.mark.parametrize(
        ("value", "unit", "free", "words"),
        [
            (4, 2.0**30, 4 * 2.0**30 - 1, "3.9 GB of"),
            (4, 2.0**30, 2.0**29, "0.5 GB of"),
            (4096, 2.0**20, 2.0**30, "1024.0 MB of"),
        ],
    )
    async def test_what_is_free_is_told_in_the_unit_of_the_choice_and_never_as_more(
        self, value: int, unit: float, free: float, words: str
    ) -> None:
        memory = HAD[1].model_copy(update={"value": value, "total": value * unit})
        place = replace(self.FULL, resources={"h_vmem": free})
        assert f"Memory {words}" in waiting.free_at_most([memory], {"h_vmem"}, [place])

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('exceeds limit "alice////" in rule "mine/1"', "a limit of the cluster (mine/1)"),
            ('has no permission for cluster queue "all.q"', "your account may not use any"),
            ("because it offers only hf:h_vmem=1M", "offers this: Memory (300 MB)."),
            ("something new", "Grid Engine gives a reason in its own words."),
        ],
    )
    async def test_there_is_no_room_where_the_scheduler_has_a_reason(
        self, line: str, words: str, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, [replace(self.FULL, free=4)])
        known(spawner.status.line, [])
        known(spawner.status.details, {7: Details(7, "alice", reasons=(line,))})
        said = spawner._why_queued(job(letters="qw", number=7))
        assert said.startswith("Job 7 waits: ")
        assert words in said

    async def test_grid_engines_own_words_come_with_it_unedited(
        self, hub: Hub, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.explains(details(reasons=["<b>it is full</b>"]))
        start = await starting(alice, broker)
        broker.cluster.put(broker.session, "qw")
        spawner = alice.spawners[""]
        spawner.status.details._interval = 0.01
        events = []
        async for event in spawner.progress():
            events.append(event)
            if event["raw"]:
                break
        assert events[-1]["stage"] == "waiting"
        assert events[-1]["raw"] == "<b>it is full</b>"
        assert (await spawner.view()).raw == "<b>it is full</b>"
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)

    async def test_only_what_is_known_of_that_job_of_that_person_is_shown(
        self, spawner: SGESpawner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spawner.asked = HAD
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        known(spawner.status.places, None)
        known(spawner.status.line, [])
        full = 'queue instance "all.q@exec1" dropped because it is full'
        for number, owner, raw in ((7, "alice", full), (7, "bob", ""), (8, "alice", "")):
            known(spawner.status.details, {number: Details(number, owner, 9, 9e8, (full,))})
            assert spawner._raw_reason() == raw
            words = spawner._why_queued(job(letters="qw", number=7))
            assert ("full" in words) is bool(raw)
            found = spawner.status.of(job(number=7))
            shares = [amount.share for amount in amounts(spawner.asked, found, time.time() - 1.0)]
            assert any(shares) is bool(raw)


class TestForecast:
    FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"slots": 0.0})
    ROOMY = QueueInstance("all.q", "exec2", 4, 3, True, {"slots": 3.0, "gpu": 2.0})

    @pytest.fixture
    def places(self, spawner: SGESpawner) -> Iterator[Callable[..., None]]:
        """Say what is free."""

        def put(*places: QueueInstance) -> None:
            known(spawner.status.places, list(places))

        yield put
        spawner.cluster.verdicts.kept.clear()

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (Answer(ok=True, verdict="now"), "It can start now."),
            (
                Answer(ok=True, verdict="later", words="<full>"),
                "It would have to wait until one worker has all of this free: CPU cores (4). "
                "Free now on one worker that it may use: CPU cores 3 of 4.",
            ),
            (
                Answer(ok=True, verdict="later", words='exceeds limit "a/" in rule "mine/1"'),
                "It would have to wait: a limit of the cluster (mine/1)",
            ),
            (Answer(ok=True, verdict="never", words="no"), "It can never start: no worker"),
            (
                Answer(ok=True, verdict="never", words='has no permission for cluster queue "q"'),
                "It can never start: your account may not use any",
            ),
            (
                Answer(
                    ok=True,
                    verdict="never",
                    words='has no permission for cluster queue "q"\nonly offers 0 slots',
                ),
                "It can never start: no worker has all of this at once",
            ),
            (
                Answer(ok=True, verdict="never", words='exceeds limit "/////" in rule "mine/1"'),
                "It can never start: a limit of the cluster (mine/1) allows less than that.",
            ),
        ],
    )
    async def test_grid_engines_verdict_is_told(
        self,
        answer: Answer,
        message: str,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
    ) -> None:
        broker.answers = [answer]
        places(self.FULL, self.ROOMY)
        forecast = await spawner.forecast({"cores": "4"})
        assert forecast.message.startswith(message)
        assert (forecast.verdict, forecast.raw) == (answer.verdict, answer.words)
        assert forecast.free == (Free("CPU cores", "3", "3"),)
        assert forecast.age == pytest.approx(0, abs=5)
        (request,) = broker.requests
        assert request == Check(user="alice", choice={"cores": 4})

    @pytest.mark.parametrize(
        ("words", "places", "told"),
        [
            (
                'cannot run at host "exec1" because it offers only hc:gpu=0.000000\n'
                'cannot run at host "exec2" because it offers only hc:gpu=1.000000\n'
                'cannot run in PE "smp" because it only offers 0 slots\n',
                [ROOMY],
                "It can never start. No worker offers GPUs (2); the most that one has is 1.",
            ),
            # The gpus are there, but not where the rest is.
            (
                'cannot run at host "exec1" because it offers only hc:gpu=2.000000',
                [ROOMY],
                "It can never start: no worker has all of this at once",
            ),
            (
                'cannot run in PE "smp" because it only offers 3 slots',
                [FULL, replace(ROOMY, slots=3), replace(FULL, slots=2)],
                "It can never start: no worker has all of this at once",
            ),
            (
                'cannot run in PE "smp" because it only offers 3 slots',
                [replace(ROOMY, slots=3), replace(FULL, slots=2)],
                "It can never start. No worker offers CPU cores (4); the most that one has is 3.",
            ),
        ],
    )
    async def test_what_no_worker_has_is_named_with_the_most_there_is(
        self,
        words: str,
        places: list[QueueInstance],
        told: str,
        spawner: SGESpawner,
        broker: Broker,
        menu_file: Path,
    ) -> None:
        gpus = {key: value for key, value in MENU[1].items() if key != "groups"}
        menu_file.write_text(json.dumps({"items": [MENU[0], gpus]}), encoding="utf-8")
        known(spawner.status.places, places)
        spawner.cluster.verdicts.kept.clear()
        broker.answers = [Answer(ok=True, verdict="never", words=words)]
        assert (await spawner.forecast({"cores": "4", "gpus": "2"})).message.startswith(told)
        spawner.cluster.verdicts.kept.clear()

    async def test_memory_that_no_queue_limits_is_neither_told_nor_lacking(
        self,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
        menu_file: Path,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [MENU[0], MEMORY]}), encoding="utf-8")
        places(replace(self.FULL, resources={"h_vmem": math.inf, "slots": 0.0}))
        broker.answers = [Answer(ok=True, verdict="later")]
        forecast = await spawner.forecast({"memory": 4})
        assert forecast.free == (Free("CPU cores", "0", "0"),)
        assert forecast.message.startswith(text("forecast.lacks", what="CPU cores (1)"))
        assert "Memory" not in forecast.message
        link, shown = Link({}, ("memory",)), {"memory": 4}
        notes = form.shift(load_menu(menu_file), (), shown, link, spawner.status.places.answer)
        assert notes["memory"].startswith("Memory: 2 GB instead of 4 GB, the next smaller amount.")

    async def test_however_many_look_the_broker_is_asked_once_for_a_choice(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        broker.answers = [Answer(ok=True, verdict="now")] * 9
        await asyncio.gather(*(spawner.forecast({"cores": 1}) for _ in range(20)))
        await spawner.forecast({"cores": "1"})
        assert len(broker.requests) == 1
        await spawner.forecast({"cores": 2})
        assert len(broker.requests) == 2

    async def test_a_verdict_is_asked_for_anew_once_something_else_is_missing(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        async def told() -> str:
            return (await spawner.forecast({"cores": 4})).message

        broker.answers = [
            Answer(ok=True, verdict="later", words="<full>"),
            Answer(ok=True, verdict="now"),
        ]
        places(self.ROOMY)
        assert (await told()).startswith("It would have to wait until")
        places(self.FULL, replace(self.ROOMY, free=2))
        assert (await told()).startswith("It would have to wait until")
        assert len(broker.requests) == 1, "the same is missing"
        places(replace(self.ROOMY, free=4))
        assert await told() == "It can start now."
        # What was said of the same not long ago still holds.
        places(self.FULL, self.ROOMY)
        assert (await told()).startswith("It would have to wait until")
        assert len(broker.requests) == 2

    async def test_a_choice_that_is_refused_is_not_asked_for(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        forecast = await spawner.forecast({"cores": 64})
        assert (forecast.item, forecast.verdict) == ("cores", "")
        assert "64" in forecast.message
        assert forecast.free
        assert broker.requests == []

    async def test_a_broker_that_refuses_is_told(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        broker.answers = [Answer(ok=False, kind="refused", error="You may not.")]
        forecast = await spawner.forecast({})
        assert (forecast.message, forecast.verdict) == ("You may not.", "")

    async def test_who_plays_with_the_form_holds_up_nobody(
        self, alice: Any, spawner: SGESpawner, broker: Broker, places: Callable[..., None], lab: Lab
    ) -> None:
        places(self.ROOMY)
        broker.open.clear()
        looks = [
            asyncio.create_task(
                spawner.cluster.verdicts.verdict("alice", Choice(values={"cores": cores}), None)
            )
            for cores in range(100)
        ]
        await until(lambda: len(broker.requests) == 2)  # the third stands in line
        assert spawner.cluster.verdicts.checks.total() == 3
        assert not spawner.cluster.broker.line.locked()
        broker.answers = [Answer(ok=True, verdict="now")] * 3
        broker.open.set()
        answers = await asyncio.gather(*looks)
        assert [answer.verdict if answer else None for answer in answers] == (
            ["now"] * 3 + [None] * 97
        )
        assert spawner.cluster.verdicts.checks.total() == 0
        assert len(broker.requests) == 3

    async def test_what_nobody_asks_for_any_more_is_forgotten(
        self,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("gridhub.spawner.verdicts.MAX_VERDICTS", 2)
        places(self.ROOMY)
        broker.answers = [Answer(ok=True, verdict="now")] * 9
        for cores in (1, 2, 4):
            await spawner.forecast({"cores": cores})
        assert [key[1] for key in spawner.cluster.verdicts.kept] == [
            "[('cores', 2)]",
            "[('cores', 4)]",
        ]


class TestIdleEnd:
    """The culler asks for the end of a session; the hub looks whether it is idle."""

    async def report(self, hub: Hub, broker: Broker, minutes: float) -> HTTPResponse:
        """Say as the session that it was last in use so long ago."""
        last = (utcnow() - timedelta(minutes=minutes)).isoformat()
        body = {"servers": {"": {"last_activity": last}}, "last_activity": last}
        return await hub.ask("users/alice/activity", broker.token, body)

    @pytest_asyncio.fixture(loop_scope="module")
    async def used_long_ago(self, alice: Any, broker: Broker, lab: Lab) -> SGESpawner:
        spawner = await running(alice, broker, lab)
        spawner.orm_spawner.last_activity = utcnow(with_tz=False) - timedelta(minutes=30)
        return spawner

    async def cull(self, hub: Hub) -> HTTPResponse:
        return await hub.ask("users/alice/server", CULLER_TOKEN, method="DELETE")

    async def test_an_idle_session_is_ended_and_the_person_reads_why(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        assert (await self.report(hub, broker, 10)).code == 200
        assert (await self.cull(hub)).code in (202, 204)
        await until(lambda: not used_long_ago.active)
        assert [request.session for request in broker.stops]
        assert used_long_ago.last and used_long_ago.last.why == "idle"
        assert "was ended because it was idle" in await hub.page("spawn")
        state = stored(hub)
        assert state[0] and state[0]["last"]["why"] == "idle"

    @pytest.mark.parametrize("token", [SERVICE_TOKEN, ""])
    async def test_whoever_else_stops_an_idle_session_is_not_the_culler(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner, token: str
    ) -> None:
        await self.report(hub, broker, 10)
        answer = await hub.ask(
            "users/alice/server", token or str(alice.new_api_token()), method="DELETE"
        )
        assert answer.code in (202, 204)
        await until(lambda: not used_long_ago.active)
        assert used_long_ago.last is None

    @pytest.mark.parametrize("up", [True, False])
    async def test_what_an_administrator_stops_is_told_as_such(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, up: bool
    ) -> None:
        admin = hub.person("bob")
        roles.grant_role(hub.db, admin.orm_user, "admin")
        asking = asyncio.create_task(hub.ask("users/alice/server", str(alice.new_api_token()), {}))
        await until(lambda: hub.spawner().job_id)
        if up:
            broker.cluster.put(broker.session)
            hub.spawner().announce(lab.port)
            assert (await asking).code == 201
        answer = await hub.ask("users/alice/server", str(admin.new_api_token()), method="DELETE")
        assert answer.code in (202, 204)
        await until(lambda: not hub.spawner().active)
        await asking
        words = "Your last session, job 1, was stopped by an administrator."
        assert (await hub.spawner().view()).ended == words
        assert (stored(hub)[0] or {})["last"]["why"] == "administrator"

    async def test_one_the_hub_has_not_heard_from_lives(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        idle._heard.clear()
        assert (await self.cull(hub)).code == 409
        assert used_long_ago.active
        assert broker.stops == []
        await alice.stop()

    async def test_one_that_was_used_since_the_culler_looked_lives(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        await self.report(hub, broker, 0.5)
        assert (await self.cull(hub)).code == 409
        assert used_long_ago.active
        await alice.stop()

    async def test_the_culler_cannot_do_more_than_its_scopes_say(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        assert (await hub.ask("users?state=ready", CULLER_TOKEN, method="GET")).code == 200
        for path, method in (("users/alice", "DELETE"), ("users/bob/server", "POST")):
            assert (await hub.ask(path, CULLER_TOKEN, {}, method)).code in (403, 404)
        await alice.stop()

    async def test_reports_are_taken_as_before(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        await self.report(hub, broker, 10)
        ago = utcnow(with_tz=False) - used_long_ago.orm_spawner.last_activity
        assert abs(ago.total_seconds() - 600) < 10
        assert (await hub.ask("users/alice/activity", broker.token, [])).code == 400
        assert (await hub.ask("users/alice/activity", "x" * 32, {})).code == 403
        await alice.stop()


class TestView:
    async def test_a_session_that_runs_shows_what_it_has_and_uses(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.explains(details(usage={"cpu": 10, "vmem": 150 * 2**20}))
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        assert (await spawner.view()).state == "running"
        await spawner.status.details.look(10)
        view = await spawner.view()
        assert (view.job, view.host, view.message, view.ended) == (1, "127.0.0.1", "", "")
        assert view.since is not None
        assert view.ends == view.since + timedelta(seconds=20)
        assert view.since.replace(tzinfo=UTC).timestamp() == SINCE
        cores, memory, gpus, queue, run_time = view.amounts
        assert cores.label == "CPU cores"
        assert re.fullmatch(r"\d+\.\d of 2 in use on average", cores.words)
        share = pytest.approx(150 * 2**20 / 3e8)
        assert memory == Amount("Memory", "150.0 MB of 300 MB", share)
        assert (gpus.words, gpus.share, run_time.share) == ("1", None, None)
        assert queue == Amount("Queue", "any")
        spawner.asked = WITH_RMEM
        assert (await spawner.view()).amounts[1] == Amount("Memory", "300 MB")

    async def test_use_is_not_told_before_the_worker_has_reported(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.explains(details(usage={}))
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        await spawner.status.details.look(10)
        assert [amount.share for amount in (await spawner.view()).amounts] == [None] * 5

    async def test_what_runs_under_a_name_is_shown_and_stopped_where_no_more_is_allowed(
        self, alice: Any, hub: Hub, broker: Broker, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not alice.allow_named_servers
        start = asyncio.create_task(alice.spawn("second", options={}))
        await until(lambda: broker.starts)
        assert [view.name for view in await pages.views(alice)] == ["", "second"]
        answer = await press(hub, "stop/alice/second", "", token, monkeypatch)
        assert (answer.code, answer.headers["Location"]) == (303, "/hub/home")
        await asyncio.wait([start], timeout=10)
        await until(lambda: not alice.spawners["second"].active)
        assert [view.name for view in await pages.views(alice)] == [""]

    @pytest.mark.parametrize(("free", "link"), [(1, "?_less=cores"), (4, "")])
    async def test_whoever_asks_for_less_is_led_to_what_was_lacking(
        self,
        free: int,
        link: str,
        alice: Any,
        hub: Hub,
        broker: Broker,
        token: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        start = await starting(alice, broker, cores=2)
        broker.cluster.put(broker.session, "qw")
        known(alice.spawners[""].outlook.places, [QueueInstance("all.q", "exec1", 4, free, True)])
        answer = await press(hub, "stop/alice", "then=choose", token, monkeypatch)
        assert (answer.code, answer.headers["Location"]) == (303, f"/hub/spawn/alice{link}")
        await asyncio.wait([start], timeout=10)

    async def test_no_session_is_an_empty_place(self, spawner: SGESpawner) -> None:
        assert await spawner.view() == View(name="", state="none")


class TestStop:
    async def test_without_a_job_nothing_is_done(self, spawner: SGESpawner, broker: Broker) -> None:
        await spawner.stop()
        await spawner.stop(now=True)
        assert not broker.requests

    async def test_stopping_twice_is_stopping_once(
        self, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        await asyncio.wait_for(spawner.stop(), 10)
        await asyncio.wait_for(spawner.stop(), 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert spawner.get_state() == {}

    async def test_stopping_waits_for_the_job_to_be_gone(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        stop = asyncio.create_task(spawner.stop())
        await until(lambda: broker.stops)
        await answers(qstat, spawner, 3)
        assert not stop.done()
        broker.cluster.remove(broker.session)
        await asyncio.wait_for(stop, 10)
        assert not spawner.collector._watched
        assert len(broker.stops) == 1

    async def test_stopping_is_stored_and_the_token_revoked_before_the_job_is_deleted(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.open.clear()
        stop = asyncio.create_task(spawner.stop())
        await until(lambda: broker.stops)
        (state,) = stored(hub)
        assert state
        assert state["stopping"]
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 403
        assert not orm.APIToken.find(hub.db, broker.token)
        broker.open.set()
        await asyncio.wait_for(stop, 10)

    async def test_stopping_now_does_not_wait(self, alice: Any, broker: Broker, lab: Lab) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        await asyncio.wait_for(spawner.stop(now=True), 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_a_job_that_does_not_go_away_is_told_on_the_next_form(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        spawner.stop_timeout = 0.3
        await asyncio.wait_for(alice.stop(), 10)
        assert "Job 1 of alice is not gone after 0.3 s" in caplog.text
        form = await hub.spawner().get_options_form()
        assert "Your last session, job 1, has been told to end but has not ended yet." in form
        assert "Your last session, job 1" in await hub.page("spawn/alice")
        # The next session makes it old news.
        broker.sticky = False
        await running(alice, broker, lab)
        assert "last session" not in await hub.spawner().get_options_form()

    @pytest.mark.parametrize("old_news", ["", "another end", "a session", "another spawner"])
    async def test_what_is_found_out_late_is_stored_only_where_it_is_still_news(
        self, alice: Any, spawner: SGESpawner, hub: Hub, old_news: str
    ) -> None:
        asked_about, known_now = (
            SessionEnd(job="1", why=Ending.UNKNOWN),
            SessionEnd(job="1", why=Ending.DELETED),
        )
        spawner.last = asked_about
        if old_news == "another end":
            spawner.last = SessionEnd(job="2", why=Ending.IDLE)
        elif old_news == "a session":
            spawner.session = "0" * 32
        elif old_news == "another spawner":
            alice.spawners[""] = alice._new_spawner("")
        before = spawner.last
        spawner._store_last(asked_about, known_now)
        spawner.session = ""
        assert spawner.last is (before if old_news else known_now)
        assert bool((stored(hub)[0] or {}).get("last")) == (not old_news)

    async def test_a_job_that_has_gone_away_at_last_is_told_no_more(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        spawner.stop_timeout = 0.1
        await asyncio.wait_for(alice.stop(), 10)
        assert "has not ended yet" in (await hub.spawner().view()).ended
        broker.cluster.remove(broker.session)
        name = job_name(broker.session)
        await until(lambda: not hub.spawner().collector.watches(name))
        assert (await hub.spawner().view()).ended == ""
        assert "last" not in (stored(hub)[0] or {})

    async def test_the_notice_is_for_nobody_else(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        hub.spawner().last = SessionEnd(job="<b>", why=Ending.ITSELF)
        assert "last" not in await hub.spawner("bob").get_options_form()
        assert "Your last session, job &lt;b&gt;," in await hub.spawner().get_options_form()

    async def test_a_grid_engine_that_is_down_deletes_the_job_when_it_is_back(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        # JupyterHub forgets the session whatever happens: nobody else would delete the job.
        spawner = await running(alice, broker, lab)
        qstat.fails()
        broker.answers = [Answer(ok=False, kind="grid", error="qmaster is down")] * 3
        await asyncio.wait_for(alice.stop(), 10)
        assert broker.cluster.jobs
        qstat.recovers()
        await until(lambda: not broker.cluster.jobs)
        assert set(broker.stops) == {Stop(user="alice", session=broker.session)}
        await until(lambda: not spawner.collector._watched)

    async def test_a_database_that_cannot_be_written_does_not_keep_the_job(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        with readonly(hub.db):
            stop = asyncio.create_task(spawner.stop())
            await until(lambda: not broker.cluster.jobs)
            await until(lambda: not spawner.collector._watched)
            # JupyterHub could not close the session now: it is held until it can.
            await asyncio.wait([stop], timeout=0.2)
            assert not stop.done()
            assert spawner.session
        await asyncio.wait_for(stop, 10)
        assert not orm.APIToken.find(hub.db, broker.token)


class TestAnnouncements:
    @pytest_asyncio.fixture(loop_scope="module")
    async def session(self, alice: Any, broker: Broker) -> AsyncIterator[str]:
        """The token of a session that is starting."""
        start = await starting(alice, broker)
        yield broker.token
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
                assert (stored(hub)[0] or {})["port"] == port

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
            {"reason": "no"},
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

    async def test_a_reason_is_a_text_of_some_length(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        most = contract.MAX_REASON
        wrong: list[object] = [
            {},
            [],
            "no",
            {"reason": ""},
            {"reason": None},
            {"reason": 5},
            {"reason": ["no"]},
            {"reason": "x" * (most + 1)},
            {"reason": "no", "port": 40001},
            {"port": 40001},
            b"\xff",
        ]
        for body in wrong:
            with subtests.test(body=body):
                assert (await hub.ask("sge/failure", session, body)).code == 400
                assert spawner.failure is None
        assert (await hub.ask("sge/failure", session, {"reason": "x" * most})).code == 204

    async def test_a_port_is_told_once(self, hub: Hub, spawner: SGESpawner, session: str) -> None:
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert (await hub.ask("sge/port", session, {"port": 40002})).code == 403
        assert (await hub.ask("sge/failure", session, {"reason": "no"})).code == 403
        assert spawner.port == 40001

    async def test_a_port_may_be_told_again_when_our_answer_was_lost(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        start = await starting(alice, broker)
        for _ in range(2):
            assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port + 1})).code == 403

    async def test_no_other_token_will_do(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        bob = hub.person("bob")
        others = {
            "none": None,
            "wrong": "0" * 32,
            "alice's own": spawner.user.new_api_token(),
            "bob's own": bob.new_api_token(),
            "a service's": SERVICE_TOKEN,
        }
        for what, body in (("port", {"port": 40001}), ("failure", {"reason": "no"})):
            found = {
                name: (await hub.ask(f"sge/{what}", other, body)).code
                for name, other in others.items()
            }
            assert found == dict.fromkeys(others, 403)
        assert spawner.port == 0
        assert spawner.failure is None

    @pytest.mark.parametrize("attribute", ["_start_pending", "stopping"])
    async def test_a_session_that_is_not_starting_may_tell_nothing(
        self, hub: Hub, spawner: SGESpawner, session: str, attribute: str
    ) -> None:
        setattr(spawner, attribute, attribute == "stopping")
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 403
        assert (await hub.ask("sge/failure", session, {"reason": "no"})).code == 403
        assert spawner.port == 0

    @pytest.mark.parametrize("used_before", [False, True])
    async def test_a_port_that_cannot_be_stored_is_not_taken_and_may_be_told_again(
        self, hub: Hub, spawner: SGESpawner, session: str, used_before: bool
    ) -> None:
        # A port that only this process knew would be lost with it; a refusal would end the job.
        if used_before:
            assert (await hub.ask("sge/port", session, {"port": 1})).code == 400
        with readonly(hub.db):
            answer = await hub.ask("sge/port", session, {"port": 40001})
            assert answer.code == 503
            assert spawner.port == 0
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert (stored(hub)[0] or {})["port"] == 40001

    async def test_a_session_may_be_faster_than_the_brokers_answer(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        broker.open.clear()
        start = asyncio.create_task(alice.spawn(options={}))
        await until(lambda: broker.starts)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.letters = "r"
        broker.open.set()
        await asyncio.wait_for(start, 10)

    async def test_it_can_only_be_told(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        for method in ("GET", "DELETE", "PUT"):
            for what in ("port", "failure", "ended"):
                with subtests.test(method=method, what=what):
                    answer = await hub.ask(f"sge/{what}", session, {"port": 40001}, method=method)
                    assert answer.code in (404, 405)
                    assert spawner.port == 0


# A process that is cancelled while it is being started leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestRestart:
    """A second hub on the database of one that was killed."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def hubs(
        self, settings: Config, accounts: None, broker: Broker, tmp_path: Path
    ) -> AsyncIterator[Callable[[], Any]]:
        """Open a hub on the one database; what was open before is killed, at once or politely."""
        opened: list[Hub] = []
        config = configuration(tmp_path, f"sqlite:///{tmp_path}/hub.sqlite")
        config.SGESpawner = settings

        async def open_hub(politely: bool = False) -> Hub:
            database = tmp_path / "hub.sqlite"
            left = database.read_bytes() if opened else b""
            await close_hub()
            if left and not politely:
                # What tasks that are cancelled write yet, a hub that is killed does not.
                database.write_bytes(left)
            opened.append(Hub(config=config))
            await opened[0].open()
            return opened[0]

        async def close_hub() -> None:
            if opened:
                await opened.pop().kill(broker.tasks)

        yield open_hub
        await close_hub()

    @pytest_asyncio.fixture(loop_scope="module")
    async def first(self, hubs: Callable[[], Any]) -> Hub:
        hub: Hub = await hubs()
        await hub.opening
        return hub

    @pytest.fixture
    def token(self, first: Hub) -> str:
        """A token of alice."""
        return str(first.person("alice").new_api_token())

    async def start(self, hub: Hub, broker: Broker, token: str) -> None:
        """Have a session queued."""
        asyncio.create_task(hub.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: hub.spawner().job_id)

    async def run(self, hub: Hub, broker: Broker, token: str, lab: Lab) -> None:
        """Have a session up."""
        await self.start(hub, broker, token)
        broker.cluster.put(broker.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        await until(lambda: hub.spawner().ready)

    async def test_a_session_that_runs_is_taken_up_at_once(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        second = await hubs()
        await asyncio.wait_for(second.opening, 10)
        spawner = second.spawner()
        assert spawner.ready
        assert spawner.job_id == "1"
        assert spawner.server.url == f"http://127.0.0.1:{lab.port}/user/alice/"
        assert not broker.stops
        assert (await second.ask("users/alice/server", token, method="DELETE")).code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_a_session_that_does_not_answer_is_kept_and_ready_when_it_does(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        spawner = second.spawner()
        spawner.http_timeout = 1
        await asyncio.wait_for(second.opening, 10)  # the hub serves its pages meanwhile
        assert spawner.pending == "spawn"
        page = await second.page("spawn-pending/alice")
        assert "progress" in page
        following = asyncio.create_task(
            second.ask("users/alice/server/progress", token, method="GET")
        )
        await answers(qstat, spawner)
        assert not following.done()
        lab.answer()
        answer = await asyncio.wait_for(following, 10)
        assert b"Job 1 runs on 127.0.0.1; waiting for it to answer." in answer.body
        assert b'"ready": true' in answer.body
        assert spawner.ready
        assert not broker.stops

    @pytest.mark.parametrize("announced", ["before", "after"])
    async def test_a_session_in_the_queue_comes_up_as_without_a_restart(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, announced: str
    ) -> None:
        await self.start(first, broker, token)
        if announced == "before":
            assert (await first.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        second = await hubs()
        spawner = second.spawner()
        assert spawner.pending == "spawn"
        if announced == "after":
            assert (await second.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await until(lambda: spawner.ready)
        url = f"http://127.0.0.1:{lab.port}"
        assert spawner.server.url == f"{url}/user/alice/"
        await until(lambda: "/user/alice/" in second.proxy.routes)
        assert second.proxy.routes["/user/alice/"]["target"] == url
        assert not broker.stops
        # JupyterHub knows the address after another restart as well.
        third = await hubs()
        await asyncio.wait_for(third.opening, 10)
        assert third.spawner().ready
        assert third.spawner().server.url == f"{url}/user/alice/"

    async def test_a_job_whose_number_was_never_known_is_found_by_its_name(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        broker.open.clear()
        asyncio.create_task(first.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        second = await hubs()
        spawner = second.spawner()
        assert spawner.job_id == ""
        broker.open.set()
        await until(lambda: spawner.job_id == "1")
        assert (stored(second)[0] or {})["job_id"] == "1"
        assert (await second.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await until(lambda: spawner.ready)
        assert not broker.stops

    async def test_a_job_that_never_came_to_be_is_told(
        self, hubs: Any, first: Hub, broker: Broker, token: str, monkeypatch: Any
    ) -> None:
        broker.letters = ""
        broker.open.clear()
        asyncio.create_task(first.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        monkeypatch.setattr("gridhub.spawner.cluster.BROKER_MARGIN", -29.8)
        broker.open.set()
        second = await hubs()
        spawner = second.spawner()
        await until(lambda: spawner._failed and not spawner.active)
        assert "The job was not submitted" in await second.page("spawn-pending/alice")
        assert "The job was not submitted" in (stored(second)[0] or {})["last"]["text"]

    @pytest.mark.parametrize("politely", [True, False])
    async def test_a_stop_goes_on(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, politely: bool
    ) -> None:
        await self.run(first, broker, token, lab)
        broker.deaf = True
        asyncio.create_task(  # noqa: RUF006
            first.ask("users/alice/server", token, method="DELETE")
        )
        await until(lambda: broker.stops)
        second = await hubs(politely)
        broker.deaf = False
        await until(lambda: not broker.cluster.jobs)
        await asyncio.wait_for(second.opening, 10)
        assert not second.spawner().active
        assert stored(second) == [{}]
        assert set(broker.stops) == {Stop(user="alice", session=broker.session)}

    @pytest.mark.parametrize(
        ("like", "words"),
        [("t-qdel", "job 1, was deleted from outside"), ("", "job 1, has ended: its run time was")],
    )
    async def test_a_session_that_ended_meanwhile_is_closed_with_its_reason(
        self,
        like: str,
        words: str,
        hubs: Any,
        first: Hub,
        broker: Broker,
        token: str,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        grid.accounting_file.parent.mkdir(parents=True)
        line = record(like, broker.session) if like else ""
        grid.accounting_file.write_text(line, encoding="utf-8")
        broker.cluster.remove(broker.session)
        second = await hubs()
        spawner = second.spawner()
        following = asyncio.create_task(
            second.ask("users/alice/server/progress", token, method="GET")
        )
        await asyncio.wait_for(second.opening, 10)
        await until(lambda: not spawner.active)
        assert b'"ready": true' not in (await asyncio.wait_for(following, 10)).body
        for path, code in (("spawn-pending/alice", 200), ("user/alice/", 424)):
            page = await second.visit(path)
            assert page.code == code
            assert page_says(page, "failed.not_running")
            assert not page_says(page, "failed.heading")
            assert words in page.body.decode()
        assert [set(state) for state in stored(second)] == [{"last"}]
        assert not orm.APIToken.find(second.db, broker.token)
        # Nothing is left of the look: the next session starts as ever.
        lab.answer()
        await self.run(second, broker, token, lab)

    async def test_a_grid_engine_that_does_not_answer_ends_nothing(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        qstat.fails()
        second = await hubs()
        before = len(qstat.calls)
        await until(lambda: len(qstat.calls) > before + 3)
        assert second.spawner().pending == "spawn"
        lab.answer()
        await until(lambda: second.spawner().ready)
        assert not broker.stops

    async def test_a_session_that_is_given_up_while_it_is_taken_up_is_stopped_once(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        answer = await second.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert not broker.cluster.jobs
        await asyncio.wait_for(second.opening, 10)
        assert stored(second) == [{}]
        # The hub has looked at all sessions, and the next one starts.
        await until(lambda: second.looked)
        lab.answer()
        await self.run(second, broker, token, lab)
        assert len(broker.stops) == 1

    @pytest.mark.parametrize("fault", ["database", "ours"])
    async def test_a_fault_of_ours_ends_no_session(
        self,
        hubs: Any,
        first: Hub,
        broker: Broker,
        token: str,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
    ) -> None:
        await self.start(first, broker, token)
        assert (await first.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        faults = 3
        real = SGESpawner._until_up

        async def fail(self: SGESpawner, limit: float) -> None:
            nonlocal faults
            if faults and fault == "ours":
                faults -= 1
                raise RuntimeError("a fault of ours")
            with readonly(object_session(self.orm_spawner)) if faults else contextlib.nullcontext():
                faults = 0
                await real(self, limit)

        monkeypatch.setattr(SGESpawner, "_until_up", fail)
        second: Hub = await hubs()
        await until(lambda: second.spawner().ready)
        assert not faults
        assert not broker.stops

    async def test_a_hub_that_is_stopped_while_it_takes_up_ends_nothing(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        await answers(qstat, second.spawner(), 1)
        third = await hubs(politely=True)  # all tasks of the second are cancelled
        assert not broker.stops
        lab.answer()
        await until(lambda: third.spawner().ready)
        assert third.spawner().job_id == "1"
        assert not broker.stops

    async def test_jobs_of_this_hub_without_a_session_are_deleted_and_no_others(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        ours, others = hub_mark(SECRET) + "0" * 24, hub_mark(b"y" * 32) + "0" * 24
        broker.cluster.put(ours, owner="bob")
        broker.cluster.put(others, owner="bob")
        second = await hubs()
        await until(lambda: job_name(ours) not in broker.cluster.jobs)
        await asyncio.wait_for(second.opening, 10)
        assert broker.stops == [Stop(user="bob", session=ours)]
        assert set(broker.cluster.jobs) == {job_name(others), job_name(broker.session)}

    async def test_a_start_does_not_wait_for_many_jobs_without_a_session(
        self, hubs: Any, first: Hub, broker: Broker, token: str
    ) -> None:
        for n in range(40):
            broker.cluster.put(f"{hub_mark(SECRET)}{n:024x}", "hqw", owner="mallory")
        broker.open.clear()
        second = await hubs()
        await asyncio.wait_for(second.opening, 10)
        await until(lambda: len(broker.stops) == 2)
        asyncio.create_task(second.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        assert len(broker.stops) == 2
        broker.open.set()
        await until(lambda: second.spawner().job_id)
        await until(lambda: len(broker.stops) == 40 and not second.spawner().collector._deletions)
