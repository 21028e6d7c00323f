# SPDX-License-Identifier: BSD-3-Clause
"""Take running sessions from the hub's present database into an older one.

A session goes on without the hub, so an older database may not know it. Its rows are copied from
the database that knows it: the person, the session with its address, the hash of its token, and its
OAuth client. Both databases may be of different releases of JupyterHub: a column is copied if both
have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, MetaData, Table, select
from sqlalchemy import text as sql
from sqlalchemy.exc import SQLAlchemyError

from gridhub.broker.protocol import job_name
from gridhub.grid.jobs import Job, State
from gridhub.hub.database_check import engine_of, first_line, shown

_TABLES = ("users", "spawners", "servers", "api_tokens", "oauth_clients", "roles", "user_role_map")


@dataclass(frozen=True)
class Stored:
    """A session in a database that is not over."""

    user: str
    #: The name of a named server; empty for the default server.
    server: str
    session: str
    #: Whether the person has stopped it; its job may still exist.
    stopping: bool
    #: Whether the hub knows where the session's server listens.
    has_address: bool


@dataclass
class Plan:
    """What becomes of each session when a database replaces another."""

    #: Sessions whose rows are taken from the present database.
    adopted: list[Stored] = field(default_factory=list)
    #: Sessions that the older database knows, and that the hub resumes.
    resumed: list[Stored] = field(default_factory=list)
    #: Sessions of the older database that have ended meanwhile; the hub closes them.
    ended: list[Stored] = field(default_factory=list)
    #: Sessions that the older database has without their address: the hub could not resume them,
    #: and would end them. They lose their row, and are among :attr:`left`.
    detached: list[Stored] = field(default_factory=list)
    #: The names of jobs that the hub must not delete, although no session in its database has them.
    left: list[str] = field(default_factory=list)


def plan(
    jobs: Iterable[Job],
    present: Mapping[str, Stored],
    older: Mapping[str, Stored],
    mark: str,
    *,
    adopt: bool,
) -> Plan:
    """Decide about each session.

    :param jobs: all jobs in Grid Engine.
    :param present, older: the sessions of both databases, each by its name.
    :param mark: the prefix in the names of the hub's sessions.
    :param adopt: whether sessions are taken that only the present database has.
    """
    ours = re.compile(re.escape(job_name("")) + "([0-9a-f]{32})")
    alive = {found[1]: job for job in jobs if (found := ours.fullmatch(job.name))}
    result = Plan()
    places = set()  # a person has one session of each name
    for name, stored in present.items():
        if stored.stopping:
            continue  # as the person wants, the hub deletes its job
        if name in alive and (adopt or name in older):
            result.adopted.append(stored)
            places.add((stored.user, stored.server))
        elif name not in older:
            # Its job may still be on its way to Grid Engine, so leave it even if there is none.
            result.left.append(name)
    for name, stored in older.items():
        if name not in alive:
            result.ended.append(stored)
        elif name in present:
            continue
        elif (stored.user, stored.server) in places:
            result.left.append(name)
        elif stored.has_address or alive[name].state in (State.QUEUED, State.HELD, State.ERROR):
            result.resumed.append(stored)
        else:
            result.detached.append(stored)
            result.left.append(name)
    known = {*present, *older}
    result.left += [name for name in alive if name.startswith(mark) and name not in known]
    result.left = [job_name(name) for name in sorted(set(result.left))]
    return result


def _tables(link: Connection) -> dict[str, Table]:
    found = MetaData()
    found.reflect(link, only=_TABLES)
    return {name: found.tables[name] for name in _TABLES}


def sessions(link: Connection) -> dict[str, Stored]:
    """Return the sessions in a database that are not over, each by its name."""
    rows = link.execute(
        sql(
            "SELECT users.name, spawners.name, spawners.state FROM spawners"
            " JOIN users ON users.id = spawners.user_id WHERE spawners.server_id IS NOT NULL"
        )
    ).all()
    found = {}
    for user, server, text in rows:
        state = json.loads(text or "{}")
        if name := state.get("session"):
            found[name] = Stored(
                user=user,
                server=server or "",
                session=name,
                stopping=bool(state.get("stopping")),
                has_address=bool(state.get("host") and state.get("port")),
            )
    return found


class _Copier:
    """Copies the rows of sessions from one database to another."""

    def __init__(self, old: Connection, new: Connection) -> None:
        self._old, self._new = old, new
        self._from, self._to = _tables(old), _tables(new)

    def _one(self, table: str, /, **where: object) -> dict[str, Any] | None:
        return _row(self._old, self._from[table], where)

    def _there(self, table: str, /, **where: object) -> dict[str, Any] | None:
        return _row(self._new, self._to[table], where)

    def _insert(self, name: str, row: Mapping[str, Any], /, **values: object) -> Any:
        table = self._to[name]
        row = {key: value for key, value in row.items() if key in table.c and key != "id"}
        done = self._new.execute(table.insert().values({**row, **values}))
        assert done.inserted_primary_key is not None
        return done.inserted_primary_key[0]

    def _set(self, name: str, number: object, row: Mapping[str, Any], /, **values: object) -> None:
        table = self._to[name]
        row = {key: value for key, value in row.items() if key in table.c and key != "id"}
        self._new.execute(table.update().where(table.c.id == number).values({**row, **values}))

    def _delete(self, name: str, /, **where: object) -> None:
        table = self._to[name]
        conditions = [table.c[key] == value for key, value in where.items()]
        self._new.execute(table.delete().where(*conditions))

    def copy(self, stored: Stored) -> None:
        """Copy everything that belongs to a session."""
        user = self._one("users", name=stored.user)
        assert user is not None
        spawner = self._one("spawners", user_id=user["id"], name=stored.server)
        assert spawner is not None
        number = self._user(user)
        server = self._one("servers", id=spawner["server_id"])
        assert server is not None
        values = {
            "user_id": number,
            "server_id": self._insert("servers", server),
        }
        if client := spawner.get("oauth_client_id"):
            self._client(client)
        there = self._there("spawners", user_id=number, name=stored.server)
        if there is None:
            self._insert("spawners", spawner, **values)
        else:
            self._set("spawners", there["id"], spawner, **values)
            if there["server_id"] is not None:
                self._delete("servers", id=there["server_id"])
        token = json.loads(spawner["state"] or "{}").get("token_hash")
        row = self._one("api_tokens", hashed=token) if token else None
        if row and not self._there("api_tokens", hashed=token):
            if row["client_id"]:
                self._client(row["client_id"])
            self._insert("api_tokens", row, user_id=number, service_id=None)

    def _user(self, user: Mapping[str, Any]) -> Any:
        if there := self._there("users", name=user["name"]):
            return there["id"]
        number = self._insert("users", user)
        for held in _rows(self._old, self._from["user_role_map"], {"user_id": user["id"]}):
            role = self._one("roles", id=held["role_id"])
            # The hub gives rights by its configuration when it starts; this is the plain role.
            there = self._there("roles", name=role["name"]) if role else None
            if there and role and role["name"] == "user":
                self._new.execute(
                    self._to["user_role_map"]
                    .insert()
                    .values(
                        _known(held, self._to["user_role_map"], user_id=number, role_id=there["id"])
                    )
                )
        return number

    def _client(self, identifier: str) -> None:
        client = self._one("oauth_clients", identifier=identifier)
        if client is None:
            return
        there = self._there("oauth_clients", identifier=identifier)
        if there is None:
            self._insert("oauth_clients", client)
        else:
            # The client's secret is the newer session's token.
            self._set("oauth_clients", there["id"], client)

    def detach(self, stored: Stored) -> None:
        """Let the hub forget a session that it could not resume."""
        user = self._there("users", name=stored.user)
        assert user is not None
        spawner = self._there("spawners", user_id=user["id"], name=stored.server)
        assert spawner is not None
        self._set("spawners", spawner["id"], {}, server_id=None, state="{}")
        self._delete("servers", id=spawner["server_id"])


def _known(row: Mapping[str, Any], table: Table, **values: object) -> dict[str, Any]:
    return {**{key: value for key, value in row.items() if key in table.c}, **values}


def _rows(link: Connection, table: Table, where: Mapping[str, object]) -> list[dict[str, Any]]:
    conditions = [table.c[key] == value for key, value in where.items()]
    return [dict(row) for row in link.execute(select(table).where(*conditions)).mappings()]


def _row(link: Connection, table: Table, where: Mapping[str, object]) -> dict[str, Any] | None:
    found = _rows(link, table, where)
    return found[0] if found else None


def reconcile(
    older_url: str, present_url: str, jobs: Iterable[Job], mark: str, *, adopt: bool, write: bool
) -> dict[str, Any]:
    """Take the running sessions from the present database into an older copy.

    All is written in one transaction.

    :param present_url: the database in use; empty if there is none.
    :param adopt: whether sessions are taken that only the present database has. A session that both
        have is taken in any case: its address may be newer.
    :param write: whether anything is written; otherwise, the result only says what would be.
    :returns: the plan: ``adopted``, ``resumed``, ``ended``, each a list of ``user`` and ``server``;
        ``left``, the names of jobs that the hub must leave alone; ``unreadable``, why the present
        database could not be used, or empty.
    """
    unreadable = ""
    with engine_of(older_url).connect() as new:
        try:
            result = _reconcile(new, present_url, jobs, mark, adopt=adopt)
        except (SQLAlchemyError, ValueError) as error:
            if not present_url:
                raise
            new.rollback()
            unreadable = f"{shown(present_url)}: {first_line(error)}"
            result = _reconcile(new, "", jobs, mark, adopt=adopt)
        if write:
            new.commit()
        else:
            new.rollback()

    def named(each: Iterable[Stored]) -> list[dict[str, str]]:
        return [{"user": one.user, "server": one.server} for one in each]

    return {
        "adopted": named(result.adopted),
        "resumed": named(result.resumed),
        "ended": named(result.ended),
        "detached": named(result.detached),
        "left": result.left,
        "unreadable": unreadable,
    }


def _reconcile(
    new: Connection, present_url: str, jobs: Iterable[Job], mark: str, *, adopt: bool
) -> Plan:
    older = sessions(new)
    if not present_url:
        result = plan(jobs, {}, older, mark, adopt=adopt)
        copier = _Copier(new, new)
    else:
        with engine_of(present_url).connect() as old:
            result = plan(jobs, sessions(old), older, mark, adopt=adopt)
            copier = _Copier(old, new)
            for stored in result.adopted:
                copier.copy(stored)
    for stored in result.detached:
        copier.detach(stored)
    return result
