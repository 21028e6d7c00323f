"""JupyterHub 5.5 to 6.1 and back, with sessions that compute, and upgrades that fail."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import faults
from canary_account import PROGRAM, VARIABLES, Canary
from cluster import ROOT
from faults import run
from hub_client import wait_for
from jupyterhub5 import backports
from life import (
    BACKUPS,
    DATABASE,
    STATE,
    backups,
    is_unfinished,
    jupyterhub,
    last_operation,
    query,
    token_of,
    user_of,
)
from playbooks import output, playbook
from sessions import Person, Session

#: The release of GridHub with the JupyterHub before the present one.
OLD = {"__jupyterhub_requirements": str(ROOT / "tests/operate/jupyterhub5/requirements.txt")}

#: Where a small disk is mounted.
SMALL = "/mnt/small"

#: Most of these runs concern only the hub's host.
HUB = ("--limit", "hub")

#: Seconds within which a failed upgrade must have put everything back.
BACK_WITHIN = 120.0


def upgrade(*arguments: str, **variables: object) -> Any:
    return playbook("upgrade.yml", *arguments, **variables)


def deploy_old(people: dict[str, Person], work: Path) -> None:
    done = playbook("../tests/operate/jupyterhub5/release.yml", **OLD)
    assert done.returncode == 0, output(done)
    [environment] = run(
        "hub",
        "ls -d /opt/jupyterhub/environments/*/lib/python3*/site-packages/jupyterhub-5.*.dist-info",
    ).split()
    backports.add(f"{environment.rpartition('/')[0]}/jupyterhub", work)
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


@pytest.fixture(scope="module")
def old_hub(
    people: dict[str, Person], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Person]]:
    """A hub with JupyterHub 5.5 and a database of its own; people log in again."""
    if not jupyterhub().startswith("5."):  # as an earlier run that was interrupted has left it
        deploy_old(people, tmp_path_factory.mktemp("old"))
    yield {name: Person(name) for name in people}
    done = upgrade(*HUB)
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


def changes(done: Any) -> list[str]:
    """Return how much a successful run has changed on each host."""
    assert done.returncode == 0, output(done)
    return re.findall(r"changed=(\d+)", output(done))


def test_an_upgrade_and_a_rollback_end_no_session(
    two: list[Session], old_hub: dict[str, Person], canary: Canary
) -> None:
    before = state()
    token = token_of(old_hub["alice"])

    shown = upgrade(*HUB, "--check", "--diff", **VARIABLES)
    assert changes(shown) != ["0"]
    assert state() == before

    done, away = away_during(lambda: upgrade(**VARIABLES))
    assert done.returncode == 0, output(done)
    assert jupyterhub().startswith("6.") and form() != before[2]
    assert away < 120, away
    assert not is_unfinished() and last_operation()["result"] == "done"
    assert user_of(token) == "alice"
    for session in two:
        session.assert_alive()
    again = upgrade(*HUB, "--diff", **VARIABLES)
    assert set(changes(again)) == {"0"}, output(again)

    # A session that the older database does not know.
    newer = Session(old_hub["bob"]).start()
    newer_token = token_of(old_hub["bob"])
    shown = playbook("rollback.yml", "--check", "--diff")
    assert shown.returncode == 0 and before[0] in output(shown), output(shown)

    done, away = away_during(lambda: playbook("rollback.yml", **VARIABLES))
    assert done.returncode == 0, output(done)
    assert state() == before and not is_unfinished()
    assert away < 120, away
    newer.assert_alive()
    assert user_of(token) == "alice" and user_of(newer_token) == ""
    old_hub["bob"].stop()
    wait_for("bob's job is gone", lambda: not faults.jobs("bob"), 60)


class TestFailures:
    """Upgrades from 5.5 that fail; each leaves the old hub."""

    def fails(self, *words: str, **variables: object) -> None:
        before, kept = state(), run("hub", f"ls {STATE}/kept 2>/dev/null || true")
        done, away = away_during(lambda: upgrade(*HUB, **variables))
        assert done.returncode != 0, output(done)
        for each in words:
            assert each in output(done), output(done)
        faults.wait_for_the_hub(BACK_WITHIN - away)
        assert away < BACK_WITHIN
        assert state() == before and not is_unfinished() and leftovers() == ""
        assert run("hub", f"ls {STATE}/kept 2>/dev/null || true") == kept

    def test_a_database_that_cannot_be_migrated(self) -> None:
        # The migration adds this column.
        column = "ALTER TABLE services {} COLUMN timeout"
        with faults.hub_stopped():
            change(column.format("ADD") + " INTEGER")
        try:
            self.fails("The upgrade failed, and nothing was changed", "timeout")
        finally:
            with faults.hub_stopped():
                change(column.format("DROP"))

    def test_a_hub_that_does_not_start(self) -> None:
        # The check of the configuration does not notice this, because systemd does not start it.
        lines = "import os\nif 'INVOCATION_ID' in os.environ:\n    raise SystemExit('a test')\n"
        self.fails("everything was put back", jupyterhub_extra_config=lines)

    def test_a_smoke_test_that_fails(self, canary: Canary) -> None:
        canary.set_password("wrong")
        try:
            self.fails("everything was put back", "the canary can log in", **VARIABLES)
        finally:
            canary.set_password(canary.password)

    @pytest.mark.parametrize(
        ("step", "words"),
        [
            ("", "Nothing was changed: an upgrade needs 10 MB"),
            ("keeping", "nothing was changed"),
            ("changing", "everything was put back"),
        ],
    )
    def test_a_full_disk(self, step: str, words: str) -> None:
        """Fill the disk of the hub's files, and its own release, as soon as there is this step."""
        with a_small_disk() as fill, at_step(step, fill):
            self.fails(words)


