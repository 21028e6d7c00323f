# SPDX-License-Identifier: BSD-3-Clause
"""A broker that waits for a request."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from asked import SESSION, START, send
from folders import FILES
from gridhub.broker.config import Config
from gridhub.broker.protocol import Answer
from gridhub.broker.waiting import accept
from gridhub.contract import BROKER_IS_READY


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ready"))
        listener.listen()
        yield listener


def connect(listener: socket.socket) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(20)
    caller.connect(listener.getsockname())
    return caller


class TestAccepting:
    def test_the_caller_learns_that_the_broker_is_ready(self, listener: socket.socket) -> None:
        with connect(listener) as caller:
            caller.sendall(b"{}")
            connection = accept(listener)
            assert connection
            with connection:
                assert caller.recv(9) == BROKER_IS_READY
                assert connection.recv(9) == b"{}"

    def test_a_caller_that_has_given_up_is_passed_over(self, listener: socket.socket) -> None:
        connect(listener).close()
        with connect(listener) as silent, connect(listener) as caller:
            silent.shutdown(socket.SHUT_WR)
            caller.sendall(b"second")
            connection = accept(listener)
            assert connection
            with connection:
                assert connection.recv(9) == b"second"

    def test_the_wait_ends(self, listener: socket.socket) -> None:
        assert accept(listener, 0.01) is None

    def test_the_watchdog_is_used_until_a_request_arrives(
        self, listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(20)
            accepted: list[socket.socket | None] = []
            waiting = threading.Thread(target=lambda: accepted.append(accept(listener)))
            waiting.start()
            assert [manager.recv(99) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            with connect(listener) as caller:
                caller.sendall(b"{}")
                waiting.join(20)
            assert accepted[0]
            accepted[0].close()
            manager.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while manager.recv(99):
                    pass
            manager.settimeout(0.1)
            with pytest.raises(TimeoutError):
                manager.recv(99)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Return a symbolic link to a copy of the release."""
    shutil.copytree(FILES / "gridhub", tmp_path / "old/gridhub")
    for name in ("sge_broker.py", "words.toml"):
        shutil.copy(FILES / name, tmp_path / "old")
    current = tmp_path / "current"
    current.symlink_to("old")
    return current


class TestProcess:
    """The broker's program, as systemd starts it: the socket is file descriptor 3."""

    @contextlib.contextmanager
    def broker(
        self, listener: socket.socket, release: Path, config: Config
    ) -> Iterator[subprocess.Popen[str]]:
        path = release.parent / "broker.json"
        path.write_text(config.model_dump_json(), encoding="utf-8")
        (temporary := release.parent / "tmp").mkdir()
        with subprocess.Popen(
            ["/bin/bash", "-c", 'exec "$@" 3<&0 0</dev/null', "", sys.executable, "-sE"]
            + [str(release / "sge_broker.py"), str(path)],
            env={"LISTEN_FDS": "1", "TMPDIR": str(temporary)},
            stdin=listener,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def answer(self, caller: socket.socket) -> bytes:
        assert caller.recv(1) == BROKER_IS_READY
        return b"".join(iter(lambda: caller.recv(8192), b""))

    def log(self, process: subprocess.Popen[str]) -> str:
        stream: IO[str] | None = process.stderr
        assert stream
        return stream.read()

    def test_requests_are_served_one_after_another(
        self, listener: socket.socket, release: Path, config: Config
    ) -> None:
        with self.broker(listener, release, config) as process:
            for name in ("no-such-account", "nor-this-one"):
                with connect(listener) as caller:
                    send(caller, json.dumps(START | {"user": name}).encode())
                    assert Answer.model_validate_json(self.answer(caller)).kind == "refused"
            assert process.poll() is None
            process.terminate()
            assert process.wait(20) in (0, -signal.SIGTERM)
            first, second = self.log(process).splitlines()
            assert first.startswith(f"start for no-such-account, session {SESSION}")
            assert second.startswith("start for nor-this-one")

    def test_a_new_release_serves_the_request(
        self, listener: socket.socket, release: Path, config: Config
    ) -> None:
        new = release.parent / "new"
        new.mkdir()
        (new / "sge_broker.py").write_text(
            "import os, socket, sys\n"
            "assert 'LISTEN_FDS' not in os.environ and sys.argv[1].endswith('broker.json')\n"
            "connection = socket.socket(fileno=0)\n"
            "connection.sendall(connection.recv(99) + b' in the new release')\n"
        )
        with self.broker(listener, release, config) as process, connect(listener) as caller:
            assert caller.recv(1) == BROKER_IS_READY
            release.unlink()
            release.symlink_to("new")
            send(caller, b"request")
            assert caller.recv(99) == b"request in the new release"
            assert process.wait(20) == 0


#: Serves requests that say what they leave behind, and answers with the number of its process.
PROGRAM = """
import os, subprocess, sys, time
sys.argv[0] = sys.argv[1]
from gridhub.broker.waiting import serve

def act(connection):
    match connection.recv(99):
        case b"process":
            # It has no connection with the request any more: another session, another parent.
            subprocess.run(["/bin/sh", "-c", "setsid sleep 60 & true"])
        case b"file":
            open(os.environ["TMPDIR"] + "/left", "w").close()
        case b"error":
            raise ValueError("a test")
        case b"slow":
            connection.sendall(b"slow ")
            time.sleep(0.5)
    connection.sendall(str(os.getpid()).encode())

serve(act)
"""


@pytest.fixture
def server(listener: socket.socket, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        ["/bin/bash", "-c", 'exec "$@" 3<&0 0</dev/null', "", sys.executable, "-c", PROGRAM]
        + [str(FILES / "sge_broker.py")],
        env={"LISTEN_FDS": "1", "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(FILES)},
        stdin=listener,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(listener: socket.socket, what: bytes) -> bytes:
    with connect(listener) as caller:
        assert caller.recv(1) == BROKER_IS_READY
        caller.sendall(what)
        return b"".join(iter(lambda: caller.recv(99), b""))


class TestServing:
    def test_each_request_has_a_process_of_its_own(
        self, listener: socket.socket, server: subprocess.Popen[str]
    ) -> None:
        numbers = [ask(listener, b"nothing") for _ in range(3)]
        assert len({*numbers, str(server.pid).encode()}) == 4
        assert server.poll() is None

    @pytest.mark.parametrize("what", [b"process", b"file"])
    def test_a_broker_exits_if_something_is_left(
        self, what: bytes, listener: socket.socket, server: subprocess.Popen[str]
    ) -> None:
        assert ask(listener, what)
        assert server.wait(20) == 0

    def test_a_request_that_fails_does_not_end_the_broker(
        self, listener: socket.socket, server: subprocess.Popen[str]
    ) -> None:
        assert ask(listener, b"error") == b""
        assert ask(listener, b"nothing")
        assert server.poll() is None

    def test_a_request_is_completed_before_the_broker_stops(
        self, listener: socket.socket, server: subprocess.Popen[str]
    ) -> None:
        with connect(listener) as caller:
            caller.sendall(b"slow")
            assert caller.recv(1) == BROKER_IS_READY
            assert caller.recv(5) == b"slow "
            server.terminate()
            assert caller.recv(99).isdigit()
        assert server.wait(20) == 0
