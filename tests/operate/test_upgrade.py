"""JupyterHub 5.5 to 6.1 and back, with sessions that compute, and upgrades that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import faults
from cluster import ROOT
from faults import run
from hub_client import wait_for
from jupyterhub5 import backports
from life import STATE, is_unfinished, jupyterhub, last_operation, query, token_of, user_of
from playbooks import output, playbook
from sessions import Person, Session

#: The release of GridHub with the JupyterHub before the present one.
OLD = {"__jupyterhub_requirements": str(ROOT / "tests/operate/jupyterhub5/requirements.txt")}

#: Seconds within which a failed upgrade must have put everything back.
BACK_WITHIN = 120.0


def upgrade(*arguments: str, **variables: object) -> Any:
    return playbook("upgrade.yml", *arguments, **variables)


@pytest.fixture(scope="module")
def old_hub(
    people: dict[str, Person], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Person]]:
    """A hub with JupyterHub 5.5 and a database of its own; people log in again."""
    done = playbook("../tests/operate/jupyterhub5/release.yml", **OLD)
    assert done.returncode == 0, output(done)
    [environment] = run(
        "hub",
        "ls -d /opt/jupyterhub/environments/*/lib/python3*/site-packages/jupyterhub-5.*.dist-info",
    ).split()
    backports.add(f"{environment.rpartition('/')[0]}/jupyterhub", tmp_path_factory.mktemp("old"))
    for person in people.values():
        person.stop()
    wait_for("no job is left", lambda: not faults.jobs(), 150)
    run(
        "hub",
        "systemctl stop jupyterhub; mv /var/lib/jupyterhub/jupyterhub.sqlite /root/aside.sqlite",
    )
    done = playbook("site.yml", "--limit", "hub:proxy:localhost", **OLD)
    assert done.returncode == 0, output(done)
    assert jupyterhub().startswith("5.")
    run("hub", f"rm -rf {STATE}/kept")
    yield {name: Person(name) for name in people}
    done = upgrade()
    assert done.returncode == 0, output(done)


@pytest.fixture(scope="module")
def two(old_hub: dict[str, Person]) -> Iterator[list[Session]]:
    """Two sessions that began with the old hub and compute through all of this."""
    sessions = [Session(old_hub[name]).start() for name in ("alice", "carol")]
    yield sessions
    for session in sessions:
        session.person.stop()


@pytest.fixture(autouse=True)
def all_compute(two: list[Session]) -> Iterator[None]:
    yield
    faults.wait_for_the_hub()
    for session in two:
        session.assert_alive()


def form() -> str:
    return query("SELECT version_num FROM alembic_version")


def release() -> str:
    return run("hub", "basename $(readlink /opt/jupyterhub/current)")


def state() -> tuple[str, str, str, str]:
    """Return what belongs together: release, JupyterHub, form of the database, configuration."""
    config = run("hub", "cat /etc/jupyterhub/*.py /etc/jupyterhub/broker.json | sha256sum")
    return release(), jupyterhub(), form(), config


def away_during(act: Callable[[], Any]) -> tuple[Any, float]:
    """Do something; return its result, and how long the hub did not answer, in seconds."""
    away, ended = 0.0, threading.Event()

    def watch() -> None:
        nonlocal away
        before = time.monotonic()
        while not ended.wait(0.5):
            now = time.monotonic()
            if faults.page_status() != 200:
                away += now - before
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return act(), away
    finally:
        ended.set()
        thread.join()


class TestFailures:
    """Upgrades from 5.5 that fail; each leaves the old hub."""

    def fails(self, words: str, **variables: object) -> float:
        before = state()
        done, away = away_during(lambda: upgrade(**variables))
        assert done.returncode != 0 and words in output(done), output(done)
        assert state() == before and not is_unfinished()
        faults.wait_for_the_hub()
        return away

    def test_a_database_that_cannot_be_migrated(self) -> None:
        # The migration adds this column.
        run("hub", "systemctl stop jupyterhub")
        column = "ALTER TABLE services {} COLUMN timeout"
        change(column.format("ADD") + " INTEGER")
        run("hub", "systemctl start jupyterhub")
        try:
            assert self.fails("and nothing was changed") < BACK_WITHIN
        finally:
            run("hub", "systemctl stop jupyterhub")
            change(column.format("DROP"))
            run("hub", "systemctl start jupyterhub")
            faults.wait_for_the_hub()

    def test_a_hub_that_does_not_start(self) -> None:
        # The check of the configuration does not notice this, because systemd does not start it.
        lines = "import os\nif 'INVOCATION_ID' in os.environ:\n    raise SystemExit('a test')\n"
        away = self.fails("everything was put back", jupyterhub_extra_config=lines)
        assert away < BACK_WITHIN

    def test_a_full_disk(self) -> None:
        faults.enter("hub", "mount", "-t", "tmpfs", "-o", "size=64k", "small", f"{STATE}")
        try:
            done = upgrade()
            assert done.returncode != 0, output(done)
        finally:
            faults.enter("hub", "umount", STATE)
        faults.wait_for_the_hub()
        assert jupyterhub().startswith("5.")


def change(statement: str) -> None:
    program = (
        "import sqlite3, sys; link = sqlite3.connect(sys.argv[1]); "
        "link.execute(sys.argv[2]); link.commit()"
    )
    path = "/var/lib/jupyterhub/jupyterhub.sqlite"
    faults.host("hub").check_output(
        "runuser -u jupyterhub -- python3 -c %s %s %s", program, path, statement
    )


def test_an_upgrade_and_a_rollback_end_no_session(
    two: list[Session], old_hub: dict[str, Person]
) -> None:
    before = state()
    token = token_of(old_hub["alice"])

    shown = upgrade("--check", "--diff")
    assert shown.returncode == 0, output(shown)
    assert state() == before

    done, away = away_during(upgrade)
    assert done.returncode == 0, output(done)
    assert jupyterhub().startswith("6.") and form() != before[2]
    assert away < 120, away
    assert not is_unfinished() and last_operation()["result"] == "done"
    assert user_of(token) == "alice"
    for session in two:
        session.assert_alive()
    again = upgrade()
    assert again.returncode == 0 and "changed=0" in output(again), output(again)

    # A session that the older database does not know.
    newer = Session(old_hub["bob"]).start()
    newer_token = token_of(old_hub["bob"])
    shown = playbook("rollback.yml", "--check", "--diff")
    assert shown.returncode == 0 and before[0] in output(shown), output(shown)

    done, away = away_during(lambda: playbook("rollback.yml"))
    assert done.returncode == 0, output(done)
    assert state() == before and not is_unfinished()
    assert away < 120, away
    newer.assert_alive()
    assert user_of(token) == "alice" and user_of(newer_token) == ""
    old_hub["bob"].stop()
    wait_for("bob's job is gone", lambda: not faults.jobs("bob"), 60)

    done = upgrade()
    assert done.returncode == 0, output(done)


@pytest.mark.parametrize("step", ["checking", "keeping", "changing", "changed", "answering"])
def test_a_rollback_or_an_upgrade_goes_on_after_the_host_was_killed(step: str) -> None:
    """Kill the hub's container as soon as the journal shows a step."""
    name = "upgrade.yml" if jupyterhub().startswith("5.") else "rollback.yml"
    before = state()
    killed = threading.Event()

    def kill() -> None:
        wanted = f'"step": "{step}"'
        for _ in range(3000):
            if wanted in faults.host("hub").run(f"cat {STATE}/operation.json").stdout:
                faults.machine("podman", "kill", f"{faults.PREFIX}-hub", check=False)
                killed.set()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    done = playbook(name)
    thread.join()
    wait_for("the hub's host has booted", lambda: not faults.down("hub"), 120)
    faults.wait_for_the_hub()
    after = state()
    if not killed.is_set():
        assert done.returncode == 0, output(done)
        return
    assert after[0] == before[0] or after[1] != before[1], (before, after)
    if is_unfinished():
        again = playbook(name)
        assert again.returncode == 0, output(again)
    assert not is_unfinished()
