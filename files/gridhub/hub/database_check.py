# SPDX-License-Identifier: BSD-3-Clause
"""Find out why a database could not be the hub's, before the hub uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyterhub import orm
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy import text as sql
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

#: The oldest PostgreSQL with which the hub is expected to work (``server_version_num``).
OLDEST = 130_000

#: The tables of a hub, and the one in which Alembic keeps the version of their form.
TABLES = [*(table.name for table in orm.Base.metadata.sorted_tables), "alembic_version"]

#: What to do, by a part of the message of libpq or of the server (PostgreSQL 15 to 18).
_HINTS = {
    "could not translate host name|failed to resolve host": (
        "correct the name in jupyterhub_database_url, or add it to DNS or /etc/hosts on the hub's "
        "host"
    ),
    "Connection refused|timeout|No route to host|unreachable": (
        "the server must run, listen on this address and port (listen_addresses), and no firewall "
        "may be between the hub's host and the server"
    ),
    "root certificate file": (
        "jupyterhub_database_ca must name a file on the hub's host that the account jupyterhub can "
        "read"
    ),
    "certificate verify failed": (
        "jupyterhub_database_ca must name the file with the authority that has signed the server's "
        "certificate"
    ),
    "does not match host name": (
        "use the name in the server's certificate in jupyterhub_database_url"
    ),
    "does not support SSL": "the server must offer TLS (ssl = on, with a certificate)",
    "authentication method requirement": (
        "the server must ask for the password with scram-sha-256 in pg_hba.conf, and the user's "
        "password must be stored that way (password_encryption)"
    ),
    "password authentication failed|no password supplied": (
        "set jupyterhub_database_password to the user's password on the server"
    ),
    "no pg_hba.conf entry|pg_hba.conf rejects": (
        "pg_hba.conf on the server needs a line for the hub's address: "
        "hostssl DATABASE USER ADDRESS scram-sha-256"
    ),
    'database ".*" does not exist': (
        "create it on the server (createdb --owner USER DATABASE), or correct the name in "
        "jupyterhub_database_url"
    ),
    "session is read-only|hot standby": (
        "this is a replica; name the primary server in jupyterhub_database_url"
    ),
    "permission denied|not permitted to log in": "grant the user the right to connect and log in",
}


def engine_of(url: str, password: str = "") -> Engine:
    """Return an engine whose connections are closed after use.

    :param password: a password that is not in the passfile yet.
    """
    found = make_url(url)
    if not password:
        return create_engine(found, poolclass=NullPool)
    plain = found.difference_update_query(["passfile"])
    return create_engine(plain, connect_args={"password": password}, poolclass=NullPool)


def shown(url: str) -> str:
    """Return a database as it is named to administrators, without options and secrets."""
    found = make_url(url)
    if found.host is None:
        return str(found.database)
    port = f":{found.port}" if found.port else ""
    return f"{found.database} on {found.host}{port}"


def first_line(error: Exception) -> str:
    """Return the reason in a database's error message, without SQLAlchemy's additions."""
    words = str(getattr(error, "orig", None) or error)
    return next((line.strip() for line in words.splitlines() if line.strip()), repr(error))


def hint(words: str) -> str:
    """Return what to do about an error message; empty if we do not know."""
    return next((do for part, do in _HINTS.items() if re.search(part, words)), "")


def tables_in(link: Connection) -> list[str]:
    """Return the tables of a hub that a database has."""
    there = set(inspect(link).get_table_names())
    return [name for name in TABLES if name in there]


def _rights_problems(link: Connection, tables: list[str]) -> Iterator[str]:
    if link.scalar(
        sql("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
    ):
        yield (
            "the server is read-only (a replica?); name the primary server in "
            "jupyterhub_database_url"
        )
    user = link.scalar(sql("SELECT current_user"))
    if not link.scalar(
        sql("SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)")
    ):
        yield (
            f"the user {user} may not create tables; on the server: "
            f"GRANT CREATE ON SCHEMA public TO {user}"
        )
    denied = [
        name
        for name in tables
        if not link.scalar(
            sql("SELECT has_table_privilege(:name, 'SELECT, INSERT, UPDATE, DELETE')"),
            {"name": name},
        )
    ]
    if denied:
        yield (
            f"the user {user} may not use the tables {', '.join(denied)}; on the server: "
            f"ALTER TABLE … OWNER TO {user}"
        )


def _postgresql(link: Connection) -> dict[str, Any]:
    version = str(link.scalar(sql("SHOW server_version"))).split()[0]
    tables = tables_in(link)
    problems = []
    if int(str(link.scalar(sql("SHOW server_version_num")))) < OLDEST:
        problems.append(
            f"the server is PostgreSQL {version}; {OLDEST // 10_000} or newer is needed"
        )
    problems += _rights_problems(link, tables)
    return {"version": version, "tables": tables, "problems": problems}


def check(url: str, password: str = "") -> dict[str, Any]:
    """Return what matters of a database: ``version``, hub's ``tables``, ``users``, ``problems``.

    :param password: a password that is not in the passfile yet.
    """
    found: dict[str, Any] = {"version": "", "tables": [], "users": 0, "problems": []}
    is_file = make_url(url).get_backend_name() == "sqlite"
    path = make_url(url).database or ""
    if is_file and not Path(path).exists():
        if not Path(path).absolute().parent.is_dir():
            found["problems"] = [f"the folder of {path} is missing"]
        return found
    try:
        with engine_of(url, password).connect() as link:
            found |= {"tables": tables_in(link)} if is_file else _postgresql(link)
            if "users" in found["tables"] and not found["problems"]:
                found["users"] = link.scalar(sql("SELECT count(*) FROM users"))
    except SQLAlchemyError as error:
        words = first_line(error)
        do = hint(words)
        found["problems"] = [f"{words}; {do}" if do else words]
    return found
