"""A client that acts as a person: it logs in, fills in the form, waits, and runs cells.

Like a browser, it uses forms, cookies, redirects and the kernel's websocket, but no token. Each
wait ends when a condition is true, or fails at a deadline.
"""

from __future__ import annotations

import json
import ssl
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket
from requests.cookies import get_cookie_header


def wait_for(
    what: str, condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.1
) -> Any:
    """Return the condition's first true value.

    :param pause: the seconds between two looks.
    :raises AssertionError: if the condition is still false after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def page_text(page: requests.Response) -> str:
    """Return the visible text of a page."""
    parser = _Text()
    parser.feed(page.content.decode())
    return " ".join(" ".join(parser.parts).split())


class HubClient:
    """One person's browser."""

    def __init__(self, base_url: str, name: str) -> None:
        self.base_url = base_url
        self.name = name
        #: The folder of the service: empty, or such as ``/jupyter``.
        self.folder = urlsplit(base_url).path
        self.http = requests.Session()
        self.certificate = self._trusted_certificate()
        self.http.verify = self.certificate
        self.http.trust_env = False  # otherwise REQUESTS_CA_BUNDLE would replace this certificate

    def _trusted_certificate(self) -> str:
        """Return a file with the certificate of the server, or nothing if it does not use TLS.

        The demo's certificate is self-signed: trust it on first use, as people do in browsers.
        """
        target = urlsplit(self.base_url)
        if target.scheme == "http":
            return ""
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(ssl.get_server_certificate((target.hostname or "", target.port or 443)))
        weakref.finalize(self, Path(file.name).unlink, missing_ok=True)
        return file.name

    def url(self, path: str) -> str:
        return f"{self.base_url}{path}"

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self.http.get(self.url(path), **{"timeout": 30} | kwargs)

    def _xsrf(self) -> str:
        for cookie in self.http.cookies:
            if cookie.name == "_xsrf" and cookie.path.rstrip("/") == f"{self.folder}/hub":
                return str(cookie.value)
        raise AssertionError("the hub gave no _xsrf cookie")

    def log_in(self, password: str) -> requests.Response:
        """Send the login form; return the page that follows."""
        self.get("/hub/login")
        return self.http.post(
            self.url(f"/hub/login?next={self.folder}/hub/home"),
            data={"username": self.name, "password": password, "_xsrf": self._xsrf()},
            timeout=30,
        )

    def choose(self, **values: object) -> requests.Response:
        """Send the menu's form; return the page that follows (the waiting page or a refusal)."""
        self.get("/hub/spawn")
        return self.press_start(**values)

    def press_start(self, **values: object) -> requests.Response:
        """Send the form that is open, as :meth:`choose` does."""
        return self.http.post(
            self.url("/hub/spawn"),
            data={**{name: str(value) for name, value in values.items()}, "_xsrf": self._xsrf()},
            timeout=30,
        )

    def rest(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Call the hub's REST API as the scripts of the hub's pages do."""
        if not any(cookie.name == "_xsrf" for cookie in self.http.cookies):
            self.get("/hub/home")
        return self.http.request(
            method,
            self.url(f"/hub/api{path}"),
            json=body,
            headers={"X-XSRFToken": self._xsrf(), "Referer": self.url("/hub/home")},
            timeout=30,
        )

    def server(self) -> dict[str, Any] | None:
        """Return the hub's record of this person's session, or ``None`` if there is no session."""
        answer = self.rest("GET", f"/users/{self.name}")
        answer.raise_for_status()
        return dict(answer.json()["servers"]).get("")

    def wait_until_ready(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until the session is ready; return the hub's record of the session."""

        def ready() -> dict[str, Any] | None:
            server = self.server()
            return server if server and server["ready"] else None

        return dict(wait_for(f"{self.name}'s session is ready", ready, seconds))

    def stop(self, seconds: float = 60.0) -> None:
        """Stop the session, if there is one; wait until the hub no longer lists it."""

        def gone() -> bool:
            server = self.server()
            if server and server.get("pending") in (None, "spawn"):
                self.rest("DELETE", f"/users/{self.name}/server")
            return server is None

        wait_for(f"{self.name}'s session is gone", gone, seconds)

    # -- the session ------------------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        return f"/user/{self.name}"

    def open_lab(self) -> requests.Response:
        """Open JupyterLab by way of the OAuth redirects; return its page."""
        page = self.get(f"{self.prefix}/lab")
        page.raise_for_status()
        return page

    def session_xsrf(self) -> str:
        """Return the token that the session requires in each request that changes something."""
        for cookie in self.http.cookies:
            if cookie.name == "_xsrf" and cookie.path.startswith(self.folder + self.prefix):
                return str(cookie.value)
        raise AssertionError("the session gave no _xsrf cookie")

    def start_kernel(self, name: str = "python3", folder: str = "") -> str:
        """Start a kernel (by default the site's Python) in a folder; return its id."""
        answer = self.session_rest("POST", "api/kernels", {"name": name, "path": f"{folder}/"})
        answer.raise_for_status()
        return str(answer.json()["id"])

    def notices(self) -> list[str]:
        """Fetch the notices that JupyterLab would show now."""
        answer = self.get(f"{self.prefix}/jupyterlab-notifications-extension/notifications")
        answer.raise_for_status()
        return [str(notice["message"]) for notice in answer.json()["notifications"]]

    def session_rest(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Call the REST API of the session's server, as its pages do."""
        return self.http.request(
            method,
            self.url(f"{self.prefix}/{path}"),
            json=body,
            headers={
                "X-XSRFToken": self.session_xsrf(),
                "Referer": self.url(f"{self.prefix}/lab"),
            },
            timeout=30,
        )

    def type_in_a_terminal(self, text: str, folder: str = "") -> None:
        """Open a terminal, in a folder below the root folder; type into it; end the connection."""
        answer = self.session_rest("POST", "api/terminals", {"cwd": folder} if folder else {})
        answer.raise_for_status()
        socket = self._websocket(f"terminals/websocket/{answer.json()['name']}", 30)
        try:
            socket.send(json.dumps(["stdin", text]))
            # The terminal's output is the only sign that the text has arrived.
            while json.loads(socket.recv())[0] != "stdout":
                pass
        finally:
            socket.close()

    def _websocket(self, path: str, seconds: float) -> websocket.WebSocket:
        request = requests.Request("GET", self.url(f"{self.prefix}/{path}")).prepare()
        target = urlsplit(str(request.url))
        return websocket.create_connection(
            f"{target.scheme.replace('http', 'ws')}://{target.netloc}{target.path}",
            sslopt={"ca_certs": self.certificate},
            cookie=get_cookie_header(self.http.cookies, request),
            origin=f"{target.scheme}://{target.netloc}",
            timeout=seconds,
        )

    def shut_down(self) -> None:
        """Shut the session's server down, as JupyterLab's menu does."""
        answer = self.http.post(
            self.url(f"{self.prefix}/api/shutdown"),
            headers={
                "X-XSRFToken": self.session_xsrf(),
                "Referer": self.url(f"{self.prefix}/lab"),
            },
            timeout=30,
        )
        answer.raise_for_status()

    def run(self, kernel: str, code: str, seconds: float = 60.0) -> str:
        """Run a cell through the kernel's websocket; return its output.

        :raises AssertionError: if the cell fails (the message has the traceback) or takes too long.
        """
        socket = self._websocket(f"api/kernels/{kernel}/channels", seconds)
        message_id = uuid.uuid4().hex
        try:
            socket.send(
                json.dumps(
                    {
                        "header": {
                            "msg_id": message_id,
                            "msg_type": "execute_request",
                            "username": self.name,
                            "session": uuid.uuid4().hex,
                            "version": "5.3",
                        },
                        "parent_header": {},
                        "metadata": {},
                        "channel": "shell",
                        "content": {"code": code, "silent": False, "allow_stdin": False},
                    }
                )
            )
            printed: list[str] = []
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                message = json.loads(socket.recv())
                if message.get("parent_header", {}).get("msg_id") != message_id:
                    continue
                content = message["content"]
                if message["msg_type"] == "stream":
                    printed.append(content["text"])
                elif message["msg_type"] == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                    return "".join(printed)
        finally:
            socket.close()
        raise AssertionError(f"the cell did not finish within {seconds:g} s")
