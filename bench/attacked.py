"""Measure how much an attack slows down a user's login, session start and first cell.

Run ``make demo``, then ``make bench-attacked``. As in tests/security, the attacking host is in the
demo's own network. The user connects from 127.0.0.1. For each attack, the program prints how long
the user's three steps take without the attack and during the attack, and the ratio of the two
times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/cluster"), str(ROOT / "tests/security")]

from attackers import in_background  # noqa: E402
from cluster import BASE_URL, host, read_passwords  # noqa: E402
from hub_client import HubClient  # noqa: E402

UNIT = "bench-attack"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"

#: The attacks. Each attack continues until :func:`journey` returns.
ATTACKS: dict[str, dict[str, object]] = {
    "abandoned upgrades": {
        "host": "proxy",
        "port": 443,
        "sends": [f"GET /hub/login HTTP/1.1\r\nHost: x\r\n{UPGRADE}Content-Length: 5\r\n\r\n"],
        "times": 100_000,
        "hold": 0.05,
    },
    "bare connections to 443": {
        "host": "proxy",
        "port": 443,
        "tls": False,
        "times": 100_000,
        "together": 6000,
        "hold": 30,
    },
    "bare connections to the hub": {
        "host": "hub",
        "port": 8081,
        "tls": False,
        "times": 100_000,
        "together": 6000,
        "hold": 30,
    },
    "bodies that never come": {
        "host": "proxy",
        "port": 443,
        "sends": ["POST /hub/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nuser"],
        "times": 100_000,
        "together": 280,
        "hold": 30,
    },
    "a flood of login pages": {
        "host": "proxy",
        "port": 443,
        "sends": ["GET /hub/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
        "times": 1_000_000,
        "hold": 30,
    },
}


def journey() -> float:
    """Log in as bob, start a session and run a cell; return the seconds until its output."""
    began = time.perf_counter()
    person = HubClient(BASE_URL, "bob")
    person.log_in(read_passwords()["bob"])
    person.choose(cores=1, memory=1, run_time=1)
    person.wait_until_ready(120)
    person.open_lab()
    person.run(person.start_kernel(), "print(6 * 7)")
    took = time.perf_counter() - began
    person.stop()
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    for name, spec in ATTACKS.items():
        without, attacked = [], []
        for _ in range(runs):
            without.append(journey())
            in_background("qmaster", UNIT, **spec)
            try:
                attacked.append(journey())
            finally:
                host("qmaster").run(f"systemctl stop {UNIT}")
        ratios = [b / a for a, b in zip(without, attacked, strict=True)]
        print(
            f"{name}: {statistics.median(without):.1f} s without, "
            f"{statistics.median(attacked):.1f} s attacked, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), {runs} pairs"
        )


if __name__ == "__main__":
    main()
