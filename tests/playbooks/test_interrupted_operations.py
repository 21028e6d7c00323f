# SPDX-License-Identifier: BSD-3-Clause
"""Upgrade, rollback and restore, killed before each of their steps; then the host boots.

The programs of the release, systemctl and qstat are short stand-ins; files, links, databases,
journal and the killed processes are real. tests/operate does the same on a cluster.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from folders import FILES

#: Stands in for sge_database.py: the form of the tables is the release's name.
TOOL = """
import json, sqlite3, sys, time
what, url = sys.argv[1], sys.argv[2].removeprefix("sqlite:///")
if what == "reconcile":
    print(json.dumps({"adopted": [], "resumed": [], "ended": [], "left": ["jupyterhub-1"]}))
else:
    release = __file__.split("/")[-2]
    link = sqlite3.connect(url)
    old = link.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    if what == "migrate":
        if old == "newer":
            sys.exit("a newer JupyterHub has made it")
        link.execute("UPDATE alembic_version SET version_num = ?", [release])
        link.commit()
        print(json.dumps({"old": old, "new": release}))
    elif what == "open":
        if release == "broken" or old != release:
            sys.exit(f"cannot open the form {old} with {release}")
        print(json.dumps({"users": 1}))
"""

#: Stands in for systemd. It starts the hub as a host does: `settle` first.
SYSTEMCTL = """#!/bin/sh
cd "$ROOT"
case "$1" in
  is-active) [ -e running ] && echo active || echo inactive ;;
  show) echo loaded ;;
  stop) [ "$2" != jupyterhub.service ] || rm -f running ;;
  start) touch running ;;
esac
"""

#: Does an operation. It is killed before the call with the number KILL_AT of those that change
#: something; the file `calls` has the number of the first call after each step of the journal.
DRIVER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, os.environ["FILES"])
from gridhub.maintenance import backup, change, host, hub, kept, operation, probes
from gridhub.maintenance import report, restore, settings, upgrade
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.operation import Step
root = Path(os.environ["ROOT"])
report.STATE, report.LOGS = root / "state", root / "log"
change.LEFT_SESSIONS = hub.LEFT_SESSIONS = str(root / "state/left.json")
def problem(*_):
    return "" if (root / "running").exists() and not (root / "mute").exists() else "mute"
probes.url_problem = problem
hub.ANSWER_WITHIN = 0.1
kept.PATHS = (str(root / "etc"),)
values = settings.read_settings(root / "settings.json")
calls = 0
def killing(function):
    def call(*words, **options):
        global calls
        calls += 1
        if calls == int(os.environ.get("KILL_AT", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **options)
    return call
host.run, host.write, Path.replace = killing(host.run), killing(host.write), killing(Path.replace)
enter = operation.Operation.enter
def entering(self, step, **changes):
    with (root / "calls").open("a") as file:
        print(step, calls + 1, file=file)
    enter(self, step, **changes)
operation.Operation.enter = entering
def config(text):
    (root / "etc/config").write_text(text)
def act(what, *words):
    if what == "upgrade":
        done = upgrade.upgrade(values, Path(words[0]))
        if not done["resumed"]:
            config("b")
            change.mark(Step.CHANGED)
        hub.start(values)
        change.mark(Step.ANSWERING)
        change.finish(values)
    elif what == "begin":
        upgrade.upgrade(values, Path(words[0]))
    elif what == "rollback":
        upgrade.roll_back(values, "")
        change.finish(values)
    elif what == "restore":
        restore.restore(values, words[0], b"", adopt=True)
        change.finish(values)
    elif what == "settle":
        change.settle(values)
    elif what == "backup":
        print(backup.make(values, host.now(), "test")["path"])
try:
    act(*sys.argv[1:])
except MaintenanceError as error:
    if len(sys.argv) > 1 and sys.argv[1] == "upgrade" and operation.load():
        try:
            change.go_back(values, str(error))
        except MaintenanceError as also:
            sys.exit(str(also))
    sys.exit(str(error))
"""


