# SPDX-License-Identifier: BSD-3-Clause
"""Bring a copy of a hub's database into this release's form, and open it as the hub does."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import alembic.command
import alembic.config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from jupyterhub import __version__, dbutil, orm
from sqlalchemy import inspect
from sqlalchemy import text as sql

from gridhub.hub.database_check import engine_of, shown
from gridhub.hub.database_copy import CopyError
from gridhub.spawner.database import SessionState

log = logging.getLogger(__name__)


def revision(url: str) -> str:
    """Return the version of the form of a database's tables; empty if it does not say."""
    with engine_of(url).connect() as link:
        if not inspect(link).has_table("alembic_version"):
            return ""
        return str(link.scalar(sql("SELECT version_num FROM alembic_version")) or "")


def migrate(url: str) -> tuple[str, str]:
    """Bring a database into the form that this JupyterHub uses; return the old and the new version.

    :raises CopyError: when the database is of a newer JupyterHub, or not a hub's.
    """
    old = revision(url)
    # JupyterHub's own function starts the program `alembic`, which is not in a unit's path.
    with dbutil._temp_alembic_ini(url) as path:
        config = alembic.config.Config(path)
        scripts = ScriptDirectory.from_config(config)
        (new,) = scripts.get_heads()
        known = None
        with suppress(CommandError):
            known = scripts.get_revision(old) if old else None
        if known is None:
            raise CopyError(
                f"{shown(url)} is not a database that JupyterHub {__version__} can use: it does "
                f"not know the form {old or '(none)'} of its tables. A newer JupyterHub has made "
                "it; use the release that did (playbooks/rollback.yml --check lists them)"
            )
        if old != new:
            alembic.command.upgrade(config, new)
    if (found := revision(url)) != new:
        raise CopyError(f"{shown(url)} has the form {found} after the migration, not {new}")
    return old, new


def open_database(url: str) -> dict[str, Any]:
    """Read everything in a database as the hub does.

    :returns: the numbers of ``users``, ``tokens`` and ``sessions``.
    :raises CopyError: when a row cannot be read.
    """
    factory = orm.new_session_factory(url)  # checks the version of the tables' form
    try:
        with factory() as database:
            for mapper in orm.Base.registry.mappers:
                try:
                    rows = database.query(mapper.class_).all()
                    for row in rows:
                        for column in mapper.column_attrs:
                            getattr(row, column.key)
                except Exception as error:
                    name = mapper.local_table.name
                    raise CopyError(
                        f"{shown(url)}: JupyterHub {__version__} cannot read its table {name}: "
                        f"{error}"
                    ) from error
            running = database.query(orm.Spawner).filter(orm.Spawner.server_id.is_not(None)).all()
            for spawner in running:
                SessionState.load(spawner.state or {})
            return {
                "users": database.query(orm.User).count(),
                "tokens": database.query(orm.APIToken).count(),
                "sessions": len(running),
                "jupyterhub": __version__,
            }
    finally:
        factory.kw["bind"].dispose()
