"""A light stand-in for a session's server, so that this machine has room for many sessions.

Everything around it is real: the hub's start, the job in Grid Engine, the secrets, TLS, the report
of the port. Only JupyterLab is missing: this program answers each request of the hub with the same
few bytes, and reports activity as often as JupyterHub's server does.

On the workers it takes the place of ``sge_session.py`` (ours) and of ``batchspawner-singleuser``
(stock). It is only for the measurement; it does not check who asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import random
import socket
import ssl
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

#: Seconds between two reports of activity; the default of JupyterHub's server.
INTERVAL = 300
BODY = b'{"version": "stand-in"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-JupyterHub-Version: 6.1.1\r\n"
    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request of a connection."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def post(environment: dict[str, str], url: str, body: object, tls: ssl.SSLContext | None) -> bytes:
    """Send JSON to the hub."""
    request = urllib.request.Request(  # noqa: S310  # the hub's address
        url,
        json.dumps(body).encode(),
        {
            "Authorization": f"token {environment['JUPYTERHUB_API_TOKEN']}",
            "Content-Type": "application/json",
        },
        method="POST",
    )
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)]
    with urllib.request.build_opener(*handlers).open(request, timeout=30) as answered:
        return bytes(answered.read())


async def serve(
    environment: dict[str, str],
    listening: socket.socket,
    port_url: str,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> None:
    """Answer on a socket, report its port to the hub, and then activity now and then.

    :param tls: what the server and what the client uses.
    """
    client = tls[1] if tls else None
    port = listening.getsockname()[1]
    await asyncio.start_server(answer, sock=listening, ssl=tls[0] if tls else None)
    await asyncio.to_thread(post, environment, port_url, {"port": port}, client)
    await asyncio.sleep(random.uniform(0, INTERVAL))  # noqa: S311  # not all at the same moment
    while True:
        now = datetime.now(UTC).isoformat()
        name = environment.get("JUPYTERHUB_SERVER_NAME", "")
        body = {"servers": {name: {"last_activity": now}}, "last_activity": now}
        url = environment["JUPYTERHUB_ACTIVITY_URL"]
        try:
            await asyncio.to_thread(post, environment, url, body, client)
        except OSError as error:  # the hub is restarting: the next report will do
            print(error, file=sys.stderr, flush=True)
        await asyncio.sleep(INTERVAL)


def ours() -> None:
    """Stand in for the starter, whose last argument is the name of the session."""
    from gridhub.contract import SESSION_FOLDER
    from gridhub.session.port import bind_port
    from gridhub.session.secrets import read_session_file

    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    environment, ports, _, tls = read_session_file(home / SESSION_FOLDER / f"{sys.argv[-1]}.json")
    url = environment["JUPYTERHUB_API_URL"].rstrip("/") + "/sge/port"
    contexts = (tls.server(), tls.client()) if tls else None
    asyncio.run(serve(environment, bind_port(*ports), url, contexts))


def stock() -> None:
    """Stand in for ``batchspawner-singleuser``."""
    listening = socket.create_server(("", 0))
    listening.setblocking(False)
    environment = dict(os.environ)
    url = environment["JUPYTERHUB_API_URL"].rstrip("/") + "/batchspawner"
    asyncio.run(serve(environment, listening, url))


if __name__ == "__main__":
    if Path(__file__).name == "sge_session.py":
        ours()
    else:
        stock()
