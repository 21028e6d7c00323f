"""Part ``many``: a hub with 24 and with 200 sessions, and what a restart does to them.

The sessions are light: jobs that run ``standin.py`` in place of JupyterLab, because this machine
has no room for 200 of those. Hub, broker, Grid Engine and proxies do not notice. First our hub is
measured, then the stock hub.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import accounts, cpu, limits, stock
from bench.demo import BASE_URL, WORKERS, answers, inside, qmaster, wait_for
from bench.people import Person

FEW, MANY = 24, 200
#: How long the hub is watched, in seconds, and how fast people press Start.
WATCHED = 120.0
SETTLED = 20.0
WITHIN = 10.0
STANDIN = Path(__file__).with_name("standin.py")
SESSION = "/opt/jupyterhub-session"
RELEASE = f"{SESSION}/releases/gridhub-bench"
PYTHON = f"{stock.FOLDER}/env/bin/python"
LIGHT_STOCK = f"""
c.BatchSpawnerBase.batchspawner_singleuser_cmd = "{PYTHON} {stock.FOLDER}/standin.py"
"""


@contextlib.contextmanager
def light_release() -> Iterator[None]:
    """Let new sessions of ours run the stand-in: a release that differs in one file."""
    put_back = (
        f"cd {SESSION}; [ ! -e {RELEASE}/real ] || "
        f'{{ ln -sfn "$(cat {RELEASE}/real)" current; rm -rf {RELEASE}; }}'
    )
    try:
        for worker in WORKERS:
            inside(worker, put_back)  # an earlier measurement was killed
            inside(
                worker,
                f"cd {SESSION}; cp -a $(readlink -e current) {RELEASE}; "
                f"cat > {RELEASE}/sge_session.py; readlink current > {RELEASE}/real; "
                f"ln -sfn {RELEASE} current",
                STANDIN.read_text(encoding="utf-8"),
            )
        yield
    finally:
        for worker in WORKERS:
            inside(worker, put_back)


def start_within(people: list[Person], seconds: float) -> dict[str, Any]:
    """Let people press Start one after another within this time; return when the last was ready."""
    began = time.monotonic()

    def start(place: int) -> str:
        time.sleep(max(0.0, began + seconds * place / len(people) - time.monotonic()))
        try:
            people[place].start()
        except Exception as error:  # counted
            return repr(error)
        return ""

    with ThreadPoolExecutor(len(people)) as pool:
        failed = [error for error in pool.map(start, range(len(people))) if error]
    return {
        "people": len(people),
        "within": seconds,
        "last": time.monotonic() - began,
        "failed": failed,
    }


def watch(unit: str) -> dict[str, float]:
    """Return the CPU seconds a minute and the memory of a hub that has nothing to do."""
    time.sleep(SETTLED)  # what the starts have left to do
    before, began = cpu.unit(unit), time.monotonic()
    time.sleep(WATCHED)
    used, took = cpu.unit(unit) - before, time.monotonic() - began
    return {"cpu_per_minute": used * 60 / took, "memory_mb": cpu.memory(unit)}


def pages(admin: Person, seconds: float = 20.0) -> dict[str, float]:
    """Load a page of the hub again and again; return how long that takes."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        admin.get("/hub/home").raise_for_status()
        took.append((time.monotonic() - began) * 1000)
        time.sleep(0.05)  # so that the requests themselves are little load
    return {"median_ms": statistics.median(took), "worst_ms": max(took)}


def restart(admin: Person, unit: str, ready: Callable[[], int], count: int) -> dict[str, float]:
    """Restart a hub; return when it has answered and when all sessions are ready again."""
    began = time.monotonic()
    inside("hub", f"systemctl restart {unit}")
    wait_for("the hub answers", lambda: answers(f"{admin.base_url}/hub/health"), 300)
    answered = time.monotonic() - began
    wait_for("all sessions are taken up", lambda: ready() >= count, 300)
    return {"answers": answered, "taken_up": time.monotonic() - began}


def ready_sessions(admin: Person) -> int:
    """Return how many sessions are ready; 0 while the hub does not answer."""
    found = 0
    for offset in range(0, 1001, 200):  # JupyterHub lists at most 200 people at a time
        answer = admin.rest("GET", f"/users?state=ready&offset={offset}&limit=200")
        if not answer.ok:
            return 0
        found += len(answer.json())
    return found


def one_hub(url: str, unit: str, names: list[str], password: str, runs: int) -> dict[str, Any]:
    """Measure a hub with few and with many sessions."""
    admin = Person(url, "admin")
    with ThreadPoolExecutor(4) as pool:
        people = list(pool.map(lambda name: Person(url, name, password), names))
    found: dict[str, Any] = {"empty": watch(unit)}
    for person in people:
        person.open_form()
    start_within(people[:FEW], WITHIN)
    found["few"] = watch(unit)
    found["starts"] = start_within(people[FEW:], WITHIN)
    found["many"] = watch(unit)
    found["sessions"] = count = ready_sessions(admin)
    found["pages"] = pages(admin)
    qmaster("pkill -STOP -x sge_qmaster")
    try:
        found["pages_qmaster_frozen"] = pages(admin)
    finally:
        qmaster("pkill -CONT -x sge_qmaster")
    found["restarts"] = [
        restart(admin, unit, lambda: ready_sessions(admin), count) for _ in range(runs)
    ]
    return found


def measure(runs: int) -> dict[str, Any]:
    """Measure our hub and the stock hub."""
    names = accounts.names(MANY)
    found: dict[str, Any] = {"few": FEW, "many": MANY, "watched_seconds": WATCHED}
    with accounts.room(names) as password, limits.lifted():
        with light_release():
            found["ours"] = one_hub(BASE_URL, "jupyterhub", names, password, runs)
            accounts.end_jobs(names)
        inside_workers(STANDIN.read_text(encoding="utf-8"))
        with stock.hub(LIGHT_STOCK):
            found["stock"] = one_hub(stock.URL, stock.UNIT, names, password, runs)
            accounts.end_jobs(names)
    return found


def inside_workers(text: str) -> None:
    """Write the stand-in into the environment of PyPI, which is removed in the end."""
    for worker in WORKERS:
        inside(worker, f"cat > {stock.FOLDER}/standin.py", text)
