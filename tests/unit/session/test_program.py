# SPDX-License-Identifier: BSD-3-Clause
"""The starter, run as a program."""

from __future__ import annotations

import os
import pwd
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridhub.broker.home import write_session_file
from gridhub.contract import (
    SESSION_FOLDER,
)
from gridhub.session import secrets
from gridhub.session.secrets import SessionError
from gridhub.session.server import (
    main,
)
from gridhub.spawner.failures import Holders, read_no_port
from started import RULES, Hub, take

NAME = "a" * 32


#: The start time of the tests' own process, which stands for the job. ps(1) prints the age of the
#: process in seconds.
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
        """Write a session's file as the broker does, and return the session's environment."""
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

    def test_the_job_of_a_session_that_was_given_up_ends(
        self, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command(NAME) == 1
        assert "The session was given up before this job started" in capsys.readouterr().err

    def test_a_folder_in_place_of_the_file_ends_the_job(
        self, command: Callable[..., int], tmp_path: Path
    ) -> None:
        (tmp_path / SESSION_FOLDER / f"{NAME}.json").mkdir(parents=True)
        assert command(NAME) == 1

    def test_core_dumps_are_off_when_secrets_are_read(
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
            # The hard limit stays, so the user may still raise the soft limit.
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
        assert seen["JUPYTERHUB_SERVICE_URL"] == f"http://0.0.0.0:{port}/user/alice/lab/"
        assert not hub.requests

    @pytest.mark.parametrize("options", [[], ["--debugger"]])
    def test_the_job_script_decides_whether_there_is_a_debugger(
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
    def test_the_reason_for_a_failed_start_reaches_the_hub_and_the_log(
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

    def test_the_hub_learns_that_every_port_is_taken(
        self, command: Callable[..., int], written: dict[str, str], hub: Hub
    ) -> None:
        os.environ["HOSTNAME"] = "exec1"
        with take(int(written["port"])) as taken, pytest.raises(SessionError):
            taken.listen()
            command(NAME)
        reason = hub.requests[0][3]["reason"]
        me = pwd.getpwuid(os.getuid()).pw_name
        assert read_no_port(reason) == Holders("exec1", {me: 1}), "the hub parses it"

    @pytest.mark.parametrize("status", [None, 0])
    def test_a_server_that_ends_normally_is_not_a_failure(
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
