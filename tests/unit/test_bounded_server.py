"""Limits that keep one client from blocking the HTTP server of the hub or of a session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from tornado.testing import bind_unused_port

from gridhub.bounded_server import FAILURES_LOGGED, LOOPBACK, BoundedServer, FewFailures, source_of
from gridhub.session.bounded_server import SessionServer

REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


class Upload(web.RequestHandler):
    def get(self) -> None:
        self.write("here")

    def post(self) -> None:
        self.write(str(len(self.request.body)))


@asynccontextmanager
async def serving(server: BoundedServer) -> AsyncIterator[Callable[[], Any]]:
    """Serve on a port of 127.0.0.1; yield a function that connects to the port."""
    listening, port = bind_unused_port()
    server.add_socket(listening)
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def connection() -> AsyncIterator[Any]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                yield reader, writer
            finally:
                writer.close()

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await stack.enter_async_context(connection())

        async with asyncio.timeout(20):
            yield connect
    server.stop()
    await server.close_all_connections()


async def answer(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], sent: bytes) -> bytes:
    """Send a request; return the answer's first line, or nothing if the connection is closed."""
    reader, writer = link
    try:
        writer.write(sent)
        return await reader.readline()
    except ConnectionError:
        return b""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110  # the time limit is that of `serving`
        await asyncio.sleep(0.01)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("bound", ["waiting_each", "waiting_all"])
async def test_a_client_that_sends_a_request_displaces_idle_connections(bound: str) -> None:
    server = type("Server", (BoundedServer,), {bound: 3})
    async with serving(server(web.Application([("/x", Upload)]))) as connect:
        waiting = [await connect() for _ in range(3)]
        assert await answer(await connect(), REQUEST) == OK
        # The server closed the oldest idle connection to make room. The other idle connections can
        # still send their requests, and then they no longer count as idle.
        assert await waiting[0][0].read() == b""
        assert await answer(waiting[1], REQUEST) == OK
        again = [await connect() for _ in range(2)]
        for link in (waiting[2], *again):
            assert await answer(link, REQUEST) == OK


async def test_only_a_few_connections_make_room_in_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Server(BoundedServer):
        waiting_each = 1

    monkeypatch.setattr("gridhub.bounded_server.MAKE_ROOM", 1)
    async with serving(Server(web.Application([("/x", Upload)]))) as connect:
        _held = [await connect() for _ in range(2)]
        assert await answer(await connect(), REQUEST) == b""


async def test_a_connection_without_a_request_is_closed() -> None:
    class Server(BoundedServer):
        first_request_within = 0.2

    async with serving(Server(web.Application([("/x", Upload)]))) as connect:
        silent, dripping, talking = [await connect() for _ in range(3)]
        dripping[1].write(REQUEST[:10])
        assert await answer(talking, REQUEST) == OK
        assert await silent[0].read() == b""
        assert await dripping[0].read() == b""
        await talking[0].readuntil(b"here")
        assert await answer(talking, REQUEST) == OK, "closed with the others"


async def test_connections_are_counted_by_the_name_in_their_certificate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Server(BoundedServer):
        certified_each = 2

        def name_of(self, stream: Any) -> str:
            return "somebody"

    async with serving(Server(web.Application([("/x", Upload)]))) as connect:
        open_ones = [await connect() for _ in range(2)]
        for link in open_ones:
            assert await answer(link, REQUEST) == OK
        assert await answer(await connect(), REQUEST) == b""
        open_ones[0][1].close()

        async def is_let_in() -> bool:
            return await answer(await connect(), REQUEST) == OK

        await until(is_let_in)
    assert "Traceback" not in caplog.text and "Uncaught" not in caplog.text


SECRET = "of the server"
COOKIE = "jupyterhub-user-alice"


def session_server(**bounds: float) -> SessionServer:
    provider = SimpleNamespace(hub_auth=SimpleNamespace(cookie_name=COOKIE))
    application = web.Application(
        [("/x", Upload)], identity_provider=provider, cookie_secret=SECRET
    )
    return type("Server", (SessionServer,), bounds)(application)


def post(length: int, *headers: str) -> bytes:
    head = ["POST /x HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*head, "", ""]).encode()


def logged_in(name: str = COOKIE, secret: str = SECRET) -> str:
    value = web.create_signed_value(secret, name, "token").decode()
    return f"Cookie: other=1; {name}={value}"


async def test_strangers_data_in_a_sessions_memory_is_limited() -> None:
    async with serving(session_server(strangers_may_send=1000)) as connect:
        half = await connect()
        half[1].write(post(600) + bytes(599))
        refused = b"HTTP/1.1 429 Too Many Requests\r\n"

        async def is_refused(*headers: str) -> bool:
            sent = post(600, *headers) + bytes(600)
            return await answer(await connect(), sent) == refused

        await until(is_refused)
        # A client counts as a stranger if its cookie is forged or valid only for another purpose.
        assert await is_refused(f"Cookie: {COOKIE}=made-up", "Authorization: token made-up")
        assert await is_refused(logged_in(secret="another"))
        assert await is_refused(logged_in(name="another"))
        # The server still accepts requests of the session's owner, and a stranger's small request.
        own = post(600, logged_in()) + bytes(600)
        assert await answer(await connect(), own) == OK
        assert await answer(await connect(), post(10) + bytes(10)) == OK
        # There is room again once strangers have left or have got their answers.
        half[1].close()

        async def has_room() -> bool:
            return await answer(await connect(), post(600) + bytes(600)) != refused

        await until(has_room)
        link = await connect()
        for _ in range(3):
            assert await answer(link, post(600) + bytes(600)) == OK
            await link[0].readuntil(b"\r\n\r\n600")


@pytest.mark.parametrize(("pieces", "status"), [(100, b"200"), (101, b"429")])
async def test_a_stranger_who_sends_no_length_counts_too(pieces: int, status: bytes) -> None:
    async with serving(session_server(strangers_may_send=1000)) as connect:
        head = post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        body = b"a\r\n0123456789\r\n" * pieces + b"0\r\n\r\n"
        got = (await answer(await connect(), head + body)).split()[1]
        assert got in (status, b"400") if status == b"429" else got == status


async def test_a_strangers_body_has_a_time_limit() -> None:
    async with serving(session_server(strangers_may_take=0.2)) as connect:
        reader, writer = await connect()
        writer.write(post(600) + bytes(10))
        assert await reader.read() == b""


async def test_reserved_addresses_have_their_own_share() -> None:
    class Server(BoundedServer):
        waiting_all = 0
        reserved = frozenset({LOOPBACK})
        waiting_reserved = 1

    async with serving(Server(web.Application([("/x", Upload)]))) as connect:
        first = await connect()
        assert await answer(await connect(), REQUEST) == OK
        assert await first[0].read() == b""


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", LOOPBACK),
        ("127.0.0.1", LOOPBACK),
        ("127.9.9.9", LOOPBACK),
        ("::ffff:127.0.0.2", LOOPBACK),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_an_ipv6_network_counts_as_one_source(address: str, source: str) -> None:
    assert source_of((address, 1)) == source


def test_the_log_has_few_lines_about_failed_handshakes() -> None:
    now = 100.0
    few = FewFailures(lambda: now)

    def is_logged(message: str) -> bool:
        return few.filter(logging.LogRecord("x", logging.WARNING, "x.py", 1, message, (), None))

    assert sum(is_logged("SSL Error on %s") for _ in range(1000)) == FAILURES_LOGGED
    assert is_logged("something else")
    now += 61
    assert is_logged("SSL Error on %s")
