"""Part ``form``: what the form costs a hub with 1,000 sessions and 10,000 waiting jobs.

This machine has no room for 1,000 JupyterLabs, so only one session is real. Each fake session has a
running job in Grid Engine and a row in the hub's database, as a release without TLS writes it. All
fake sessions have the same address, where a small web server runs on a worker. At a site, the hub
has a host to itself. In the demo, the containers share the cores, so the measurement gives the
hub's container priority when cores are scarce.

The package python3-drmaa stays installed on the hub afterwards. With this package, one program
submits all the waiting jobs; qsub would take half an hour.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import accounts, limits
from bench.demo import BASE_URL, PREFIX, inside, qmaster, wait_for
from bench.many import ready_sessions
from bench.people import Person
from faults import machine, replaced, wait_for_the_hub

SESSIONS, JOBS_WAITING, PEOPLE, SECONDS = 1000, 10_000, 50, 60.0
#: A pattern that finds the page and the duration (ms) of each request in JupyterHub's log.
REQUEST = re.compile(r"\] 200 GET /hub/(\w+)\S* \(\S+\) ([0-9.]+)ms$", re.MULTILINE)
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


@contextlib.contextmanager
def queue(jobs: int) -> Iterator[None]:
    """Fill the queue with jobs that wait for more GPUs than are free."""
    try:
        inside("hub", "apt-get install --quiet=2 --yes gridengine-drmaa1.0 python3-drmaa 2>&1")
        # The DRMAA library uses jemalloc, which must be loaded before anything else.
        python = ("env", "LD_PRELOAD=libjemalloc.so.2", "python3", "-c")
        inside("hub", WAITING_JOBS, str(jobs), ("runuser", "-u", "carol", "--", *python))
        yield
    finally:
        inside("hub", "SGE_ROOT=/var/lib/gridengine runuser -u carol -- qdel -u carol > /dev/null")
        wait_for("carol has no job", lambda: "carol" not in qmaster("qstat -u carol"), 600)


@contextlib.contextmanager
def sessions(names: list[str], real: str) -> Iterator[None]:
    """Give each user a fake session that the hub, the proxy and Grid Engine treat as a real one."""
    mark = json.loads(
        inside(
            "hub",
            "import json, sqlite3; d = sqlite3.connect('/var/lib/jupyterhub/jupyterhub.sqlite');"
            "print(json.dumps([json.loads(s)['session'] for (s,) in"
            " d.execute('select state from spawners where server_id is not null')]))",
            command=accounts.AS_HUB,
        )
    )[0][:8]
    wanted = {name: mark + secrets.token_hex(12) for name in names}
    inside("hub", "systemctl stop jupyterhub.service")
    server = "--unit=gridhub-bench --property=DynamicUser=yes --working-directory=/var/empty"
    inside("exec1", f"mkdir -p /var/empty; systemd-run {server} python3 -m http.server 39999")
    try:
        lines = "".join(f"{name} jupyterhub-{session}\n" for name, session in wanted.items())
        ids = dict(line.split() for line in inside("hub", JOBS, lines).splitlines())
        rows = {name: [session, ids[name]] for name, session in wanted.items()}
        inside("hub", ROWS, json.dumps({"real": real, "sessions": rows}), accounts.AS_HUB)
        inside("hub", "systemctl start jupyterhub.service")
        yield
    finally:
        inside("exec1", "systemctl stop gridhub-bench.service")
        inside("hub", "systemctl stop jupyterhub.service")
        accounts.end_jobs(names)
        inside("hub", accounts.FORGET, "\n".join(names), accounts.AS_HUB)
        inside("hub", "systemctl start jupyterhub.service")


@contextlib.contextmanager
def hub_first() -> Iterator[None]:
    """Give the hub's container priority over other containers when cores are scarce."""
    shares = ("podman", "update", "--cpu-shares")
    machine(*shares, "50000", f"{PREFIX}-hub")
    try:
        yield
    finally:
        machine(*shares, "1024", f"{PREFIX}-hub")


def measure(runs: int) -> dict[str, Any]:
    """Open the form with many people again and again; return what the hub's log says of it."""
    busy = accounts.names(SESSIONS - 1)
    looking = [f"look{number:03d}" for number in range(PEOPLE)]
    with accounts.room([*busy, *looking]) as password, limits.lifted():
        admin, alice = Person(BASE_URL, "admin"), Person(BASE_URL, "alice")
        alice.open_form()
        alice.start()
        try:
            with sessions(busy, alice.name), queue(JOBS_WAITING), hub_first():
                wait_for_the_hub(120)
                wait_for("all are taken up", lambda: ready_sessions(admin) >= SESSIONS, 600)
                people = [Person(BASE_URL, name, password) for name in looking]
                return {"sessions": SESSIONS, "jobs": JOBS_WAITING, "people": PEOPLE} | {
                    "runs": [look_at_forms(people) for _ in range(runs)]
                }
        finally:
            wait_for_the_hub(120)
            alice.stop()


def look_at_forms(people: list[Person]) -> dict[str, Any]:
    """Have everybody load the form and a forecast every 10 s; return what the requests cost."""
    inside("hub", f"mkdir -p {COUNTED}; : > {COUNTED}/calls; chmod -R 0777 {COUNTED}")
    began = time.time()

    def look(place: int) -> None:
        # Load the form, then the forecast that the form's script would request. Unlike a browser,
        # load the form again before each forecast.
        person = people[place]
        time.sleep(10 * place / len(people))
        while time.time() < began + SECONDS:
            person.open_form()
            person.get("/hub/forecast?cores=1&memory=1&gpus=0&run_time=1").raise_for_status()
            time.sleep(10)

    try:
        with replaced("hub", "qstat", COUNT), ThreadPoolExecutor(len(people)) as pool:
            list(pool.map(look, range(len(people))))
        calls = Counter(inside("hub", f"cat {COUNTED}/calls").splitlines())
    finally:
        inside("hub", f"rm -rf {COUNTED}")
    log = inside("hub", f"journalctl --no-pager -o cat -u jupyterhub --since @{int(began)}")
    times: dict[str, list[float]] = {"spawn": [], "forecast": []}
    for page, took in REQUEST.findall(log):
        times.setdefault(page, []).append(float(took))
    return {"form_ms": times["spawn"], "forecast_ms": times["forecast"], "queries": calls}
