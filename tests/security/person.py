"""A person's session for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from cluster import BASE_URL, host
from hub_client import HubClient, wait_for

#: A function for a kernel: it returns the path of the session's key or certificate. The session's
#: server keeps both in memory, and every program of the same account can open them there.
IN_MEMORY = """
import glob, os
def in_memory(name):
    for path in glob.glob(f"/proc/{os.getppid()}/fd/*"):
        try:
            if os.readlink(path).startswith(f"/memfd:{name}"): return path
        except OSError: pass
"""


class Session(NamedTuple):
    """A person's session: the client, a kernel in the session, and the session's host and port."""

    client: HubClient
    kernel: str
    host: str
    port: int

    def run(self, code: str) -> str:
        return self.client.run(self.kernel, code).strip()


def open_session(client: HubClient) -> Session:
    client.choose(cores=1, memory=1, run_time=1)
    client.wait_until_ready()
    client.open_lab()
    kernel = client.start_kernel()
    where = client.run(
        kernel,
        "import json, os, socket\nfrom urllib.parse import urlsplit\n"
        "port = urlsplit(os.environ['JUPYTERHUB_SERVICE_URL']).port\n"
        "print(json.dumps([socket.gethostname(), port]))",
    )
    return Session(client, kernel, *json.loads(where))


def session_of(name: str, password: str) -> Iterator[Session]:
    client = HubClient(BASE_URL, name)
    client.log_in(password)
    client.stop()
    yield open_session(client)
    client.stop()


def start_with_secrets(client: HubClient) -> dict[str, Any]:
    """Start a session; return the content of its file, with its token and its key.

    The session waits in a closed queue until the file has been read.
    """
    host("qmaster").check_output("qmod -d all.q")
    waiting = f"/home/{client.name}/.jupyterhub-sessions/*.json"
    try:
        client.choose(cores=1, memory=1, run_time=1)
        content = wait_for("the file waits", lambda: host("hub").run(f"cat {waiting}").stdout)
    finally:
        host("qmaster").check_output("qmod -e all.q")
    client.wait_until_ready()
    return dict(json.loads(content))
