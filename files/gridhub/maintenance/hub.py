# SPDX-License-Identifier: BSD-3-Clause
"""The hub's service, its release and its database, as an operation changes them.

Root does not open the hub's database and writes nothing into the hub's folder: programs with the
hub's rights do.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from gridhub.contract import LEFT_SESSIONS
from gridhub.maintenance import archive, backup, host, probes, report
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

UNIT = "jupyterhub.service"

#: In the folder of the maintenance's state: Grid Engine's list of all jobs.
JOBS = "jobs.xml"

#: The hub's unit starts them again.
BROKERS = ("jupyterhub-broker.socket", "jupyterhub-broker-ready.socket")

#: Seconds that the hub may take to answer, and to stop.
ANSWER_WITHIN, STOP_WITHIN = 90.0, 120.0

#: A hub that systemd has started again this often does not start.
MAX_RESTARTS = 3

#: Time limit for a program that reads or writes the hub's database, in seconds.
MAX_SECONDS = 600.0


def stop() -> None:
    """Stop the hub and the brokers that wait for it, which are of its release; sessions go on.

    :raises MaintenanceError: when it still runs.
    """
    host.run(["systemctl", "stop", UNIT, *BROKERS], seconds=STOP_WITHIN, check=False)
    if is_active():
        raise MaintenanceError(f"{UNIT} does not stop (systemctl status {UNIT})")


def is_active() -> bool:
    """Return whether the hub's unit runs, or is starting or stopping."""
    shown = host.run(["systemctl", "is-active", UNIT], check=False).strip()
    return shown not in ("inactive", "failed", "unknown")


def is_installed() -> bool:
    """Return whether the host has the hub's unit."""
    shown = host.run(["systemctl", "show", "--property=LoadState", "--value", UNIT], check=False)
    return shown.strip() == "loaded"


def start(settings: Settings) -> None:
    """Start the hub, and wait until it answers.

    :raises MaintenanceError: when it does not answer in time, with the end of its log.
    """
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "reset-failed", UNIT], check=False)  # sets the number of restarts to 0
    host.run(["systemctl", "start", UNIT], seconds=STOP_WITHIN)
    if words := answer_problem(settings):
        log = host.run(
            ["journalctl", "--unit", UNIT, "--lines=5", "--output=cat", "--no-pager"], check=False
        )
        raise MaintenanceError(f"the hub does not answer: {words}\n{log.strip()}")


def answer_problem(settings: Settings) -> str:
    """Wait for the hub's answer; return why there is none. A hub that keeps ending has no time."""
    url = settings.hub_api.removesuffix("/api") + "/health"
    ended = ""

    def problem() -> str:
        nonlocal ended
        found = probes.url_problem(settings, url)
        if found and _restarts() >= MAX_RESTARTS:
            ended = f"it has ended {MAX_RESTARTS} times since it was started"
            return ""
        return found

    return host.wait_until_clear(problem, ANSWER_WITHIN, 1.0) or ended


def _restarts() -> int:
    """Return how often systemd has started the hub again since it was started."""
    command = ["systemctl", "show", "--property=NRestarts", "--value", UNIT]
    shown = host.run(command, check=False).strip()
    return int(shown) if shown.isdecimal() else 0


# -- the release ----------------------------------------------------------------------------------


def current(settings: Settings) -> Path | None:
    """Return the folder of the release in use; ``None`` on a host without one."""
    link = Path(settings.hub_path, "current")
    return link.resolve() if link.exists() else None


