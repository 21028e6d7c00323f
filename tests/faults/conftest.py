"""Two sessions that compute through all faults, and what must hold after each of them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

import faults
from cluster import host
from hub_client import wait_for
from sessions import Person, Session

#: A job of a daemon that was restarted is looked after once a minute.
CLEAN = 150.0


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the faults go into containers from outside: run the tests as root", 2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what hub and broker logged meanwhile, where a test fails."""
    report = yield
    if report.failed:
        log = host("hub").run(
            f"journalctl --no-pager --since @{int(call.start)} -u jupyterhub -t jupyterhub-broker"
        )
        report.sections.append(("Log of the hub", log.stdout[-20_000:]))
    return report


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    """Everybody, logged in once, without a session."""
    everybody = {name: Person(name) for name in ("alice", "bob", "carol")}
    for person in everybody.values():
        person.stop()
    wait_for("no job is left of earlier", lambda: not faults.jobs(), CLEAN)
    return everybody


@pytest.fixture(scope="session")
def kept(people: dict[str, Person]) -> Iterator[list[Session]]:
    sessions = [Session(people[name]) for name in ("alice", "carol")]
    yield sessions
    for session in sessions:
        session.person.stop()
    wait_for("no job is left at all", lambda: not faults.jobs(), CLEAN)
    assert faults.session_files() == ""


@pytest.fixture
def running(kept: list[Session]) -> list[Session]:
    """Two sessions on exec2 that compute; the same ones in all tests, unless a fault ends them."""
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
def nothing_is_left_and_all_is_up(running: list[Session], bob: Person) -> Iterator[None]:
    """After each fault the two sessions live, all else is gone, and every service is up."""
    yield
    mine = {session.job for session in running}
    try:
        faults.wait_for_the_hub()
        bob.stop()
        for session in running:
            session.assert_alive()
        wait_for(
            "the jobs of the two sessions are left, and no other",
            lambda: {job.id for job in faults.jobs()} == mine,
            CLEAN,
        )
        assert faults.session_files() == "", "a session's file is left over"
        for name in faults.UNITS:
            wait_for(f"the units of {name} are up", lambda name=name: not faults.down(name))
    finally:
        # What is left over is this test's failure, and not also the next one's.
        faults.remove_all_but(mine)
