# SPDX-License-Identifier: BSD-3-Clause
"""The session's server and its settings."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tornado.web import RequestHandler

from folders import FILES
from gridhub.contract import (
    EXIT_ANNOUNCED,
    EXIT_EARLY_END,
)
from gridhub.session.activity import watch_use
from gridhub.session.packages import PLACE
from gridhub.session.person import Person
from gridhub.session.rules import EarlyEnd, read_rules
from gridhub.session.server import (
    END_WITHIN,
    extension_settings,
    keep_time,
    serve,
)
from gridhub.session.status import Status
from started import RULES, TOKEN, take


class Loop:
    """A stand-in for the event loop of Jupyter Server; the stand-in only records callbacks."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[Any, ...]] = []

    def add_callback(self, *callback: Any) -> None:
        self.callbacks.append(callback)


@pytest.fixture
def jupyter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand-ins for Jupyter's classes; ``app`` is the server that was started."""

    class ServerApp:
        def __init__(self) -> None:
            self.pages: list[tuple[Any, ...]] = []
            self.web_app = SimpleNamespace(
                settings={
                    "started": None,
                    "base_url": "/user/alice/",
                    "page_config_hook": lambda handler, page: page,
                },
                add_handlers=lambda hosts, pages: self.pages.extend(pages),
            )
            self.kernel_spec_manager = SimpleNamespace(
                user_kernel_dir="/home/alice/kernels", kernel_dirs=["/site/kernels"]
            )
            self.config = SimpleNamespace(HubAuth=SimpleNamespace())
            self.stopped = False

        def stop(self) -> None:
            self.stopped = True

        def server_info(self) -> dict[str, Any]:
            return {"port": 1, "token": TOKEN}

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
            cls.app.io_loop = Loop()
            return cls.app

    class KernelSpec:
        def to_dict(self) -> dict[str, Any]:
            return {"argv": ["python"], "metadata": {"debugger": True, "icon": "own"}}

    modules = {
        "jupyter_client": ModuleType("jupyter_client"),
        "jupyter_client.kernelspec": ModuleType("jupyter_client.kernelspec"),
        "jupyter_server": ModuleType("jupyter_server"),
        "jupyter_server.base": ModuleType("jupyter_server.base"),
        "jupyter_server.base.handlers": ModuleType("jupyter_server.base.handlers"),
        "jupyter_server.serverapp": ModuleType("jupyter_server.serverapp"),
        "jupyterhub.singleuser.extension": ModuleType("jupyterhub.singleuser.extension"),
        "jupyterlab": ModuleType("jupyterlab"),
        "jupyterlab.commands": ModuleType("jupyterlab.commands"),
        "jupyterlab.labapp": ModuleType("jupyterlab.labapp"),
        "gridhub.session.kernels": ModuleType("gridhub.session.kernels"),
        "gridhub.session.terminals": ModuleType("gridhub.session.terminals"),
    }
    modules["jupyter_server.serverapp"].ServerApp = ServerApp  # type: ignore[attr-defined]
    handlers = modules["jupyter_server.base.handlers"]
    api_handler = type("APIHandler", (RequestHandler,), {"get_json_body": lambda handler: None})
    handlers.APIHandler = api_handler  # type: ignore[attr-defined]
    handlers.JupyterHandler = RequestHandler  # type: ignore[attr-defined]
    modules["jupyter_client.kernelspec"].KernelSpec = KernelSpec  # type: ignore[attr-defined]
    kernels = modules["gridhub.session.kernels"]
    kernels.SessionKernelManager = type("SessionKernelManager", (), {})  # type: ignore[attr-defined]
    kernels.KernelSettings = lambda *settings: settings  # type: ignore[attr-defined]
    terminals = modules["gridhub.session.terminals"]
    terminals.SessionTerminalManager = type("SessionTerminalManager", (), {})  # type: ignore[attr-defined]
    extension = modules["jupyterhub.singleuser.extension"]
    extension.JupyterHubSingleUser = JupyterHubSingleUser  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return JupyterHubSingleUser


