"""The PostgreSQL server of the cluster, and how it goes away."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import requests

from cluster import INVENTORY, ROOT, host
from faults import BOOT, HUB_CONFIG, run
from hub_client import page_text, wait_for
from sessions import Person

TOOL = (
    "runuser -u jupyterhub -- /opt/jupyterhub/current/env/bin/python -sE "
    "/opt/jupyterhub/current/sge_database.py"
)
SQLITE = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
POSTGRESQL = "postgresql://jupyterhub@database/jupyterhub"
PASSWORD_FILE = "/etc/gridhub-database/password"
#: A part of the sentence that people read while the database is away (files/words.toml).
SENTENCE = "cannot write to its database"


def query(statement: str, database: str = "jupyterhub") -> str:
    """Run a statement as the server's administrator."""
    words = shlex.quote(statement)
    return run(
        "database", f"cd /; runuser -u postgres -- psql -XAt -d {database} -c {words}"
    ).strip()


def is_up() -> bool:
    return bool(host("database").run("runuser -u postgres -- psql -XAt -c 'SELECT 1'").rc == 0)


def wait_for_the_server() -> None:
    wait_for("PostgreSQL answers", is_up, BOOT)


def reads(person: Person, path: str = "/hub/home") -> tuple[int, str]:
    page = person.get(path, timeout=60, allow_redirects=False)
    return page.status_code, page_text(page)


def wait_for_the_database(person: Person) -> None:
    """Wait until a person's pages are back, and stay: the hub restarts when PostgreSQL is back."""

    def is_back() -> bool:
        process = main_process()
        with contextlib.suppress(requests.RequestException):
            if reads(person)[0] == 200:
                time.sleep(5)
                return process == main_process() and reads(person)[0] == 200
        return False

    wait_for(f"{person.name} sees the pages again", is_back, BOOT)


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Stop the server, as for an update; start it again afterwards."""
    try:
        run("database", "systemctl stop postgresql")
        # This unit only represents the units of the servers, which systemd stops after it.
        wait_for("PostgreSQL is gone", lambda: not is_up())
        yield
    finally:
        run("database", "systemctl start postgresql")
        wait_for_the_server()


@contextlib.contextmanager
def killed() -> Iterator[None]:
    """Kill the server with all its connections; start it again afterwards."""
    try:
        run("database", "pkill -KILL -u postgres")
        wait_for("PostgreSQL is gone", lambda: not is_up())
        yield
    finally:
        run("database", "systemctl reset-failed; systemctl restart postgresql")
        wait_for_the_server()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Freeze all processes of the server: its connections stay open, and nothing is answered."""
    try:
        run("database", "pkill -STOP -u postgres")
        yield
    finally:
        run("database", "pkill -CONT -u postgres")
        wait_for_the_server()


def hub_database() -> str:
    """Return the address of the hub's database, from its configuration."""
    line = run("hub", f"grep '^c.JupyterHub.db_url = ' {HUB_CONFIG}")
    return str(json.loads(line.partition(" = ")[2]))


def check(password: str = "", host: str = "", name: str = "", **options: str) -> list[str]:
    """Return what the hub's own program finds wrong with the database, after some changes."""
    url, _, query = hub_database().partition("?")
    if host:
        url = url.replace("@database/", f"@{host}/")
    if name:
        url = url.replace("/jupyterhub", f"/{name}")
    changed = urlencode(dict(parse_qsl(query)) | options)
    asked = json.dumps({"url": f"{url}?{changed}", "password": password})
    found: dict[str, Any] = json.loads(run("hub", f"cd /; {TOOL} check <<'END'\n{asked}\nEND"))
    return list(found["problems"])


def main_process() -> str:
    return run("hub", "systemctl show -P MainPID jupyterhub").strip()


def site_inventory(folder: Path) -> Path:
    """Write an inventory in which the server is the site's own: it has no group ``database``."""
    own = ROOT / INVENTORY
    for name in ("group_vars", "host_vars"):
        (folder / name).symlink_to((own / name).resolve())
    text = (own / "hosts.yml").read_text(encoding="utf-8")
    (folder / "hosts.yml").write_text(text.replace("\ndatabase:\n", "\nungrouped:\n"), "utf-8")
    return folder
