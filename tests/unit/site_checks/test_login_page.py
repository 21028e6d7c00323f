# SPDX-License-Identifier: BSD-3-Clause
"""The last check of a deployment: it fetches the login page from a real server."""

from __future__ import annotations

import importlib.util
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from folders import ROOT
from web_certificates import NAME, write_certificate


def load_module() -> Any:
    path = ROOT / "plugins/modules/login_page.py"
    spec = importlib.util.spec_from_file_location("login_page", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load_module()

#: What the server answers, by path: the status, and the body or the address of a redirect.
GOOD = {
    "/jupyter/": (302, "/jupyter/hub/"),
    "/jupyter/hub/": (302, "/jupyter/hub/login?next=%2Fjupyter%2Fhub%2F"),
    "/jupyter/hub/login": (200, '<link rel="stylesheet" href="/jupyter/hub/pages/pages.css?v=1">'),
    "/jupyter/hub/pages/pages.css": (200, "body {}"),
}


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server; return its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: dict[str, tuple[int, str]] | None = None, days: int = 30) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = (answers or GOOD).get(self.path.partition("?")[0], (404, ""))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", text)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificate(tmp_path, days))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failure(url: str, address: str) -> str:
    with pytest.raises(MODULE.Failure) as caught:
        MODULE.login_page(url, address)
    return str(caught.value)


URL = f"https://{NAME}/jupyter/"


def test_the_login_page_and_a_file_of_it_are_fetched(serve: Serve) -> None:
    assert MODULE.login_page(URL, serve()).startswith(f"https://{NAME}/jupyter/hub/login")


def test_a_login_elsewhere_is_accepted(serve: Serve) -> None:
    goal = "https://login.example.org/?x"
    answers = GOOD | {"/jupyter/hub/login": (302, goal)}
    assert MODULE.login_page(URL, serve(answers)) == goal


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"/jupyter/": (302, "/hub/")}, "out of the folder /jupyter"),
        ({"/jupyter/": (302, "http://www.example.org/jupyter/")}, "away from https://www"),
        ({"/jupyter/": (302, "/jupyter/")}, "more than 6 redirects"),
        ({"/jupyter/": (502, "")}, ": status 502 (configurable-http-proxy does not"),
        ({"/jupyter/": (421, "")}, "status 421 (nginx does not know this host name)"),
        ({"/jupyter/hub/login": (200, "<h1>It works!</h1>")}, "another program's page"),
        ({"/jupyter/hub/login": (200, '<a href="/hub/static/x">')}, "another program's page"),
        ({"/jupyter/hub/pages/pages.css": (404, "")}, "pages.css?v=1 (at 127.0.0.1:"),
    ],
)
def test_a_page_that_people_could_not_use_is_a_failure(
    serve: Serve, changes: dict[str, tuple[int, str]], words: str
) -> None:
    assert words in failure(URL, serve(GOOD | changes))


def test_an_expired_certificate_is_a_failure(serve: Serve) -> None:
    address = serve(days=-1)
    assert failure(URL, address) == (
        f"{URL} (at {address}): the certificate is not valid: certificate has expired"
    )


def test_a_certificate_for_another_name_is_a_failure(serve: Serve) -> None:
    assert "not valid for 'x.example.org'" in failure("https://x.example.org/", serve())


def test_the_reason_is_named_with_the_address(serve: Serve) -> None:
    assert failure(URL, "127.0.0.1:1") == f"{URL} (at 127.0.0.1:1): connection refused"
    assert "the name has no address here" in failure("https://no.invalid/", "")
