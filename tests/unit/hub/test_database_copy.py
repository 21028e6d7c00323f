# SPDX-License-Identifier: BSD-3-Clause
"""Copies of a hub's database, between two files of SQLite; tests/database uses PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from jupyterhub import orm
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine

from folders import FILES
from gridhub.hub import database_copy
from gridhub.hub.database_check import TABLES, check
from gridhub.hub.database_copy import CopyError, copy, set_aside, snapshot

SECRET_STATE = b"\x00\xffencrypted"
TOKEN = "0123456789abcdef"


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as link, link:
        link.execute(statement)


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables as they are stored."""
    with closing(sqlite3.connect(path)) as link:
        return {
            name: sorted(link.execute(f"SELECT * FROM {name}"), key=repr)
            for (name,) in link.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the database once, because that takes seconds."""
    path = tmp_path_factory.mktemp("hub") / "hub.sqlite"
    factory = orm.new_session_factory(url(path))
    with factory() as database:
        alice = orm.User(name="alice", encrypted_auth_state=SECRET_STATE)
        alice.last_activity = datetime(2026, 11, 30, 12, 0, 0, 123456)
        server = orm.Server(proto="https", ip="exec1", port=40001, base_url="/user/alice/")
        spawner = orm.Spawner(user=alice, name="", server=server, state={"job_id": "42"})
        client = orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri="")
        database.add_all([alice, server, spawner, client])
        database.commit()
        alice.new_api_token(TOKEN, scopes=["inherit"])
        database.commit()
    factory.kw["bind"].dispose()
    # JupyterHub's own type would read this as an empty list.
    change(path, "INSERT INTO roles (id, name, managed_by_auth) VALUES (99, 'odd', 0)")
    return path


@pytest.fixture
def used(made: Path, tmp_path: Path) -> Path:
    """The database of a hub with a user, a token and a running session."""
    return Path(shutil.copy(made, tmp_path))


def test_a_copy_has_every_row_as_it_was_stored(used: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.sqlite"
    rows = copy(url(used), url(target))
    before = content(used)
    assert content(target) == before
    assert rows == sum(map(len, before.values())) - len(before["alembic_version"])
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_a_hub_can_use_the_copy(used: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.sqlite"
    copy(url(used), url(target))
    factory = orm.new_session_factory(url(target))  # raises for a wrong alembic version
    with factory() as database:
        assert orm.APIToken.find(database, TOKEN).user.name == "alice"
        [session] = database.query(orm.Spawner)
        assert (session.state, session.server.port) == ({"job_id": "42"}, 40001)
        database.add(orm.User(name="bob"))
        database.commit()
    factory.kw["bind"].dispose()


def test_a_database_that_is_not_empty_is_not_overwritten(used: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.sqlite"
    copy(url(used), url(target))
    change(target, "UPDATE users SET name = 'carol'")
    before = target.read_bytes()
    with pytest.raises(CopyError, match="is not empty: it is a hub's database with 1 users"):
        copy(url(used), url(target))
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE users_info (id INTEGER)", "not JupyterHub's and would be lost: users_info"),
        ("ALTER TABLE users ADD COLUMN height INTEGER", "table users has other columns .height."),
        ("DROP TABLE shares", "it has no table shares"),
        ("INSERT INTO servers (id, port) VALUES (NULL, 'x')", ""),
    ],
    ids=["more tables", "other release", "incomplete", "complete"],
)
def test_only_a_database_that_would_be_complete_is_copied(
    statement: str, words: str, used: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.sqlite"
    change(used, statement)
    if not words:
        assert copy(url(used), url(target))
        return
    with pytest.raises(CopyError, match=words):
        copy(url(used), url(target))
    assert not target.exists()


def test_a_row_that_refers_to_a_missing_row_is_reported(used: Path, tmp_path: Path) -> None:
    change(used, "DELETE FROM servers")  # sqlite3 does not enforce foreign keys, the hub does
    with pytest.raises(CopyError, match="the table spawners refers to a row that is not there"):
        copy(url(used), url(tmp_path / "new.sqlite"))


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sqlite"
    with pytest.raises(CopyError, match=f"there is no file {missing}"):
        copy(url(missing), url(tmp_path / "new.sqlite"))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_is_interrupted_leaves_nothing(
    used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new.sqlite"

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(database_copy, "_copy_version", fail)
    with pytest.raises(OSError, match="No space left"):
        copy(url(used), url(target))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.sqlite"]


def test_a_copy_with_another_value_is_not_used(used: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.sqlite"

    def spoil(link: object, cursor: object, statement: str, values: object, *_: object) -> object:
        if statement.startswith("INSERT INTO servers"):
            statement = statement.replace("INSERT INTO servers", "INSERT OR IGNORE INTO servers")
            values = tuple(0 if value == 40001 else value for value in values)  # type: ignore
        return statement, values

    event.listen(Engine, "before_cursor_execute", spoil, retval=True)
    try:
        with pytest.raises(CopyError, match="the table servers are not the same in the copy"):
            copy(url(used), url(target))
    finally:
        event.remove(Engine, "before_cursor_execute", spoil)
    assert not target.exists()


def test_a_snapshot_is_a_file_of_sqlite(used: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.sqlite"
    target.write_bytes(snapshot(url(used)))
    assert content(target) == content(used)


def test_a_database_that_is_set_aside_is_complete_and_out_of_the_way(used: Path) -> None:
    before = content(used)
    new = Path(set_aside(url(used)))
    assert new.name.startswith("hub.sqlite.moved_") and content(new) == before
    assert check(url(used)) == {"version": "", "tables": [], "users": 0, "problems": []}
    with pytest.raises(sqlite3.OperationalError):
        set_aside(url(used))


def run(*arguments: str, reads: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-sE", str(FILES / "sge_database.py"), *arguments],
        input=reads,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_names_the_database_of_the_hubs_configuration(
    used: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new.sqlite"
    config = tmp_path / "config.py"
    config.write_text(f"c.JupyterHub.db_url = {url(used)!r}\n", encoding="utf-8")
    done = run("copy", str(config), url(target))
    assert done.returncode == 0 and f"rows from {used} to {target}" in done.stdout, done.stderr
    done = run("copy", str(config), url(target))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not empty" in done.stderr and "Traceback" not in done.stderr
    assert "moved_" in run("set-aside", str(config)).stdout and not used.exists()
    assert run("set-aside", str(config)).returncode == 1
    assert run("wrong").returncode == 2


def test_the_program_checks_a_database(used: Path) -> None:
    done = run("check", reads=f'{{"url": "{url(used)}"}}')
    assert done.returncode == 0, done.stderr
    assert f'"tables": ["{TABLES[0]}"' in done.stdout and '"users": 1' in done.stdout
    nobody = '{"url": "postgresql+psycopg://hub@127.0.0.1:1/hub?connect_timeout=2"}'
    assert "the server must run, listen on this address" in run("check", reads=nobody).stdout


def test_the_columns_of_a_copy_have_no_types_of_jupyterhub() -> None:
    tables = database_copy.plain_tables()
    engine = create_engine("sqlite://")
    tables.create_all(engine)
    kinds = {str(column.type) for table in tables.sorted_tables for column in table.columns}
    assert kinds <= {"INTEGER", "VARCHAR", "TEXT", "BOOLEAN", "DATETIME", "BLOB"} | {
        kind for kind in kinds if kind.startswith("VARCHAR(")
    }
    engine.dispose()
