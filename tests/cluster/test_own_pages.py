"""Each status that nginx or configurable-http-proxy send themselves has a page in our words."""

from __future__ import annotations

import base64
import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy_client import run_python
from raw_http import statuses, talk

#: Requests that nginx answers itself: the request line, further lines of the head, and the status.
REFUSED: dict[str, tuple[bytes, bytes, int]] = {
    "no request line": (b"GARBAGE", b"", 400),
    "an unknown protocol": (b"GET / HTXP/1.1", b"", 400),
    "an unknown version": (b"GET / HTTP/9.9", b"", 505),
    "HTTP/2 without negotiation": (b"PRI * HTTP/2.0", b"", 400),
    "a zero byte": (b"GET /\x00 HTTP/1.1", b"", 400),
    "a wrong escape": (b"GET /%zz HTTP/1.1", b"", 400),
    "a path above the root": (b"GET /../x HTTP/1.1", b"", 400),
    "a path that the hub would read differently": (b"GET /hub/./x HTTP/1.1", b"", 400),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1", b"", 400),
    "TRACE": (b"TRACE /hub/login HTTP/1.1", b"", 405),
    "a long address": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1", b"", 414),
    "a very long address": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1", b"", 414),
    "a long header": (b"GET / HTTP/1.1", b"X-Long: " + b"a" * 20_000, 400),
    "many headers": (b"GET / HTTP/1.1", b"\r\n".join([b"X: " + b"a" * 4000] * 20), 400),
    "a wrong header": (b"GET / HTTP/1.1", b"X\x01: a", 400),
    "two hosts": (b"GET / HTTP/1.1", b"Host: x\r\nHost: y", 400),
    "a wrong host": (b"GET / HTTP/1.1", b"Host: a/b", 400),
    "a wrong length": (b"POST /hub/login HTTP/1.1", b"Content-Length: abc", 400),
    "two lengths": (b"POST / HTTP/1.1", b"Content-Length: 1\r\nContent-Length: 2", 400),
    "a length and an encoding": (
        b"POST / HTTP/1.1",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        400,
    ),
    "an unknown encoding": (b"POST / HTTP/1.1", b"Transfer-Encoding: foo", 501),
    "a wrong chunk": (b"POST /hub/login HTTP/1.1", b"Transfer-Encoding: chunked\r\n\r\nzz", 400),
    "a form that is too long": (b"POST /hub/login HTTP/1.1", b"Content-Length: 999999999", 413),
    "a closed address": (b"GET /hub/metrics HTTP/1.1", b"", 403),
    "an internal address": (b"GET /.jupyterhub-proxy/page/503 HTTP/1.1", b"", 404),
}

#: Those that nginx refuses before it has read in which form the client wants the answer.
UNREAD = {
    "no request line",
    "an unknown protocol",
    "an unknown version",
    "HTTP/2 without negotiation",
    "a zero byte",
    "a wrong escape",
    "a path above the root",
    "CONNECT",
    "a long address",
    "a very long address",
}

#: Sends bytes to port 80 of the proxy's host, or to the socket of configurable-http-proxy.
RAW = """
import base64, socket, sys
if sys.argv[1] == "80":
    link = socket.create_connection(("127.0.0.1", 80), 10)
else:
    link = socket.socket(socket.AF_UNIX)
    link.connect(sys.argv[1])
link.settimeout(10)
link.sendall(base64.b64decode(sys.argv[2]))
received = b""
try:
    while chunk := link.recv(65536):
        received += chunk
        link.settimeout(1.5)
except OSError:
    pass
print(base64.b64encode(received).decode())
"""


def request(name: str, host: str, more: bytes = b"") -> bytes:
    line, head, _ = REFUSED[name]
    named = b"" if b"Host:" in head else b"Host: %s\r\n" % host.encode()
    return line + b"\r\n" + named + more + (head + b"\r\n" if head else b"") + b"\r\n"


def check_page(answer: bytes, status: int) -> None:
    assert statuses(answer)[:1] == [status], answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"<h1>" in body and b"<p>" in body, answer[:500]
    assert not re.search(rb"nginx|<center>|<hr>|openresty|node", body, re.IGNORECASE), body
    assert re.search(rb"content-type: text/html", head, re.IGNORECASE)


def check_json(answer: bytes, status: int) -> None:
    assert statuses(answer)[:1] == [status], answer[:300]
    content = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert content["status"] == status
    assert len(content["message"]) > 20


@pytest.mark.parametrize("name", REFUSED)
def test_people_get_a_page_in_words(base_url: str, name: str) -> None:
    host = urlsplit(base_url).netloc
    accept = b"Accept: text/html,*/*;q=0.8\r\n"
    check_page(talk(base_url, request(name, host, accept)), REFUSED[name][2])


@pytest.mark.parametrize("name", sorted(REFUSED.keys() - UNREAD))
@pytest.mark.parametrize(
    "header",
    [b"Accept: application/json\r\n", b"Accept: */*\r\nX-Requested-With: XMLHttpRequest\r\n"],
)
def test_programs_get_a_message(base_url: str, name: str, header: bytes) -> None:
    check_json(talk(base_url, request(name, urlsplit(base_url).netloc, header)), REFUSED[name][2])


@pytest.mark.parametrize(
    "name",
    sorted(REFUSED.keys() - {"a closed address", "an internal address", "a very long address"}),
)
def test_port_80_has_words_too(proxy_host: Any, name: str) -> None:
    sent = base64.b64encode(request(name, "127.0.0.1")).decode()
    answer = base64.b64decode(run_python(proxy_host, RAW, "80", sent))
    # Port 80 passes no request on, so it does not look at paths.
    is_redirected = name == "a path that the hub would read differently"
    check_page(answer, 301 if is_redirected else REFUSED[name][2])


def test_a_redirect_has_words_too(proxy_host: Any) -> None:
    sent = base64.b64encode(b"GET /hub/login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").decode()
    answer = base64.b64decode(run_python(proxy_host, RAW, "80", sent))
    assert b"\r\nLocation: https://127.0.0.1" in answer
    check_page(answer, 301)


def test_plain_http_on_the_port_for_https(base_url: str) -> None:
    target = urlsplit(base_url)
    with socket.create_connection((target.hostname, target.port), 10) as link:
        link.sendall(b"GET /hub/login HTTP/1.1\r\nHost: x\r\n\r\n")
        link.settimeout(10)
        answer = b""
        while chunk := link.recv(65536):
            answer += chunk
    check_page(answer, 400)
    assert b"Begin its address with https://" in answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\nX-Error-Form: json0\r\n\r\n", 400),
    ],
)
def test_configurable_http_proxy_has_words_too(proxy_host: Any, data: bytes, status: int) -> None:
    sent = base64.b64encode(data).decode()
    answer = run_python(proxy_host, RAW, "/run/jupyterhub-proxy/chp.sock", sent)
    check_json(base64.b64decode(answer), status)
