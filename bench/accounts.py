"""Accounts for the measurement, and room for all their sessions; both go away again."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from bench.demo import WORKERS, delete_jobs, inside, qmaster, wait_for
from faults import wait_for_the_hub

#: The lowest UID of the accounts.
FIRST_UID = 20_000
#: Changes Grid Engine's configuration: each job on a worker takes one GID of the gid_range.
CONFIGURE = (
    "cd $(mktemp -d); qconf -sconf global | sed -e 1d -e '{change}' > global; "
    "qconf -Mconf global > /dev/null"
)
#: The folder in which each host keeps its own account files meanwhile.
KEPT = "/root/accounts-before"
#: The file in which the qmaster keeps Grid Engine's own values meanwhile.
KEPT_GRID = "/root/grid-before.json"
HOSTS = ("hub", *WORKERS)
#: Runs a program of Python as the hub, with the hub's environment.
AS_HUB = ("runuser", "-u", "jupyterhub", "--", "/opt/jupyterhub/current/env/bin/python", "-c")
#: Removes from our hub's database what it knows of the people whose names it reads.
FORGET = """
import sys
from jupyterhub import orm
db = orm.new_session_factory("sqlite:////var/lib/jupyterhub/jupyterhub.sqlite")()
for name in sys.stdin.read().split():
    for user in db.query(orm.User).filter_by(name=name):
        db.delete(user)
db.commit()
"""


def names(count: int) -> list[str]:
    """Return this many names for accounts."""
    return [f"bench{number:04d}" for number in range(count)]


def object_field(text: str, name: str) -> str:
    """Return a field of a Grid Engine object, without the breaks of its lines."""
    found = re.search(rf"^{name}\s+(.+)$", re.sub(r"\\\s+", "", text), re.MULTILINE)
    assert found, name
    return found[1].strip().replace(" ", "")


@contextlib.contextmanager
def room(people: list[str]) -> Iterator[str]:
    """Create accounts with places for their sessions, and return their password; undo both.

    Each worker gets room for everybody, so the number of slots and the memory for jobs do not
    limit what is measured.
    """
    password = secrets.token_urlsafe(16)
    places = len(people)
    # If an earlier measurement was killed, the cluster still has its values.
    inside("qmaster", f"[ -e {KEPT_GRID} ] || cat > {KEPT_GRID}", json.dumps(grid_values()))
    kept = json.loads(inside("qmaster", f"cat {KEPT_GRID}"))
    try:
        add_accounts(people, password)
        slots = ",".join([str(places), *(f"[{worker}={places}]" for worker in WORKERS)])
        qmaster(f"qconf -rattr queue slots {slots} all.q; "
                "qconf -rattr queue load_thresholds NONE all.q")  # fmt: skip
        for worker in WORKERS:
            qmaster(f"qconf -mattr exechost complex_values h_vmem={places * 2}G {worker}")
        set_gid_range(f"60000-{60000 + max(places, 100)}")
        yield password
    finally:
        end_jobs(people)
        set_gid_range(kept["gids"])
        for name, value in kept["queue"].items():
            qmaster(f"qconf -rattr queue {name} '{value}' all.q")
        for worker, value in kept["complexes"].items():
            qmaster(f"qconf -rattr exechost complex_values {value} {worker}")
        remove_accounts(people)
        inside("qmaster", f"rm {KEPT_GRID}")


def grid_values() -> dict[str, Any]:
    """Return the values of Grid Engine that are changed for the measurement."""
    queue = qmaster("qconf -sq all.q")
    return {
        "queue": {name: object_field(queue, name) for name in ("slots", "load_thresholds")},
        "complexes": {
            worker: object_field(qmaster(f"qconf -se {worker}"), "complex_values")
            for worker in WORKERS
        },
        "gids": qmaster("qconf -sconf global | grep ^gid_range").split()[1],
    }


def end_jobs(people: list[str]) -> None:
    """Delete the jobs of these people, and wait until they are gone."""
    owners = ",".join(people)
    delete_jobs(f"-u {owners}")
    wait_for("their jobs are gone", lambda: not qmaster(f"qstat -u {owners}").strip(), 300, pause=1)


def set_gid_range(gids: str) -> None:
    """Set the GIDs of which each job on a worker takes one."""
    qmaster(CONFIGURE.format(change=f"s/^gid_range.*/gid_range {gids}/"))


def add_accounts(people: list[str], password: str) -> None:
    """Create accounts on the hub's host and the workers, with homes."""
    # Edit the account files directly: useradd and userdel take minutes for many accounts.
    make = (
        f"[ ! -e {KEPT} ] || mv {KEPT}/* /etc\n"  # an earlier measurement was killed
        f"mkdir -p -m 700 {KEPT}; cp -a /etc/passwd /etc/shadow /etc/group {KEPT}\n"
        f"uid={FIRST_UID}; gid=$(getent group jupyter | cut -d : -f 3)\n"
        f"sed -i '/^jupyter:/s/$/,{','.join(people)}/' /etc/group\n"
        "while read -r name; do\n"
        '  echo "$name:x:$uid:$gid::/home/$name:/bin/bash" >> /etc/passwd\n'
        '  echo "$name:*:20000::::::" >> /etc/shadow\n'
        '  [ "$HOSTNAME" != hub ] || install -d -o "$name" -g jupyter -m 700 "/home/$name"\n'
        "  uid=$((uid + 1))\n"
        "done"
    )
    for host in HOSTS:
        inside(host, make, "".join(f"{name}\n" for name in people))
    inside("hub", "chpasswd", "".join(f"{name}:{password}\n" for name in people))


def remove_accounts(people: list[str]) -> None:
    """Remove the accounts, their homes, and what our hub knows of them."""
    inside("hub", "systemctl stop jupyterhub.service")
    inside("hub", FORGET, "\n".join(people), AS_HUB)
    inside("hub", "systemctl start jupyterhub.service")
    inside("hub", "xargs -I {} rm -rf /home/{}", "\n".join(people))
    for host in HOSTS:
        inside(host, f"mv {KEPT}/* /etc; rmdir {KEPT}")
    wait_for_the_hub()
