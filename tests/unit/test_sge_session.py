# SPDX-License-Identifier: BSD-3-Clause
"""The starter inside the job: the parts that need no Jupyter server.

Jupyter Server lives on the worker nodes only, so its classes are stood in for. The server on
the bound socket is tested on the cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gridhub.broker.home import write_session_file
from gridhub.broker.protocol import Tls
from gridhub.contract import (
    EXIT_EARLY_END,
    EXIT_REFUSED,
    MAX_MESSAGE,
    MAX_REASON,
    NO_PORT,
    SESSION_FOLDER,
)
from gridhub.session import secrets
from gridhub.session.activity import watch_use
from gridhub.session.hub_api import announce, is_refusal, post_to_hub, report
from gridhub.session.port import bind_port, no_port_reason, port_holders
from gridhub.session.rules import EarlyEnd, read_rules
from gridhub.session.secrets import SessionError, read_session_file
from gridhub.session.server import (
    END_WITHIN,
    extension_settings,
    keep_time,
    main,
    page_settings,
    serve,
)
from gridhub.spawner.failures import Holders, read_no_port

TOKEN = "5ec4e7" * 8
RULES = {
    "run_time": 3600,
    "warnings": [1800, 600],
    "idle_timeout": 0,
    "idle_notice": 600,
    "idle_report": 0,
    "words": {"run_time": "ends at {end}", "idle": "idle until {end}", "left": "{left} left"},
}
CONTENT = {
    "environment": {"JUPYTERHUB_API_TOKEN": TOKEN},
    "ports": [40000, 40999],
    "rules": RULES,
}


class Loop:
    """An event loop of Jupyter Server that runs its callbacks and is over."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[Any, ...]] = []

    def add_callback(self, *callback: Any) -> None:
        self.callbacks.append(callback)


