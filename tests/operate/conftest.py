"""Fixtures of the scenario operate: people, and a session that computes during all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import faults
from hub_client import wait_for
from sessions import Person, Session


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    """All users, logged in once for all tests; at first, none of them has a session."""
    people = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), 150)
    return people


@pytest.fixture(scope="session")
def computing(people: dict[str, Person]) -> Iterator[Session]:
    session = Session(people["alice"]).start()
    yield session
    session.person.stop()


@pytest.fixture
def alice(computing: Session) -> Iterator[Session]:
    """Alice's session, which must compute on through each test."""
    yield computing
    computing.assert_alive()


@pytest.fixture
def bob(people: dict[str, Person]) -> Iterator[Person]:
    """A person without a session."""
    yield people["bob"]
    people["bob"].stop()
