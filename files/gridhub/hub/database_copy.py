# SPDX-License-Identifier: BSD-3-Clause
"""Copy a hub's database to another database system, unchanged and completely, or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyterhub import orm
from sqlalchemy import (
    Connection,
    MetaData,
    Table,
    create_engine,
    func,
    inspect,
    select,
)
from sqlalchemy import text as sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool
from sqlalchemy.types import TypeDecorator

from gridhub.hub.database_check import TABLES, engine_of, first_line, shown, tables_in

#: How many rows are written with one statement.
BATCH = 1_000


class CopyError(Exception):
    """A database cannot be copied; the message gives the reason and what to do."""


def plain_tables() -> MetaData:
    """Return JupyterHub's tables with the types of the stored values.

    JupyterHub's own types convert values, such as an empty list for none. A copy must not.
    """
    found = MetaData()
    for table in orm.Base.metadata.sorted_tables:
        copied = table.to_metadata(found)
        for column in copied.columns:
            if isinstance(column.type, TypeDecorator):
                column.type = column.type.impl_instance
    # As Alembic makes it (alembic.runtime.migration).
    alembic = sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    found.info["alembic"] = alembic
    return found


def _check_source(link: Connection, url: str) -> None:
    """Check that nothing in a database would be left behind.

    :raises CopyError: when it is no hub's, is of another release, or has more than a hub's tables.
    """
    there = set(inspect(link).get_table_names())
    if not set(TABLES) <= there:
        missing = sorted(set(TABLES) - there)
        raise CopyError(
            f"{shown(url)} is not a complete database of this JupyterHub: it has no table "
            f"{missing[0]}. Start the hub on it once, so that it is upgraded"
        )
    if more := sorted(there - set(TABLES)):
        raise CopyError(
            f"{shown(url)} has tables that are not JupyterHub's and would be lost: "
            f"{', '.join(more)}. Move them elsewhere, or copy the database by hand"
        )
    for table in orm.Base.metadata.sorted_tables:
        known = {column.name for column in table.columns}
        found = {column["name"] for column in inspect(link).get_columns(table.name)}
        if known != found:
            raise CopyError(
                f"{shown(url)} is of another release of JupyterHub: its table {table.name} has "
                f"other columns ({', '.join(sorted(known ^ found))}). Start the hub on it once, so "
                "that it is upgraded"
            )


def _rows(link: Connection, table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in link.execute(select(table).order_by(*table.primary_key))]


def _copy_rows(old: Connection, new: Connection, tables: MetaData) -> int:
    """Copy all rows, compare them, and return their number."""
    count = 0
    for table in tables.sorted_tables:
        rows = _rows(old, table)
        names = [column.name for column in table.columns]
        for first in range(0, len(rows), BATCH):
            batch = [dict(zip(names, row, strict=True)) for row in rows[first : first + BATCH]]
            new.execute(table.insert(), batch)
        if _rows(new, table) != rows:
            raise CopyError(f"the rows of the table {table.name} are not the same in the copy")
        count += len(rows)
    return count


def _copy_version(old: Connection, new: Connection, tables: MetaData) -> None:
    """Copy the version of the tables' form, which JupyterHub checks when it starts."""
    new.execute(tables.info["alembic"])
    for (version,) in old.execute(sql("SELECT version_num FROM alembic_version")):
        new.execute(sql("INSERT INTO alembic_version VALUES (:version)"), {"version": version})


def _continue_numbers(link: Connection, tables: MetaData) -> None:
    """Let PostgreSQL number new rows after those that were copied with their numbers."""
    for table in tables.sorted_tables:
        if table.autoincrement_column is not None:
            name = table.autoincrement_column.name
            last = link.scalar(select(func.max(table.c[name]))) or 0
            link.execute(
                sql("SELECT setval(pg_get_serial_sequence(:table, :name), :next, false)"),
                {"table": table.name, "name": name, "next": last + 1},
            )


@contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    """Open a database for reading, in one state although a hub may be writing to it."""
    found = make_url(url)
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    if found.get_backend_name() == "sqlite":
        options = {}
        if not Path(found.database or "").is_file():
            raise CopyError(f"there is no file {found.database}")
    with engine_of(url).connect().execution_options(**options) as link:
        yield link


def _fill(old: Connection, new: Connection) -> int:
    tables = plain_tables()
    tables.create_all(new)
    _copy_version(old, new, tables)
    count = _copy_rows(old, new, tables)
    if new.dialect.name == "postgresql":
        _continue_numbers(new, tables)
    elif orphans := new.execute(sql("PRAGMA foreign_key_check")).all():
        raise CopyError(f"a row of the table {orphans[0][0]} refers to a row that is not there")
    return count


def _refuse_filled(link: Connection, url: str) -> None:
    if there := tables_in(link):
        users = link.scalar(sql("SELECT count(*) FROM users")) if "users" in there else 0
        raise CopyError(
            f"{shown(url)} is not empty: it is a hub's database with {users} users. If it is not "
            "needed any more, set it aside: sge_database.py set-aside URL "
            '(docs/administrators/postgresql.md, "Moving to another database")'
        )


def copy(source: str, target: str) -> int:
    """Copy a hub's database into an empty one; return the number of rows.

    All is written in one transaction (PostgreSQL) or to a new file (SQLite), so that the target
    has all of it or nothing.

    :raises CopyError: when the target is not empty or the copy would not be complete.
    """
    path = make_url(target).database or ""
    if make_url(target).get_backend_name() != "sqlite":
        with _snapshot(source) as old, engine_of(target).begin() as new:
            _check_source(old, source)
            _refuse_filled(new, target)
            return _fill(old, new)
    if Path(path).exists():
        with engine_of(target).connect() as link:
            _refuse_filled(link, target)
    fresh = Path(f"{path}.unfinished")
    fresh.unlink(missing_ok=True)
    try:
        with _snapshot(source) as old:
            _check_source(old, source)
            fresh.touch(0o600)
            with engine_of(f"sqlite:///{fresh}").begin() as new:
                count = _fill(old, new)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return count


def snapshot(source: str) -> bytes:
    """Return a copy of a hub's database as the content of a SQLite file, for a backup."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with _snapshot(source) as old, engine.connect() as new:
        _check_source(old, source)
        _fill(old, new)
        new.commit()
        link = new.connection.driver_connection
        assert isinstance(link, sqlite3.Connection)
        return bytes(link.serialize())


def replace(source: str, target: str) -> str:
    """Put a copy in the place of a database of PostgreSQL, in one transaction.

    Whatever happens, the hub finds the old tables or all of the new ones.

    :returns: the schema that now has the tables that were there; empty if there were none.
    :raises CopyError: when the copy would not be complete.
    """
    name = f"replaced_{datetime.now(UTC):%Y%m%dt%H%M%S%f}"
    with _snapshot(source) as old, engine_of(target).begin() as new:
        _check_source(old, source)
        if there := tables_in(new):
            _move_tables(new, there, name)
        _fill(old, new)
    return name if there else ""


def _move_tables(link: Connection, tables: list[str], schema: str) -> None:
    link.execute(sql(f"CREATE SCHEMA {schema}"))
    for table in tables:
        link.execute(sql(f"ALTER TABLE {table} SET SCHEMA {schema}"))


def set_aside(url: str) -> str:
    """Rename a hub's database, so that no hub uses it by mistake; return the new name."""
    found = make_url(url)
    name = f"moved_{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if found.get_backend_name() == "sqlite":
        old = Path(found.database or "")
        new = old.with_name(f"{old.name}.{name}")
        # A leftover journal would be applied to the next file of the old name.
        with closing(sqlite3.connect(f"file:{old}?mode=rw", uri=True)) as link:
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        old.rename(new)
        return str(new)
    with engine_of(url).begin() as link:
        _move_tables(link, tables_in(link), name)
    return f"the schema {name} of {shown(url)}"


def explain(error: Exception) -> str:
    """Return a sentence about why a database could not be copied."""
    return first_line(error) if isinstance(error, SQLAlchemyError) else str(error)
