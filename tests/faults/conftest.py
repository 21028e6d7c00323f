"""Two sessions whose kernels compute during all faults, and the checks after each fault."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

import faults
from cluster import HUB_LOGS, host
from hub_client import wait_for
from sessions import Person, Session

#: Seconds that a job may take to disappear. After a restart, a daemon checks its old jobs only
#: once a minute.
CLEAN = 150.0


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests break containers from outside: run them as root", 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test fails, show what the hub and the broker logged during the test."""
    report = yield
    if report.failed:
        log = host("hub").run(f"journalctl --no-pager --since @{int(call.start)} {HUB_LOGS}")
        report.sections.append(("Log of the hub", log.stdout[-20_000:]))
    return report


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    """All users, logged in once for all tests; at first, none of them has a session."""
    people = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in people.values():
        person.stop()
    wait_for("no earlier job is left", lambda: not faults.jobs(), CLEAN)
    return people


@pytest.fixture(scope="session")
def kept(people: dict[str, Person]) -> Iterator[list[Session]]:
    sessions = [Session(people[name]) for name in ("alice", "carol")]
    yield sessions
    for session in sessions:
        session.person.stop()
    wait_for("no job is left", lambda: not faults.jobs(), CLEAN)
    assert faults.session_files() == ""


@pytest.fixture
def running(kept: list[Session]) -> list[Session]:
    """Two sessions on exec2, shared by all tests; before each test, replace a lost session."""
    for session in kept:
        if not session.is_alive():
            session.person.stop()
            session.start(not_on="exec1")
    return kept


@pytest.fixture
def bob(people: dict[str, Person]) -> Person:
    """A person without a session."""
    return people["bob"]


@pytest.fixture(autouse=True)
def check_that_the_cluster_recovers(running: list[Session], bob: Person) -> Iterator[None]:
    """Check after each fault that the two sessions live, no other job is left and all units run."""
    yield
    mine = {session.job for session in running}
    try:
        faults.wait_for_the_hub()
        bob.stop()
        for session in running:
            session.assert_alive()
        wait_for(
            "only the jobs of the two sessions are left",
            lambda: {job.id for job in faults.jobs()} == mine,
            CLEAN,
        )
        assert faults.session_files() == "", "a session's file is left"
        for name in faults.UNITS:
            wait_for(f"the units of {name} are up", lambda name=name: not faults.down(name))
    finally:
        # Remove leftovers, so that the next test does not fail as well.
        faults.remove_all_but(mine)
