"""HTTP that no client library would send."""

from __future__ import annotations

import contextlib
import re
import ssl

from proxy_client import tls_link


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
