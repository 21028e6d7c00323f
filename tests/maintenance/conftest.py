"""Two sessions whose kernels compute during all maintenance, and hosts with pending updates."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import archive
import faults
from hub_client import wait_for
from sessions import Person, Session


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests enter containers from outside: run them as root", 2)


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    """All users, logged in once for all tests; at first, none of them has a session."""
    people = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), 150)
    return people


@pytest.fixture(scope="session", autouse=True)
def updates() -> Iterator[None]:
    with archive.archive("hub", "proxy"):
        yield


@pytest.fixture(scope="session")
def computing(people: dict[str, Person]) -> Iterator[list[Session]]:
    """Two sessions on exec2, shared by all tests."""
    sessions = [Session(people[name]).start(not_on="exec1") for name in ("alice", "carol")]
    yield sessions
    for session in sessions:
        session.person.stop()


@pytest.fixture
def bob(people: dict[str, Person]) -> Iterator[Person]:
    """A person without a session."""
    yield people["bob"]
    people["bob"].stop()


@pytest.fixture(autouse=True)
def check_that_the_sessions_live(computing: list[Session]) -> Iterator[None]:
    yield
    faults.wait_for_the_hub()
    for session in computing:
        session.assert_alive()
