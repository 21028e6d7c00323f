"""Fixtures for the tests of what people bring with them."""

from __future__ import annotations

from browsing import browser, closed_queue, enter, window
from cluster import (
    base_url,
    exec1_host,
    exec2_host,
    hub_host,
    login,
    passwords,
    proxy_host,
    qmaster_host,
)
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
    "passwords",
    "proxy_host",
    "qmaster_host",
    "routes",
    "window",
]
