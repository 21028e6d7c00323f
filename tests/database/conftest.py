"""Fixtures of the scenario database: two sessions that compute during all tests."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import postgresql
import pytest

import faults
from cluster import HUB_LOGS, base_url, host, hub_host
from hub_client import wait_for
from sessions import Person, Session

__all__ = ["base_url", "hub_host"]

#: Seconds that a job may take to disappear.
CLEAN = 150.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test fails, show what hub, broker and PostgreSQL logged during the test."""
    report = yield
    if report.failed:
        for name, units in (("hub", HUB_LOGS), ("database", "")):
            log = host(name).run(f"journalctl --no-pager --since @{int(call.start)} {units}")
            report.sections.append((f"Log of {name}", log.stdout[-20_000:]))
    return report


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    people = {name: Person(name) for name in ("alice", "bob")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), CLEAN)
    return people


@pytest.fixture(scope="session")
def kept(people: dict[str, Person]) -> Iterator[Session]:
    session = Session(people["alice"])
    yield session
    session.person.stop()
    wait_for("no job is left", lambda: not faults.jobs(), CLEAN)


@pytest.fixture
def running(kept: Session) -> Iterator[Session]:
    """A session that computes; after the test, it must not have paused."""
    if not kept.is_alive():
        kept.person.stop()
        kept.start()
    yield kept
    kept.assert_alive()


@pytest.fixture
def bob(people: dict[str, Person]) -> Iterator[Person]:
    """A person without a session."""
    yield people["bob"]
    postgresql.wait_for_the_database(people["bob"])
    people["bob"].stop()
