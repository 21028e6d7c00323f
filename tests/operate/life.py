"""Helpers for tests of backups and releases."""

from __future__ import annotations

import json
from typing import Any

import faults
from faults import run
from sessions import Person

STATE = "/var/lib/gridhub-maintenance"
BACKUPS = "/var/backups/gridhub"
DATABASE = "/var/lib/jupyterhub/jupyterhub.sqlite"


def backups() -> list[str]:
    """Return the names of the backups on the hub's host, the oldest first."""
    return run("hub", f"ls {BACKUPS}").split()


def token_of(person: Person) -> str:
    """Make an API token."""
    answer = person.rest("POST", f"/users/{person.name}/tokens", {"note": "a test"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def user_of(token: str) -> str:
    """Return whose token this is; empty if the hub does not know it."""
    # nginx lets only the hub's own pages use its API, so ask from the hub's host.
    script = """
import json, ssl, sys, urllib.request
folder = "/var/lib/jupyterhub/internal-ssl"
context = ssl.create_default_context(cafile=folder + "/hub-ca_trust.crt")
pair = folder + "/hub-internal/hub-internal"
context.load_cert_chain(pair + ".crt", pair + ".key")
request = urllib.request.Request("https://hub:8081/hub/api/user")
request.add_header("Authorization", "token " + sys.argv[1])
try:
    print(json.load(urllib.request.urlopen(request, context=context))["name"])
except urllib.error.HTTPError as error:
    sys.exit(0 if error.code == 403 else str(error))
"""
    return str(faults.host("hub").check_output("python3 -c %s %s", script, token)).strip()


def query(statement: str, path: str = DATABASE) -> str:
    """Return the first value of a statement in a file of SQLite on the hub's host."""
    program = (
        "import sqlite3, sys; "
        "print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    )
    found = faults.host("hub").check_output("python3 -c %s %s %s", program, path, statement)
    return str(found).strip()


def last_operation() -> dict[str, Any]:
    return dict(json.loads(run("hub", f"cat {STATE}/last-operation.json")))


def is_unfinished() -> bool:
    return bool(faults.host("hub").run(f"test -e {STATE}/operation.json").rc == 0)


def jupyterhub() -> str:
    """Return the version of JupyterHub that the hub runs."""
    return (
        run(
            "hub",
            "ls -d /opt/jupyterhub/current/env/lib/python3*/site-packages/jupyterhub-*.dist-info",
        )
        .rpartition("jupyterhub-")[2]
        .removesuffix(".dist-info")
    )
