"""A cluster with Prometheus, on which two sessions run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import faults
import prometheus
from canary_account import Canary
from hub_client import wait_for
from sessions import CHOICE, Person, Session


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests enter the containers' network: run them as root", 2)


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    """All users, logged in once for all tests; at first, none of them has a session."""
    people = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), 150)
    return people


@pytest.fixture(scope="session", autouse=True)
def hurried(people: dict[str, Person]) -> Iterator[None]:
    with prometheus.hurried():
        yield


@pytest.fixture(scope="session", autouse=True)
def carol(people: dict[str, Person], hurried: None) -> Iterator[Person]:
    """A person with a session that has a GPU, during all tests."""
    carol = people["carol"]
    page = carol.choose(**CHOICE | {"gpus": 1})
    assert page.ok
    carol.wait_until_ready(150)
    yield carol
    carol.stop()


@pytest.fixture
def alice(people: dict[str, Person]) -> Iterator[Person]:
    """A person without a session."""
    yield people["alice"]
    people["alice"].stop()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """The account of the smoke test, which the maintenance's settings name."""
    canary = Canary()
    try:
        canary.make()
        yield canary
    finally:
        canary.remove()


@pytest.fixture
def bobs(people: dict[str, Person]) -> Iterator[Session]:
    """A session on exec1, which may be lost."""
    session = Session(people["bob"])
    with faults.queue_disabled("all.q@exec2"):
        people["bob"].choose(**CHOICE)
        people["bob"].wait_until_ready(150)
    yield session
    people["bob"].stop()
