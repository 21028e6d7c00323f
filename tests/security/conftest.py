"""Fixtures for attacks. The tests call the cluster's broker as the hub's user."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attackers import HOSTILE, HOSTILE_PORT, HOSTILE_SERVER
from cluster import (
    AS_HUB,
    PREFIX,
    LogIn,
    base_url,
    exec1_host,
    exec2_host,
    hub_host,
    login,
    passwords,
    proxy_host,
    qmaster_host,
)
from hub_client import HubClient, wait_for
from newcomer import newcomer
from person import open_session
from proxy_client import API_CALL, fetch, routes, run_python

__all__ = [
    "base_url",
    "exec1_host",
    "exec2_host",
    "fetch",
    "hub_host",
    "login",
    "newcomer",
    "passwords",
    "proxy_host",
    "qmaster_host",
    "routes",
]

SESSION = "0123456789abcdef" * 2

#: A program that sends its standard input to the broker in pieces, with a pause after each piece,
#: and prints the answer.
CALL = """
import socket, sys, time
pieces, pause = int(sys.argv[1]), float(sys.argv[2])
data = sys.stdin.buffer.read()
s = socket.socket(socket.AF_UNIX)
s.connect("/run/jupyterhub-broker.sock")
size = max(len(data) // pieces, 1)
try:
    for start in range(0, len(data), size):
        s.sendall(data[start:start + size])
        time.sleep(pause)
    s.shutdown(socket.SHUT_WR)
except OSError:
    pass  # the broker has had enough
answer = b""
try:
    while chunk := s.recv(65536):
        answer += chunk
except ConnectionResetError:
    # It closed with our bytes unread; its answer may be lost with them.
    answer = answer or b'{"ok": false, "kind": "request", "error": "reset"}'
sys.stdout.buffer.write(answer)
"""


class Broker:
    """The broker, as a hub that has been taken over can call it: with the hub's uid."""

    def send(self, data: bytes, pieces: int = 1, pause: float = 0.0) -> dict[str, Any]:
        """Send bytes as they are; return the answer."""
        run = subprocess.run(
            ["podman", "exec", "--interactive", "--user", "jupyterhub", f"{PREFIX}-hub"]
            + ["python3", "-c", CALL, str(pieces), str(pause)],
            input=data,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return dict(json.loads(run.stdout))

    def ask(self, **request: object) -> dict[str, Any]:
        """Send a request; return the answer."""
        return self.send(json.dumps(request).encode())

    def start(self, **changes: object) -> dict[str, Any]:
        """Request a session for alice. Without ``changes``, the site allows this request."""
        request: dict[str, object] = {
            "action": "start",
            "user": "alice",
            "session": SESSION,
            "choice": {},
            "environment": {"JUPYTERHUB_API_TOKEN": "none"},
        }
        return self.ask(**request | changes)

    def stop(self, user: str = "alice", session: str = SESSION) -> dict[str, Any]:
        """Request the end of a session."""
        return self.ask(action="stop", user=user, session=session)


@pytest.fixture(scope="session")
def broker() -> Broker:
    return Broker()


@pytest.fixture(scope="module")
def hostile(hub_host: Any, proxy_host: Any) -> Iterator[None]:
    proxy_host.run("systemctl stop hostile-test")
    proxy_host.check_output(
        "systemd-run --quiet --collect --unit=hostile-test --property=LimitNOFILE=20000"
        " python3 -c %s",
        HOSTILE_SERVER,
    )
    target = json.dumps({"target": f"http://127.0.0.1:{HOSTILE_PORT}"})
    assert run_python(hub_host, API_CALL, "POST", HOSTILE, target) == "201"
    yield
    run_python(hub_host, API_CALL, "DELETE", HOSTILE, "")
    proxy_host.check_output("systemctl stop hostile-test")


@pytest.fixture
def check_another_user(login: LogIn) -> Callable[[], None]:
    """Check that another user can log in, start a session and run a cell."""

    def check() -> None:
        bob: HubClient = login("bob")
        session = open_session(bob)
        assert session.run("print(6 * 7)") == "42"
        bob.stop()

    return check


@pytest.fixture
def jobs(hub_host: Any) -> Callable[[], set[str]]:
    """Return the ids of all jobs in the cluster."""

    def ids() -> set[str]:
        lines = hub_host.check_output("qstat -u '*'").splitlines()[2:]
        return {line.split()[0] for line in lines}

    return ids


@pytest.fixture
def nothing_starts(jobs: Callable[[], set[str]]) -> Iterator[None]:
    """Check that the test starts no job."""
    before = jobs()
    yield
    assert jobs() <= before


@pytest.fixture
def as_alice(hub_host: Any) -> Callable[[str], str]:
    """Run shell lines as alice in her home, like a program in her session."""

    def run(script: str) -> str:
        return str(
            hub_host.check_output(f"runuser -u alice -- sh -c {shlex.quote('cd && ' + script)}")
        )

    return run


def restart_hub(hub_host: Any, between: str = "true") -> None:
    """Stop the hub, run a shell line, start the hub again, and wait until it answers."""
    hub_host.check_output(f"systemctl stop jupyterhub && {between}; systemctl start jupyterhub")
    url = "https://127.0.0.1:8081/hub/health"
    up = f"{AS_HUB}urllib.request.urlopen({url!r}, timeout=2, context=context)"
    wait_for("the hub is back", lambda: hub_host.run("python3 -c %s", up).rc == 0)