#: What receives Grid Engine's signals; the tests send none.
SIGNALS: Any = SimpleNamespace(watch=lambda *_: None)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    """The user of a session that has no start-up lines; their home is new."""
    account = pwd.struct_passwd(("alice", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.chdir(tmp_path)  # at the end, undo the change by the server
    monkeypatch.setattr(os, "environ", {"SHELL": "/bin/sh", "JUPYTERHUB_API_TOKEN": TOKEN})
    return Person(account, {"PATH": "/usr/bin", "JUPYTER_PATH": "/apps:"}, read_rules(RULES))


class TestServer:
    def test_the_server_gets_the_socket_and_then_the_hub_gets_its_port(
        self, jupyter: Any, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rules = read_rules(RULES)
        with take() as server:
            port = server.getsockname()[1]
            environment = {
                "JUPYTERHUB_API_TOKEN": TOKEN,
                "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
            }
            assert serve(environment, server, rules, 1000.0, person, SIGNALS) == 0
            assert jupyter.app.sockets == [server]
            assert jupyter.app.port == port
            assert jupyter.app.config.HubAuth.api_token == TOKEN
            assert jupyter.app.server_info() == {"port": 1, "token": ""}
            (live,), signals, watched = jupyter.app.io_loop.callbacks
        assert signals[:2] == (SIGNALS.watch, rules)
        assert watched[:2] == (watch_use, rules)
        assert jupyter.app.web_app.last_activity == watched[2].last
        calls: list[tuple[object, ...]] = []

        async def announce(*arguments: object) -> None:
            calls.append(arguments)

        async def warn(*arguments: object) -> None:
            calls.append(arguments[:2])

        monkeypatch.setattr("gridhub.session.server.announce", announce)
        monkeypatch.setattr("gridhub.session.server.warn", warn)
        asyncio.run(live())
        kernels = jupyter.app.kernel_spec_manager
        assert kernels.kernel_dirs == [
            "/site/kernels",
            "/home/alice/kernels",
            f"{person.home}/.local/share/jupyter/kernels",
            f"{person.home}/.ipython/kernels",
            f"{person.home / PLACE}/share/jupyter/kernels",
            "/apps/kernels",
        ]
        manager = sys.modules["gridhub.session.kernels"].SessionKernelManager  # type: ignore[attr-defined]
        environment_of_kernels, site_python, *_ = manager.settings
        assert site_python in map(str, person.home.glob(".local/share/jupyterhub/*/bin/python"))
        assert TOKEN not in environment_of_kernels.values()
        assert sorted(calls, key=len) == [(rules, 1000.0), (environment, port, None)]

    def test_a_session_that_cannot_be_prepared_ends_and_reports_why(
        self, jupyter: Any, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reasons: list[str] = []
        monkeypatch.setattr(person, "prepare", lambda: 1 / 0)
        monkeypatch.setattr(
            "gridhub.session.server.report", lambda _, reason, __: reasons.append(reason)
        )

        def start(app: Any) -> None:
            with pytest.raises(ZeroDivisionError):
                asyncio.run(app.io_loop.callbacks[0][0]())

        monkeypatch.setattr(sys.modules["jupyter_server.serverapp"].ServerApp, "start", start)
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            assert serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS) == 1
        assert jupyter.app.stopped
        assert reasons == ["ZeroDivisionError('division by zero')"]

    @pytest.mark.parametrize("debugger", [False, True])
    def test_kernels_offer_their_debugger_only_if_the_site_enables_it(
        self, jupyter: Any, person: Person, debugger: bool
    ) -> None:
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS, None, debugger)
        spec = sys.modules["jupyter_client.kernelspec"].KernelSpec()  # type: ignore[attr-defined]
        # Only ``debugger`` is set; the rest of the kernel's specification stays unchanged.
        assert spec.to_dict() == {
            "argv": ["python"],
            "metadata": {"debugger": debugger, "icon": "own"},
        }

    def test_at_an_early_end_the_server_stops_and_the_exit_status_gives_the_reason(
        self, jupyter: Any, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process ends even if a kernel keeps the server from stopping."""
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
            assert (
                serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS)
                == EXIT_EARLY_END
            )
        assert ended == ["in any case", "the server"]

    def test_an_announced_end_gives_its_own_exit_status(
        self, jupyter: Any, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(app: Any) -> None:
            app.stop = lambda: None
            end = app.io_loop.callbacks[1][-1]
            end()

        monkeypatch.setattr(threading, "Timer", lambda *_: SimpleNamespace(start=lambda: None))
        monkeypatch.setattr(sys.modules["jupyter_server.serverapp"].ServerApp, "start", start)
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            status = serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS)
        assert status == EXIT_ANNOUNCED

    def test_the_server_answers_the_questions_of_the_status_bar(
        self, jupyter: Any, person: Person
    ) -> None:
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS)
        assert [address for address, _ in jupyter.app.pages] == ["/user/alice/gridhub/status"]

    def test_the_pages_find_extension_and_settings_of_the_starters_own_release(
        self, jupyter: Any, person: Person
    ) -> None:
        environment = {"JUPYTERHUB_SERVICE_PREFIX": "/", "JUPYTERHUB_API_TOKEN": TOKEN}
        with take() as server:
            serve(environment, server, read_rules(RULES), 0.0, person, SIGNALS)
        folder = FILES / "labextensions"
        assert f"--LabServerApp.extra_labextensions_path={folder}" in jupyter.app.argv
        folder = FILES / "lab/settings"
        assert f"--LabServerApp.app_settings_dir={folder}" in jupyter.app.argv
        off = {"notebook_shim": False, "jupyter_lsp": False}
        assert f"--ServerApp.jpserver_extensions={off}" in jupyter.app.argv
        assert jupyter.app.web_app.settings["page_config_data"]["buildCheck"] is False


class TestTime:
    """The end of the run time, and an earlier end that the hub sets."""

    @pytest.fixture
    def warnings(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        warnings: list[str] = []

        async def warn(*_: object) -> None:
            warnings.append("of the run time")

        async def warn_of_early_end(early_end: EarlyEnd, *_: object) -> None:
            warnings.append(early_end.words)

        monkeypatch.setattr("gridhub.session.server.warn", warn)
        monkeypatch.setattr("gridhub.session.server.warn_of_early_end", warn_of_early_end)
        return warnings

    @pytest.mark.parametrize(
        ("run_time", "end", "over", "shown"),
        [
            (3600, 1000 + 1800, True, 2800),
            (3600, 1000 + 3599, True, 4599),
            (3600, 1000 + 3600, False, 4600),  # over in time anyway
            (3600, None, False, 4600),
            (None, 1000 + 1800, True, 2800),
            (None, None, False, None),
            (3600, 999, True, 999),
        ],
    )
    async def test_the_earlier_end_applies_and_the_countdown_shows_it(
        self,
        warnings: list[str],
        run_time: int | None,
        end: float | None,
        over: bool,
        shown: float | None,
    ) -> None:
        async def announced() -> EarlyEnd | None:
            return None if end is None else EarlyEnd(end, "of the window")

        rules = read_rules(RULES | {"run_time": run_time})
        status = Status(rules, 1000.0)
        assert await keep_time(announced(), rules, 1000.0, None, status) is over
        assert warnings[-1:] == (["of the window"] if over else ["of the run time"])
        assert status.end == shown

    async def test_the_user_is_warned_of_the_run_time_while_the_hub_is_away(
        self, warnings: list[str]
    ) -> None:
        back = asyncio.Event()

        async def announced() -> None:
            await back.wait()

        rules = read_rules(RULES)
        status = Status(rules, 1000.0)
        times = asyncio.create_task(keep_time(announced(), rules, 1000.0, None, status))
        await asyncio.sleep(0.01)
        assert warnings == ["of the run time"]
        back.set()
        assert not await times


class TestSettingsOfExtensions:
    def test_the_site_sets_how_often_use_is_reported_to_the_hub(self) -> None:
        rules = read_rules(RULES | {"run_time": None, "idle_report": 45})
        assert extension_settings(rules) == {"JUPYTERHUB_ACTIVITY_INTERVAL": "45"}