def switch(settings: Settings, release: Path) -> None:
    """Let the link to the release in use point to another release, in one step."""
    link = Path(settings.hub_path, "current")
    fresh = link.with_name(".current.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(release)
    fresh.replace(link)


def check_release(release: Path) -> None:
    """Check that a release is complete.

    :raises MaintenanceError: when it is not.
    """
    if not (release / ".complete").exists() or not (release / "env/.complete").exists():
        raise MaintenanceError(
            f"{release} is not a complete release: a part of it was removed, or never finished"
        )


# -- the database ---------------------------------------------------------------------------------


def staged_path(settings: Settings) -> Path:
    """Return the path of the copy that is to become the database."""
    if settings.database:
        return Path(f"{settings.database}.staged")
    return Path(settings.hub_state, "staged.sqlite")


def tool(
    settings: Settings,
    release: Path,
    *arguments: str,
    named: str,
    reads: IO[bytes] | None = None,
) -> Any:
    """Run ``sge_database.py`` of a release with the hub's rights; return its answer, from JSON.

    :raises MaintenanceError: with the program's reason.
    """
    shown = host.run(
        [
            *settings.as_hub,
            "env",
            f"--chdir={settings.hub_state}",
            str(release / "env/bin/python"),
            "-sE",
            str(release / "sge_database.py"),
            *arguments,
        ],
        seconds=MAX_SECONDS,
        named=named,
        reads=reads,
    )
    try:
        return json.loads(shown.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise MaintenanceError(f"{named}: no answer in JSON: {error}") from error


def stage(settings: Settings, copy: Path) -> Path:
    """Put a copy of a database into the hub's folder, and return its path there."""
    staged = staged_path(settings)
    with copy.open("rb") as file:
        _as_hub(settings, "receive", str(staged), named=f"writing {staged}", reads=file)
    return staged


def unstage(settings: Settings) -> None:
    """Remove the staged copy, if there is one."""
    _as_hub(settings, "forget", str(staged_path(settings)), named="removing the staged copy")


def migrate(settings: Settings, release: Path) -> dict[str, str]:
    """Bring the staged copy into the form of a release; return the ``old`` and the ``new`` form."""
    url = f"sqlite:///{staged_path(settings)}"
    return dict(tool(settings, release, "migrate", url, named="migrating a copy of the database"))


def install_staged(settings: Settings, release: Path) -> None:
    """Let the staged copy be the hub's database, in one step.

    :param release: whose programs to use for PostgreSQL, in the form of its tables.
    """
    staged = staged_path(settings)
    if settings.database:
        _as_hub(
            settings,
            "install",
            str(staged),
            settings.database,
            named=f"replacing {settings.database}",
        )
        return
    host.run(
        [
            *settings.as_hub,
            "env",
            f"--chdir={settings.hub_state}",
            str(release / "env/bin/python"),
            "-sE",
            str(release / "sge_database.py"),
            "replace",
            f"sqlite:///{staged}",
            settings.hub_config,
        ],
        seconds=MAX_SECONDS,
        named="replacing the database",
    )
    unstage(settings)


def reserve(settings: Settings, name: str, size: int) -> None:
    """Set disk space aside in the hub's folder.

    :raises MaintenanceError: when there is not enough.
    """
    path = Path(settings.hub_state, name)
    named = f"setting {size} bytes aside in {settings.hub_state}, for going back"
    _as_hub(settings, "reserve", str(path), str(size), named=named)


def free(settings: Settings, name: str) -> None:
    """Free the disk space that :func:`reserve` set aside."""
    path = Path(settings.hub_state, name)
    if path.exists():
        _as_hub(settings, "forget", str(path), named=f"removing {path}")


def _as_hub(settings: Settings, *arguments: str, named: str, reads: IO[bytes] | None = None) -> str:
    command = [*settings.as_hub, *backup.PROGRAM, *arguments]
    return host.run(command, seconds=MAX_SECONDS, named=named, reads=reads)


def receive(target: Path) -> None:
    """Write standard input to a file of the hub's, with the hub's rights; all of it or nothing."""
    fresh = target.with_name(f"{target.name}.unfinished")
    forget(target)
    try:
        with archive.create(fresh) as file:
            while block := sys.stdin.buffer.read(1 << 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a full disk
        forget(target)
        raise
    fresh.replace(target)


def forget(target: Path) -> None:
    """Remove a database and its journals, and a part of one."""
    for suffix in ("", "-journal", "-wal", "-shm", ".unfinished"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def install(staged: Path, database: Path) -> None:
    """Let a copy take the place of a SQLite database that nobody has open.

    A journal that a killed hub has left would be applied to the new file, so it is applied first.
    """
    if not staged.exists() and database.exists():
        return  # done before this program was killed
    for path in (database, staged):
        if path.exists():
            with (
                contextlib.suppress(sqlite3.DatabaseError)
                if path == database
                else contextlib.nullcontext(),
                contextlib.closing(sqlite3.connect(path, timeout=10)) as link,
            ):
                link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                link.execute("BEGIN IMMEDIATE")
                link.rollback()
    for suffix in ("-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    staged.replace(database)
    descriptor = os.open(database.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- sessions -------------------------------------------------------------------------------------


@contextlib.contextmanager
def all_jobs(settings: Settings) -> Iterator[IO[bytes]]:
    """Yield Grid Engine's list of all jobs, as XML in a file.

    :raises MaintenanceError: when Grid Engine gives no complete answer: then nothing is known about
        the sessions.
    """
    path = report.STATE / JOBS
    command = [settings.qstat[0], "-s", "a", "-f", "-ne", "-xml", "-u", "*"]
    shown = host.run(command, seconds=30, environment={**settings.environment, "TZ": "UTC"})
    if "</job_info>" not in shown:
        raise MaintenanceError(f"{settings.qstat[0]} gives no complete list of jobs")
    host.write(path, shown, 0o600)
    try:
        with path.open("rb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def reconcile(
    settings: Settings, release: Path, *, adopt: bool, write: bool, present: str = ""
) -> dict[str, Any]:
    """Take the running sessions of the database in use into the staged copy.

    :param write: whether the copy is changed, and jobs that remain without a session are noted.
    :param present: the database to take them from: an address, or ``-`` for none; if empty, the
        database in use.
    :returns: what becomes of the sessions (``gridhub/hub/database_sessions.py``).
    """
    is_there = not settings.database or Path(settings.database).exists()
    with all_jobs(settings) as jobs:
        found = tool(
            settings,
            release,
            "reconcile",
            f"sqlite:///{staged_path(settings)}",
            present or (settings.hub_config if is_there else "-"),
            settings.cookie_file,
            "adopt" if adopt else "leave",
            *([] if write else ["plan"]),
            named="looking for the running sessions",
            reads=jobs,
        )
        if write:
            jobs.seek(0)
            note_left(found["left"], jobs.read().decode(errors="replace"))
    return dict(found)


def note_left(names: Sequence[str], jobs: str) -> None:
    """Name the jobs that the hub must leave alone, with those that were named before and exist."""
    path = Path(LEFT_SESSIONS)
    before: list[str] = []
    try:
        before = [name for name in json.loads(path.read_bytes())["left"] if name in jobs]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return  # it means all jobs
    if names or before or path.exists():
        host.write(path, json.dumps({"left": sorted({*names, *before})}, indent=1) + "\n", 0o644)
