"""Fixtures for the tests on a running cluster (the demo or a Molecule scenario)."""

from __future__ import annotations

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
    "exec1_host",
    "exec2_host",
    "fetch",
    "hub_host",
    "login",
    "passwords",
    "proxy_host",
    "qmaster_host",
    "routes",
]
