"""A person with an account of their own, which a test makes and removes."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from cluster import BASE_URL, ROOT, host
from hub_client import HubClient, wait_for

HOSTS = ("qmaster", "hub", "exec1", "exec2")

#: The group whose members may have sessions.
ALLOWED = yaml.safe_load(
    (ROOT / "inventories/demo/group_vars/all/site.yml").read_text(encoding="utf-8")
)["jupyterhub_allowed_groups"][0]


class Newcomer(HubClient):
    """One person, with a browser, and with a home that the test can prepare."""

    def __init__(self, base_url: str, name: str, password: str) -> None:
        super().__init__(base_url, name)
        self.password = password
        self.home = f"/home/{name}"
        self.kernel = ""

    def make(self, number: int, shell: str, groups: str) -> None:
        """Make the account on all hosts, and its home."""
        for name in HOSTS:
            host(name).check_output(
                f"userdel {self.name} 2>/dev/null; useradd --uid {number} --shell {shell} "
                f"--groups {ALLOWED},{groups} --no-create-home {self.name} && "
                f"echo {self.name}:{self.password} | chpasswd"
            )
        self.as_root(
            f"rm -rf {self.home} && install -d -m 0700 {self.home} && "
            f"cp -r /etc/skel/. {self.home} && chown -R {self.name}: {self.home}"
        )

    def remove(self) -> None:
        """Stop the session; remove the account and its home."""
        self.stop()
        self.as_root(f"umount {self.home} 2>/dev/null || true; rm -rf {self.home}")
        for name in HOSTS:
            host(name).run(f"userdel {self.name}")

    def as_root(self, lines: str) -> str:
        """Run shell lines as root on the hub's host, which has the homes."""
        return str(host("hub").check_output("sh -ec " + shlex.quote(lines)))

    def write(self, path: str, content: str, mode: str = "644") -> None:
        """Write a file in the home."""
        where = shlex.quote(f"{self.home}/{path}")
        self.as_root(
            f"cd {self.home} && runuser -u {self.name} -- mkdir -p $(dirname {where})\n"
            f"printf %s {shlex.quote(content)} >{where}; chown {self.name}: {where}; "
            f"chmod {mode} {where}"
        )

    def request(self, **choice: object) -> Any:
        """Log in and send the form; return the page that follows."""
        self.log_in(self.password)
        return self.choose(**({"cores": 1, "memory": 1, "run_time": 1} | choice))

    def start(self, **choice: object) -> Newcomer:
        """Start a session with a kernel."""
        self.request(**choice)
        self.wait_until_ready()
        self.open_lab()
        self.kernel = self.start_kernel()
        return self

    def cell(self, code: str) -> str:
        """Run a cell in the site's kernel; return its output."""
        return self.run(self.kernel, code).strip()

    def environment(self) -> dict[str, str]:
        """Return the environment of the kernel."""
        return dict(json.loads(self.cell("import os, json; print(json.dumps(dict(os.environ)))")))

    def worker(self) -> Any:
        """Return the host on which the session runs."""
        return host(self.cell("import socket; print(socket.gethostname())"))

    def terminal(self, line: str, folder: str = "", seconds: float = 60.0) -> str:
        """Run a line in a terminal, in the user's login shell; return what it printed."""
        result, done = f"{self.home}/.result", f"{self.home}/.done"
        self.as_root(f"rm -f {result} {done}")
        self.type_in_a_terminal(f" ( {line} ) >{result} 2>&1; touch {done}\n", folder)
        wait_for(
            f"the end of {line!r}",
            lambda: host("hub").file(done).exists,
            seconds,
        )
        return self.as_root(f"cat {result}").strip()

    def wait_for_notice(self, words: str, seconds: float = 60.0) -> str:
        """Wait for a notice that has these words; return all notices up to then."""
        seen: list[str] = []

        def found() -> bool:
            seen.extend(self.notices())
            return any(words in notice for notice in seen)

        wait_for(f"a notice with {words!r}; there were {seen}", found, seconds)
        return "\n".join(seen)

    def log(self) -> str:
        """Return the log of the newest session."""
        return self.as_root(
            f"cat $(ls -t {self.home}/.jupyterhub-sessions/*.log | head -1) 2>/dev/null || true"
        )


#: The numbers of the accounts; another run of the tests at the same time has other numbers.
NUMBERS = itertools.count(7000 + os.getpid() % 100 * 500)


@pytest.fixture
def newcomer() -> Iterator[Callable[..., Newcomer]]:
    """Make an account with a new home; afterwards, remove the account, its session and its home."""
    made: list[Newcomer] = []

    def make(shell: str = "/bin/bash", groups: str = "users") -> Newcomer:
        number = next(NUMBERS)
        person = Newcomer(BASE_URL, f"person{number}", secrets.token_hex(8))
        made.append(person)
        person.make(number, shell, groups)
        return person

    yield make
    for person in made:
        person.remove()
