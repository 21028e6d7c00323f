# SPDX-License-Identifier: BSD-3-Clause
"""List the running sessions in the hub's database, whichever database system it uses.

The maintenance script (``files/sge_maintenance.py``) runs this module as the hub's user, before and
after a reboot, even if the hub is down. The script cannot read the database itself, because the
script uses the system's Python without packages.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

from jupyterhub.utils import subdomain_hook_idna
from sqlalchemy import create_engine
from sqlalchemy import text as sql

#: The state of a spawner is JSON in a text column (jupyterhub.orm).
_RUNNING = sql(
    "SELECT users.name, spawners.name, spawners.state, servers.proto, servers.ip,"
    " servers.port, servers.base_url FROM spawners"
    " JOIN servers ON servers.id = spawners.server_id"
    " JOIN users ON users.id = spawners.user_id"
)


def database_url(config: str) -> str:
    """Return the URL of the database from the hub's configuration.

    The configuration is parsed, not run, because loading all its imports would take seconds.

    :raises ValueError: when the configuration has no URL, or has a URL that is not a literal.
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
    """Return the running sessions, each with its person, address and job number."""
    engine = create_engine(url)
    with engine.connect() as link:
        rows = link.execute(_RUNNING).all()
    engine.dispose()
    return [
        {
            "user": user,
            # The person's subdomain, if the site uses subdomains.
            "label": subdomain_hook_idna(user, "", "user").rstrip("."),
            "name": name,
            "job": str(json.loads(state or "{}").get("job_id") or ""),
            "scheme": scheme,
            "host": host,
            "port": port,
            "path": path,
        }
        for user, name, state, scheme, host, port, path in rows
        # Leave out sessions that are still starting: they have no port, so nobody can reach them
        # yet.
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
