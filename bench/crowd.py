"""Part ``class``: 24 people press Start at the same moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import accounts, cpu, stock
from bench.demo import BASE_URL
from bench.people import Person

PEOPLE = 24


def start_together(people: list[Person]) -> dict[str, Any]:
    """Start all sessions at once; return what that took and cost; stop them.

    Each person's time is that until JupyterLab's page has answered. The CPU seconds are those of
    all containers, without the people's own program on this machine.
    """
    for person in people:
        person.open_form()
    together = threading.Barrier(len(people) + 1)

    def start(person: Person) -> float:
        together.wait()
        began = time.monotonic()
        person.start()
        person.open_lab()
        return time.monotonic() - began

    try:
        with ThreadPoolExecutor(len(people)) as pool:
            started = [pool.submit(start, person) for person in people]
            before, hub_before = cpu.containers(), cpu.container("hub")
            together.wait()
            seconds = sorted(round(each.result(), 3) for each in started)
            used, hub_used = cpu.containers() - before, cpu.container("hub") - hub_before
    finally:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Person.stop, people))
    return {
        "last": seconds[-1],
        "seconds": seconds,
        "cpu_per_start": used / len(people),
        "hub_cpu_per_start": hub_used / len(people),
    }


def measure(runs: int) -> dict[str, Any]:
    """Let a class start its sessions at both hubs, in changing order."""
    names = accounts.names(PEOPLE)
    with accounts.room(names) as password, stock.hub():
        classes = {
            side: [Person(url, name, password) for name in names]
            for side, url in (("ours", BASE_URL), ("stock", stock.URL))
        }
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in classes}
        for run in range(runs):
            for side in list(classes)[:: -1 if run % 2 else 1]:
                found[side].append(start_together(classes[side]))
    return {"people": PEOPLE, "runs": found}
