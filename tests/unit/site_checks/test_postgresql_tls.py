# SPDX-License-Identifier: BSD-3-Clause
"""How ``plugins/modules/postgresql_tls.py`` looks at a server; the server is a stub."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from folders import ROOT


def load_module() -> Any:
    path = ROOT / "plugins/modules/postgresql_tls.py"
    spec = importlib.util.spec_from_file_location("postgresql_tls", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load_module()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate as the role `database` does, for the name localhost."""
    both = tmp_path / "both.pem"
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", key, "-out", both]
        + ["-addext", "subjectAltName = DNS:localhost"],
        check=True,
        capture_output=True,
    )
    return both


Serve = Callable[..., int]


@pytest.fixture
def serve(certificate: Path) -> Iterator[Serve]:
    """Start a server that answers like PostgreSQL; return its port."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes = b"S") -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                with contextlib.suppress(OSError), listener.accept()[0] as link:
                    assert link.recv(8) == MODULE.TLS_REQUEST
                    if answer:
                        link.sendall(answer)
                    if answer == b"S":
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
                        with context.wrap_socket(link, server_side=True) as secure:
                            secure.recv(1)
                    else:
                        link.recv(1)

            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(thread.join, 10)
            return int(listener.getsockname()[1])

        yield start


def test_a_server_with_the_right_certificate_can_be_used(serve: Serve, certificate: Path) -> None:
    assert MODULE.tls_problem("localhost", serve(), str(certificate)) == ""


def test_a_server_with_another_name_or_authority_is_refused(
    serve: Serve, certificate: Path
) -> None:
    words = MODULE.tls_problem("127.0.0.1", serve(), str(certificate))
    assert "IP address mismatch" in words and "jupyterhub_database_ca" in words
    words = MODULE.tls_problem("localhost", serve(), "/etc/ssl/certs/ca-certificates.crt")
    assert "must be the authority that has signed it" in words


def test_a_server_without_tls_is_refused(serve: Serve, certificate: Path) -> None:
    words = MODULE.tls_problem("localhost", serve(b"N"), str(certificate))
    assert "does not offer TLS; set ssl = on there" in words


def test_a_silent_server_is_reported_in_time(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "WITHIN", 0.2)
    assert "(no answer)" in MODULE.tls_problem("localhost", serve(b""), str(certificate))


def test_a_server_that_is_not_there_is_reported(certificate: Path) -> None:
    assert "cannot be reached" in MODULE.tls_problem("localhost", 1, str(certificate))
    words = MODULE.tls_problem("no-such-host.invalid", 5432, str(certificate))
    assert "the name no-such-host.invalid has no address here" in words
    words = MODULE.tls_problem("localhost", 1, "/no/such/file")
    assert "jupyterhub_database_ca: /no/such/file cannot be read (No such file" in words
