"""Measure what the form for new sessions costs a hub with 1,000 sessions and 10,000 waiting jobs.

Run ``make demo``, then ``make bench-pages``. The measurement creates accounts and jobs, and removes
them again. The package python3-drmaa stays installed on the hub afterwards. With this package, one
program submits all the waiting jobs; qsub would take half an hour.

This machine has no room for 1,000 JupyterLabs, so only one session is real. Each fake session has a
running job in Grid Engine and a row in the hub's database, as a release without TLS writes it. All
fake sessions have the same address, where a small web server runs on a worker. At a site, the hub
has a host to itself. In the demo, the containers share the cores, so the measurement gives the
hub's container priority when cores are scarce. The measurement connects only to 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/cluster"), str(ROOT / "tests/faults")]

from restart import BASE_URL, PREFIX, inside, qmaster, room_for  # noqa: E402

from cluster import read_passwords  # noqa: E402
from faults import replaced  # noqa: E402
from hub_client import HubClient, wait_for  # noqa: E402

#: A pattern that finds the page and the duration (ms) of each request in JupyterHub's log.
REQUEST = re.compile(r"\] 200 GET /hub/(\w+)\S* \(\S+\) ([0-9.]+)ms$", re.MULTILINE)
#: The hub may take at most this many milliseconds for the form (95th percentile).
LIMIT = 100.0
#: The hub waits at least this many seconds between two queries for free resources.
INTERVAL = 5.0
#: The folder of the file ``calls``, to which each call of qstat adds a line. The folder is in
#: /dev/shm, because even sandboxed systemd units can write there.
COUNTED = "/dev/shm/gridhub-bench"  # noqa: S108
COUNT = f'echo "${{0##*/}} ${{*//[0-9]/}}" | cut -c-60 >> {COUNTED}/calls; exec "$REAL" "$@"'

#: A script that inserts the rows of the fake sessions. It reads this JSON:
#: {"real": NAME, "sessions": {NAME: [SESSION, JOB]}}.
ROWS = """
import json, sys
from jupyterhub import orm, roles
given = json.load(sys.stdin)
db = orm.new_session_factory("sqlite:////var/lib/jupyterhub/jupyterhub.sqlite")()
real = db.query(orm.User).filter_by(name=given["real"]).one().orm_spawners[""]
for name, (session, job) in given["sessions"].items():
    user = orm.User(name=name)
    db.add(user)
    roles.assign_default_roles(db, user)
    server = orm.Server(
        proto="http", ip="exec1", port=39999, base_url=f"/user/{name}/", cookie_name="bench"
    )
    state = real.state | {
        "session": session, "job_id": str(job), "token_hash": "", "secure": False,
        "host": "exec1", "port": 39999,
    }
    db.add(orm.Spawner(user=user, name="", server=server, state=state, started=real.started))
db.commit()
"""

#: A script that deletes the rows of the fake sessions. It reads the users' names, one per line.
NO_ROWS = """
import sys
from jupyterhub import orm
db = orm.new_session_factory("sqlite:////var/lib/jupyterhub/jupyterhub.sqlite")()
for name in sys.stdin.read().split():
    for user in db.query(orm.User).filter_by(name=name):
        db.delete(user)
db.commit()
"""

#: A script that submits a job for each user. It reads one "NAME JOBNAME" per line, and prints one
#: "NAME ID" per line.
JOBS = """
export SGE_ROOT=/var/lib/gridengine; cd /tmp
submit() {
  echo "$1 $(runuser -u "$1" -- qsub -terse -N "$2" -b y -o /dev/null -j y sleep infinity)"
}
export -f submit
xargs -P 4 -n 2 bash -c 'submit "$1" "$2"' bash
"""

#: A script that submits one job for all GPUs of a worker, and many jobs that wait for those GPUs.
#: It reads the number of waiting jobs.
WAITING_JOBS = """
import os
os.environ["SGE_ROOT"] = "/var/lib/gridengine"
os.environ["DRMAA_LIBRARY_PATH"] = "/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0"
os.chdir("/tmp")
import drmaa
with drmaa.Session() as session:
    job = session.createJobTemplate()
    job.remoteCommand, job.args = "/bin/sleep", ["infinity"]
    job.outputPath, job.joinFiles = ":/dev/null", True
    job.nativeSpecification = "-N waits -b y -l gpu=2"
    for _ in range(1 + int(input())):
        session.runJob(job)
