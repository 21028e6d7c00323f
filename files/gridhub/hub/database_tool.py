# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``sge_database.py``, which runs as the hub's user.

A database is a URL in SQLAlchemy's format without a password, or the path of the hub's
configuration, which means the database that the hub uses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from gridhub.grid.engine import GridEngineError
from gridhub.grid.jobs import parse_qstat
from gridhub.hub.database_check import check, shown
from gridhub.hub.database_copy import CopyError, copy, explain, replace, set_aside, snapshot
from gridhub.hub.database_sessions import reconcile
from gridhub.hub.database_upgrade import migrate, open_database
from gridhub.hub.sessions import database_url
from gridhub.spawner.cluster import hub_mark

USAGE = """sge_database.py check < JSON      whether a database ("url", "password") can be the hub's
sge_database.py copy SOURCE TARGET     copy a hub's database into an empty one
sge_database.py print SOURCE           write a copy to standard output, as SQLite does
sge_database.py replace SOURCE DATABASE
                                       put a copy in the place of a database of PostgreSQL
sge_database.py set-aside DATABASE     rename a hub's database
sge_database.py migrate DATABASE       bring a copy into the form of this JupyterHub
sge_database.py open DATABASE          read a copy as the hub does
sge_database.py reconcile OLDER PRESENT COOKIE_SECRET adopt|leave [plan] < XML
                                       take the running sessions of a database (or -) into an older
                                       copy; standard input is the answer of qstat -f -u '*' -xml"""


def url_of(database: str) -> str:
    """Return the URL of a database that a command names."""
    if "://" in database:
        return database
    return database_url(Path(database).read_text(encoding="utf-8"))


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["check"]:
            asked = json.load(sys.stdin)
            print(json.dumps(check(asked["url"], asked.get("password", ""))))
        case ["copy", source, target]:
            old, new = url_of(source), url_of(target)
            print(f"copied {copy(old, new)} rows from {shown(old)} to {shown(new)}")
        case ["print", source]:
            sys.stdout.buffer.write(snapshot(url_of(source)))
        case ["replace", source, database]:
            print(
                f"the tables that were there are now in the schema "
                f"{replace(url_of(source), url_of(database))}"
            )
        case ["set-aside", database]:
            print(f"{shown(url_of(database))} is now {set_aside(url_of(database))}")
        case ["migrate", database]:
            old, new = migrate(url_of(database))
            print(json.dumps({"old": old, "new": new}))
        case ["open", database]:
            print(json.dumps(open_database(url_of(database))))
        case ["reconcile", older, present, secret, "adopt" | "leave" as what, *plan] if plan in (
            [],
            ["plan"],
        ):
            found = reconcile(
                url_of(older),
                "" if present == "-" else url_of(present),
                parse_qstat(sys.stdin.buffer.read()),
                # As JupyterHub reads the file (jupyterhub.app).
                hub_mark(bytes.fromhex(Path(secret).read_text(encoding="ascii").strip())),
                adopt=what == "adopt",
                write=not plan,
            )
            print(json.dumps(found))
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


def main(arguments: list[str]) -> int:
    """Run a command; return the exit status. The reason of a failure is on standard error."""
    try:
        return _run(arguments[1:])
    except (CopyError, GridEngineError, SQLAlchemyError, OSError, ValueError) as error:
        print(explain(error), file=sys.stderr)
        return 1
