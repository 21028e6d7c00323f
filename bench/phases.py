"""When a session of ours reached each step of its start, as its logs and processes say.

The product has no code for this: the broker, the hub and the session's server write a line at these
moments anyway, and the kernel knows when a process has started.
"""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime

from bench.demo import inside

#: The steps of a start in their order, each with what has happened at its end.
PHASES = [
    ("qsub", "qsub has answered"),
    ("job", "the job's process has started"),
    ("imported", "Jupyter is imported"),
    ("initialised", "the server is initialised"),
    ("told", "the hub knows the port"),
    ("ready", "the browser knows that it is ready"),
    ("page", "JupyterLab's page has answered"),
    ("cell", "the first cell has run"),
]
#: Lines of the broker's and the hub's log, with the time that the journal gives them.
JOURNAL = {
    "qsub": r"^(?P<at>[0-9.]+) \S+ jupyterhub-broker\S* start for {name}, .*: job (?P<job>\d+)$",
    "told": r"^(?P<at>[0-9.]+) .* POST /hub/api/sge/port \({name}@",
}
WORKER = r" Session of {name}(?: \([0-9a-f]+\))? answers at (?P<worker>\w+):"
#: Lines of the session's log. The first one comes as soon as Jupyter's code runs.
SESSION = {
    "imported": r"^\[I (?P<at>\S+ \S+) \w+\] ",
    "initialised": r"^\[I (?P<at>\S+ \S+) \w+\] Serving notebooks from ",
}


def process_start(host: str, process: str) -> float:
    """Return when a process in a container started, to a hundredth of a second (Unix time)."""
    stat = inside(host, f"cat /proc/{process}/stat")
    # The name in parentheses may contain blanks; the 22nd field is the time since boot.
    ticks = int(stat.rpartition(")")[2].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def from_journal(name: str, journal: str) -> tuple[dict[str, float], str, str]:
    """Return the moments that the journal of the hub's host knows, the job and its worker."""
    moments, job = {}, ""
    for step, pattern in JOURNAL.items():
        if found := re.search(pattern.format(name=name), journal, re.MULTILINE):
            moments[step] = float(found["at"])
            job = found.groupdict().get("job", job)
    worker = re.search(WORKER.format(name=name), journal)
    return moments, job, worker["worker"] if worker else ""


def from_session(log: str) -> dict[str, float]:
    """Return the moments that the session's log knows; the containers' clock is in UTC."""
    moments = {}
    for step, pattern in SESSION.items():
        if found := re.search(pattern, log, re.MULTILINE):
            at = datetime.strptime(found["at"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
            moments[step] = at.timestamp()
    return moments


def seconds(name: str, began: float) -> dict[str, float]:
    """Return the seconds until each step that the logs know, for a session that is running."""
    journal = inside("hub", f"journalctl --no-pager -o short-unix --since @{began:.3f}")
    moments, job, worker = from_journal(name, journal)
    moments |= from_session(inside("hub", f"cat /home/{name}/.jupyterhub-sessions/{job}.log"))
    process = inside(worker, f"pgrep -o -u {name} -f sge_session.py").strip()
    moments["job"] = process_start(worker, process)
    return {step: moment - began for step, moment in moments.items()}
