# SPDX-License-Identifier: BSD-3-Clause
"""Upgrade, rollback and restore, interrupted before each of their steps; then the host boots.

An operation runs once, and its folder is copied before each step: that is what a power cut there
leaves. The programs of the release, systemctl and qstat are short stand-ins; files, links,
databases and journal are real. tests/operate cuts the power of a real host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
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

#: Does an operation. With IMAGES, the folder is copied there before each call that may change
#: something, from the last one that changes nothing.
DRIVER = """
import os, subprocess, sys
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
calls, images = 0, os.environ.get("IMAGES", "")
def copying(function):
    def call(*words, **options):
        global calls
        calls += 1
        if images:
            copy = f"{images}/{calls:03}"
            subprocess.run(["cp", "-a", "--no-target-directory", root, copy], check=True)
        return function(*words, **options)
    return call
host.run, host.write, Path.replace = copying(host.run), copying(host.write), copying(Path.replace)
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

    def run(self, *arguments: str, images: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", DRIVER, *arguments],
            env={
                "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                "ROOT": str(self.root),
                "FILES": str(FILES),
                "IMAGES": images,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def become(self, image: Path) -> None:
        """Put the folder back to what it was when it was copied."""
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        copy = ["cp", "-a", "--no-target-directory", image, self.root]
        subprocess.run(copy, check=True)

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
    def state(self) -> tuple[str, str, str, str]:
        """The release, the form of the database, the configuration, and the number of users."""
        form = self.query("SELECT version_num FROM alembic_version")
        users = self.query("SELECT count(*) FROM users")
        return self.release, form, (self.root / "etc/config").read_text(), users

    def check_order(self) -> None:
        """Check that nothing is left over, and that the database is whole."""
        assert self.query("PRAGMA integrity_check") == "ok"
        names = {path.name for path in self.root.iterdir()}
        assert not {
            each for each in names if re.search("staged|unfinished|reserve|[.]new", each)
        }, names

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


OLD, NEW = ("a", "a", "a", "1"), ("b", "b", "b", "1")


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def interrupted_everywhere(
    machine: Machine, work: Path, *operation: str, old: object, new: object, least: int
) -> None:
    """Do an operation; then let the machine boot after a power cut before step 1, 2, 3 …

    :param old: what :attr:`Machine.state` may be after a power cut, besides ``new``.
    :param least: how many steps there are at least.
    """
    done = machine.run(*operation, images=str(work))
    assert done.returncode == 0, done.stderr
    assert machine.state == new and not machine.journal()
    machine.check_order()
    images = sorted(work.iterdir())
    # Before the hub is stopped, nothing is changed, so all steps are alike.
    stopped = next(place for place, each in enumerate(images) if not (each / "running").exists())
    assert len(images) - stopped > least
    for step, image in enumerate(images[stopped - 1 :]):
        machine.become(image)
        machine.boot()
        assert machine.state in (old, new), (step, machine.state)
        if not machine.journal():
            machine.check_order()
            if step % 4:
                continue  # to try again takes long, so it is tried after every fourth step
        done = machine.run(*operation)
        assert done.returncode == 0 or machine.state == new, (step, done.stderr)
        assert machine.state == new and not machine.journal(), step
        machine.check_order()


def test_an_upgrade_interrupted_at_any_step_leaves_a_whole_service(
    machine: Machine, work: Path
) -> None:
    release = str(machine.root / "opt/releases/b")
    interrupted_everywhere(machine, work, "upgrade", release, old=OLD, new=NEW, least=20)


def test_a_rollback_interrupted_at_any_step_leaves_a_whole_service(
    machine: Machine, work: Path
) -> None:
    done = machine.run("upgrade", str(machine.root / "opt/releases/b"))
    assert done.returncode == 0, done.stderr
    interrupted_everywhere(machine, work, "rollback", old=NEW, new=OLD, least=15)
    assert json.loads((machine.root / "state/left.json").read_text()) == {"left": ["jupyterhub-1"]}


def test_a_restore_interrupted_at_any_step_leaves_a_whole_service(
    machine: Machine, work: Path
) -> None:
    old = machine.state
    backup = machine.run("backup").stdout.strip()
    with closing(sqlite3.connect(machine.root / "hub.sqlite")) as link, link:
        link.execute("INSERT INTO users VALUES (2, 'bob')")
    more = machine.state
    interrupted_everywhere(machine, work, "restore", backup, old=more, new=old, least=18)


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
    done = machine.run("rollback")
    assert done.returncode == 0, done.stderr
    assert machine.state == OLD and not machine.journal() and (machine.root / "running").exists()


def test_an_upgrade_whose_playbook_was_lost_is_undone_and_done_again(machine: Machine) -> None:
    release = str(machine.root / "opt/releases/b")
    assert machine.run("begin", release).returncode == 0
    done = machine.run("upgrade", release)
    assert done.returncode == 0 and "The reason: it was interrupted" in done.stderr, done.stderr
    assert machine.state == NEW and not machine.journal()
    machine.check_order()


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
