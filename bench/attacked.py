"""Part ``attacked``: how much an attack slows down a person's login, start and first cell.

As in tests/security, the attacking host is in the demo's own network. The person connects from
127.0.0.1. Each time under attack follows one without.
"""

from __future__ import annotations

import time
from typing import Any

from attackers import in_background
from bench.demo import BASE_URL
from bench.people import Person
from cluster import host

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
    began = time.monotonic()
    person = Person(BASE_URL, "bob")
    person.open_form()
    person.start()
    person.open_lab()
    person.run_first_cell()
    took = time.monotonic() - began
    person.stop()
    return took


def measure(runs: int) -> dict[str, Any]:
    """Return the seconds of each journey without and with each attack."""
    found: dict[str, Any] = {}
    for name, spec in ATTACKS.items():
        pairs: list[dict[str, float]] = []
        for _ in range(runs):
            pair = {"without": journey()}
            in_background("qmaster", UNIT, **spec)
            try:
                pair["attacked"] = journey()
            finally:
                host("qmaster").run(f"systemctl stop {UNIT}")
            pairs.append(pair)
        found[name] = pairs
    return {"runs": found}
