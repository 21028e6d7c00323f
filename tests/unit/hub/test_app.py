"""The hub's log, and its limits on requests."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from pathlib import Path

import jupyterhub.user
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub import orm
from tornado import web
from tornado.testing import bind_unused_port

from gridhub.hub import certificates
from gridhub.hub.app import GridHub, OneLineFormatter, host_for
from gridhub.hub.rate_limits import Limits, Rate
from gridhub.hub.server import MAX_BODY, MAX_STRAY_BODY, HubServer


def formatted(message: str, *arguments: object) -> str:
    record = logging.LogRecord("hub", logging.WARNING, "x.py", 1, message, arguments, None)
    return OneLineFormatter(fmt="[W] %(message)s").format(record)


def test_the_hub_uses_the_one_line_formatter() -> None:
    assert GridHub._log_formatter_cls is OneLineFormatter


def test_a_hub_with_many_sessions_makes_one_tls_context(tmp_path: Path) -> None:
    certificates.renew(tmp_path / "tls", ["hub"])
    pair = tmp_path / "tls/hub-internal/hub-internal"
    files = str(pair.with_suffix(".key")), str(pair.with_suffix(".crt"))
    make = jupyterhub.user.make_ssl_context
    assert make(*files, cafile=files[1]) is make(*files, cafile=files[1])


def test_a_services_replaced_token_is_refused(tmp_path: Path) -> None:
    old, new, own = "a" * 64, "b" * 64, "c" * 64

    async def start(*tokens: str) -> GridHub:
        services = [
            {"name": f"service-{number}", "api_token": token} for number, token in enumerate(tokens)
        ]
        hub = GridHub(db_url=f"sqlite:///{tmp_path}/hub.sqlite", services=services)
        hub.init_db()
        hub.init_hub()
        await hub.init_role_creation()
        hub.init_services()
        await hub.init_api_tokens()
        return hub

    hub = asyncio.run(start(old, "d" * 64))
    orm.Service.find(hub.db, "service-1").new_api_token(own, note="made with the first")
    hub = asyncio.run(start(new, "d" * 64))
    assert orm.APIToken.find(hub.db, old) is None
    for token in (new, own, "d" * 64):
        assert orm.APIToken.find(hub.db, token) is not None


@pytest.mark.parametrize("stated", ["stand-in", "1.2.x", "9" * 5000, "\xff", " ", "6.1.1.dev0+\t"])
def test_no_version_that_a_session_states_ends_the_hub(
    stated: str, caplog: pytest.LogCaptureFixture
) -> None:
    jupyterhub.user._check_version("6.1.1", stated, logging.getLogger("hub"))
    (message,) = caplog.messages
    assert message.startswith("A session's server states an impossible version: ")
    assert len(message) < 120


def test_another_version_is_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    jupyterhub.user._check_version("6.1.1", "5.0.0", logging.getLogger("hub"))
    assert "jupyterhub version 6.1.1 != jupyterhub-singleuser version 5.0.0" in caplog.text


@given(st.text(max_size=300))
def test_user_input_cannot_start_a_new_log_line(word: str) -> None:
    line = formatted("refused: %s", word)
    assert line.isprintable()
    assert line.startswith("[W] refused: ")


def test_other_formatters_get_the_unchanged_record() -> None:
    record = logging.LogRecord("hub", logging.INFO, "x.py", 1, "a %s", ("b\nc",), None)
    OneLineFormatter(fmt="%(message)s").format(record)
    assert record.getMessage() == "a b\nc"


@given(st.text(max_size=100))
def test_the_text_of_an_exception_cannot_forge_a_log_line(word: str) -> None:
    try:
        raise ValueError(f"x{word}\n[I] FORGED")
    except ValueError:
        record = logging.LogRecord("hub", 40, "x.py", 1, "a", (), sys.exc_info())
    first, *others = OneLineFormatter(fmt="%(message)s").format(record).splitlines()
    assert first == "a"
    assert others and all(line.lstrip().startswith("| ") for line in others if line.strip())


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (
            "403 POST /hub/spawn?_xsrf=MnwxOjB8 (1.2.3.4)",
            "403 POST /hub/spawn?_xsrf=[secret] (1.2.3.4)",
        ),
        (
            "uri='/hub/x?a=b&token=0a1b&c=d', version",
            "uri='/hub/x?a=b&token=[secret]&c=d', version",
        ),
        (
            "GET /hub/api/oauth2/callback?code=xyz&state=abc",
            "GET /hub/api/oauth2/callback?code=[secret]&state=[secret]",
        ),
        ("GET /hub/spawn?memory=4&next=%2Flab", "GET /hub/spawn?memory=4&next=%2Flab"),
    ],
)
def test_secret_arguments_of_addresses_are_not_logged(written: str, shown: str) -> None:
    assert formatted("%s", written) == f"[W] {shown}"
    try:
        raise ValueError(written)
    except ValueError:
        record = logging.LogRecord("hub", 40, "x.py", 1, "a", (), sys.exc_info())
    assert shown in OneLineFormatter(fmt="%(message)s").format(record)


def test_a_login_id_is_not_logged() -> None:
    record = logging.LogRecord(
        "hub", logging.INFO, "_xsrf_utils.py", 1, "new for %r %s", (b"id", "/hub/"), None
    )
    assert OneLineFormatter(fmt="%(message)s").format(record) == "new for '[secret]' /hub/"


def test_oauthlib_logs_no_codes_at_any_level(monkeypatch: pytest.MonkeyPatch) -> None:
    oauthlib = logging.getLogger("oauthlib")
    monkeypatch.setattr(oauthlib, "level", logging.NOTSET)
    GridHub(log_level="DEBUG").init_logging()
    assert not oauthlib.isEnabledFor(logging.DEBUG)


class Upload(web.RequestHandler):
    def post(self) -> None:
        self.write(str(len(self.request.body)))


async def first_line(server: HubServer, sent: bytes) -> bytes:
    listening, port = bind_unused_port()
    server.add_socket(listening)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(10):
            return await reader.readline()
    finally:
        writer.close()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    ("path", "length", "answer"),
    [
        ("/hub/x", MAX_BODY, b"HTTP/1.1 200 OK"),
        ("/hub/x", MAX_BODY + 1, b"HTTP/1.1 400 "),
        ("/x", MAX_STRAY_BODY, b"HTTP/1.1 200 OK"),
        ("/x", MAX_STRAY_BODY + 1, b"HTTP/1.1 503 "),
        # Python refuses to convert a number with so many digits to an integer.
        ("/x", "9" * 5000, b"HTTP/1.1 503 "),
    ],
)
async def test_a_long_body_is_refused_before_it_is_read(
    path: str, length: int | str, answer: bytes
) -> None:
    server = HubServer(web.Application([("/x|/hub/x", Upload)]), xheaders=True)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    body = bytes(int(length)) if answer.endswith(b"OK") else b""
    assert (await first_line(server, head + body)).startswith(answer)


async def test_requests_outside_any_session_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HubServer, "strays", Limits({"strays": Rate(1, 0.001)}))
    application = web.Application([("/x|/hub/x", Upload)])
    sent = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    for path, status in ((b"/x", b"200"), (b"/x", b"429"), (b"/hub/x", b"200")):
        line = await first_line(HubServer(application), sent % path)
        assert line.split()[1] == status, path


def test_accounts_whose_names_differ_only_in_case_have_different_host_names() -> None:
    hosts = {host_for(name, "example.org", "user").lower() for name in ("ann", "Ann", "ANN")}
    assert len(hosts) == 3
    assert host_for("ann", "example.org", "user") == "ann.example.org"
    assert all(re.fullmatch(r"[a-z0-9-]{1,63}[.]example[.]org", host) for host in hosts)
