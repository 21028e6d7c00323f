# SPDX-License-Identifier: BSD-3-Clause
"""Connections to the proxy, as the canary needs them, and what its pages say about errors."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from gridhub.maintenance.errors import MaintenanceError

#: Time limit for one request, in seconds.
REQUEST = 60.0


def read_secret(path: str) -> str:
    """Return the one line of a file with a secret; empty if there is no such file.

    :raises MaintenanceError: when others than root may read the file.
    """
    try:
        status = Path(path).stat()
        secret = Path(path).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise MaintenanceError(f"{path}: {error}") from error
    if status.st_mode & 0o077:
        raise MaintenanceError(f"{path}: others may read this secret; run: chmod 0600 {path}")
    if not secret:
        raise MaintenanceError(f"{path} is empty; it must have one line with the secret")
    return secret


class ProxyConnection(http.client.HTTPSConnection):
    """A connection to the proxy, whatever public name the address has."""

    def __init__(self, host: str, place: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(host, timeout=REQUEST, context=context)
        self._place, self._tls = place, context

    def connect(self) -> None:
        """Connect to the proxy, and check the certificate for the public name."""
        link = socket.create_connection(self._place, REQUEST)
        self.sock = self._tls.wrap_socket(link, server_hostname=self.host)


class ProxyHandler(urllib.request.HTTPSHandler):
    """Lets ``urllib`` send all requests to the proxy."""

    def __init__(self, place: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._place, self._tls = place, context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Send a request to the proxy."""

        def make(host: str, **_: Any) -> ProxyConnection:
            return ProxyConnection(host, self._place, self._tls)

        return self.do_open(make, request)


def error_text(page: bytes) -> str:
    """Return what a page or an answer of the API says about an error, as one short line."""
    try:
        return str(json.loads(page).get("message", ""))
    except (ValueError, AttributeError):
        pass
    whole = page.decode(errors="replace")
    # The login page has its message in an alert; other pages have it below their heading.
    for pattern in (r'role="alert"[^>]*>(.*?)</p>', r"</h1>\s*<p[^>]*>(.*?)</p>"):
        if found := re.search(pattern, whole, re.DOTALL):
            return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())[:300]
    return ""


def web_request(url: str, *arguments: Any, **options: Any) -> urllib.request.Request:
    """Return a request for an address that begins with ``https:``, as all of the canary's do."""
    return urllib.request.Request(url, *arguments, **options)  # noqa: S310
