"""People whose accounts have unusual names, several names, or cannot have sessions.

Accounts with several names are two lines with one uid; the first is the name that the system gives
for the uid. A directory service that ignores case answers in the same way.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from cluster import BASE_URL, host
from hub_client import page_text
from newcomer import ALLOWED, HOSTS, Newcomer

#: The uids of the accounts; another run of the tests at the same time has other ones.
UIDS = itertools.count(60_000 - os.getpid() % 50 * 100)


#: A program that replaces the lines of some accounts; tools such as useradd refuse their names.
EDIT = """
import json, sys
wanted = json.loads(sys.argv[1])
for file in ("passwd", "shadow", "group"):
    path = "/etc/" + file
    lines = [line.split(":") for line in open(path).read().splitlines()]
    lines = [line for line in lines if line[0] not in wanted["old"]]
    for line in lines:
        if file == "group" and line[0] == wanted["allowed"]:
            members = [each for each in line[3].split(",") if each and each not in wanted["old"]]
            line[3] = ",".join(members + [each for each in [wanted.get("member")] if each])
    text = "".join(":".join(line) + "\\n" for line in lines)
    open(path, "w").write(text + "".join(line + "\\n" for line in wanted.get(file, ())))
"""


class Account(Newcomer):
    """An account with lines of its own in /etc/passwd on all hosts."""

    def __init__(self, names: tuple[str, ...], home: str = "", uid: int = 0) -> None:
        super().__init__(BASE_URL, names[0], secrets.token_hex(8))
        self.names, self.uid = names, uid or next(UIDS)
        self.home = home or f"/home/person{self.uid}"

    @property
    def prefix(self) -> str:
        return f"/user/{self.name.replace('+', '%2B').replace('$', '%24')}"

    def add(self) -> None:
        """Make the account on all hosts, with a home if it is below /home."""
        hashed = host("hub").check_output(f"openssl passwd -6 {self.password}")
        tail = f"{self.uid}:{self.uid}::{self.home}:/bin/bash"
        self._edit(
            passwd=[f"{name}:x:{tail}" for name in self.names],
            shadow=[f"{name}:{hashed}:19000::::::" for name in self.names],
            group=[f"person{self.uid}:x:{self.uid}:"],
            member=self.name,
        )
        if self.home.startswith("/home/"):
            self.as_root(f"install -d -m 0700 -o {self.uid} -g {self.uid} {self.home}")

    def _edit(self, **lines: object) -> None:
        """Replace the account's lines on all hosts."""
        wanted = {"old": [*self.names, f"person{self.uid}"], "allowed": ALLOWED} | lines
        for where in HOSTS:
            host(where).check_output("python3 -c %s %s", EDIT, json.dumps(wanted))

    def remove(self) -> None:
        """Remove the account, its programs and its home."""
        for where in HOSTS:
            host(where).run(f"pkill -u {self.uid}")
        self._edit()
        if self.home.startswith("/home/"):
            self.as_root(f"rm -rf {self.home}")

    def log_in_as(self, name: str) -> str:
        """Log in under one of the account's names; return the text of the page that follows."""
        own, self.name = self.name, name
        page = self.log_in(self.password)
        self.name, self.status = own, page.status_code
        return page_text(page)


@pytest.fixture
def account() -> Iterator[Callable[..., Account]]:
    made: list[Account] = []

    def make(*names: str, home: str = "", uid: int = 0) -> Account:
        person = Account(names, home, uid)
        made.append(person)
        person.add()
        return person

    yield make
    for person in made:
        person.remove()


def start(person: Account) -> None:
    """Start a session, run a cell, and see that the job is not taken for a stray."""
    person.choose(cores=1, memory=1, run_time=1)
    person.wait_until_ready()
    person.open_lab()
    person.kernel = person.start_kernel()
    assert person.cell("import getpass, os; print(getpass.getuser(), os.getuid())") == (
        f"{person.name} {person.uid}"
    )


@pytest.mark.parametrize(
    "name", ["Ann", "Ann.Smith", "4you", "0815", "a+b", "ann-b", "ann_b", "a~b", "ann$", "x" * 100]
)
def test_names_that_grid_engine_takes_get_sessions(
    account: Callable[..., Account], name: str
) -> None:
    person = account(name)
    assert "My sessions" in person.log_in_as(name)
    start(person)
    person.stop()


def test_all_names_of_an_account_lead_to_one_session(account: Callable[..., Account]) -> None:
    """The owner in Grid Engine is the uid's name: a session under another one would be a stray."""
    person = account("Ann.Smith", "ann", "ANN")
    assert "My sessions" in person.log_in_as("ann")
    start(person)
    person.log_in_as("ANN")
    assert person.wait_until_ready()["ready"]
    person.stop()


def test_accounts_whose_names_differ_only_in_case_stay_two_people(
    account: Callable[..., Account],
) -> None:
    lower, upper = account("berta"), account("Berta")
    for person in (lower, upper):
        person.log_in_as(person.name)
        assert person.server() is None
    assert lower.rest("GET", "/users/Berta").status_code == 404
    assert upper.get("/user/berta/lab").status_code in (403, 404)
    assert "Invalid username or password" in upper.log_in_as("berta")


