"""Programs in a session look for its token, and publish all that they find."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster import host
from hub_client import wait_for
from newcomer import Newcomer

Make = Callable[..., Newcomer]

WORKERS = ("exec1", "exec2")

#: Prints the environments of all processes of the account, as far as it may read them.
ENVIRONMENTS = """
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        print(open(path, "rb").read().replace(b"\\0", b"\\n").decode(errors="replace"))
    except OSError:
        pass
"""


@pytest.mark.attack(
    "the environments of kernels, of terminals and of the programs that they start",
    outcome="No token, and no path of the key. What links need (JUPYTERHUB_USER, …) stays.",
)
def test_no_process_of_the_person_shows_a_token(newcomer: Make) -> None:
    person = newcomer().start()
    shown = person.cell(ENVIRONMENTS)
    assert "JUPYTERHUB_USER" in shown, "the processes can be read"
    assert "API_TOKEN" not in shown
    assert "SSL_KEYFILE" not in shown
    person.write("environments.py", ENVIRONMENTS)
    assert "API_TOKEN" not in person.terminal("python3 ~/environments.py; env")
    assert "API_TOKEN" not in person.cell(
        "import subprocess; print(subprocess.run('env', shell=True, capture_output=True).stdout)"
    )


@pytest.mark.attack(
    "the environment of a program that the server itself starts, such as pandoc for an export",
    outcome="No token.",
)
def test_no_program_of_the_server_gets_a_token(newcomer: Make) -> None:
    person = newcomer()
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Text for pandoc"}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    person.write("x.ipynb", json.dumps(notebook))
    shown, pandoc = f"{person.home}/environment", "/usr/local/bin/pandoc"
    script = f"#!/bin/sh\\nenv >{shown}\\necho pandoc 3.1\\n"
    for name in WORKERS:
        host(name).check_output(f"printf '{script}' >{pandoc} && chmod 755 {pandoc}")
    try:
        person.start()
        person.session_rest("GET", "nbconvert/rst/x.ipynb")
        given = person.as_root(f"cat {shown}")
    finally:
        for name in WORKERS:
            host(name).check_output(f"rm {pandoc}")
    assert f"HOME={person.home}" in given
    assert "API_TOKEN" not in given


@pytest.mark.attack(
    "the files in which Jupyter Server describes itself (jpserver-*.json)",
    outcome="No token; programs in a session cannot call its server.",
)
def test_the_files_about_the_server_have_no_token(newcomer: Make) -> None:
    person = newcomer().start()
    found = person.cell(
        "import glob, json, os\n"
        "folder = os.environ['JUPYTER_RUNTIME_DIR']\n"
        "print([json.load(open(path))['token'] for path in glob.glob(folder + '/jpserver-*.json')],"
        " glob.glob(folder + '/*.html'))"
    )
    assert found == "[''] []"


@pytest.mark.attack(
    "the reports of a session, whose environment has no token",
    outcome="The hub accepts them.",
)
def test_the_session_still_reports_its_activity(newcomer: Make) -> None:
    person = newcomer().start()
    person.cell("1")
    assert "Error notifying Hub" not in person.log()
    wait_for("the hub knows of the activity", lambda: (person.server() or {}).get("last_activity"))


@pytest.mark.attack(
    "jobs that take over the whole environment of a session (`qsub -V`, also in `~/.sge_request`)",
    outcome="`qstat -j` shows no token.",
)
@pytest.mark.parametrize("where", ["kernel", "terminal", "sge_request"])
def test_a_job_that_takes_over_the_whole_environment_publishes_no_token(
    newcomer: Make, qmaster_host: Any, hub_host: Any, where: str
) -> None:
    """On this cluster, workers are submit hosts for the time of the test."""
    person = newcomer()
    for name in WORKERS:
        qmaster_host.check_output(f"qconf -as {name}")
    try:
        if where == "sge_request":
            person.write(".sge_request", "-V\n")
        person.start()
        submit = f"qsub -h {'' if where == 'sge_request' else '-V'} -terse -b y /bin/true"
        if where == "terminal":
            number = person.terminal(submit)
        else:
            number = person.cell(
                f"import subprocess; print(subprocess.run({submit!r}, shell=True, text=True, "
                "capture_output=True).stdout)"
            )
        published = qmaster_host.check_output(f"qstat -j {number.splitlines()[-1]}")
        assert "JUPYTERHUB_USER" in published, "the whole environment is there"
        assert "API_TOKEN" not in published
        hub_host.check_output(f"qdel {number.splitlines()[-1]}")
        session = qmaster_host.check_output(f"qstat -u {person.name}").splitlines()[2:]
        published = qmaster_host.check_output(f"qstat -j {session[0].split()[0]}")
        assert "API_TOKEN" not in published
    finally:
        for name in WORKERS:
            qmaster_host.check_output(f"qconf -ds {name}")