@pytest.fixture
def jupyter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand-ins for the classes of Jupyter; the server as far as it was started."""

    class ServerApp:
        def __init__(self) -> None:
            self.web_app = SimpleNamespace(settings={"started": None})
            self.jpserver_extensions: dict[str, bool] = {}
            self.kernel_spec_manager = SimpleNamespace(
                user_kernel_dir="/home/alice/kernels", kernel_dirs=["/site/kernels"]
            )

        def find_server_extensions(self) -> None:
            self.jpserver_extensions["jupyterlab_server_timer"] = True

        def start(self) -> None:
            self._find_http_port()
            self.http_server = self
            self.sockets: list[socket.socket] = []
            self._bind_http_server_tcp()

        def add_socket(self, server: socket.socket) -> None:
            self.sockets.append(server)

    class JupyterHubSingleUser:
        serverapp_class: Any = None
        app: Any = None

        @classmethod
        def initialize_server(cls, argv: list[str]) -> Any:
            cls.app = cls.serverapp_class()
            cls.app.argv = argv
            cls.app.find_server_extensions()
            cls.app.io_loop = Loop()
            return cls.app

    class KernelSpec:
        def to_dict(self) -> dict[str, Any]:
            return {"argv": ["python"], "metadata": {"debugger": True, "icon": "own"}}

    modules = {
        "jupyter_client": ModuleType("jupyter_client"),
        "jupyter_client.kernelspec": ModuleType("jupyter_client.kernelspec"),
        "jupyter_server": ModuleType("jupyter_server"),
        "jupyter_server.serverapp": ModuleType("jupyter_server.serverapp"),
        "jupyterhub.singleuser.extension": ModuleType("jupyterhub.singleuser.extension"),
    }
    modules["jupyter_server.serverapp"].ServerApp = ServerApp  # type: ignore[attr-defined]
    modules["jupyter_client.kernelspec"].KernelSpec = KernelSpec  # type: ignore[attr-defined]
    extension = modules["jupyterhub.singleuser.extension"]
    extension.JupyterHubSingleUser = JupyterHubSingleUser  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return JupyterHubSingleUser


class TestSessionFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "a1.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(CONTENT), encoding="utf-8")
        return path

    def test_what_the_broker_wrote_is_read_and_deleted(self, tmp_path: Path) -> None:
        environment = {"JUPYTERHUB_API_TOKEN": TOKEN, "JUPYTERHUB_USER": 'é"\n\\'}
        path = tmp_path / "sessions" / "a1.json"
        write_session_file(path, environment, (40000, 40999), RULES)
        assert read_session_file(path) == (
            environment,
            (40000, 40999),
            read_rules(RULES),
            None,
        )
        assert not path.exists()

    def test_key_and_certificates_are_kept_in_memory_for_the_person_alone(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "sessions" / "a1.json"
        tls = Tls(key="the key", certificate="mine ", authorities="others ")
        write_session_file(path, {}, (40000, 40999), RULES, tls)
        found = read_session_file(path).tls
        assert [Path(each).read_text() for each in found] == ["the key", "mine ", "others mine "]
        for each in found:
            assert str(Path(each).readlink()).startswith("/memfd:")
            assert Path(each).stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.rglob("*")) == [path.parent]

    def test_a_session_starts_once_only(self, path: Path) -> None:
        read_session_file(path)
        with pytest.raises(SessionError, match="given up before this job started"):
            read_session_file(path)

    def test_a_link_is_not_followed(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(path)
        with pytest.raises(SessionError):
            read_session_file(link)
        assert path.exists()
        assert link.is_symlink()

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o400, 0o700, 0o4600])
    def test_a_file_others_might_have_seen_or_made_is_refused(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
    def test_a_file_of_somebody_else_is_refused(self, path: Path) -> None:
        os.chown(path, 4711, 4711)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    def test_a_file_that_is_too_large_is_refused(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(" " * MAX_MESSAGE)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "5",
            "{}",
            json.dumps(CONTENT | {"environment": None}),
            json.dumps(CONTENT | {"environment": []}),
            json.dumps(CONTENT | {"environment": "JUPYTERHUB_API_TOKEN"}),
            json.dumps(CONTENT | {"ports": None}),
            json.dumps(CONTENT | {"ports": [40000]}),
            json.dumps(CONTENT | {"ports": [40000, "x"]}),
            json.dumps(CONTENT | {"ports": 40000}),
            json.dumps(CONTENT | {"rules": None}),
            json.dumps(CONTENT | {"rules": {}}),
            json.dumps({name: CONTENT[name] for name in ("ports", "rules")}),
            json.dumps({name: CONTENT[name] for name in ("environment", "rules")}),
            json.dumps({name: CONTENT[name] for name in ("environment", "ports")}),
        ],
    )
    def test_a_file_without_a_session_is_refused(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SessionError):
            read_session_file(path)

    def test_bytes_that_are_no_text_are_refused(self, path: Path) -> None:
        path.write_bytes(b'{"environment": "\xff"}')
        with pytest.raises(SessionError, match="cannot be read"):
            read_session_file(path)

    def test_a_broken_file_does_not_show_its_secret(self, path: Path) -> None:
        path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
        with pytest.raises(SessionError) as caught:
            read_session_file(path)
        assert TOKEN not in str(caught.value)


def take(port: int = 0) -> socket.socket:
    taken = socket.socket()
    try:
        taken.bind(("0.0.0.0", port))
    except OSError:
        taken.close()
        raise
    return taken


@pytest.fixture
def two_ports() -> Iterator[list[socket.socket]]:
    """Two neighbouring ports, both taken."""
    for _ in range(100):
        first = take()
        try:
            second = take(first.getsockname()[1] + 1)
        except OSError:
            first.close()
            continue
        with first, second:
            yield [first, second]
        return
    pytest.fail("no two neighbouring ports are free")


class TestPort:
    def test_the_port_is_of_the_range_both_ends_included(
        self, two_ports: list[socket.socket]
    ) -> None:
        first, last = (taken.getsockname()[1] for taken in two_ports)
        for taken in two_ports:
            taken.close()
        with bind_port(first, last) as one, bind_port(first, last) as two:
            assert {one.getsockname()[1], two.getsockname()[1]} == {first, last}
            with pytest.raises(SessionError, match=f"from {first} to {last} is taken"):
                bind_port(first, last)

    def test_a_port_that_is_taken_is_passed_over(self, two_ports: list[socket.socket]) -> None:
        first, last = (taken.getsockname()[1] for taken in two_ports)
        two_ports[1].close()
        for _ in range(10):
            with bind_port(first, last) as server:
                assert server.getsockname()[1] == last

    @pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
    @pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
    def test_nobody_can_take_the_port_meanwhile(self, option: int, address: str) -> None:
        if ":" in address and not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with take() as probe:
            port = probe.getsockname()[1]
        with bind_port(port, port), socket.socket(family) as other:
            if family == socket.AF_INET6:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if option:
                other.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind((address, port))
                other.listen()

    def test_the_port_answers_before_the_server_is_up(self) -> None:
        with take() as probe:
            port = probe.getsockname()[1]
        with bind_port(port, port) as server:
            assert not server.getblocking()
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass


#: A port of each of two accounts that listen, one that is connected, one of the range's end, one
#: outside, one that is nobody's any more; and, over IPv6, one that is there twice.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4711        0 1 1 0
   1: 0100007F:9C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4712        0 2 1 0
   2: 0100007F:9C42 0100007F:0016 01 00000000:00000000 00:00000000 00000000  4712        0 3 1 0
   3: 0100007F:A027 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4712        0 4 1 0
   4: 0100007F:A028 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4711        0 5 1 0
   5: 0100007F:9C43 0100007F:0016 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
"""
TCP6 = f"""\
  sl  local_address                         remote_address                        st tx_queue
   0: {"0" * 32}:9C40 {"0" * 32}:0000 0A 0:0 00:0 00000000  4711        0 1 1 0
   1: {"0" * 32}:9C44 {"0" * 32}:0000 0A 0:0 00:0 00000000  4713        0 1 1 0
"""


