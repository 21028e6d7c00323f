"""HTTP that no client library would send."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from urllib.parse import urlsplit


def tls_link(base_url: str, version: ssl.TLSVersion, protocol: str = "http/1.1") -> ssl.SSLSocket:
    address = urlsplit(base_url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    # The client itself accepts the oldest versions of TLS, so that only the server can refuse them.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection((address.hostname, address.port), timeout=10)
    return context.wrap_socket(plain, server_hostname=address.hostname)


def talk(base_url: str, data: bytes, seconds: float = 20.0) -> bytes:
    """Send raw bytes through TLS; return the answer up to its end or to the first pause."""
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3) as link:
        link.settimeout(seconds)
        received = b""
        # A server that refuses a request may close the connection before it has read all of it.
        with contextlib.suppress(OSError):
            link.sendall(data)
        try:
            while chunk := link.recv(65536):
                received += chunk
                link.settimeout(1.5)
        except OSError:
            pass
        return received


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", answer)]
