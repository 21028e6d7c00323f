"""CPU seconds of the demo's containers and of single programs in them."""

from __future__ import annotations

import os
from pathlib import Path

from bench.demo import NUMBERS, inside
from faults import main_process

TICKS = os.sysconf("SC_CLK_TCK")

#: Prints the ticks of a process and its children, also of those that have ended, given its PID. It
#: leaves out Node.js: the stock hub starts its proxy itself, ours runs on another host.
TREE = """
import pathlib, sys
children, ticks = {}, {}
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
        text = stat.read_text()
        fields = text.rpartition(")")[2].split()
    except OSError:
        continue
    if "(node" in text:
        continue
    children.setdefault(fields[1], []).append(stat.parent.name)
    ticks[stat.parent.name] = sum(map(int, fields[11:15]))
todo, total = [input()], 0
while todo:
    process = todo.pop()
    total += ticks[process]
    todo += children.get(process, [])
print(total)
"""


def containers() -> float:
    """Return the CPU seconds that all containers have used; the clients on this machine not."""
    return sum(container(name) for name in NUMBERS)


def container(name: str) -> float:
    """Return the CPU seconds that a container has used."""
    lines = Path(f"/proc/{main_process(name)}/cgroup").read_text(encoding="utf-8").splitlines()
    groups = dict(line.split(":", 2)[1:] for line in lines)
    for controllers, path in groups.items():
        if "cpuacct" in controllers.split(","):
            usage = Path(f"/sys/fs/cgroup/{controllers}{path}/cpuacct.usage")
            return int(usage.read_text(encoding="utf-8")) / 1e9
    path = groups[""].removesuffix("/init.scope")
    stat = Path(f"/sys/fs/cgroup{path}/cpu.stat").read_text(encoding="utf-8")
    return int(dict(line.split() for line in stat.splitlines())["usage_usec"]) / 1e6


def unit(name: str, on: str = "hub") -> float:
    """Return the CPU seconds that a unit of the hub's host has used, with its children."""
    process = inside(on, f"systemctl show -P MainPID {name}")
    return int(inside(on, TREE, process, ("python3", "-c"))) / TICKS


def memory(name: str, on: str = "hub") -> float:
    """Return the memory of a unit's main process, in megabytes."""
    process = inside(on, f"systemctl show -P MainPID {name}").strip()
    status = inside(on, f"grep ^VmRSS: /proc/{process}/status")
    return int(status.split()[1]) / 1024