class TestHolders:
    def test_ports_are_counted_by_account(self, tmp_path: Path) -> None:
        (tmp_path / "tcp").write_text(TCP, encoding="ascii")
        (tmp_path / "tcp6").write_text(TCP6, encoding="ascii")
        tables = [tmp_path / each for each in ("tcp", "tcp6", "no such table")]
        found = port_holders(40000, 40999, tables)
        assert found[0] == ("4712", 3)
        assert sorted(found[1:]) == [("4711", 1), ("4713", 1)]

    def test_the_kernels_own_tables_are_read(self) -> None:
        with take() as taken:
            taken.listen()
            port = taken.getsockname()[1]
            assert port_holders(port, port) == [(pwd.getpwuid(os.getuid()).pw_name, 1)]
        assert port_holders(port, port) == []

    def test_the_reason_is_short_whoever_holds_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gridhub.session.port._account", lambda uid: "x" * 64)
        with take() as taken:
            taken.listen()
            reason = no_port_reason(1, 65535)
        assert reason.startswith(NO_PORT) and len(reason) < MAX_REASON


class Hub:
    """A real HTTP server that answers as told, one answer after the other; the last repeats."""

    def __init__(self) -> None:
        self.answers: list[int | bytes] = [204]
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.requests.append((self.command, self.path, dict(self.headers), json.loads(body)))
                answer = hub.answers.pop(0) if len(hub.answers) > 1 else hub.answers[0]
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    self.close_connection = True
                else:
                    self.send_response(answer)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{self.server.server_port}/hub/api",
            "JUPYTERHUB_API_TOKEN": TOKEN,
        }

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.0,))
    hub = Hub()
    yield hub
    hub.close()


class Ended(BaseException):
    """The process would have ended here."""


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def end(status: int) -> None:
        seen.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return seen


