"""Fixtures for the tests on a cluster that GridHub did not make."""

from __future__ import annotations

from cluster import login, passwords

__all__ = ["login", "passwords"]
