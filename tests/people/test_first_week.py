"""What people do in their first week: the recipes of docs/researchers, as they are written there.

The recipes for Julia and conda are not run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import host
from hub_client import HubClient, wait_for
from wanda import NAME, as_wanda, at_home, recipe, wanda

__all__ = ["at_home", "wanda"]  # fixtures

WORKERS = ("exec1", "exec2")


def test_r_finds_jupyter_and_runs(wanda: HubClient, at_home: None) -> None:
    installed = host("exec1").run("apt-get install -y -qq --no-install-recommends r-cran-irkernel")
    if installed.rc != 0:
        pytest.skip(f"R is not to be had: {installed.stderr}")
    host("exec2").check_output("apt-get install -y -qq --no-install-recommends r-cran-irkernel")
    as_wanda(recipe("R"))
    wanda.choose(cores=1, memory=2, run_time=1)
    wanda.wait_until_ready(120)
    wanda.open_lab()
    assert wanda.run(wanda.start_kernel("ir"), "cat(6 * 7)", 120).strip() == "42"


def test_a_persons_own_python_settings_do_not_reach_the_command_jupyter(
    wanda: HubClient, at_home: None
) -> None:
    as_wanda("mkdir -p own && echo 'raise SystemExit(3)' > own/jupyter_core.py")
    shown = as_wanda("export PYTHONPATH=$HOME/own PYTHONHOME=/nonexistent; jupyter kernelspec list")
    assert "python3" in shown


def in_the_session(wanda: HubClient, kernel: str, commands: str) -> str:
    """Run commands in a login shell of the session, as its terminals do; return all output."""
    return wanda.run(
        kernel,
        "import subprocess\n"
        f"run = subprocess.run(['bash', '-lc', {commands!r}], capture_output=True, text=True)\n"
        "print(run.stdout + run.stderr)",
    )


@pytest.fixture
def submit_hosts() -> Iterator[None]:
    """Let the workers submit jobs, as docs/administrators/grid-engine.md describes it."""
    qmaster = host("qmaster")
    for worker in WORKERS:
        qmaster.check_output(f"qconf -as {worker}")
    yield
    for worker in WORKERS:
        qmaster.check_output(f"qconf -ds {worker}")


def kernel_of(wanda: HubClient) -> str:
    wanda.choose(cores=1, memory=1, run_time=1)
    wanda.wait_until_ready(120)
    wanda.open_lab()
    return wanda.start_kernel()


def test_a_job_from_a_session_is_denied_in_the_words_that_the_docs_name(
    wanda: HubClient, at_home: None
) -> None:
    said = in_the_session(wanda, kernel_of(wanda), recipe("Submit jobs from a session"))
    assert 'denied: host "exec' in said and "is not a submit host" in said


def test_a_session_submits_a_job(wanda: HubClient, at_home: None, submit_hosts: None) -> None:
    kernel = kernel_of(wanda)
    said = in_the_session(wanda, kernel, recipe("Submit jobs from a session"))
    assert "has been submitted" in said
    log = f"/home/{NAME}/hello.log"
    hub = host("hub")
    wait_for("the job has run", lambda: hub.run(f"grep -q exec {log}").rc == 0, 120)
    wait_for("it is over", lambda: "hello" not in hub.check_output(f"qstat -u {NAME}"), 60)