class TestAnnouncement:
    @pytest.mark.parametrize("slash", ["", "/"])
    async def test_the_hub_is_told_the_port_with_the_sessions_token(
        self, hub: Hub, slash: str
    ) -> None:
        environment = hub.environment
        environment["JUPYTERHUB_API_URL"] += slash
        await announce(environment, 40123)
        ((method, path, headers, body),) = hub.requests
        assert (method, path, body) == ("POST", "/hub/api/sge/port", {"port": 40123})
        assert headers["Authorization"] == f"token {TOKEN}"
        assert headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("status", [200, 201, 204])
    async def test_any_success_is_a_success(self, hub: Hub, status: int) -> None:
        hub.answers = [status]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 1

    async def test_the_hub_may_answer_that_the_session_must_be_over_earlier(
        self, hub: Hub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for body, cut in (
            (b'{"end": 5000, "words": "ends at {end}"}', EarlyEnd(5000, "ends at {end}")),
            (b'{"end": "soon"}', None),
            (b"[]", None),
        ):
            hub.answers = [b"HTTP/1.0 200 OK\r\n\r\n" + body]
            assert await announce(hub.environment, 40123) == cut
        assert capsys.readouterr().err.count("The hub's answer: not the end of a session") == 2

    async def test_a_hub_that_is_away_is_told_again(self, hub: Hub, endings: list[int]) -> None:
        hub.answers = [503, 502, 500, 429, 408, b"", 204]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 7
        assert not endings

    @pytest.mark.parametrize(
        "garbage",
        [b"", b"\0\xff" * 10 + b"\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.1 999999 x\r\n\r\n"],
        ids=["nothing", "no HTTP", "half a line", "no status"],
    )
    async def test_an_answer_that_is_no_http_is_no_answer(
        self, hub: Hub, endings: list[int], garbage: bytes
    ) -> None:
        hub.answers = [garbage, 204]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 2
        assert not endings

    async def test_a_hub_that_does_not_listen_is_no_answer(
        self, hub: Hub, capfd: pytest.CaptureFixture[str]
    ) -> None:
        environment = hub.environment
        hub.close()
        assert post_to_hub(environment, "port", {"port": 40123}) == (0, b"")
        printed = capfd.readouterr().err
        assert "The hub does not answer" in printed
        assert TOKEN not in printed
        hub.__init__()  # type: ignore[misc]  # the fixture closes it

    async def test_pauses_grow_and_the_last_one_repeats(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.001, 0.002, 0.003))
        pauses: list[float] = []
        sleep = asyncio.sleep

        async def noting(seconds: float) -> None:
            pauses.append(seconds)
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", noting)
        hub.answers = [503, 503, 503, 503, 503, 204]
        await announce(hub.environment, 40123)
        assert pauses == [0.001, 0.002, 0.003, 0.003, 0.003]

    async def test_the_event_loop_goes_on_while_the_hub_thinks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: list[int] = []

        def once(*_: object) -> tuple[int, bytes]:
            threads.append(threading.get_ident())
            return 204, b""

        monkeypatch.setattr("gridhub.session.hub_api.post_to_hub", once)
        await announce({}, 40123)
        assert threads
        assert threading.get_ident() not in threads

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410])
    async def test_a_hub_that_refuses_ends_the_job(
        self,
        hub: Hub,
        endings: list[int],
        capsys: pytest.CaptureFixture[str],
        status: int,
    ) -> None:
        hub.answers = [503, status, 204]
        with pytest.raises(Ended):
            await announce(hub.environment, 40123)
        assert endings == [EXIT_REFUSED]
        assert len(hub.requests) == 2
        assert f"HTTP {status}" in capsys.readouterr().err

    async def test_a_proxy_of_the_environment_is_not_used(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert post_to_hub(hub.environment, "port", {"port": 40123})[0] == 204

    @pytest.mark.parametrize(
        ("status", "refusal"),
        [(400, True), (401, True), (403, True), (404, True), (499, True)]
        + [(408, False), (429, False), (500, False), (503, False), (599, False)]
        + [(0, False), (200, False), (204, False), (302, False)],
    )
    def test_only_a_clear_no_is_a_refusal(self, status: int, refusal: bool) -> None:
        assert is_refusal(status) is refusal


class TestReport:
    """Telling the hub why the session cannot start."""

    def test_the_hub_is_told_the_reason_with_the_sessions_token(self, hub: Hub) -> None:
        report(hub.environment, "no <port> is free: é")
        ((method, path, headers, body),) = hub.requests
        assert (method, path) == ("POST", "/hub/api/sge/failure")
        assert body == {"reason": "no <port> is free: é"}
        assert headers["Authorization"] == f"token {TOKEN}"

    def test_a_reason_is_no_longer_than_the_hub_takes(self, hub: Hub) -> None:
        report(hub.environment, "x" * 10_000)
        assert hub.requests[0][3] == {"reason": "x" * MAX_REASON}
        assert MAX_REASON == MAX_REASON

    @pytest.mark.parametrize("status", [204, 403, 404, 500])
    def test_whatever_a_hub_answers_it_is_told_once(self, hub: Hub, status: int) -> None:
        hub.answers = [status]
        report(hub.environment, "no")
        assert len(hub.requests) == 1

    def test_a_hub_that_is_away_is_told_a_few_times_and_no_more(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.0,) * 6)
        hub.answers = [b"", b"", 204]
        report(hub.environment, "no")
        assert len(hub.requests) == 3
        hub.requests.clear()
        hub.answers = [b""]
        report(hub.environment, "no")
        assert 1 < len(hub.requests) < 10


