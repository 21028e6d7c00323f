"""Fixtures for people whom a clean home does not show: each test makes accounts of its own."""

from __future__ import annotations

from typing import Any

import pytest

from browsing import browser, closed_queue, enter, window
from cluster import (
    base_url,
    exec1_host,
    exec2_host,
    host,
    hub_host,
    login,
    passwords,
    proxy_host,
    qmaster_host,
)
from newcomer import HOSTS, newcomer
from proxy_client import fetch, routes

__all__ = [
    "base_url",
    "browser",
    "closed_queue",
    "enter",
    "exec1_host",
    "exec2_host",
    "fetch",
    "hub_host",
    "login",
    "newcomer",
    "passwords",
    "proxy_host",
    "qmaster_host",
    "routes",
    "window",
]


@pytest.fixture(scope="session")
def workers() -> list[Any]:
    return [host(name) for name in HOSTS if name.startswith("exec")]
