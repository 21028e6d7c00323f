# SPDX-License-Identifier: BSD-3-Clause
"""Back up the hub's database and the configuration, and verify every copy.

Some parts of the backup run as separate programs (:data:`PROGRAM`), because they need a time limit
or another account. :mod:`.archive` has the form of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridhub.maintenance import archive, host
from gridhub.maintenance.archive import digest_of
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: The command that starts ``sge_maintenance.py``.
PROGRAM = (sys.executable, "-sE", str(Path(__file__).resolve().parents[2] / "sge_maintenance.py"))

#: The folder of a backup that is not finished; its name is no backup's.
UNFINISHED = ".unfinished"

#: Time limit for each copy, in seconds. Without the limit, a locked database or an unreachable file
#: system could delay the maintenance for ever.
MAX_SECONDS = 600.0


def back_up(settings: Settings, started: datetime, reason: str = "maintenance") -> str:
    """Copy the hub's database and the configuration, verify the copies, and delete old backups.

    :param reason: why the backup is made, for its manifest.
    :returns: a line for each copy.
    :raises MaintenanceError: when a copy is incomplete.
    """
    return "\n".join(make(settings, started, reason)["lines"])


def make(settings: Settings, started: datetime, reason: str) -> dict[str, Any]:
    """Back up as :func:`back_up`.

    :returns: ``path`` (empty if the host has nothing to back up), ``lines``, and ``removed``, the
        old backups that were deleted.
    :raises MaintenanceError: with the reason; then nothing is left of the new backup, and all old
        ones are kept.
    """
    try:
        path, lines = _make(settings, started, reason)
        return {"path": path, "lines": lines, "removed": prune(settings, started)}
    except (OSError, MaintenanceError) as error:
        raise MaintenanceError(
            f"The backup failed, and the earlier ones in {settings.backup_folder} are kept: {error}"
        ) from error


def _make(settings: Settings, started: datetime, reason: str) -> tuple[str, list[str]]:
    """Make a backup; return its path and the lines of :func:`make`."""
    folder = Path(settings.backup_folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = folder / UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    lines: list[str] = []
    path = ""
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        work.mkdir(mode=0o700)
        if settings.backup_command:
            name = settings.backup_command[0]
            host.run(settings.backup_command, seconds=host.LONG, named=name)
            lines.append(f"{name} succeeded; its copy is not read again here")
        members: dict[str, Path] = {}
        manifest = {
            "made": started.astimezone(UTC).isoformat(),
            "host": socket.gethostname(),
            "reason": reason,
            "versions": versions(settings),
        }
        if settings.database or settings.print_database:
            members[archive.DATABASE] = copy = work / archive.DATABASE
            manifest["database"] = copy_database(settings, copy)
            lines.append(f"the hub's database ({copy.stat().st_size} bytes)")
        if kept := [each for each in map(Path, settings.backup_paths) if each.exists()]:
            members[archive.FILES] = copy = work / archive.FILES
            command = [*PROGRAM, "pack", str(copy), settings.notice_file, *map(str, kept)]
            named = f"packing {', '.join(map(str, kept))}"
            count = host.run(command, seconds=MAX_SECONDS, named=named)
            lines.append(f"{', '.join(map(str, kept))} ({count.strip()} files)")
        if members:
            path = str(_finish(settings, work, members, manifest, started))
            lines.append(f"{path} ({Path(path).stat().st_size} bytes)")
    return path, lines


def _finish(
    settings: Settings,
    work: Path,
    members: dict[str, Path],
    manifest: dict[str, Any],
    started: datetime,
) -> Path:
    """Put the parts of a backup into one file, and give it its name when it has been read back."""
    finished = work / "backup"
    archive.write(finished, members, manifest)
    suffix = archive.PLAIN
    if settings.backup_recipients:
        plain, finished, suffix = finished, work / "encrypted", archive.ENCRYPTED
        archive.encrypt(plain, finished, settings.backup_recipients)
    folder = Path(settings.backup_folder)
    path = folder / archive.free_name(folder, started.astimezone(UTC), suffix)
    finished.replace(path)
    archive.sync(folder)
    return path


def prune(settings: Settings, moment: datetime) -> list[str]:
    """Delete the backups that are too many or too old; return their names."""
    folder = Path(settings.backup_folder)
    names = [each.name for each in archive.all_in(folder)]
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    old = archive.outdated(names, settings.backup_keep, settings.backup_days, utc)
    for name in old:
        (folder / name).unlink()
    return old


def versions(settings: Settings) -> dict[str, str]:
    """Return what the hub runs: its release's folder, and the version of JupyterHub in it."""
    if not settings.hub_path:
        return {}
    current = Path(settings.hub_path, "current")
    return release_versions(current.resolve()) if current.exists() else {}