def leftovers() -> str:
    """Return the paths of what an operation makes for itself, and must remove."""
    names = (
        "*.unfinished",
        "*.staged*",
        "*.put-back",
        "trial.sqlite",
        "restore",
        ".reserve",
        ".current.new",
    )
    found = " -o ".join(f"-name '{name}'" for name in names)
    return run(
        "hub",
        f"find /etc/jupyterhub {STATE} {BACKUPS} /var/lib/jupyterhub /opt/jupyterhub -maxdepth 2"
        f" \\( {found} \\)",
    )


@contextlib.contextmanager
def a_small_disk() -> Iterator[Callable[[], None]]:
    """Put all that an upgrade changes on one disk of 40 MB; yield a function that fills it."""
    folders = (STATE, BACKUPS, "/etc/jupyterhub", "/var/lib/jupyterhub", "/opt/jupyterhub")
    environments = f"{folders[-1]}/environments"
    with faults.hub_stopped():
        faults.enter("hub", "mkdir", "-p", SMALL, f"{SMALL}.large")
        faults.enter("hub", "mount", "-t", "tmpfs", "-o", "size=40m", "small", SMALL)
        faults.enter("hub", "mount", "--bind", environments, f"{SMALL}.large")
        for place, folder in enumerate(folders):
            run(
                "hub",
                f"mkdir {SMALL}/{place}; chown --reference={folder} {SMALL}/{place};"
                f" chmod --reference={folder} {SMALL}/{place};"
                f" tar -c --exclude=./environments/* -C {folder} . | tar -xp -C {SMALL}/{place}",
            )
            faults.enter("hub", "mount", "--bind", f"{SMALL}/{place}", folder)
        faults.enter("hub", "mount", "--bind", f"{SMALL}.large", environments)
    try:
        # dd is meant to fail: it writes until the disk is full.
        yield lambda: run("hub", f"dd if=/dev/zero of={SMALL}/x bs=4k 2>/dev/null; sync; true")
    finally:
        run("hub", f"rm -f {SMALL}/x")
        with faults.hub_stopped():
            for folder in (environments, *reversed(folders)):
                faults.enter("hub", "umount", "--lazy", folder)
            run("hub", f"cp -a {SMALL}/3/. /var/lib/jupyterhub/")
            faults.enter("hub", "umount", "--lazy", SMALL, f"{SMALL}.large")


