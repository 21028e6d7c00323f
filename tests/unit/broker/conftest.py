# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures for the broker's tests: its settings, an account with a home, and a fake qsub."""

from __future__ import annotations

import json
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asked import MENU, PORTS, Fake
from fake_directory import FakeDirectory
from gridhub.broker.config import Config

#: First lines of a fake qsub: they record its arguments, its environment and the permissions of
#: session files.
NOTE = r"""
cd "{folder}"
printf '%s\0' "$@" > arguments
env -0 > environment
for file in "$HOME/.jupyterhub-sessions/"*.json; do stat -c '%a %n' "$file" >> secrets; done
"""


@pytest.fixture
def config(tmp_path: Path, bin_dir: Path) -> Config:
    menu = tmp_path / "menu.json"
    menu.write_text(json.dumps({"items": MENU}), encoding="utf-8")
    return Config(
        hub_user=pwd.getpwuid(os.getuid()).pw_name,
        menu=menu,
        job_script=Path("/usr/local/lib/gridhub/session.sh"),
        minimum_uid=1000,
        allowed_users=frozenset({"alice"}),
        qsub_arguments=("-q", "all.q"),
        sge_root=tmp_path / "root",
        sge_cell="default",
        sge_bin_dir=bin_dir,
        timeout=10.0,
        ports=PORTS,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> FakeDirectory:
    return FakeDirectory(monkeypatch)


@pytest.fixture
def alice(
    home: Path, directory: FakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> pwd.struct_passwd:
    """Return the account alice.

    In the tests, the broker does not switch to this account: all code runs as the tests' own user.
    """
    monkeypatch.setattr("gridhub.broker.requests.become", lambda user: None)
    return directory.add("alice", home=str(home))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def noting(fake: Fake, tmp_path: Path) -> Callable[[str], Path]:
    """Make a fake qsub that records its arguments and environment, then runs a script."""
    folder = tmp_path / "noted"
    folder.mkdir()

    def make(script: str) -> Path:
        fake("qsub", NOTE.format(folder=folder) + script)
        return folder

    return make
