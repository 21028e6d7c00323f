"""Measure how long pages and restarts take with many sessions.

Run ``make demo``, then ``make bench-restart``. The measurement connects only to 127.0.0.1. It
creates accounts, starts a real JupyterLab session of about 110 MB for each account, freezes the
qmaster for half of the page requests, restarts hub and proxy, and finally removes the accounts and
sessions.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/cluster"))

from hub_client import HubClient, wait_for  # noqa: E402

USERS = ROOT / "inventories/demo/group_vars/all/users.yml"
PREFIX = os.environ.get("GRIDHUB_PREFIX", "gridhub")
BASE_URL = f"https://127.0.0.1:{os.environ.get('GRIDHUB_PORT', '8443')}"
#: The lowest UID of the accounts that are created for the measurement.
FIRST_UID = 20_000
#: A shell command that changes Grid Engine's configuration. The measurement needs a wider
#: gid_range, because each job on a worker takes one GID of this range.
CONFIGURE = (
    "cd $(mktemp -d); qconf -sconf global | sed -e 1d -e '{change}' > global; "
    "qconf -Mconf global > /dev/null"
)
#: The folder in which each host keeps copies of its original account files.
KEPT = "/root/accounts-before"
#: A pattern for JupyterHub's metric of event-loop delays.
STALL = re.compile(
    r'^jupyterhub_event_loop_interval_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)$', re.MULTILINE
)


def inside(host: str, script: str) -> str:
    """Run a shell script in a container of the demo."""
    return subprocess.run(
        ["/usr/bin/podman", "exec", f"{PREFIX}-{host}", "bash", "-euc", script],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def qmaster(script: str) -> str:
    """Run a shell script in the qmaster's container, with access to Grid Engine's commands."""
    return inside("qmaster", f"export SGE_ROOT=/var/lib/gridengine; {script}")


@contextlib.contextmanager
def room_for(names: list[str]) -> Iterator[None]:
    """Create accounts for these users and slots for their sessions; undo everything afterwards."""
    # Edit the account files directly: useradd and userdel take minutes for 1,000 accounts.
    make = (
        f"uid={FIRST_UID}; gid=$(getent group jupyter | cut -d : -f 3)\n"
        f"sed -i '/^jupyter:/s/$/,{','.join(names)}/' /etc/group\n"
        f"for name in {' '.join(names)}; do\n"
        '  echo "$name:x:$uid:$gid::/home/$name:/bin/bash" >> /etc/passwd\n'
        '  echo "$name:*:20000::::::" >> /etc/shadow\n'
        "  uid=$((uid + 1))\n"
        "done"
    )
    keep = f"mkdir -m 700 {KEPT}; cp -a /etc/passwd /etc/shadow /etc/group {KEPT}"
    places = len(names)
    hosts = ("exec1", "exec2")
    complexes = {
        host: re.sub(r"\\\s+", "", qmaster(f"qconf -se {host}"))
        .split("complex_values")[1]
        .split()[0]
        for host in hosts
    }
    gid_range = qmaster("qconf -sconf global | grep ^gid_range").strip()
    queue = re.sub(r"\\\s+", "", qmaster("qconf -sq all.q"))
    kept = {
        key: re.search(rf"^{key}\s+(.+)$", queue, re.MULTILINE)
        for key in ("slots", "load_thresholds")
    }
    try:
        for host in ("hub", *hosts):
            inside(host, keep)
            inside(host, make)
        inside(
            "hub",
            f"for name in {' '.join(names)}; do\n"
            "  install -d -o $name -g jupyter -m 700 /home/$name\n"
            "done",
        )
        qmaster(
            f"qconf -rattr queue slots {places},[exec1={places}],[exec2={places}] all.q; "
            "qconf -rattr queue load_thresholds NONE all.q"
        )
        for host in hosts:
            qmaster(f"qconf -mattr exechost complex_values h_vmem={places * 2}G {host}")
        qmaster(CONFIGURE.format(change=f"s/^gid_range.*/gid_range 60000-{60000 + places}/"))
        yield
    finally:
        qmaster(CONFIGURE.format(change=f"s/^gid_range.*/{gid_range}/"))
        for key, found in kept.items():
            assert found
            qmaster(f"qconf -rattr queue {key} '{found[1].replace(' ', '')}' all.q")
        for host in hosts:
            qmaster(f"qconf -rattr exechost complex_values {complexes[host]} {host}")
        inside("hub", "rm -rf " + " ".join(f"/home/{name}" for name in names))
        for host in ("hub", *hosts):
            inside(host, f"mv {KEPT}/* /etc; rmdir {KEPT}")


def stalls(admin: HubClient) -> dict[float, float]:
    """Count the event-loop delays up to each bound (in seconds)."""
    text = admin.get("/hub/metrics").text
    return {float(bound): float(count) for bound, count in STALL.findall(text)}


def pages(admin: HubClient, seconds: float) -> list[float]:
    """Load a page of the hub again and again; return how many seconds each request took."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        admin.get("/hub/home").raise_for_status()
        times.append(time.perf_counter() - began)
        time.sleep(0.05)  # pause, so that the requests add little load
    return times


