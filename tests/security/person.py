"""A person's session for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from cluster import BASE_URL
from hub_client import HubClient


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
