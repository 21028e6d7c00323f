"""The canary account of the smoke test, and the program that uses it."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
from collections.abc import Iterator
from typing import Any

from testinfra.backend.base import CommandResult

from cluster import host
from newcomer import HOSTS, Newcomer

PROGRAM = "/usr/bin/python3 -sE /usr/local/lib/gridhub/sge_maintenance.py"
SETTINGS = "/etc/gridhub/maintenance.json"
PASSWORD = "/etc/gridhub/canary-password"
STATE = "/var/lib/gridhub-smoke"
#: What site.yml would get from a site's inventory.
VARIABLES = {"maintenance_canary_user": "canary"}


class Canary(Newcomer):
    """The account; the hub's host has its password."""

    def __init__(self) -> None:
        super().__init__("", "canary", secrets.token_hex(8))

    def _trusted_certificate(self) -> str:
        return ""  # only the smoke test uses the account

    def make(self, *_: object) -> None:
        super().make(7990, "/bin/bash", "users")
        self.set_password(self.password)
        self._before = host("hub").check_output(f"cat {SETTINGS}")
        self.set(canary_user=self.name, smoke_minutes=15)

    def remove(self) -> None:
        run(f"printf '%s\\n' {shlex.quote(self._before)} > {SETTINGS}; rm -rf {PASSWORD} {STATE}")
        self.as_root(f"rm -rf {self.home}")
        for name in HOSTS:
            host(name).run(f"userdel {self.name}")

    def set_password(self, password: str) -> None:
        """Write a password for the smoke test; it need not be the right one."""
        run(f"umask 077; rm -f {PASSWORD}; echo {shlex.quote(password)} > {PASSWORD}")

    def set(self, **changed: object) -> None:
        """Change the maintenance's settings."""
        text = json.dumps(json.loads(host("hub").check_output(f"cat {SETTINGS}")) | changed)
        run(f"printf %s {shlex.quote(text)} > {SETTINGS}")

    @contextlib.contextmanager
    def settings(self, **changed: object) -> Iterator[None]:
        """Change the maintenance's settings for a while."""
        whole = json.loads(host("hub").check_output(f"cat {SETTINGS}"))
        self.set(**changed)
        try:
            yield
        finally:
            self.set(**{name: whole[name] for name in changed})

    def files(self) -> str:
        """Return all paths in the home."""
        return self.as_root(f"find {self.home} | sort")

    def jobs(self) -> str:
        """Return Grid Engine's list of the account's jobs; empty if there is none."""
        return str(host("qmaster").check_output(f"qstat -u {self.name}"))


def run(command: str) -> str:
    """Run a command on the hub's host."""
    return str(host("hub").check_output(command))


def smoke() -> CommandResult:
    """Do a smoke test, as ``playbooks/smoke.yml`` does."""
    return host("hub").run(f"{PROGRAM} smoke")


def last() -> dict[str, Any]:
    """Return the result of the last smoke test."""
    return dict(json.loads(run(f"cat {STATE}/last.json")))


def database(query: str) -> list[list[Any]]:
    """Return the rows of a query to the hub's database."""
    code = (
        "import json, sqlite3; "
        "link = sqlite3.connect('file:/var/lib/jupyterhub/jupyterhub.sqlite?mode=ro', uri=True); "
        f"print(json.dumps(link.execute({query!r}).fetchall()))"
    )
    return list(json.loads(run(f"python3 -c {shlex.quote(code)}")))
