"""Fixtures for people whom a clean home does not show: each test makes accounts of its own."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browsing import browser, closed_queue, enter, window
from cluster import (
    BASE_URL,
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
from newcomer import HOSTS, Newcomer
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

NUMBERS = itertools.count(7000 + os.getpid() % 100 * 500)


@pytest.fixture
def newcomer() -> Iterator[Callable[..., Newcomer]]:
    """Make an account with a new home; afterwards, remove the account, its session and its home."""
    made: list[Newcomer] = []

    def make(shell: str = "/bin/bash", groups: str = "users") -> Newcomer:
        number = next(NUMBERS)
        person = Newcomer(BASE_URL, f"person{number}", secrets.token_hex(8))
        made.append(person)
        person.make(number, shell, groups)
        return person

    yield make
    for person in made:
        person.remove()


@pytest.fixture(scope="session")
def workers() -> list[Any]:
    return [host(name) for name in HOSTS if name.startswith("exec")]