@contextlib.contextmanager
def at_step(step: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the journal on the hub's host shows a step; without one, at once."""
    if not step:
        act()
        yield
        return
    # From outside, this takes no time: the file is there as soon as it is replaced.
    journal = Path(f"/proc/{faults.main_process('hub')}/root{STATE}/operation.json")
    ended, reached = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                if f'"step": "{step}"' in journal.read_text(encoding="utf-8"):
                    act()
                    reached.set()
                    return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert reached.is_set(), f"the step {step} was never seen"


def change(statement: str) -> None:
    program = (
        "import sqlite3, sys; link = sqlite3.connect(sys.argv[1]); "
        "link.execute(sys.argv[2]); link.commit()"
    )
    faults.host("hub").check_output(
        "runuser -u jupyterhub -- python3 -c %s %s %s", program, DATABASE, statement
    )


def operate(*words: str) -> Any:
    """Run a command of the maintenance program, as the playbooks do."""
    return faults.host("hub").run(f"{PROGRAM} {shlex.join(words)} </dev/null")


def killed_at(step: str, *words: str) -> None:
    """Run a command of the maintenance program; cut the power at a step; wait until all is up."""
    before = faults.main_process("hub")
    # All processes of the host end at once; podman then boots it.
    with at_step(step, lambda: os.kill(int(before), signal.SIGKILL)):
        operate(*words)
    wait_for("the host boots", lambda: faults.main_process("hub") not in ("0", before), 60)
    wait_until_booted()


def wait_until_booted() -> None:
    wait_for("the hub's units are up", lambda: not faults.down("hub"), 120)
    faults.wait_for_the_hub()


def shown_by_status() -> str:
    """Return what status.yml shows about operations."""
    found = json.loads(operate("status").stdout)
    return " ".join([*found["problems"], found["last_operation"]["result"]])


def changes_nothing_if_killed(old: object, playbook_name: str, *words: str) -> None:
    """Cut the power at the steps of an operation after which the old state must be back."""
    for step in ("checking", "keeping", "changing"):
        killed_at(step, *words)
        if is_unfinished():  # the power was cut a moment later, when everything was changed
            assert operate("go-back", "a test").rc == 1
            killed_at(step, *words)
        assert state() == old and not is_unfinished() and leftovers() == "", step
        result = "everything was put back" if step == "changing" else "nothing was changed"
        shown = shown_by_status()
        assert f"interrupted, and {result}: run playbooks/{playbook_name}" in shown, (step, shown)


def test_an_upgrade_whose_host_is_killed(two: list[Session]) -> None:
    old = state()
    [environment] = run(
        "hub", "ls -d /opt/jupyterhub/releases/*/env/lib/python3*/site-packages/jupyterhub-6.*"
    ).split()
    release = environment.partition("/env/")[0]
    changes_nothing_if_killed(old, "upgrade.yml", "upgrade", release)

    # Killed while it goes back.
    assert operate("upgrade", release).rc == 0
    killed_at("undoing", "go-back", "a test")
    assert state() == old and not is_unfinished()

    # The host stays away, because the playbook goes on if it is back before the next task.
    name = f"{faults.PREFIX}-hub"
    with at_step("changed", lambda: faults.machine("podman", "stop", "--time", "0", name)):
        done = upgrade(*HUB)
    faults.machine("podman", "start", name)
    wait_until_booted()
    assert done.returncode != 0, output(done)
    assert "run playbooks/upgrade.yml again" in output(done)
    assert jupyterhub().startswith("6.") and form() != old[2] and is_unfinished()
    assert "Run playbooks/upgrade.yml to check" in shown_by_status()
    killed_at("answering", "mark", "answering")
    assert is_unfinished() and "Run playbooks/upgrade.yml to check" in shown_by_status()
    done = upgrade(*HUB)
    assert done.returncode == 0 and not is_unfinished() and leftovers() == "", output(done)


def test_a_rollback_whose_host_is_killed(two: list[Session]) -> None:
    old = state()
    changes_nothing_if_killed(old, "rollback.yml", "rollback")
    for step in ("changed", "answering"):
        killed_at(step, "rollback")
        assert jupyterhub().startswith("5.") and form() != old[2] and is_unfinished()
        assert "Run playbooks/rollback.yml with the same variables to check" in shown_by_status()
    done = playbook("rollback.yml")
    assert done.returncode == 0 and not is_unfinished() and leftovers() == "", output(done)


def test_a_restore_whose_host_is_killed(two: list[Session]) -> None:
    old = state()
    assert operate("backup", "a test").rc == 0
    name = backups()[-1]
    token = token_of(two[0].person)
    changes_nothing_if_killed(old, "restore.yml", "restore", name, "adopt")
    assert user_of(token) == "alice"
    for step in ("changed", "answering"):
        killed_at(step, "restore", name, "adopt")
        assert state() == old and user_of(token) == "" and is_unfinished()
        assert "Run playbooks/restore.yml with the same variables to check" in shown_by_status()
    done = playbook("restore.yml", restore_from=name)
    assert done.returncode == 0 and not is_unfinished() and leftovers() == "", output(done)
