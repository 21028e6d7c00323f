"""The client for a kernel's websocket, against a server that sends what the test wants."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gridhub.maintenance import websocket
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.websocket import Websocket, run_cell


def frame(kind: int, content: bytes, *, last: bool = True) -> bytes:
    size = len(content)
    head = bytes([(0x80 if last else 0) | kind])
    if size < 126:
        return head + bytes([size]) + content
    if size < 65536:
        return head + b"\x7e" + size.to_bytes(2, "big") + content
    return head + b"\x7f" + size.to_bytes(8, "big") + content


class Server:
    """Accepts one connection; ``answers`` makes the frames from the request of a cell."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.status = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
        self.answers: Any = lambda _: b""
        self.got: list[tuple[int, bytes]] = []
        self.channel: http.client.HTTPConnection | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        link, _ = self.listener.accept()
        with link:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += link.recv(1)
            link.sendall(self.status)
            if b" 101 " not in self.status:
                return
            self.read(link)
            number = json.loads(self.got[0][1])["header"]["msg_id"]
            link.sendall(self.answers(number))
            # A client that closes with something unread resets the connection.
            with contextlib.suppress(ConnectionError):
                while self.read(link):
                    pass

    def read(self, link: socket.socket) -> bool:
        head = link.recv(2)
        if len(head) < 2:
            return False
        size = head[1] & 0x7F
        assert head[1] & 0x80, "a client must mask"
        if size == 126:
            size = int.from_bytes(link.recv(2), "big")
        mask = link.recv(4)
        content = link.recv(size)
        plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
        self.got.append((head[0] & 0x0F, plain))
        return True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    if server.channel:
        server.channel.close()
    server.thread.join(10)
    server.listener.close()


def message(number: str, kind: str, **content: Any) -> bytes:
    whole = {"parent_header": {"msg_id": number}, "msg_type": kind, "content": content}
    return json.dumps(whole).encode()


def connect(server: Server) -> Websocket:
    server.channel = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    return Websocket(server.channel, "/x", {})


IDLE = {"execution_state": "idle"}


def test_a_cell_runs_and_its_output_is_returned(server: Server) -> None:
    def answers(number: str) -> bytes:
        printed = message(number, "stream", text="4" * 70_000)
        return b"".join(
            [
                frame(1, message("other", "stream", text="not mine")),
                frame(9, b"ping"),
                frame(1, printed[:50], last=False),
                frame(0, printed[50:]),
                frame(1, message(number, "status", **IDLE)),
            ]
        )

    server.answers = answers
    assert run_cell(connect(server), "print(4)", 10) == "4" * 70_000
    code = json.loads(server.got[0][1])
    assert code["content"]["code"] == "print(4)" and code["channel"] == "shell"
    assert server.channel
    server.channel.close()
    server.thread.join(10)
    assert (10, b"ping") in server.got  # the answer to the ping


def test_an_error_of_the_cell_is_named(server: Server) -> None:
    server.answers = lambda number: frame(1, message(number, "error", ename="E", evalue="v"))
    with pytest.raises(MaintenanceError, match="the cell failed: E: v"):
        run_cell(connect(server), "x", 10)


def test_a_kernel_that_is_silent_is_named(server: Server) -> None:
    with pytest.raises(MaintenanceError, match="did not run the cell within 0 s"):
        run_cell(connect(server), "x", 0.3)


def test_a_refused_websocket_is_named_with_its_status(server: Server) -> None:
    server.status = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    with pytest.raises(MaintenanceError, match="no websocket: HTTP/1.1 403 Forbidden"):
        connect(server)


def test_a_closed_websocket_is_named(server: Server) -> None:
    server.answers = lambda _: frame(8, b"\x03\xe8gone")
    with pytest.raises(MaintenanceError, match="the websocket was closed gone"):
        run_cell(connect(server), "x", 10)


def test_a_huge_message_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE", 100)
    server.answers = lambda _: frame(1, b"x" * 101)
    with pytest.raises(MaintenanceError, match="a message of more than 100 bytes"):
        run_cell(connect(server), "x", 10)