def release_versions(release: Path) -> dict[str, str]:
    """Return the name of a release, and the version of JupyterHub in its environment."""
    packages = release.glob("env/lib/python3*/site-packages/jupyterhub-*.dist-info")
    found = [re.sub(r"^jupyterhub-|\.dist-info$", "", each.name) for each in packages]
    return {"release": release.name, "jupyterhub": found[0] if len(found) == 1 else ""}


def copy_database(settings: Settings, copy: Path) -> dict[str, Any]:
    """Copy a database that is in use to a file of SQLite, and verify the copy.

    The hub owns a SQLite file and could have replaced it with anything, so root does not open it.

    :returns: ``users``, their number, and ``revision``, the version of the tables' form.
    :raises MaintenanceError: when the copy is incomplete, or takes too long.
    """
    program = [*settings.as_hub, *PROGRAM]
    database = settings.database or "the hub's database"
    with archive.create(copy) as file:
        host.run(
            settings.print_database or [*program, "print-database", database],
            seconds=MAX_SECONDS,
            named=f"copying {database}",
            writes=file,
        )
    return look_into(settings, copy, f"reading the copy of {database}")


def look_into(settings: Settings, copy: Path, named: str = "") -> dict[str, Any]:
    """Check a copy of a hub's database with the hub's rights.

    :returns: ``users``, their number, and ``revision``, the version of the tables' form.
    :raises MaintenanceError: when it is damaged, or not a hub's.
    """
    with copy.open("rb") as file:
        found = host.run(
            [*settings.as_hub, *PROGRAM, "check-database"],
            seconds=MAX_SECONDS,
            named=named or f"reading {copy}",
            reads=file,
        )
    return dict(json.loads(found))


def print_database(source: str) -> None:
    """Write a copy of a SQLite database to standard output."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=1)) as old,
        contextlib.closing(sqlite3.connect(":memory:")) as new,
    ):
        # While another program locks the database, ``backup`` retries without end; only the
        # caller's time limit ends the retries.
        old.backup(new)
        copy = bytearray(new.serialize())
    if copy:
        # In these two bytes, 2 means that there is a write-ahead log ("File format version numbers"
        # in sqlite.org/fileformat2.html). The copy has no such log, so write 1.
        copy[18:20] = b"\1\1"
    sys.stdout.buffer.write(copy)


def check_database() -> dict[str, Any]:
    """Check that standard input is a complete database of a hub.

    :returns: ``users``, their number, and ``revision``, the version of the tables' form; empty if
        the database does not say.
    :raises MaintenanceError: when the database is damaged or does not belong to a hub.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(sys.stdin.buffer.read())
        found = copy.execute("PRAGMA integrity_check").fetchall()
        names = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
        if found != [("ok",)] or "users" not in names:
            raise MaintenanceError(f"it is incomplete or damaged: {found}")
        (users,) = copy.execute("SELECT count(*) FROM users").fetchone()
        revision = None
        if "alembic_version" in names:
            revision = copy.execute("SELECT version_num FROM alembic_version").fetchone()
    return {"users": users, "revision": str(revision[0]) if revision else ""}


def pack_files(paths: Sequence[Path], copy: Path, notice_file: str = "") -> int:
    """Pack files and folders, compare the archive with the disk, and return the number of files.

    :param notice_file: a file to leave out, because a timer may write it during the packing.
    :raises MaintenanceError: naming the file that differs.
    """
    notice_path = Path(notice_file)
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as pack:
        for path in (each for top in paths for each in (top, *sorted(top.rglob("*")))):
            # Leave out the notice and its temporary files, but only in the notice's own folder.
            is_notice = path.name == notice_path.name or path.match(f".{notice_path.name}.*")
            if not (notice_file and path.parent == notice_path.parent and is_notice):
                pack.add(path, recursive=False)
    count = 0
    with tarfile.open(copy) as pack:
        for member in pack:
            packed = pack.extractfile(member) if member.isfile() else None
            if packed is None:
                continue
            count += 1
            with Path("/", member.name).open("rb") as original:
                if digest_of(packed) != digest_of(original):
                    raise MaintenanceError(f"/{member.name} is not in {copy} as it is on disk")
    if not count:
        raise MaintenanceError(f"{copy} is empty")
    return count
