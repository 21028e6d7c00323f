"""A thousand people, with accounts of their own, who log in at once."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import faults
from cluster import PREFIX, read_passwords
from faults import run

COUNT = 1000
NAMES = [f"crowd{number:04d}" for number in range(COUNT)]

#: Appends the accounts to the files of accounts, because useradd takes minutes for so many. They
#: have Alice's password.
MAKE = """
hash=$(getent shadow alice | cut -d : -f 2); gid=$(getent group jupyter | cut -d : -f 3); uid=30000
while read -r name; do
  echo "$name:x:$uid:$gid::/home/$name:/bin/bash" >> /etc/passwd
  echo "$name:$hash:20000::::::" >> /etc/shadow
  install -d -m 700 -o "$uid" -g "$gid" "/home/$name"
  uid=$((uid + 1))
done
"""

REMOVE = "sed -i '/^crowd[0-9]/d' /etc/passwd /etc/shadow; rm -rf /home/crowd*"

#: Deletes the people from the hub's database.
FORGET = """
import sqlite3
link = sqlite3.connect("/var/lib/jupyterhub/jupyterhub.sqlite")
link.execute("PRAGMA foreign_keys = ON")
link.execute("DELETE FROM users WHERE name LIKE 'crowd%'")
link.commit()
"""

#: Lets people log in through the proxy, sixteen at a time. The first line of the input is the
#: password, the others are the names. It prints its PID, then the names of those who are in.
LOG_IN = """
import http.client, os, ssl, sys, urllib.parse
from concurrent.futures import ThreadPoolExecutor
print(os.getpid(), flush=True)
context = ssl._create_unverified_context()
password, *names = sys.stdin.read().split()

def log_in(name):
    link = http.client.HTTPSConnection("proxy", context=context, timeout=120)
    link.request("GET", "/hub/login")
    answer = link.getresponse()
    answer.read()
    pairs = [each.split(";")[0] for each in answer.headers.get_all("Set-Cookie")]
    cookies = dict(each.split("=", 1) for each in pairs)
    form = {"username": name, "password": password, "_xsrf": cookies["_xsrf"]}
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items()),
    }
    link.request("POST", "/hub/login", urllib.parse.urlencode(form), headers)
    answer = link.getresponse()
    if answer.status != 302:
        raise RuntimeError(f"{name}: status {answer.status}")
    print(name, flush=True)

with ThreadPoolExecutor(16) as pool:
    list(pool.map(log_in, names))
"""

#: Looks into the database of a backup: SQLite's own check, the people, and those without a role or
#: a cookie's number, which the hub gives with the name.
LOOK = """
import json, sqlite3, sys, tarfile
with tarfile.open(sys.argv[1]) as pack:
    content = pack.extractfile("database.sqlite").read()
link = sqlite3.connect(":memory:")
link.deserialize(content)
whole = (
    "SELECT users.name FROM users JOIN user_role_map ON user_role_map.user_id = users.id"
    " JOIN roles ON roles.id = user_role_map.role_id"
    " WHERE roles.name = 'user' AND users.cookie_id != ''"
)
print(json.dumps({
    "check": link.execute("PRAGMA integrity_check").fetchall(),
    "foreign": link.execute("PRAGMA foreign_key_check").fetchall(),
    "names": [name for (name,) in link.execute("SELECT name FROM users")],
    "whole": [name for (name,) in link.execute(whole)],
}))
"""


def inside(command: list[str], text: str, output: IO[str] | None = None) -> subprocess.Popen[str]:
    """Start a command on the hub's host, with this input."""
    process = subprocess.Popen(
        ["podman", "exec", "-i", f"{PREFIX}-hub", *command],
        stdin=subprocess.PIPE,
        stdout=output,
        text=True,
    )
    assert process.stdin
    process.stdin.write(text)
    process.stdin.close()
    return process


class Crowd:
    """The accounts, and who of them has logged in."""

    def __init__(self, folder: Path) -> None:
        self._done = folder / "done"
        self._process: subprocess.Popen[str] | None = None

    def make(self) -> None:
        """Make the accounts on the hub's host."""
        assert inside(["sh", "-euc", MAKE], "\n".join([*NAMES, ""])).wait() == 0

    def remove(self) -> None:
        """Remove the accounts, and let the hub forget them."""
        run("hub", REMOVE)
        with faults.hub_stopped():
            faults.host("hub").check_output("runuser -u jupyterhub -- python3 -c %s", FORGET)

    @contextlib.contextmanager
    def logging_in(self) -> Iterator[None]:
        """Let them log in, as long as the block lasts."""
        words = "\n".join([read_passwords()["alice"], *NAMES])
        with self._done.open("w", encoding="utf-8") as output:
            self._process = inside(["python3", "-c", LOG_IN], words, output)
        try:
            yield
        finally:
            pid = self._done.read_text(encoding="utf-8").partition("\n")[0]
            if self._process.poll() is None:
                faults.host("hub").run(f"kill {pid}")
            self._process.wait()

    def are_all_in(self) -> bool:
        """Return whether all have logged in."""
        assert self._process
        status = self._process.poll()
        assert not status, "somebody could not log in"
        return status == 0

    def logged_in(self) -> set[str]:
        """Return the names of those who have logged in."""
        return set(self._done.read_text(encoding="utf-8").split()[1:])


def look(path: str) -> dict[str, Any]:
    """Return what the database of a backup has (:data:`LOOK`)."""
    return dict(json.loads(faults.host("hub").check_output("python3 -c %s %s", LOOK, path)))