"""

#: A script that deletes users' jobs. It reads the users' names, one per line.
NO_JOBS = """
export SGE_ROOT=/var/lib/gridengine
xargs -P 4 -I {} runuser -u {} -- sh -c 'qdel -u {} > /dev/null || true'
"""

AS_HUB = ("runuser", "-u", "jupyterhub", "--", "/opt/jupyterhub/current/env/bin/python", "-c")


def give(host: str, script: str, text: str, *command: str) -> str:
    """Run a script in a container, pass it ``text`` as standard input, and return its output."""
    return subprocess.run(
        ["/usr/bin/podman", "exec", "-i", f"{PREFIX}-{host}", *command, script],
        input=text,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@contextlib.contextmanager
def queue(jobs: int) -> Iterator[None]:
    """Fill the queue with jobs that wait for more GPUs than are free."""
    try:
        inside("hub", "apt-get install --quiet=2 --yes gridengine-drmaa1.0 python3-drmaa 2>&1")
        # The DRMAA library uses jemalloc, which must be loaded before anything else.
        python = ("env", "LD_PRELOAD=libjemalloc.so.2", "python3", "-c")
        give("hub", WAITING_JOBS, str(jobs), "runuser", "-u", "carol", "--", *python)
        yield
    finally:
        inside("hub", "SGE_ROOT=/var/lib/gridengine runuser -u carol -- qdel -u carol > /dev/null")
        wait_for("carol has no job", lambda: "carol" not in qmaster("qstat -u carol"), 600)


@contextlib.contextmanager
def sessions(names: list[str], real: str) -> Iterator[None]:
    """Give each user a fake session that the hub, the proxy and Grid Engine treat as a real one."""
    mark = json.loads(
        give(
            "hub",
            "import json, sqlite3; d = sqlite3.connect('/var/lib/jupyterhub/jupyterhub.sqlite');"
            "print(json.dumps([json.loads(s)['session'] for (s,) in"
            " d.execute('select state from spawners where server_id is not null')]))",
            "",
            *AS_HUB,
        )
    )[0][:8]
    wanted = {name: mark + secrets.token_hex(12) for name in names}
    inside("hub", "systemctl stop jupyterhub.service")
    server = "--unit=gridhub-bench --property=DynamicUser=yes --working-directory=/var/empty"
    inside("exec1", f"mkdir -p /var/empty; systemd-run {server} python3 -m http.server 39999")
    try:
        lines = "".join(f"{name} jupyterhub-{session}\n" for name, session in wanted.items())
        ids = dict(line.split() for line in give("hub", JOBS, lines, "bash", "-euc").splitlines())
        rows = {name: [session, ids[name]] for name, session in wanted.items()}
        give(
            "hub",
            ROWS,
            json.dumps({"real": real, "sessions": rows}),
            *AS_HUB,
        )
        inside("hub", "systemctl start jupyterhub.service")
        yield
    finally:
        inside("exec1", "systemctl stop gridhub-bench.service")
        inside("hub", "systemctl stop jupyterhub.service")
        give("hub", NO_JOBS, "\n".join(names), "bash", "-euc")
        give("hub", NO_ROWS, "\n".join(names), *AS_HUB)
        inside("hub", "systemctl start jupyterhub.service")


@contextlib.contextmanager
def hub_first() -> Iterator[None]:
    """Give the hub's container priority over other containers when cores are scarce."""
    shares = ("podman", "update", "--cpu-shares")
    subprocess.run([*shares, "50000", f"{PREFIX}-hub"], stdout=subprocess.DEVNULL, check=True)
    try:
        yield
    finally:
        subprocess.run([*shares, "1024", f"{PREFIX}-hub"], stdout=subprocess.DEVNULL, check=True)


