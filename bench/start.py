"""Measure how long a user waits after "Start" for JupyterLab's page and the first cell's output.

Run ``make demo``, then ``make bench``. The measurement connects only to 127.0.0.1, and starts one
session at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/cluster"))

from hub_client import HubClient  # noqa: E402

USERS = ROOT / "inventories/demo/group_vars/all/users.yml"


def measure(person: HubClient) -> tuple[float, float]:
    """Start a session; return the seconds until JupyterLab's page and the first cell's output."""
    began = time.perf_counter()
    person.choose(cores=1, memory=1, run_time=1)
    person.wait_until_ready(120)
    person.open_lab()
    page = time.perf_counter() - began
    person.run(person.start_kernel(), "print(6 * 7)")
    cell = time.perf_counter() - began
    person.stop()
    return page, cell


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--user", default="alice")
    arguments = parser.parse_args()
    users = yaml.safe_load(USERS.read_text(encoding="utf-8"))["demo_users"]
    password = next(user["password"] for user in users if user["name"] == arguments.user)
    person = HubClient(
        f"https://127.0.0.1:{os.environ.get('GRIDHUB_PORT', '8443')}", arguments.user
    )
    person.log_in(password)
    person.stop()
    runs = [measure(person) for _ in range(arguments.runs)]
    for name, values in zip(
        ("JupyterLab's page", "the first cell"), zip(*runs, strict=True), strict=True
    ):
        print(
            f"{name}: median {statistics.median(values):.2f} s, "
            f"{min(values):.2f} to {max(values):.2f} s, {len(values)} runs"
        )


if __name__ == "__main__":
    main()
