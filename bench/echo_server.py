"""The server at the end of the measured paths: on a worker, in the environment of PyPI.

Like a session's server, it uses Tornado; it does nothing else that would cost time.
"""

from __future__ import annotations

import sys

from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

BODY = b"x" * 1000


class Page(RequestHandler):
    """Answers with 1,000 bytes."""

    def get(self) -> None:
        """Answer."""
        self.finish(BODY)


class Echo(WebSocketHandler):
    """Sends each message back."""

    def check_origin(self, origin: str) -> bool:
        """Accept every page: there is nothing to protect."""
        return True

    def on_message(self, message: str | bytes) -> None:
        """Send a message back."""
        self.write_message(message)


if __name__ == "__main__":
    Application([(r".*/page", Page), (r".*/echo", Echo)]).listen(int(sys.argv[1]))
    IOLoop.current().start()
