"""The site's directory (slapd) and its login service (oidc-provider), and the people in them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
import requests
import yaml

from cluster import BASE_URL, INVENTORY, PREFIX, ROOT, host
from hub_client import HubClient, page_text, wait_for

PORT = urlsplit(BASE_URL).port
#: The hub's name, which no name server knows.
NAME = "hub.gridhub.test"
HUB = f"https://{NAME}:{PORT}"
SERVICE = "login.gridhub.test"
ISSUER = f"https://{SERVICE}:9443"
#: Where this machine reaches these names.
ADDRESSES = {
    NAME: "127.0.0.1",
    SERVICE: f"{os.environ.get('GRIDHUB_NETWORK', '10.213.32')}.50",
}

USERS = yaml.safe_load((ROOT / INVENTORY / "group_vars/all/users.yml").read_text(encoding="utf-8"))
PASSWORDS = {
    each["name"]: each["password"] for each in USERS["directory_users"] + USERS["demo_users"]
}
SECRET = USERS["jupyterhub_openid_client_secret"]

#: SSSD keeps what it has read for this time, in seconds (molecule/accounts/sssd.sh), and the hub
#: asks about people who are logged in at most this often (``auth_refresh_age``).
CACHED = 15.0 + 5.0
ASKED_AFTER = 5.0


@pytest.fixture(scope="session", autouse=True)
def names() -> Iterator[None]:
    """Resolve the names of hub and login service."""
    real = socket.getaddrinfo

    def resolve(name: Any, *arguments: Any, **more: Any) -> Any:
        return real(ADDRESSES.get(str(name), name), *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def as_root(name: str, lines: str) -> str:
    """Run shell lines on a host; they are not in its list of processes."""
    done = subprocess.run(
        ["podman", "exec", "--interactive", f"{PREFIX}-{name}", "bash", "-eu", "-s"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Directory:
    """The directory's administrators."""

    def change(self, entry: str, *lines: str) -> None:
        """Change an entry (ldapmodify(1)); all hosts see it when their caches are over."""
        ldif = "\n".join([f"dn: {entry},dc=example,dc=org", "changetype: modify", *lines, ""])
        bind = "-D cn=admin,dc=example,dc=org -w admin-of-ldap -H ldap://127.0.0.1"
        as_root("directory", f"ldapmodify -x {bind} <<'END'\n{ldif}END\n")

    def leave(self, name: str, group: str) -> None:
        """Take a person out of a group."""
        self.change(f"cn={group}", "delete: memberUid", f"memberUid: {name}")

    def join(self, name: str, group: str) -> None:
        """Put a person into a group."""
        self.change(f"cn={group}", "add: memberUid", f"memberUid: {name}")

    @contextmanager
    def away(self, how: str = "systemctl stop directory") -> Iterator[None]:
        """Let the directory not answer."""
        as_root("directory", how)
        try:
            yield
        finally:
            as_root("directory", "systemctl kill -s CONT directory || true")
            as_root("directory", "systemctl start directory")
            for name in ("hub", "exec1", "qmaster"):
                as_root(name, "pkill -USR2 -x sssd")  # sssd(8): ask the directory again at once


class LoginService:
    """The login service's administrators."""

    def __init__(self) -> None:
        self._people: dict[str, Any] = {}

    def know(self, name: str, **claims: object) -> None:
        """Give a person an account at the service; a claim of None is not sent."""
        usual = {"preferred_username": f"{name}@example.org", "groups": ["researchers"]}
        self._people[name] = {"password": f"{name}-at-login", "claims": usual | claims}
        as_root(
            "directory", f"cat >/srv/login/accounts.json <<'END'\n{json.dumps(self._people)}\nEND"
        )

    @contextmanager
    def away(self, how: str = "systemctl stop login") -> Iterator[None]:
        """Let the service not answer."""
        as_root("directory", how)
        try:
            yield
        finally:
            as_root("directory", "systemctl kill -s CONT login || true; systemctl start login")
            wait_until_service_answers()


def wait_until_service_answers() -> None:
    """Wait until the login service takes connections."""
    test = f"exec 3<>/dev/tcp/{SERVICE}/9443"
    wait_for("the login service answers", lambda: host("hub").run("bash -c %s", test).rc == 0)


class OpenIDClient(HubClient):
    """One person's browser, which logs in at the login service."""

    def __init__(self, name: str, base_url: str = HUB) -> None:
        super().__init__(base_url, name)
        with Path(self.certificate).open("a", encoding="utf-8") as file:
            file.write(as_root("directory", "cat /srv/authority.pem"))

    def to_service(self, goal: str = "/hub/home") -> requests.Response:
        """Follow the link of the login page; return the service's page."""
        goal = self.folder + goal
        return self.get(f"/hub/oauth_login?{urlencode({'next': goal})}")

    def log_in(self, password: str = "", goal: str = "/hub/home") -> requests.Response:
        """Log in at the service; return the page that follows."""
        page = self.to_service(goal)
        assert urlsplit(page.url).hostname == SERVICE, (page.url, page_text(page))
        return self.http.post(
            urljoin(page.url, urlsplit(page.url).path),
            data={
                "name": self.name,
                "password": password or f"{self.name}-at-login",
                "do": "enter",
            },
            timeout=30,
        )

    def is_logged_in(self) -> bool:
        """Return whether the hub shows the person's own page."""
        return "My sessions" in page_text(self.get("/hub/home"))
