"""Requests to the proxy, and an echo server behind it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from cluster import AS_HUB
from hub_client import wait_for
from raw_http2 import ask, head

UNIT = "/etc/systemd/system/jupyterhub-proxy.service"


#: The paths of two routes: one leads to the echo server, the other to a port without a server.
ECHO = "/user/proxy-test-echo"
NO_SERVER = "/proxy-test-no-server"

ECHO_PORT = 18999


ECHO_SERVER = f"""
import http.server, json

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", self.headers["Upgrade"])
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.wfile.write(self.rfile.read(4))
            self.close_connection = True
            return
        read = len(self.body())
        self.seen.append(self.path)
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        body = json.dumps(dict(headers=headers, read=read, seen=self.seen)).encode()
        self.send_response(503 if self.path.endswith("/503") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

http.server.ThreadingHTTPServer(("127.0.0.1", {ECHO_PORT}), Echo).serve_forever()
"""


API_CALL = (
    AS_HUB
    + """
method, path, body, *without = sys.argv[1:]
token = open("/etc/jupyterhub/secrets/proxy_auth_token").read().strip()
request = urllib.request.Request(
    "https://proxy:8001/api/routes" + path, body.encode() or None, method=method
)
if not without:
    request.add_header("Authorization", "token " + token)
try:
    print(urllib.request.urlopen(request, timeout=5, context=context).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
)


FLOOD = """
import http.client, json, ssl, sys
source, method, path, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
context = ssl._create_unverified_context()
answers = []
link = None
for _ in range(count):
    link = link or http.client.HTTPSConnection(
        "127.0.0.1", 443, timeout=10, context=context, source_address=(source, 0)
    )
    link.request(method, path, b"username=nobody&password=wrong" if method == "POST" else None)
    answer = link.getresponse()
    body = answer.read().decode()
    if answer.will_close:
        link.close()
        link = None
    limited = answer.status == 429
    answers.append((answer.status, answer.getheader("Retry-After"), body if limited else ""))
    if limited:
        break
print(json.dumps(answers))
"""


class Answer(NamedTuple):
    status: int
    headers: Message
    text: str

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


#: For tests that hold over both protocols that browsers use.
BOTH_PROTOCOLS = pytest.mark.parametrize("fetch", ["HTTP/1.1", "HTTP/2"], indirect=True)


@pytest.fixture(scope="module")
def fetch(base_url: str, request: pytest.FixtureRequest) -> Callable[..., Answer]:
    address = urlsplit(base_url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def fetch(path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        assert address.hostname
        link = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=20, context=context
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            link.request(method, path, body, named)
            response = link.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            link.close()

    def fetch_over_http2(
        path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        answer = ask(base_url, head(address.netloc, path, method, **headers), body)
        return Answer(answer.status, answer.headers, answer.body.decode())

    return fetch_over_http2 if getattr(request, "param", "") == "HTTP/2" else fetch


def run_python(host: Any, program: str, *arguments: str) -> str:
    quoted = " ".join(["%s"] * (len(arguments) + 1))
    return str(host.check_output(f"python3 -c {quoted}", program, *arguments))


def main_pid(host: Any, unit: str = "jupyterhub-proxy.service") -> str:
    pid = str(host.check_output(f"systemctl show --property=MainPID --value {unit}"))
    return "" if pid == "0" else pid


@pytest.fixture
def routes(hub_host: Any, proxy_host: Any, fetch: Callable[..., Answer]) -> Iterator[None]:
    """Start an echo server; add a route to it, and a route to a port without a server."""
    proxy_host.run("systemctl stop proxy-test-echo.service")
    proxy_host.check_output(
        "systemd-run --quiet --collect --unit=proxy-test-echo python3 -c %s", ECHO_SERVER
    )
    targets = {ECHO: ECHO_PORT, NO_SERVER: 9}
    for path, port in targets.items():
        target = json.dumps({"target": f"http://127.0.0.1:{port}"})
        assert run_python(hub_host, API_CALL, "POST", path, target) == "201"
    wait_for("the echo server", lambda: fetch(ECHO).status == 200)
    yield
    for path in targets:
        run_python(hub_host, API_CALL, "DELETE", path, "")
    proxy_host.check_output("systemctl stop proxy-test-echo.service")


def flood(
    host: Any, source: str, method: str, path: str, count: int
) -> list[tuple[int, str | None, str]]:
    return [
        (status, retry, body)
        for status, retry, body in json.loads(
            run_python(host, FLOOD, source, method, path, str(count))
        )
    ]