@dataclass
class Machine:
    """A hub's host in a folder."""

    root: Path

    def run(self, *arguments: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", DRIVER, *arguments],
            env={
                "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                "ROOT": str(self.root),
                "FILES": str(FILES),
                "KILL_AT": str(kill_at),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def boot(self) -> None:
        """Let the host boot: the interrupted operation is settled before the hub starts."""
        done = self.run("settle")
        assert done.returncode == 0, done.stderr
        (self.root / "running").touch()

    @property
    def release(self) -> str:
        return (self.root / "opt/current").resolve().name

    def query(self, statement: str) -> str:
        with closing(sqlite3.connect(self.root / "hub.sqlite")) as link:
            return str(link.execute(statement).fetchone()[0])

    @property
    def state(self) -> tuple[str, str, str]:
        """The release, the form of the database, and the configuration."""
        form = self.query("SELECT version_num FROM alembic_version")
        return self.release, form, (self.root / "etc/config").read_text()

    def check_order(self) -> None:
        """Check that nothing is left over, and that the database is whole."""
        assert self.query("PRAGMA integrity_check") == "ok"
        names = {path.name for path in self.root.iterdir()}
        assert not {each for each in names if "staged" in each or "unfinished" in each}, names

    def journal(self) -> dict[str, Any]:
        path = self.root / "state/operation.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("bin", "etc", "state", "opt/environments/e"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "opt/environments/e/.complete").touch()
    (tmp_path / "opt/environments/e/bin").mkdir()
    python = tmp_path / "opt/environments/e/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for name in ("a", "b", "broken"):
        release = tmp_path / "opt/releases" / name
        release.mkdir(parents=True)
        (release / "env").symlink_to(tmp_path / "opt/environments/e")
        (release / "sge_database.py").write_text(TOOL)
        (release / ".complete").touch()
    (tmp_path / "opt/current").symlink_to(tmp_path / "opt/releases/a")
    (tmp_path / "etc/config").write_text("a")
    for name, text in {
        "systemctl": SYSTEMCTL,
        "qstat": "#!/bin/sh\necho '<job_info></job_info>'\n",
        "systemd-run": "#!/bin/sh\n",
        "journalctl": "#!/bin/sh\n",
    }.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    python.chmod(0o755)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite")) as link:
        link.executescript(
            "CREATE TABLE users (id INTEGER, name TEXT); INSERT INTO users VALUES (1, 'alice');"
            "CREATE TABLE alembic_version (version_num TEXT);"
            "INSERT INTO alembic_version VALUES ('a');"
        )
    settings = {
        "backup_folder": str(tmp_path / "backups"),
        "backup_paths": [str(tmp_path / "etc")],
        "database": str(tmp_path / "hub.sqlite"),
        "hub_path": str(tmp_path / "opt"),
        "hub_state": str(tmp_path),
        "hub_config": str(tmp_path / "etc/config"),
        "qstat": ["qstat"],
        "release_keep": 10,
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "running").touch()
    return Machine(tmp_path)


OLD, NEW = ("a", "a", "a"), ("b", "b", "b")


def steps(machine: Machine, *operation: str) -> range:
    """Do an operation; return the numbers of its calls from the last one that changes nothing."""
    (machine.root / "calls").unlink(missing_ok=True)
    done = machine.run(*operation)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in (machine.root / "calls").read_text().splitlines()]
    return range(next(int(at) for step, at in lines if step == "keeping") - 2, 100)


def kill_everywhere(make: Any, *operation: str, old: object, new: object, least: int) -> None:
    """Run an operation on machines that are killed before step 1, 2, 3 …"""
    for step in steps(make(), *operation):
        machine: Machine = make()
        done = machine.run(*operation, kill_at=step)
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            assert machine.state == new and not machine.journal()
            machine.check_order()
            assert step > least
            return
        machine.boot()
        assert machine.state in (old, new), (step, machine.state)
        if not machine.journal() and step % 4:
            continue  # to try again takes long, so it is tried after every fourth step
        done = machine.run(*operation)
        assert done.returncode == 0 or machine.state == new, (step, done.stderr)
        assert machine.state == new and not machine.journal(), step
        machine.check_order()
    raise AssertionError("the operation never ended")


@pytest.fixture
def make(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that puts a machine back to what it was at the first call."""
    image = tmp_path_factory.mktemp("image") / "machine"
    first = True

    def again() -> Machine:
        nonlocal first
        copy = ["cp", "-a", "--no-target-directory"]
        if first:
            subprocess.run([*copy, machine.root, image], check=True)
            first = False
        else:
            subprocess.run(["find", machine.root, "-mindepth", "1", "-delete"], check=True)
            subprocess.run([*copy, image, machine.root], check=True)
        return machine

    return again


def test_an_upgrade_killed_at_any_step_leaves_a_whole_service(machine: Machine, make: Any) -> None:
    kill_everywhere(
        make, "upgrade", str(machine.root / "opt/releases/b"), old=OLD, new=NEW, least=20
    )


def test_a_rollback_killed_at_any_step_leaves_a_whole_service(machine: Machine, make: Any) -> None:
    done = machine.run("upgrade", str(machine.root / "opt/releases/b"))
    assert done.returncode == 0, done.stderr
    kill_everywhere(make, "rollback", old=NEW, new=OLD, least=15)
    assert json.loads((machine.root / "state/left.json").read_text()) == {"left": ["jupyterhub-1"]}


def test_a_restore_killed_at_any_step_leaves_a_whole_service(machine: Machine, make: Any) -> None:
    backup = machine.run("backup").stdout.strip()
    with closing(sqlite3.connect(machine.root / "hub.sqlite")) as link, link:
        link.execute("INSERT INTO users VALUES (2, 'bob')")

    make()
    for step in steps(machine, "restore", backup):
        make()
        done = machine.run("restore", backup, kill_at=step)
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            assert step > 18
            break
        machine.boot()
        assert machine.query("SELECT count(*) FROM users") in ("1", "2")
        assert machine.state == OLD
        if not machine.journal() and step % 4:
            continue
        done = machine.run("restore", backup)
        assert done.returncode == 0, (step, done.stderr)
        assert machine.query("SELECT count(*) FROM users") == "1"
        machine.check_order()
    assert machine.query("SELECT count(*) FROM users") == "1" and not machine.journal()


def test_a_release_that_cannot_open_the_database_changes_nothing(machine: Machine) -> None:
    done = machine.run("upgrade", str(machine.root / "opt/releases/broken"))
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr and "cannot open the form" in done.stderr
    assert machine.state == OLD and (machine.root / "running").exists()
    machine.check_order()


def test_a_new_hub_that_does_not_answer_is_replaced_by_the_old_one(machine: Machine) -> None:
    # The old hub's configuration is found again by its content.
    (machine.root / "bin/systemctl").write_text(
        SYSTEMCTL + 'grep -q b "$ROOT/etc/config" && touch mute || rm -f mute\n'
    )
    done = machine.run("upgrade", str(machine.root / "opt/releases/b"))
    assert done.returncode == 1
    assert "everything was put back" in done.stderr and "mute" in done.stderr
    assert machine.state == OLD and (machine.root / "running").exists()
    assert not machine.journal() and not list((machine.root / "state/kept").iterdir())
    machine.check_order()


def test_no_answer_of_grid_engine_leaves_everything_as_it_is(machine: Machine) -> None:
    backup = machine.run("backup").stdout.strip()
    (machine.root / "bin/qstat").write_text("#!/bin/sh\necho no qmaster >&2\nexit 1\n")
    done = machine.run("restore", backup)
    assert done.returncode == 1 and "no qmaster" in done.stderr
    assert "nothing was changed" in done.stderr and machine.state == OLD
    machine.check_order()


def test_a_backup_of_a_newer_jupyterhub_is_refused(machine: Machine) -> None:
    with closing(sqlite3.connect(machine.root / "hub.sqlite")) as link, link:
        link.execute("UPDATE alembic_version SET version_num = 'newer'")
    backup = machine.run("backup").stdout.strip()
    with closing(sqlite3.connect(machine.root / "hub.sqlite")) as link, link:
        link.execute("UPDATE alembic_version SET version_num = 'a'")
    done = machine.run("restore", backup)
    assert done.returncode == 1 and "a newer JupyterHub has made it" in done.stderr
    assert machine.state == OLD and (machine.root / "running").exists()


def test_a_damaged_database_is_kept_byte_for_byte_and_replaced(machine: Machine) -> None:
    backup = machine.run("backup").stdout.strip()
    database = machine.root / "hub.sqlite"
    content = bytearray(database.read_bytes())
    content[:200] = b"?" * 200
    database.write_bytes(content)
    done = machine.run("restore", backup)
    assert done.returncode == 0, done.stderr
    assert machine.state == OLD
    [kept] = (machine.root / "state/kept").glob("*/database.sqlite")
    assert kept.read_bytes() == content


def test_a_rollback_undoes_an_upgrade_whose_playbook_was_lost(machine: Machine) -> None:
    assert machine.run("begin", str(machine.root / "opt/releases/b")).returncode == 0
    assert machine.journal()["step"] == "changing" and machine.release == "b"
    again = machine.run("begin", str(machine.root / "opt/releases/b"))
    assert again.returncode == 1 and "is not finished, at its step changing" in again.stderr
    done = machine.run("rollback")
    assert done.returncode == 0, done.stderr
    assert machine.state == OLD and not machine.journal() and (machine.root / "running").exists()


def test_only_what_is_used_and_the_newest_states_remain(machine: Machine) -> None:
    settings = json.loads((machine.root / "settings.json").read_text())
    settings["release_keep"] = 1
    (machine.root / "settings.json").write_text(json.dumps(settings))
    (machine.root / "opt/environments/old").mkdir()
    done = machine.run("upgrade", str(machine.root / "opt/releases/b"))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (machine.root / "opt/environments").iterdir()} == {"e"}
    assert machine.release in {path.name for path in (machine.root / "opt/releases").iterdir()}
    assert len(list((machine.root / "state/kept").iterdir())) == 1
    done = machine.run("rollback")
    assert done.returncode == 0, done.stderr
    assert machine.state == OLD
