"""How ``sge_cell.py`` runs a cell, with a kernel's websocket that sends what the test wants."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError
from tornado.websocket import WebSocketHandler

from folders import FILES
from sge_cell import CellError, Request, run_cell

#: What the kernel sends, from the number of the request.
Answers = Callable[[str], list[bytes | str]]

IDLE = {"execution_state": "idle"}


def message(number: str, kind: str, **content: Any) -> str:
    return json.dumps({"parent_header": {"msg_id": number}, "msg_type": kind, "content": content})


class Kernel(WebSocketHandler):
    answers: Answers
    closes = False
    got: list[Any]

    def prepare(self) -> None:
        if self.request.headers.get("Cookie") != "a=b":
            raise HTTPError(403)

    def check_origin(self, origin: str) -> bool:
        return origin == "https://hub.example.org"

    def on_message(self, text: str | bytes) -> None:
        asked = json.loads(text)
        type(self).got.append(asked)
        for each in type(self).answers(asked["header"]["msg_id"]):
            self.write_message(each, binary=isinstance(each, bytes))
        if self.closes:
            self.close(1000, "gone")


def run(
    answers: Answers, *, closes: bool = False, cookie: str = "a=b", seconds: float = 20
) -> tuple[str, list[Any]]:
    """Run a cell; return what it prints, and what the kernel got."""
    kernel = type("Own", (Kernel,), {"answers": staticmethod(answers), "closes": closes, "got": []})

    async def all_of_it() -> str:
        [socket] = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(Application([("/x", kernel)]))
        server.add_socket(socket)
        # The name is not in any directory: the connection goes to the place.
        request = Request(
            "ws://hub.example.org/x",
            ("127.0.0.1", socket.getsockname()[1]),
            {"Origin": "https://hub.example.org", "Cookie": cookie},
            verify=True,
            code="print(4)",
            seconds=seconds,
        )
        try:
            return await run_cell(request)
        finally:
            server.stop()
            await server.close_all_connections()

    return asyncio.run(all_of_it()), kernel.got


def test_a_cell_runs_and_its_output_is_returned() -> None:
    printed, [asked] = run(
        lambda number: [
            message("other", "stream", text="not mine"),
            message(number, "stream", text="4" * 70_000),
            message(number, "status", **IDLE).encode(),
        ]
    )
    assert printed == "4" * 70_000
    assert asked["content"]["code"] == "print(4)" and asked["channel"] == "shell"


@pytest.mark.parametrize(
    ("answers", "options", "words"),
    [
        (lambda number: [message(number, "error", ename="E", evalue="v")], {}, "cell failed: E: v"),
        (lambda _: [], {"seconds": 0.3}, r"did not run the cell within 0\.3 s"),
        (lambda _: [], {"cookie": "c=d"}, "no websocket: status 403 Forbidden"),
        (lambda _: [], {"closes": True}, "the websocket was closed gone"),
        (lambda _: ["{"], {}, "the kernel's answer cannot be read"),
    ],
)
def test_why_a_cell_did_not_run_is_named(
    answers: Answers, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CellError, match=words):
        run(answers, **options)


def test_the_program_names_the_reason() -> None:
    request = Request("wss://127.0.0.1/x", ("127.0.0.1", 1), {}, verify=False, code="", seconds=9)
    done = subprocess.run(
        [sys.executable, FILES / "sge_cell.py"],
        input=json.dumps(vars(request)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("the websocket failed: "), done.stderr
    assert "Connection refused" in done.stderr and done.stdout == ""
