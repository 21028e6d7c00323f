# SPDX-License-Identifier: BSD-3-Clause
"""The sessions that run, as the hub's database has them, whichever database that is.

For the maintenance (``files/sge_maintenance.py``), which has the host's own Python and no packages:
it runs this as the hub's user, before the reboot and after it, whether or not the hub is up.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

from jupyterhub.utils import subdomain_hook_idna
from sqlalchemy import create_engine, text

#: The state is JSON in a column of text (jupyterhub.orm).
_RUNNING = text(
    "SELECT users.name, spawners.name, spawners.state, servers.proto, servers.ip,"
    " servers.port, servers.base_url FROM spawners"
    " JOIN servers ON servers.id = spawners.server_id"
    " JOIN users ON users.id = spawners.user_id"
)


def database_url(config: str) -> str:
    """Return the address of the database in the hub's configuration.

    It is read, and not run: all that the hub loads would take seconds.

    :raises ValueError: when it names none, or no plain text.
    """
    urls = [
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(config))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "c.JupyterHub.db_url"
    ]
    if not urls:
        raise ValueError("the configuration has no line c.JupyterHub.db_url = ...")
    return str(urls[-1])


def running(url: str) -> list[dict[str, object]]:
    """Return whose sessions run, where, and in which job."""
    engine = create_engine(url)
    with engine.connect() as link:
        rows = link.execute(_RUNNING).all()
    engine.dispose()
    return [
        {
            "user": user,
            # Of the person's own host name, where people have one.
            "label": subdomain_hook_idna(user, "", "user").rstrip("."),
            "name": name,
            "job": str(json.loads(state or "{}").get("job_id") or ""),
            "scheme": scheme,
            "host": host,
            "port": port,
            "path": path,
        }
        for user, name, state, scheme, host, port, path in rows
        # A session that is still starting has no port, and nobody could reach it before either.
        if port
    ]


def main(arguments: list[str]) -> int:
    """``sge_sessions.py CONFIGURATION``: print the sessions of the hub's database as JSON."""
    if len(arguments) != 2:
        print(main.__doc__, file=sys.stderr)
        return 2
    print(json.dumps(running(database_url(Path(arguments[1]).read_text(encoding="utf-8")))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
