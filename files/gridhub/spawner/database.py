# SPDX-License-Identifier: BSD-3-Clause
"""A session's row in the hub's database; the row survives a restart of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from jupyterhub import orm
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, object_session

from gridhub.menu.job import Requested
from gridhub.spawner.ended import SessionEnd
from gridhub.spawner.failures import SessionError
from gridhub.words import text


class SessionState(NamedTuple):
    """The state of a session in the database; each field is named after a spawner attribute."""

    session: str = ""
    owner: str = ""
    token_hash: str = ""
    host: str = ""
    port: int = 0
    stopping: bool = False
    ends: float = 0.0
    note: str = ""
    asked: tuple[Requested, ...] = ()
    last: SessionEnd | None = None

    def dump(self) -> dict[str, Any]:
        """Return the state in a form that JSON can store; :meth:`load` reads this form."""
        state: dict[str, Any] = {}
        if self.session:
            state = self._asdict()
            del state["last"]
            state["asked"] = [each.model_dump() for each in self.asked]
        if self.last:
            state["last"] = self.last.dump()
        return state

    @classmethod
    def load(cls, state: dict[str, Any]) -> SessionState:
        """Read values that :meth:`dump` has returned, in this or another release."""
        plain: dict[str, Any] = {
            name: state.get(name, default)
            for name, default in cls._field_defaults.items()
            if name not in ("asked", "last")
        }
        # Another release may have written `asked` and `last` in another format. If they cannot be
        # read, leave them empty: the hub only shows them to people, and keeps the session.
        asked: tuple[Requested, ...] = ()
        last = None
        with suppress(ValidationError, ValueError, TypeError, KeyError):
            asked = tuple(Requested.model_validate(each) for each in state.get("asked", ()))
            last = SessionEnd.load(end) if (end := state.get("last")) else None
        return cls(**plain, asked=asked, last=last)


@contextmanager
def writing(row: Any) -> Iterator[Session | None]:
    """Let a block write to the hub's database; commit when the block ends.

    :param row: the spawner's row. The database session comes from this row, not from the spawner's
        attribute ``db``, because JupyterHub intends to remove ``db``.
    :raises SessionError: when the database cannot be written.
    """
    database = object_session(row)
    try:
        yield database
        if database:
            database.commit()
    except SQLAlchemyError as error:
        if database:
            database.rollback()
        raise SessionError(
            text("start.database"),
            reason="database",
            log_message=f"database: {error}",
            status_code=503,
        ) from error


def find_token(database: Session, token: str, token_hash: str) -> orm.APIToken | None:
    """Return the database row of a session's token; the row contains no secret.

    :param token: the token; empty after a restart of the hub, which then knows only the hash.
    """
    if token:
        return orm.APIToken.find(database, token)
    return database.query(orm.APIToken).filter_by(hashed=token_hash).first()
