"""Fixtures for the tests in a real browser."""

from __future__ import annotations

from browsing import browser, closed_queue, enter, window
from cluster import base_url, hub_host, login, passwords, proxy_host, qmaster_host

__all__ = [
    "base_url",
    "browser",
    "closed_queue",
    "enter",
    "hub_host",
    "login",
    "passwords",
    "proxy_host",
    "qmaster_host",
    "window",
]
