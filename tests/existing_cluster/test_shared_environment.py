"""Sessions with the notebook environment of a folder that all workers mount, read-only.

GridHub manages node1, but not node2, which has none of GridHub's files of its own.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import LogIn, host
from conftest import Site
from hub_client import HubClient, page_text, wait_for

WORKERS = ("node1", "node2")
UNMANAGED = "node2"
SMALL = {"cores": 1, "memory": 1, "run_time": 1}

#: Prints the TCP ports at which a process listens.
PORTS = """
import os
mine = {os.readlink(each.path) for each in os.scandir('/proc/self/fd') if os.path.islink(each.path)}
lines = [line.split() for name in ('tcp', 'tcp6') for line in open('/proc/net/' + name)]
print([line[1] for line in lines if line[3] == '0A' and 'socket:[' + line[9] + ']' in mine])
"""


@pytest.fixture(scope="module")
def folder() -> str:
    """The shared folder, as the job script names it."""
    script = host("jupyter").file("/etc/jupyterhub/session.sh").content_string
    found = re.search(r"^ *folder=(\S+)$", script, re.MULTILINE)
    assert found and found[1] != "/opt/jupyterhub-session", "this cluster has no shared environment"
    return found[1]


@contextlib.contextmanager
def only_on(worker: str) -> Iterator[None]:
    """Let jobs start on one worker only."""
    others = " ".join(f"web.q@{each}" for each in WORKERS if each != worker)
    Site().output(f"qmod -d {others}")
    try:
        yield
    finally:
        Site().output(f"qmod -e {others}")


def start(login: LogIn, name: str, worker: str) -> HubClient:
    """Start a session on a worker, and open it."""
    person = login(name)
    with only_on(worker):
        person.choose(**SMALL)
        person.wait_until_ready()
    person.open_lab()
    return person


@contextlib.contextmanager
def hidden(worker: str, folder: str, mode: str) -> Iterator[None]:
    """Hide the shared folder of a worker behind an empty one, as if it were not mounted."""
    top = "/".join(folder.split("/")[:2])
    host(worker).check_output(f"mount -t tmpfs -o mode={mode} tmpfs {top}")
    try:
        yield
    finally:
        host(worker).check_output(f"umount {top}")


def reason(login: LogIn, name: str, worker: str) -> str:
    """Start a session that fails on a worker; return what the page shows."""
    person = login(name)
    with only_on(worker):
        person.choose(**SMALL)
        wait_for("the start has failed", lambda: person.server() is None)
        wait_for(
            "the page has the reason",
            lambda: "notebook environment" in page_text(person.get("/hub/spawn")),
            20,
        )
    return page_text(person.get("/hub/spawn"))


def log(name: str) -> str:
    """Return the log of a person's newest session."""
    newest = f"$(ls -t /users/physics/{name}/.jupyterhub-sessions/*.log | head -1)"
    return str(host("jupyter").check_output(f"cat {newest}"))


def test_a_worker_that_is_not_managed_has_nothing_of_ours(folder: str) -> None:
    ours = ["/opt/jupyterhub-session", "/etc/ipython", "/etc/profile.d/00-gridhub.sh"]
    assert host(UNMANAGED).run(f"ls -d {shlex.join(ours)}").stdout == ""
    assert host(UNMANAGED).run(f"touch {folder}/x").rc != 0, "the folder is not read-only"
    assert host("jupyter").check_output(f"find {folder} -perm /o+w ! -type l") == ""


@pytest.mark.parametrize("worker", WORKERS)
def test_a_session_runs_from_the_shared_folder(login: LogIn, worker: str, folder: str) -> None:
    person = start(login, "alice", worker)
    kernel = person.start_kernel()
    where = "import os, socket, jupyterlab; print(socket.gethostname(), jupyterlab.__file__)"
    name, path = person.run(kernel, where).split()
    assert name == worker
    assert path.startswith(f"{folder}/releases/")
    # ipykernel would open a port for the output of child processes.
    assert person.run(kernel, PORTS).strip() == "[]"
    code = "import os, subprocess; print('rc', subprocess.run(['jupyter', '--version']).returncode)"
    assert person.run(kernel, code).strip().endswith("rc 0")
    assert (
        person.run(kernel, "import os; print(os.environ['PATH'])")
        .strip()
        .endswith(f":{folder}/bin")
    )
    # What a person installs there must fit all workers.
    tags = "import subprocess, sys; print(subprocess.run([sys.executable, '-m', 'pip', 'debug', "
    tags += "'--verbose'], capture_output=True, text=True).stdout)"
    assert "manylinux_2_28_x86_64" in person.run(kernel, tags)
    assert "manylinux_2_34_x86_64" not in person.run(kernel, tags)


def test_a_running_session_keeps_its_release(login: LogIn, folder: str) -> None:
    before = host("jupyter").check_output(f"readlink {folder}/current")
    owner = host("jupyter").check_output(f"stat -c %U {folder}/current")
    new = f"{folder}/releases/of-the-test"
    old = start(login, "alice", UNMANAGED)

    def release(person: HubClient) -> str:
        """Return the release that a new kernel of a session uses, and that of its server."""
        code = (
            "import os; p = os.getppid(); print(*[each for pid in ('self', p) for each in "
            "open(f'/proc/{pid}/cmdline').read().split('\\0') if 'kernel.py' in each or "
            "'sge_session.py' in each])"
        )
        return person.run(person.start_kernel(), code)

    def run_as_owner(command: str) -> None:
        host("jupyter").check_output(f"runuser -u {owner} -- sh -c {shlex.quote(command)}")

    switch = "ln -s {0} {1}/next && mv -T {1}/next {1}/current"
    try:
        run_as_owner(f"cp -a {before} {new} && " + switch.format(new, folder))
        assert release(old).split() == [
            f"--config={before}/gridhub/session/kernel.py",
            f"{before}/sge_session.py",
        ]
        fresh = start(login, "bob", UNMANAGED)
        assert f"{new}/sge_session.py" in release(fresh)
    finally:
        run_as_owner(switch.format(before, folder))
        host("jupyter").check_output(f"rm -rf {new}")


def test_a_worker_without_the_folder_is_named_on_the_page(login: LogIn, folder: str) -> None:
    with hidden(UNMANAGED, folder, "0755"):
        words = reason(login, "alice", UNMANAGED)
    assert f"its worker, node2, does not have the notebook environment {folder}" in words
    assert log("alice").endswith(
        f"node2 cannot use the notebook environment {folder}: {folder}/current is missing or "
        "cannot be read."
    )


def test_a_folder_that_somebody_else_made_in_its_place_is_not_used(
    login: LogIn, folder: str
) -> None:
    worker: Any = host(UNMANAGED)
    with hidden(UNMANAGED, folder, "1777"):
        programs = f"{folder}/current/env/bin"
        planted = f"mkdir -p {programs}; printf '#!/bin/sh\\ntouch /tmp/planted\\n' > "
        planted += f"{programs}/python; chmod 755 {programs}/python"
        worker.check_output(f"runuser -u bob -- sh -c {shlex.quote(planted)}")
        words = reason(login, "alice", UNMANAGED)
    assert "or may not use it" in words
    assert f"{folder}/current belongs to bob, not to " in log("alice")
    assert not worker.file("/tmp/planted").exists
