"""The cluster of these tests, a canary account, and sessions that compute."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import faults
from canary_account import Canary
from hub_client import wait_for
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


@pytest.fixture(scope="module")
def people() -> dict[str, Person]:
    """All users, logged in once for all tests of a module; at first, none of them has a session."""
    people = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), 150)
    return people


@pytest.fixture(scope="module")
def alices_session(people: dict[str, Person]) -> Iterator[Session]:
    session = Session(people["alice"]).start()
    yield session
    session.person.stop()


@pytest.fixture
def alice(alices_session: Session) -> Iterator[Session]:
    """Alice's session, which must compute on through each test."""
    yield alices_session
    alices_session.assert_alive()


@pytest.fixture
def bob(people: dict[str, Person]) -> Iterator[Person]:
    """A person without a session."""
    yield people["bob"]
    people["bob"].stop()
