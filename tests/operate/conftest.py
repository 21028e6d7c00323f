"""The cluster of these tests, with a canary account."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from canary_account import Canary
from newcomer import newcomer
from sessions import Person, Session

__all__ = ["newcomer"]


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests enter containers from outside: run them as root", 2)


@pytest.fixture(scope="session")
def canary() -> Iterator[Canary]:
    """The canary account, which the maintenance's settings name."""
    canary = Canary()
    canary.make()
    yield canary
    canary.remove()


@pytest.fixture
def computing() -> Iterator[Session]:
    """A session whose kernel computes, and must go on."""
    session = Session(Person("alice")).start()
    yield session
    session.assert_alive()
    session.person.stop()