class TestServer:
    def test_the_server_gets_the_socket_and_then_the_hub_its_port(
        self, jupyter: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rules = read_rules(RULES)
        with take() as server:
            port = server.getsockname()[1]
            environment = {
                "JUPYTERHUB_API_TOKEN": TOKEN,
                "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
            }
            assert serve(environment, server, rules, 1000.0) == 0
            assert jupyter.app.sockets == [server]
            assert jupyter.app.port == port
            kernels = jupyter.app.kernel_spec_manager
            assert kernels.kernel_dirs == ["/site/kernels", "/home/alice/kernels"]
            (live,), watched = jupyter.app.io_loop.callbacks
        assert watched[:2] == (watch_use, rules)
        assert jupyter.app.web_app.last_activity == watched[2].last
        told: list[tuple[object, ...]] = []

        async def announce(*arguments: object) -> None:
            told.append(arguments)

        async def warn(*arguments: object) -> None:
            told.append(arguments[:2])

        monkeypatch.setattr("gridhub.session.server.announce", announce)
        monkeypatch.setattr("gridhub.session.server.warn", warn)
        asyncio.run(live())
        assert sorted(told, key=len) == [(rules, 1000.0), (environment, port, None)]

    @pytest.mark.parametrize("debugger", [False, True])
    def test_a_kernel_is_offered_with_its_debugger_only_where_the_site_says_so(
        self, jupyter: Any, debugger: bool
    ) -> None:
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, read_rules(RULES), 0.0, None, debugger)
        spec = sys.modules["jupyter_client.kernelspec"].KernelSpec()  # type: ignore[attr-defined]
        # All else that is told of it stays.
        assert spec.to_dict() == {
            "argv": ["python"],
            "metadata": {"debugger": debugger, "icon": "own"},
        }

    def test_a_session_whose_end_has_come_ends_its_server_and_says_why_as_its_status(
        self, jupyter: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And if a kernel keeps the server from ending, the process ends all the same."""
        ended: list[str] = []

        async def over(announced: Any, *_: object) -> bool:
            announced.close()
            return True

        class Timer:
            def __init__(self, *arguments: object) -> None:
                assert arguments == (END_WITHIN, os._exit, [EXIT_EARLY_END])

            def start(self) -> None:
                ended.append("in any case")

        def start(app: Any) -> None:
            app.stop = lambda: ended.append("the server")
            asyncio.run(app.io_loop.callbacks[0][0]())

        monkeypatch.setattr("gridhub.session.server.keep_time", over)
        monkeypatch.setattr(threading, "Timer", Timer)
        monkeypatch.setattr(sys.modules["jupyter_server.serverapp"].ServerApp, "start", start)
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            assert serve(environment, server, read_rules(RULES), 0.0) == EXIT_EARLY_END
        assert ended == ["in any case", "the server"]

    @pytest.mark.parametrize(("run_time", "shown"), [(3600, True), (None, False)])
    def test_without_a_run_time_no_countdown_is_made_up(
        self, jupyter: Any, run_time: int | None, shown: bool
    ) -> None:
        rules = read_rules(RULES | {"run_time": run_time})
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, rules, 0.0)
        assert jupyter.app.jpserver_extensions["jupyterlab_server_timer"] is shown
        told = jupyter.app.web_app.settings["page_config_data"]
        assert ("gridhubTimeLeft" in told) is shown

    def test_the_pages_find_the_extension_of_the_starters_own_release(self, jupyter: Any) -> None:
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, read_rules(RULES), 0.0)
        folder = Path(__file__).resolve().parents[2] / "files" / "labextensions"
        assert f"--LabServerApp.extra_labextensions_path={folder}" in jupyter.app.argv


class TestTime:
    """The end of the run time, and an earlier one that the hub knows of."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        told: list[str] = []

        async def warn(*_: object) -> None:
            told.append("of the run time")

        async def warn_of_early_end(cut: EarlyEnd, *_: object) -> None:
            told.append(cut.words)

        monkeypatch.setattr("gridhub.session.server.warn", warn)
        monkeypatch.setattr("gridhub.session.server.warn_of_early_end", warn_of_early_end)
        monkeypatch.setattr(os, "environ", {"JOB_RUN_TIME": "60"})
        return told

    @pytest.mark.parametrize(
        ("run_time", "end", "over", "minutes"),
        [
            (3600, 1000 + 1800, True, "30"),
            (3600, 1000 + 3599, True, "59"),
            (3600, 1000 + 3600, False, "60"),  # over in time by itself
            (3600, None, False, "60"),
            (None, 1000 + 1800, True, "30"),
            (3600, 999, True, "0"),
        ],
    )
    async def test_the_earlier_end_counts_and_the_countdown_shows_it(
        self,
        told: list[str],
        run_time: int | None,
        end: float | None,
        over: bool,
        minutes: str,
    ) -> None:
        async def announced() -> EarlyEnd | None:
            return None if end is None else EarlyEnd(end, "of the window")

        rules = read_rules(RULES | {"run_time": run_time})
        assert await keep_time(announced(), rules, 1000.0, None) is over
        assert told[-1:] == (["of the window"] if over else ["of the run time"])
        assert os.environ["JOB_RUN_TIME"] == minutes

    async def test_the_end_of_the_run_time_is_warned_of_while_the_hub_is_away(
        self, told: list[str]
    ) -> None:
        back = asyncio.Event()

        async def announced() -> None:
            await back.wait()

        times = asyncio.create_task(keep_time(announced(), read_rules(RULES), 1000.0, None))
        await asyncio.sleep(0.01)
        assert told == ["of the run time"]
        back.set()
        assert not await times


class TestSettingsOfExtensions:
    def test_the_countdown_is_told_when_the_job_began_and_how_many_minutes_it_has(
        self, session: ModuleType
    ) -> None:
        assert extension_settings(read_rules(RULES), 1234.9) == {
            "JOB_START_TIME": "1234",
            "JOB_RUN_TIME": "60",
        }

    @pytest.mark.parametrize(
        ("changes", "soon"),
        [
            ({}, 1800),
            ({"run_time": 1800}, 600),  # what is not below the run time is never warned of
            ({"warnings": []}, 300),
        ],
    )
    def test_notebooks_countdown_is_told_the_words_and_when_it_is_to_stand_out(
        self, changes: dict[str, Any], soon: int
    ) -> None:
        told = page_settings(read_rules(RULES | changes))
        assert told == {"gridhubTimeLeft": {"words": "{left} left", "soon": soon}}

    @pytest.mark.parametrize(
        "changes", [{"run_time": None}, {"words": {"run_time": "x", "idle": "x"}}]
    )
    def test_notebook_counts_nothing_down_without_an_end_or_words_for_it(
        self, changes: dict[str, Any]
    ) -> None:
        assert page_settings(read_rules(RULES | changes)) == {}

    def test_how_often_the_hub_is_told_of_use_is_the_sites(self) -> None:
        rules = read_rules(RULES | {"run_time": None, "idle_report": 45})
        assert extension_settings(rules, 0.0) == {"JUPYTERHUB_ACTIVITY_INTERVAL": "45"}


NAME = "a" * 32
#: The test's own process is the job here; ps(1) says how long it has been running.
PROCESS_START = time.time() - int(
    subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())])
)


