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

from gridhub.hub.database_check import check, shown
from gridhub.hub.database_copy import CopyError, copy, explain, set_aside, snapshot
from gridhub.hub.sessions import database_url

USAGE = """sge_database.py check < JSON      whether a database ("url", "password") can be the hub's
sge_database.py copy SOURCE TARGET     copy a hub's database into an empty one
sge_database.py print SOURCE           write a copy to standard output, as SQLite does
sge_database.py set-aside DATABASE     rename a hub's database"""


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
        case ["set-aside", database]:
            print(f"{shown(url_of(database))} is now {set_aside(url_of(database))}")
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


def main(arguments: list[str]) -> int:
    """Run a command; return the exit status. The reason of a failure is on standard error."""
    try:
        return _run(arguments[1:])
    except (CopyError, SQLAlchemyError, OSError, ValueError) as error:
        print(explain(error), file=sys.stderr)
        return 1
