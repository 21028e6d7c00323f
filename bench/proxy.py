"""Part ``proxy``: what lies between browser and session costs.

A worker sends requests and websocket messages to a small server on the other worker: through our
proxy (nginx, then configurable-http-proxy), through configurable-http-proxy alone as the stock hub
has it, and directly. The first two use TLS towards the browser. All stays in the containers' own
network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench import cpu, stock
from bench.demo import address, answers, inside, wait_for
from cluster import host
from proxy_client import API_CALL, run_python

PORT, CHP_PORT, CHP_API_PORT = 19000, 18444, 18002
FOLDER = "/user/gridhub-bench"
SERVER, CHP = "gridhub-bench-echo", "gridhub-bench-chp"
PYTHON = f"{stock.FOLDER}/env/bin/python"
#: Requests and messages of one measurement. nginx lets through 3,000 requests of one address at
#: once, and 300 a second; the alternatives' turns are long enough for that to fill up again.
REQUESTS, MESSAGES = 2000, 1000
LOAD = Path(__file__).with_name("load.py")
ECHO = Path(__file__).with_name("echo_server.py")

PATHS = {
    "ours": f"https://{address('proxy')}{FOLDER}",
    "chp": f"https://{address('hub')}:{CHP_PORT}{FOLDER}",
    "server": f"http://{address('exec1')}:{PORT}{FOLDER}",
}
#: The host of each path's proxy.
HOSTS = {"ours": "proxy", "chp": "hub", "server": "exec1"}


def begin() -> None:
    """Start the server and a proxy like that of the stock hub; add the route to ours."""
    target = f"http://{address('exec1')}:{PORT}"
    inside("exec1", f"cat > {stock.FOLDER}/echo.py", ECHO.read_text(encoding="utf-8"))
    unit = "systemd-run --quiet --collect --property=DynamicUser=yes --unit"
    inside("exec1", f"{unit}={SERVER} {PYTHON} {stock.FOLDER}/echo.py {PORT}")
    stock.copy_node()
    stock.certificate()
    inside(
        "hub",
        f"systemd-run --quiet --collect --unit={CHP} --setenv=NODE_ENV=production {stock.CHP} "
        f"--port={CHP_PORT} --api-port={CHP_API_PORT} --ssl-cert={stock.STATE}/stock.crt "
        f"--ssl-key={stock.STATE}/stock.key --default-target={target}",
    )
    created = run_python(host("hub"), API_CALL, "POST", FOLDER, json.dumps({"target": target}))
    assert created.strip() == "201", created
    for url in PATHS.values():
        wait_for(f"{url} answers", lambda url=url: answers(f"{url}/page"))


def end() -> None:
    """Stop all of it."""
    run_python(host("hub"), API_CALL, "DELETE", FOLDER, "")
    inside("exec1", f"systemctl stop {SERVER} 2> /dev/null || true")
    inside("hub", f"systemctl stop {CHP} 2> /dev/null || true; rm -rf {stock.STATE}")


def measure(runs: int) -> dict[str, Any]:
    """Send requests and messages along each path, in changing order."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PATHS}
    names = list(PATHS)
    try:
        begin()
        for run in range(runs):
            for place in range(len(names)):
                name = names[(run + place) % len(names)]
                before = cpu.container(HOSTS[name])
                command = (PYTHON, "-", PATHS[name], str(REQUESTS))
                text = LOAD.read_text(encoding="utf-8")
                figures = json.loads(inside("exec2", str(MESSAGES), text, command))
                figures["cpu_ms"] = (cpu.container(HOSTS[name]) - before) * 1000 / REQUESTS
                found[name].append(figures)
    finally:
        end()
    return {"requests": REQUESTS, "messages": MESSAGES, "runs": found}
