# SPDX-License-Identifier: BSD-3-Clause
"""Shared helpers for the tests of a session."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "5ec4e7" * 8


RULES = {
    "run_time": 3600,
    "warnings": [1800, 600],
    "idle_timeout": 0,
    "idle_notice": 600,
    "idle_report": 0,
    "words": {"run_time": "ends at {end}", "idle": "idle until {end}", "left": "{left} left"},
}


def take(port: int = 0) -> socket.socket:
    taken = socket.socket()
    try:
        taken.bind(("0.0.0.0", port))
    except OSError:
        taken.close()
        raise
    return taken


class Hub:
    """A real HTTP server that sends ``answers`` in order and then repeats the last answer."""

    def __init__(self) -> None:
        self.answers: list[int | bytes] = [204]
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.requests.append((self.command, self.path, dict(self.headers), json.loads(body)))
                answer = hub.answers.pop(0) if len(hub.answers) > 1 else hub.answers[0]
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    self.close_connection = True
                else:
                    self.send_response(answer)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{self.server.server_port}/hub/api",
            "JUPYTERHUB_API_TOKEN": TOKEN,
        }

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