class TestCommand:
    @pytest.fixture
    def command(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(os, "environ", dict(os.environ))

        def run(*arguments: str) -> int:
            monkeypatch.setattr(sys, "argv", ["sge_session.py", *arguments])
            return int(main())

        return run

    @pytest.fixture
    def written(self, hub: Hub, tmp_path: Path) -> dict[str, str]:
        """The environment of a session whose file the broker has written."""
        with take() as probe:
            port = probe.getsockname()[1]
        environment = hub.environment | {"JUPYTERHUB_SERVICE_PREFIX": "/user/alice/lab/"}
        write_session_file(
            tmp_path / SESSION_FOLDER / f"{NAME}.json", environment, (port, port), RULES
        )
        return environment | {"port": str(port)}

    @pytest.mark.parametrize(
        "arguments",
        [(), ("a" * 31,), ("a" * 33,), ("A" * 32,), (NAME + "\n",), ("../" + "a" * 29,)]
        + [(NAME, "b" * 32), ("-" + "a" * 31,), ("--debugger",), (NAME, "--debugger", "x")],
    )
    def test_anything_but_the_name_of_a_session_is_refused(
        self, command: Callable[..., int], arguments: tuple[str, ...]
    ) -> None:
        assert command(*arguments) == 2

    def test_a_session_that_was_given_up_ends_its_job(
        self, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command(NAME) == 1
        assert "The session was given up before this job started" in capsys.readouterr().err

    def test_a_file_that_is_no_file_ends_the_job(
        self, command: Callable[..., int], tmp_path: Path
    ) -> None:
        (tmp_path / SESSION_FOLDER / f"{NAME}.json").mkdir(parents=True)
        assert command(NAME) == 1

    def test_no_core_dump_can_hold_the_secrets_that_are_read(
        self, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = resource.getrlimit(resource.RLIMIT_CORE)
        seen: list[tuple[int, int]] = []

        def read(path: Path) -> None:
            seen.append(resource.getrlimit(resource.RLIMIT_CORE))
            raise secrets.SessionError("enough")

        monkeypatch.setattr("gridhub.session.server.read_session_file", read)
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
        try:
            assert command(NAME) == 1
            # The person may still raise it.
            assert seen == [(1 if before[1] else 0, before[1])]
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, before)

    def test_the_server_runs_with_the_sessions_environment(
        self,
        command: Callable[..., int],
        written: dict[str, str],
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seen: dict[str, str] = {}

        def serve(environment: dict[str, str], server: socket.socket, *rules: object) -> int:
            with server:
                seen.update(os.environ, bound=str(server.getsockname()[1]))
            return 0

        monkeypatch.setattr("gridhub.session.server.serve", serve)
        assert command(NAME) == 0
        port = written.pop("port")
        assert written.items() <= seen.items()
        assert seen["bound"] == port
        assert seen["JOB_RUN_TIME"] == "60"
        assert abs(int(seen["JOB_START_TIME"]) - PROCESS_START) < 5
        assert seen["JUPYTERHUB_SERVICE_URL"] == f"http://0.0.0.0:{port}/user/alice/lab/"
        assert not hub.requests

    @pytest.mark.parametrize("options", [[], ["--debugger"]])
    def test_the_job_script_says_whether_there_is_a_debugger(
        self,
        command: Callable[..., int],
        written: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
    ) -> None:
        def serve(environment: dict[str, str], server: socket.socket, *others: object) -> int:
            server.close()
            assert others[-1] is bool(options)
            return 0

        monkeypatch.setattr("gridhub.session.server.serve", serve)
        assert command(NAME, *options) == 0

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (ModuleNotFoundError("No module named 'jupyterlab'"), "No module named 'jupyterlab'"),
            (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
            (SystemExit("bad configuration"), "SystemExit('bad configuration')"),
        ],
    )
    def test_why_it_cannot_start_reaches_the_hub_and_the_log(
        self,
        command: Callable[..., int],
        written: dict[str, str],
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        fault: BaseException,
        reason: str,
    ) -> None:
        def serve(environment: dict[str, str], server: socket.socket, *rules: object) -> None:
            server.close()
            raise fault

        monkeypatch.setattr("gridhub.session.server.serve", serve)
        with pytest.raises(type(fault)):
            command(NAME)
        ((_, path, _, body),) = hub.requests
        assert path == "/hub/api/sge/failure"
        assert reason in body["reason"]

    def test_that_every_port_is_taken_reaches_the_hub(
        self, command: Callable[..., int], written: dict[str, str], hub: Hub
    ) -> None:
        os.environ["HOSTNAME"] = "exec1"
        with take(int(written["port"])) as taken, pytest.raises(SessionError):
            taken.listen()
            command(NAME)
        reason = hub.requests[0][3]["reason"]
        me = pwd.getpwuid(os.getuid()).pw_name
        assert read_no_port(reason) == Holders("exec1", {me: 1}), "the hub says it in words"

    @pytest.mark.parametrize("status", [None, 0])
    def test_a_server_that_ends_as_it_should_is_no_failure(
        self,
        command: Callable[..., int],
        written: dict[str, str],
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        status: int | None,
    ) -> None:
        def serve(environment: dict[str, str], server: socket.socket, *rules: object) -> None:
            server.close()
            sys.exit(status)

        monkeypatch.setattr("gridhub.session.server.serve", serve)
        assert command(NAME) == 0
        assert not hub.requests
