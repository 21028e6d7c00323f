"""A home in which no session can start: the person reads why, and what to type.

The homes are file systems of their own on the hub's host, where the broker writes to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from broker_calls import ask
from cluster import host

NAME, UID = "hedi", 2901
HOME = f"/home/{NAME}"
FOLDER = f"{HOME}/.jupyterhub-sessions"
AS_PERSON = f"runuser -u {NAME} --"

MOUNT = f"mount -t tmpfs -o uid={UID},mode=700,%s none {HOME}"
RENAME = "mv ~/.jupyterhub-sessions ~/.jupyterhub-sessions.old"

#: What is done to the home, and what the person reads.
HOMES = {
    "full": (MOUNT % "size=16k" + f"; cat /dev/zero > {HOME}/fill", "du -xk ~/ | sort -n"),
    "files": (MOUNT % "nr_inodes=2" + f" && touch {HOME}/a", "du -x --inodes ~/ | sort -n"),
    "read only": (MOUNT % "ro", "cannot be written at the moment (Read-only file system"),
    "foreign": (f"chown 1 {HOME}", "belongs to the account daemon"),
    "closed": (f"chmod 500 {HOME}", "chmod u+rwx ~"),
    "link": (f"{AS_PERSON} ln -s /tmp {FOLDER}", RENAME),
    "link to nowhere": (f"{AS_PERSON} ln -s /nowhere {FOLDER}", RENAME),
    "file": (f"{AS_PERSON} touch {FOLDER}", RENAME),
    "foreign folder": (f"mkdir {FOLDER}", RENAME),
}


@pytest.fixture
def hub() -> Iterator[Any]:
    """Make the account on the hub's host, with an empty home; remove both."""
    hub = host("hub")
    hub.check_output(
        f"getent passwd {NAME} || useradd --uid {UID} --groups jupyter --no-create-home {NAME};"
        f" install -d -m 700 -o {NAME} -g {NAME} {HOME}"
    )
    yield hub
    hub.check_output(f"! mountpoint -q {HOME} || umount {HOME}; rm -rf {HOME}; userdel {NAME}")


@pytest.mark.parametrize("name", HOMES)
def test_the_person_reads_what_to_do_about_the_home(hub: Any, name: str) -> None:
    make, advice = HOMES[name]
    hub.run(make)
    answer = ask(
        action="start",
        user=NAME,
        session="abcdef0123456789" * 2,
        choice={},
        environment={"JUPYTERHUB_API_TOKEN": "none"},
    )
    assert not answer["ok"], answer
    assert answer["kind"] == "home"
    assert advice in answer["error"], answer
    assert HOME in answer["error"], answer
