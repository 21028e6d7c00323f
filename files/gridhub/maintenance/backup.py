# SPDX-License-Identifier: BSD-3-Clause
"""Back up the hub's database and the configuration, and verify every copy.

Some parts of the backup run as separate programs (:data:`PROGRAM`), because they need a time limit
or another account.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
import tarfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: The command that starts ``sge_maintenance.py``.
PROGRAM = (sys.executable, "-sE", str(Path(__file__).resolve().parents[2] / "sge_maintenance.py"))

#: The suffix of a backup's name until the backup is verified.
UNFINISHED = ".unfinished"

#: Time limit for each copy, in seconds. Without the limit, a locked database or an unreachable file
#: system could delay the maintenance for ever.
MAX_SECONDS = 600.0


def back_up(settings: Settings, started: datetime) -> str:
    """Copy the hub's database and the configuration, verify the copies, and delete old backups.

    :returns: a line for each copy.
    :raises MaintenanceError: when a copy is incomplete.
    """
    folder = Path(settings.backup_folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = f"{started:%Y-%m-%dT%H%M%S}"
    made, copies = [], []
    for unfinished in folder.glob(f"*{UNFINISHED}"):
        unfinished.unlink()
    with contextlib.ExitStack() as undo:

        def begin(kind: str) -> Path:
            """Return the path for a copy; the name marks the copy as not verified yet."""
            copy = folder / f"{stamp}{kind}{UNFINISHED}"
            undo.callback(copy.unlink, missing_ok=True)
            copies.append(copy)
            return copy

        if settings.backup_command:
            name = settings.backup_command[0]
            host.run(settings.backup_command, seconds=host.LONG, named=name)
            made.append(f"{name} succeeded; its copy is not read again here")
        if settings.database or settings.print_database:
            copy = begin(".sqlite")
            copy_database(settings, copy)
            made.append(f"{copy.with_suffix('')} ({copy.stat().st_size} bytes)")
        if kept := [path for path in map(Path, settings.backup_paths) if path.exists()]:
            copy = begin(".tar.gz")
            command = [*PROGRAM, "pack", str(copy), settings.notice_file, *map(str, kept)]
            named = f"packing {', '.join(map(str, kept))}"
            count = host.run(command, seconds=MAX_SECONDS, named=named)
            made.append(f"{copy.with_suffix('')} ({count.strip()} files)")
        for copy in copies:
            copy.replace(copy.with_suffix(""))
        undo.pop_all()
    for kind in ("*.sqlite", "*.tar.gz"):
        for old in sorted(folder.glob(kind))[: -settings.backup_keep]:
            old.unlink()
    return "\n".join(made)


def copy_database(settings: Settings, copy: Path) -> None:
    """Copy a database that is in use to a file of SQLite, and verify the copy.

    The hub owns a SQLite file and could have replaced it with anything, so root does not open it.

    :raises MaintenanceError: when the copy is incomplete, or takes too long.
    """
    program = [*settings.as_hub, *PROGRAM]
    database = settings.database or "the hub's database"
    with os.fdopen(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "rb+") as file:
        host.run(
            settings.print_database or [*program, "print-database", database],
            seconds=MAX_SECONDS,
            named=f"copying {database}",
            writes=file,
        )
        file.seek(0)
        host.run(
            [*program, "check-database"],
            seconds=MAX_SECONDS,
            named=f"reading the copy of {database}",
            reads=file,
        )


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


def check_database() -> None:
    """Check that standard input is a complete database of a hub.

    :raises MaintenanceError: when the database is damaged or does not belong to a hub.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(sys.stdin.buffer.read())
        found = copy.execute("PRAGMA integrity_check").fetchall()
        tables = copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'users'").fetchone()
    if found != [("ok",)] or tables != (1,):
        raise MaintenanceError(f"it is incomplete or damaged: {found}")


def digest_of(file: Any) -> str:
    """Read an open file to its end; return the SHA-256 hash of what was read."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


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
