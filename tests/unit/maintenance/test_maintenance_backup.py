"""How a backup is made, and how each copy is verified."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gridhub.maintenance import archive, backup, host
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: The folder that contains the maintenance program and the package ``gridhub``.
FILES = str(Path(backup.PROGRAM[-1]).parent)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "hub.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as link:
        link.executescript(
            "CREATE TABLE users (id INTEGER, name TEXT);"
            "INSERT INTO users VALUES (1, 'alice'), (2, 'bob');"
        )
    return path


def members(folder: Path) -> Path:
    (found := folder / "members").mkdir()
    return found


def database_in(backup_path: Path, folder: Path) -> Path:
    """Unpack a backup; return its database."""
    archive.check(backup_path, found := members(folder))
    return found / archive.DATABASE


def test_a_backup_contains_what_exists_and_only_root_can_read_it(
    database: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "etc"
    kept.mkdir()
    (kept / "secret").write_text("token")
    settings = Settings(
        backup_folder=str(tmp_path / "backup"),
        backup_keep=2,
        database=str(database),
        backup_paths=[str(kept), str(tmp_path / "missing")],
    )
    for day in (1, 2, 3):
        made = backup.back_up(settings, datetime(2026, 12, day, tzinfo=UTC))
    assert "(1 files)" in made
    copies = sorted((tmp_path / "backup").iterdir())
    assert [copy.name for copy in copies] == ["2026-12-02T000000.tar", "2026-12-03T000000.tar"]
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    manifest = archive.check(copies[-1], members(tmp_path))
    assert manifest["database"] == {"users": 2, "revision": ""}
    with contextlib.closing(sqlite3.connect(tmp_path / "members/database.sqlite")) as link:
        assert link.execute("SELECT name FROM users").fetchall() == [("alice",), ("bob",)]


def test_an_incomplete_backup_leaves_nothing_behind(database: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(os.urandom(10_000))
    empty = tmp_path / "empty.sqlite"
    sqlite3.connect(empty).close()
    for wrong in (broken, empty, tmp_path / "missing.sqlite"):
        settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(wrong))
        with pytest.raises((MaintenanceError, sqlite3.Error)):
            backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
        assert list((tmp_path / "backup").iterdir()) == []


def test_a_locked_database_ends_the_backup_in_time(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "MAX_SECONDS", 2.0)
    settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(database))
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as link:
        link.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MaintenanceError, match="copying .*hub.sqlite: not done within 2 s"):
            backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert list((tmp_path / "backup").iterdir()) == []


@pytest.mark.parametrize("what", ["database", "file"])
def test_a_pipe_in_place_of_a_file_ends_the_backup_in_time(
    what: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker who controls the hub can replace the hub's files, for example with pipes."""
    monkeypatch.setattr(backup, "MAX_SECONDS", 2.0)
    database.unlink()
    (kept := tmp_path / "kept").mkdir()
    (kept / "file").write_text("this")
    monkeypatch.setattr(backup, "PROGRAM", (*backup.PROGRAM[:2], str(tmp_path / "run")))
    # Replace the file with a pipe between packing it and comparing it with the archive.
    (tmp_path / "run").write_text(
        f"import os, sys, tarfile; sys.path.insert(0, {FILES!r})\n"
        "from gridhub.maintenance.main import main\n"
        "open = tarfile.open\n"
        "def opened(*names, **how):\n"
        f"    if names: os.unlink({str(kept / 'file')!r}); os.mkfifo({str(kept / 'file')!r})\n"
        "    return open(*names, **how)\n"
        "tarfile.open = opened\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    os.mkfifo(database)
    settings = Settings(
        backup_folder=str(tmp_path / "backup"),
        database=str(database) if what == "database" else "",
        backup_paths=[str(kept)] if what == "file" else [],
    )
    with pytest.raises(MaintenanceError, match=r"(copying|packing) .*: not done within 2 s"):
        backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert list((tmp_path / "backup").iterdir()) == []


def test_the_hubs_database_is_read_with_the_hubs_rights(database: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    as_hub = ["sh", "-c", f'echo "$4" >> {log}; exec "$@"', "sh"]
    settings = Settings(
        backup_folder=str(tmp_path / "backup"), database=str(database), as_hub=as_hub
    )
    backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert log.read_text().split() == ["print-database", "check-database"]


def test_a_database_with_a_write_ahead_log_is_copied(database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as link:
        assert link.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        link.execute("INSERT INTO users VALUES (3, 'carol')")
        settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(database))
        backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    (copy,) = (tmp_path / "backup").iterdir()
    with contextlib.closing(sqlite3.connect(database_in(copy, tmp_path))) as link:
        assert link.execute("SELECT count(*) FROM users").fetchone() == (3,)


def test_a_backup_gets_its_name_only_after_it_has_been_read_back(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfinished backup needs no cleanup, so the program may be killed at any time."""
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / backup.UNFINISHED).mkdir()
    (folder / backup.UNFINISHED / "left").touch()
    settings = Settings(
        backup_folder=str(folder), database=str(database), backup_paths=[str(database)]
    )
    seen: list[str] = []
    real = host.run

    def run(command: list[str], **more: Any) -> str:
        seen.extend(path.name for path in folder.iterdir())
        return real(command, **more)

    monkeypatch.setattr(host, "run", run)
    backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert set(seen) == {backup.UNFINISHED}
    assert [path.name for path in folder.iterdir()] == ["2026-12-01T000000.tar"]


def test_the_notice_is_not_packed_because_it_is_rewritten_meanwhile(tmp_path: Path) -> None:
    kept = tmp_path / "etc"
    kept.mkdir()
    for name in ("maintenance.json", ".maintenance.json.42", "jupyterhub_config.py"):
        (kept / name).write_text("x")
    pack = tmp_path / "pack.tar.gz"
    # The settings file has the same name as the notice, but is in another folder, so it is packed.
    (tmp_path / "gridhub").mkdir()
    (tmp_path / "gridhub/maintenance.json").write_text("x")
    paths = [kept, tmp_path / "gridhub"]
    assert backup.pack_files(paths, pack, str(kept / "maintenance.json")) == 2


def test_a_file_that_differs_between_pack_and_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("this")
    hashes = iter(["one", "other"])
    monkeypatch.setattr(backup, "digest_of", lambda _file: next(hashes))
    with pytest.raises(MaintenanceError, match="file is not in .* as it is on disk"):
        backup.pack_files([tmp_path / "file"], tmp_path / "pack.tar.gz")


def test_a_database_that_is_not_sqlite_is_copied_by_the_hubs_program(
    database: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    settings = Settings(backup_folder=str(folder), print_database=["cat", str(database)])
    backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    [copy] = folder.glob("*.tar")
    assert database_in(copy, tmp_path).read_bytes() == database.read_bytes()
    for wrong in (["sh", "-c", "echo no answer >&2; exit 1"], ["echo", "damaged"]):
        settings = Settings(backup_folder=str(folder), print_database=wrong)
        with pytest.raises(MaintenanceError, match="copying the hub's database|is not a database"):
            backup.back_up(settings, datetime(2026, 12, 2, tzinfo=UTC))
        assert [each.name for each in folder.iterdir()] == [copy.name]


def test_a_database_that_is_not_sqlite_is_backed_up_by_the_sites_command(tmp_path: Path) -> None:
    copy = tmp_path / "dump"
    settings = Settings(
        backup_folder=str(tmp_path / "backup"), backup_command=["sh", "-c", f"echo rows > {copy}"]
    )
    made = backup.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert copy.read_text() == "rows\n"
    assert made == "sh succeeded; its copy is not read again here"
    fails = ["sh", "-c", "echo no database >&2; exit 3", "--password=5ec4e7"]
    wrong = Settings(backup_folder=str(tmp_path), backup_command=fails)
    # The command's arguments must not appear in a report, log or mail.
    with pytest.raises(MaintenanceError, match="are kept: sh: exit status 3\nno database$"):
        backup.back_up(wrong, datetime(2026, 12, 1, tzinfo=UTC))
