# SPDX-License-Identifier: BSD-3-Clause
"""A real hub for tests: only the proxy, the broker and Grid Engine are replaced.

The fake broker is a real server on a Unix socket, and the fake qstat is a real command. The hub's
pages, API, database and tokens are JupyterHub's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm, roles
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import Proxy
from markupsafe import escape
from sqlalchemy import text as sql
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, create_signed_value
from traitlets.config import Config

from fake_grid import Qstat, job, listing, until
from folders import DATA
from gridhub.broker import protocol
from gridhub.broker.protocol import Answer, Log, Request, Start, Stop, job_name
from gridhub.grid.cluster_status import CachedQuery
from gridhub.grid.jobs import Job
from gridhub.hub import idle, pages
from gridhub.hub.app import GridHub
from gridhub.hub.rate_limits import Rate, rates
from gridhub.spawner import form
from gridhub.spawner.cluster import SETTING
from gridhub.spawner.form import Link
from gridhub.words import text
from sge_spawner import SGESpawner

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
    """A whole hub that runs in the tests' own process, without a configuration file."""

    base = ""
    looked = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before = asyncio.all_tasks()
        self.looks = asyncio.Event()

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Read no file: the test configures the hub."""

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
        """Open the hub; serve its pages as soon as it begins to look for running sessions."""
        # Close the process's HTTP client, because a new hub replaces the client without closing it.
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
        """Stop the hub as on SIGTERM: cancel all tasks, and write nothing to the database."""
        self.server.stop()
        tasks = asyncio.all_tasks() - self.before - {asyncio.current_task()} - set(spare)
        # Cancel repeatedly, because the task of JupyterHub's progress page continues if it is
        # cancelled: it takes the cancellation for the end of a start.
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.5)
        for user in self.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        self.db.rollback()
        self.db.close()
        self.db.get_bind().dispose()
        # Collect garbage, so that Python warns about open resources in the test that opened them.
        gc.collect()

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
        """Return a page's HTML as the person's browser gets it."""
        return (await self.visit(path, name)).body.decode()

    async def visit(self, path: str, name: str = "alice", body: str | None = None) -> HTTPResponse:
        """Send a request with the login cookie, as the person's browser does."""
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
    """The jobs in Grid Engine, which the fake qstat lists."""

    def __init__(self, qstat: Qstat) -> None:
        self.qstat = qstat
        self.jobs: dict[str, Job] = {}
        self._list()

    def _list(self) -> None:
        self.qstat.says(listing(*self.jobs.values(), like=self.qstat.like))

    def put(self, session: str, letters: str = "r", **changes: Any) -> None:
        """Add or change the job of a session."""
        name = job_name(session)
        number = self.jobs[name].id if name in self.jobs else len(self.jobs) + 1
        host = changes.pop("host", "127.0.0.1")
        self.jobs[name] = job(name, letters, **{"number": number, "host": host} | changes)
        self._list()

    def remove(self, session: str) -> None:
        self.jobs.pop(job_name(session), None)
        self._list()


class Broker:
    """A broker that records the requests and gives the answers that the test sets."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        #: The state of a new job. If the state is empty, no job appears in Grid Engine.
        self.letters = "qw"
        #: Whether a job stays in Grid Engine, in the state "dr", after its deletion was requested.
        self.sticky = False
        #: Whether the broker ignores requests to delete a job.
        self.deaf = False
        #: The last lines of the jobs' logs, keyed by job number.
        self.logs: dict[int, str] = {}
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
        if isinstance(request, Log):
            answer = Answer(ok=True, log=self.logs.get(request.job))
        elif self.answers:
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
        """The name of the session that was requested last."""
        return self.starts[-1].session

    @property
    def token(self) -> str:
        """The token of the session that was requested last."""
        return self.starts[-1].environment["JUPYTERHUB_API_TOKEN"]


class Lab:
    """A session's server, which can answer or fall silent."""

    def __init__(self) -> None:
        self.version = "6.1.1"
        lab = self

        class Api(RequestHandler):
            def get(self) -> None:
                self.set_header("X-JupyterHub-Version", lab.version)

        self.server = HTTPServer(Application([(".*", Api)]))
        for self.port in range(PORTS[0], PORTS[1] + 1):
            with contextlib.suppress(OSError):
                # This socket reserves the port among all test processes, even while the server is
                # silent.
                self.reservation = socket.create_server(("127.0.0.2", self.port), reuse_port=False)
                try:
                    self.answer()
                    return
                except OSError:
                    self.reservation.close()
        pytest.fail("no port is free")

    async def close(self) -> None:
        """Stop the server, and release its port."""
        await self.fall_silent()
        self.reservation.close()

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


async def end_cluster(hub: Hub) -> None:
    """Close and forget the hub's cluster, because the next test uses another cluster."""
    if cluster := hub.tornado_settings.pop(SETTING, None):
        await cluster.collector.close()


async def starting(alice: Any, broker: Broker, **options: object) -> asyncio.Task[Any]:
    """Start a session, and wait until its job is submitted."""
    spawner = alice.spawners[""]
    start = asyncio.create_task(alice.spawn(options=options))
    await until(lambda: start.done() or spawner.job_id)
    return start


Visit = Callable[..., Awaitable[HTTPResponse]]


async def led(spawner: SGESpawner, link: Link) -> str:
    """Return the form that the user gets by following a link."""
    context = copy_context()
    context.run(form.followed.set, link)
    return str(await asyncio.create_task(spawner.get_options_form(), context=context))


def page_says(answer: HTTPResponse, name: str, /, **values: object) -> bool:
    """Return whether a page shows a sentence of words.toml."""
    return str(escape(text(name, **values))) in answer.body.decode()


async def running(alice: Any, broker: Broker, lab: Lab) -> SGESpawner:
    """Start a session, and wait until it is up."""
    spawner = alice.spawners[""]
    start = await starting(alice, broker)
    broker.cluster.put(broker.session, owner=broker.starts[-1].user)
    spawner.announce(lab.port)
    await asyncio.wait_for(start, 10)
    return spawner


async def answers(qstat: Qstat, spawner: SGESpawner, count: int = 2) -> None:
    """Wait until Grid Engine has answered ``count`` more queries."""
    before = len(qstat.calls)
    while len(qstat.calls) < before + count + 1:
        await asyncio.wait_for(spawner.collector.news(10), 10)


@contextlib.contextmanager
def readonly(database: Any) -> Iterator[None]:
    """Make a database read-only, as if the disk were full."""
    database.execute(sql("PRAGMA query_only = 1"))
    try:
        yield
    finally:
        database.rollback()
        database.execute(sql("PRAGMA query_only = 0"))


def stored(hub: Hub) -> list[dict[str, Any] | None]:
    """Return the sessions' committed states, which the hub would find after a crash."""
    hub.db.rollback()
    return [spawner.state for spawner in hub.db.query(orm.Spawner)]


def known(query: CachedQuery[Any], answer: object) -> None:
    """Set the answer of a query and keep the query from running again."""
    query.last_answer, query.queried_at, query.due = answer, query.clock(), float("inf")


def record(like: str, session: str) -> str:
    """Return a real accounting record in which the job has a session's job name."""
    lines = (DATA / "accounting").read_text("utf-8").splitlines()
    return next(line for line in lines if f":{like}:" in line).replace(like, job_name(session))
