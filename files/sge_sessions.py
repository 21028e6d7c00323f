# SPDX-License-Identifier: BSD-3-Clause
"""The sessions that run, as the hub's database has them, whichever database that is.

For the maintenance, which has the host's own Python and no more (``sge_maintenance.py``): it runs
this as the hub's user, before the reboot and after it, whether or not the hub is up.
"""

from __future__ import annotations

import json
import sys

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from sqlalchemy import create_engine
from sqlalchemy.orm import Session


def running(database: Session) -> list[dict[str, object]]:
    """Return whose sessions run, where, and in which job."""
    rows = database.query(orm.Spawner).filter(orm.Spawner.server_id.is_not(None))
    return [
        {
            "user": row.user.name,
            "name": row.name,
            "job": str((row.state or {}).get("job_id") or ""),
            "scheme": row.server.proto,
            "host": row.server.ip,
            "port": row.server.port,
            "path": row.server.base_url,
        }
        for row in rows
        # A session that is still starting has no port, and nobody could reach it before either.
        if row.server.port
    ]


def main(arguments: list[str]) -> int:
    """``sge_sessions.py CONFIGURATION``: print the sessions of the hub's database as JSON."""
    if len(arguments) != 2:
        print(main.__doc__, file=sys.stderr)
        return 2
    hub = JupyterHub()
    hub.load_config_file(arguments[1])
    with Session(create_engine(hub.db_url, **hub.db_kwargs)) as database:
        print(json.dumps(running(database)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
