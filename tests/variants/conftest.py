"""Fixtures of the scenario security. These tests deploy its cluster with other settings."""

from __future__ import annotations

from cluster import base_url, exec1_host, hub_host, login, passwords, proxy_host
from host_names import names

__all__ = ["base_url", "exec1_host", "hub_host", "login", "names", "passwords", "proxy_host"]