def text(
    what: str, times: list[float], before: dict[float, float], after: dict[float, float]
) -> None:
    """Print one line of figures."""
    total = {bound: after[bound] - before[bound] for bound in after}
    held_up = total[float("inf")] - total[0.05]
    print(
        f"{what}: page median {statistics.median(times) * 1000:.0f} ms, "
        f"worst {max(times) * 1000:.0f} ms of {len(times)}; "
        f"event loop held up more than 50 ms: {held_up:.0f} of {total[float('inf')]:.0f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()
    users = yaml.safe_load(USERS.read_text(encoding="utf-8"))["demo_users"]
    admin = HubClient(BASE_URL, "admin")
    admin.log_in(next(user["password"] for user in users if user["name"] == "admin"))
    names = [f"bench{number:03d}" for number in range(arguments.sessions)]

    def ready() -> int:
        answer = admin.rest("GET", "/users?state=ready&limit=1000")
        answer.raise_for_status()
        return sum(1 for user in answer.json() if user["name"] in names)

    with room_for(names):
        admin.rest("POST", "/users", {"usernames": names})
        try:
            began = time.perf_counter()
            for name in names:
                body = {"cores": 1, "memory": 1, "run_time": 1}
                answer = admin.rest("POST", f"/users/{name}/server", body)
                assert answer.status_code in (201, 202), (name, answer.text)
            wait_for("all sessions are up", lambda: ready() == len(names), 1800)
            print(f"{len(names)} sessions up after {time.perf_counter() - began:.0f} s")
            time.sleep(10)  # let the hub finish its work for the starts

            before = stalls(admin)
            times = pages(admin, arguments.seconds)
            text("qmaster well", times, before, stalls(admin))
            qmaster("pkill -STOP -x sge_qmaster")
            try:
                before = stalls(admin)
                times = pages(admin, arguments.seconds)
                text("qmaster frozen", times, before, stalls(admin))
            finally:
                qmaster("pkill -CONT -x sge_qmaster")

            inside("hub", "systemctl restart jupyterhub.service")
            began = time.perf_counter()

            def answers() -> bool:
                with contextlib.suppress(Exception):
                    return admin.get("/hub/health").status_code == 200
                return False

            wait_for("the hub answers", answers)
            up = time.perf_counter() - began
            wait_for("all sessions are resumed", lambda: ready() == len(names), 120)
            resumed = time.perf_counter() - began
            print(
                f"hub restart: pages after {up:.1f} s, "
                f"all {len(names)} sessions after {resumed:.1f} s"
            )
            inside("proxy", "systemctl restart jupyterhub-proxy.service")
            began = time.perf_counter()

            def routed(name: str) -> bool:
                with contextlib.suppress(Exception):
                    return "version" in admin.get(f"/user/{name}/api").json()
                return False

            for name in reversed(names):
                wait_for(f"{name} has its route", lambda name=name: routed(name))
            print(f"proxy restart: all routes back after {time.perf_counter() - began:.1f} s")
        finally:
            for name in names:
                admin.rest("DELETE", f"/users/{name}/server")
            wait_for("no session is left", lambda: "jupyterhub" not in qmaster("qstat -u '*'"), 600)
            for name in names:
                admin.rest("DELETE", f"/users/{name}")


if __name__ == "__main__":
    main()