def percentile(times: list[float], percent: int) -> float:
    """Return the given percentile of ``times``."""
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--people", type=int, default=50, help="how many look at the form")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()

    busy = [f"bench{number:04d}" for number in range(1, arguments.sessions)]
    looking = [f"look{number:03d}" for number in range(arguments.people)]
    password = secrets.token_urlsafe(16)
    admin, alice = HubClient(BASE_URL, "admin"), HubClient(BASE_URL, "alice")
    for person in (admin, alice):
        person.log_in(read_passwords()[person.name])

    def ready() -> int:
        found = 0
        # JupyterHub lists at most 200 users at a time.
        for offset in range(0, len(busy) + 1, 200):
            answer = admin.rest("GET", f"/users?state=ready&offset={offset}&limit=200")
            answer.raise_for_status()
            found += len(answer.json())
        return found

    def answers() -> bool:
        with contextlib.suppress(Exception):
            return admin.get("/hub/health").status_code == 200
        return False

    with room_for([*busy, *looking]):
        give("hub", "chpasswd", "".join(f"{name}:{password}\n" for name in looking), "bash", "-euc")
        alice.choose(cores=1, memory=1, run_time=1)
        alice.wait_until_ready(120)
        try:
            with sessions(busy, alice.name), queue(arguments.jobs), hub_first():
                wait_for("the hub answers", answers, 120)
                wait_for("all sessions are resumed", lambda: ready() > len(busy), 600)
                waiting = qmaster("qstat -s p -u '*' | tail -n +3 | wc -l").strip()
                print(f"{ready()} sessions, {waiting} jobs wait")
                measure(
                    [HubClient(BASE_URL, name) for name in looking], password, arguments.seconds
                )
        finally:
            wait_for("the hub answers", answers, 120)
            alice.stop()
            for name in looking:
                admin.rest("DELETE", f"/users/{name}")


def measure(people: list[HubClient], password: str, seconds: float) -> None:
    """Have every user load the form and a forecast repeatedly; print what the requests cost."""
    for person in people:
        # The proxy limits the logins from one address, and all users share an address, so repeat
        # each login until it succeeds.
        wait_for("the person is logged in", lambda p=person: p.log_in(password).ok, 300)
    inside("hub", f"mkdir -p {COUNTED}; : > {COUNTED}/calls; chmod -R 0777 {COUNTED}")
    began = time.time()

    def look(place: int) -> None:
        # Load the form, then the forecast that the form's script would request. Unlike a browser,
        # load the form again before each forecast.
        person = people[place]
        time.sleep(10 * place / len(people))
        while time.time() < began + seconds:
            person.get("/hub/spawn").raise_for_status()
            person.get("/hub/forecast?cores=1&memory=1&gpus=0&run_time=1").raise_for_status()
            time.sleep(10)

    try:
        with replaced("hub", "qstat", COUNT), ThreadPoolExecutor(len(people)) as pool:
            for done in [pool.submit(look, place) for place in range(len(people))]:
                done.result()
        calls = Counter(inside("hub", f"cat {COUNTED}/calls").splitlines())
    finally:
        inside("hub", f"rm -rf {COUNTED}")
    log = inside("hub", f"journalctl --no-pager -o cat -u jupyterhub --since @{int(began)}")
    times: dict[str, list[float]] = {}
    for page, took in REQUEST.findall(log):
        times.setdefault(page, []).append(float(took))
    wrong = []
    print(f"{len(people)} people open the form every 10 s, for {seconds:g} s; the hub's own times:")
    for page in ("spawn", "forecast"):
        found = times[page]
        print(
            f"  /hub/{page}: {len(found)} times, median {statistics.median(found):.0f} ms, "
            f"p95 {percentile(found, 95):.0f} ms, worst {max(found):.0f} ms"
        )
    if (p95 := percentile(times["spawn"], 95)) > LIMIT:
        wrong.append(f"the form's p95 is {p95:.0f} ms; {LIMIT:g} ms is the limit")
    print("Queries to Grid Engine:")
    for call, count in calls.most_common():
        print(f"  {count} times: {call}")
        # However many people open the form, the hub queries free resources once per interval.
        if call.startswith("qstat -f ") and count > seconds / INTERVAL + 1:
            wrong.append(f"free resources were queried {count} times in {seconds:g} s")
    if wrong:
        sys.exit("Not good enough: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