#: Names that Grid Engine does not take, and why.
REFUSED = {
    "ann@example.org": "has “@”",
    "EXAMPLE\\ann": "has “\\”",
    "ann%b": "has “%”",
    "none": "has “none”",
    "x" * 128: "more than 127 characters",
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_grid_engine_does_not_take_are_refused_at_the_login(
    account: Callable[..., Account], name: str
) -> None:
    person = account(name)
    page = person.log_in_as(name)
    assert person.status == 403
    assert "Your password is correct, but: Grid Engine accepts no jobs of the account" in page
    assert REFUSED[name] in page


def test_an_account_without_a_home_is_refused_at_the_login(account: Callable[..., Account]) -> None:
    for home in ("/home/nowhere/at-all", "/nonexistent", "/"):
        person = account(f"person{next(UIDS)}", home="/home/soon")
        for where in HOSTS:
            host(where).check_output(f"sed -i 's#:/home/soon:#:{home}:#' /etc/passwd")
        page = person.log_in_as(person.name)
        assert person.status == 403
        assert f"{person.name} has no home folder on the hub's host ({home})" in page
        assert "Log in to the cluster with SSH once" in page


def test_a_second_name_of_root_cannot_log_in(account: Callable[..., Account]) -> None:
    person = account("zoor", home="/root")
    hub = host("hub")
    hub.check_output(f"sed -i 's/^zoor:x:{person.uid}:/zoor:x:0:/' /etc/passwd")
    try:
        page = person.log_in_as("zoor")
        assert person.status == 403
        assert "Your password is correct, but: root is root's account" in page
    finally:
        hub.check_output(f"sed -i 's/^zoor:x:0:/zoor:x:{person.uid}:/' /etc/passwd")


def test_a_system_account_cannot_log_in(account: Callable[..., Account]) -> None:
    person = account("robot", uid=987)
    assert "but: robot is a system account; it cannot have sessions." in person.log_in_as("robot")
    assert person.status == 403


#: Fields of /etc/shadow after the password, for an account or a password that has expired.
CLOSED = {
    "account": ("19000:0:99999:7::19001:", "it may be closed or have expired"),
    "password": ("0:0:99999:7:::", "has expired (PAM says: "),
}


@pytest.mark.parametrize("what", CLOSED)
def test_an_expired_account_is_refused_with_the_reason(
    account: Callable[..., Account], what: str
) -> None:
    fields, words = CLOSED[what]
    person = account(f"person{next(UIDS)}")
    host("hub").check_output(f"sed -i 's/^\\({person.name}:[^:]*\\):.*/\\1:{fields}/' /etc/shadow")
    page = person.log_in_as(person.name)
    assert person.status == 403
    assert "Your password is correct, but: The " in page
    assert words in page


#: Names of groups in directory services, such as Active Directory.
GROUPS = ["domain users", "GPU-Users@EXAMPLE.ORG", "EXAMPLE\\gpu", "gpu$", "Größe", "1+1"]


@pytest.fixture
def gpus_for() -> Iterator[Callable[[str], None]]:
    """Let the menu on the hub's host offer GPUs to another group only."""
    hub = host("hub")
    hub.check_output("cp -a /etc/jupyterhub/menu.json /root/before-menu")

    def change(group: str) -> None:
        hub.check_output(
            "python3 -c %s %s",
            """
import json, sys
menu = json.load(open("/root/before-menu"))
for item in menu["items"]:
    item["groups"] = [sys.argv[1]] if item["name"] == "gpus" else item.get("groups", [])
open("/etc/jupyterhub/menu.json", "w").write(json.dumps(menu))
""",
            group,
        )

    yield change
    hub.check_output("cp -a /root/before-menu /etc/jupyterhub/menu.json; rm /root/before-menu")


@pytest.mark.parametrize("group", GROUPS)
def test_groups_in_the_menu_may_have_any_name(
    account: Callable[..., Account], gpus_for: Callable[[str], None], group: str
) -> None:
    """The account's primary group has the name: Grid Engine takes that too."""
    person, other = account(f"person{next(UIDS)}"), account(f"person{next(UIDS)}")
    for where in HOSTS:
        host(where).check_output(
            "python3 -c %s %s %s",
            "import sys; p='/etc/group'; t=open(p).read();"
            "open(p, 'w').write(t.replace(sys.argv[1] + ':', sys.argv[2] + ':'))",
            f"person{person.uid}",
            group,
        )
    try:
        gpus_for(group)
        for each in (person, other):
            each.log_in_as(each.name)
        assert 'name="gpus"' in person.get("/hub/spawn").text
        assert 'name="gpus"' not in other.get("/hub/spawn").text
        refused = page_text(other.choose(cores=1, memory=1, run_time=1, gpus=1))
        assert f"only members of {group} may" in refused
        person.choose(cores=1, memory=1, run_time=1, gpus=1)
        person.wait_until_ready()
        person.stop()
    finally:
        for where in HOSTS:
            host(where).run(f"sed -i '/:x:{person.uid}:/d' /etc/group")
