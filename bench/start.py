"""Part ``start``: from the click on Start to JupyterLab's page and the first cell's output.

In each round, one session of ours, one of stock batchspawner and one bare ``jupyter lab`` start
one after the other, in changing order. The clock starts when the form is sent; that of the bare
server when its process starts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from bench import phases, stock
from bench.demo import BASE_URL, address, answers, inside, wait_for
from bench.people import Bare, Person

USER = "alice"
PORT = 18888


def session(person: Person) -> dict[str, float]:
    """Start and stop a session at a hub; return the seconds until each step, from the click."""
    person.open_form()
    began = time.time()
    steps = {}
    person.start()
    steps["ready"] = time.time() - began
    person.open_lab()
    steps["page"] = time.time() - began
    person.run_first_cell()
    steps["cell"] = time.time() - began
    if person.base_url == BASE_URL:
        steps |= phases.seconds(person.name, began)
    person.stop()
    return steps


def bare() -> dict[str, float]:
    """Start and stop ``jupyter lab`` on a worker; return the seconds from its process's start."""
    token = secrets.token_hex(16)
    unit = "gridhub-bench-bare"
    command = (
        f"systemd-run --quiet --collect --unit={unit} --uid={USER} "
        f"--working-directory=/home/{USER} --setenv=HOME=/home/{USER} "
        f"--setenv=JUPYTER_TOKEN={token} "
        f"{stock.FOLDER}/env/bin/jupyter lab --no-browser --ip=0.0.0.0 --port={PORT}"
    )
    inside("exec1", command)
    try:
        url = f"http://{address('exec1')}:{PORT}"
        wait_for("the server answers", lambda: answers(f"{url}/lab?token={token}"), pause=0.01)
        steps = {"page": time.time()}
        client = Bare(url, USER)
        client.log_in_with(token)
        client.run_first_cell()
        steps["cell"] = time.time()
        process = inside("exec1", f"systemctl show -P MainPID {unit}").strip()
        began = phases.process_start("exec1", process)
    finally:
        inside("exec1", f"systemctl stop {unit}")
    return {name: moment - began for name, moment in steps.items()}


def measure(runs: int) -> dict[str, Any]:
    """Return what each start took."""
    with stock.hub():
        ours, theirs = Person(BASE_URL, USER), Person(stock.URL, USER)
        starts: dict[str, Callable[[], dict[str, float]]] = {
            "ours": lambda: session(ours),
            "stock": lambda: session(theirs),
            "bare": bare,
        }
        for start in starts.values():
            start()  # not counted: the first one reads the environments from the disk
        found: dict[str, list[dict[str, float]]] = {name: [] for name in starts}
        names = list(starts)
        for run in range(runs):
            for place in range(len(names)):
                name = names[(run + place) % len(names)]
                found[name].append(starts[name]())
    return {"runs": found}
