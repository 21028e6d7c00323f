"""The host name of the hub in these tests. No name server knows it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster import BASE_URL

PORT = urlsplit(BASE_URL).port
NAME = "hub.gridhub.test"


@pytest.fixture(scope="module")
def names() -> Iterator[None]:
    """Resolve the hub's and people's host names to 127.0.0.1, the proxy's published address."""
    real = socket.getaddrinfo

    def resolve(name: Any, *arguments: Any, **more: Any) -> Any:
        return real("127.0.0.1" if str(name).endswith(NAME) else name, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield
