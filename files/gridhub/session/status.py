# SPDX-License-Identifier: BSD-3-Clause
"""What JupyterLab's status bar shows: the session's memory, processor time and time left.

The pages (``files/status_bar``) ask the session's server, which reads the processes of the job in
/proc. Grid Engine gives each job a group of its own, which all processes of the job have, even
those in the background. So the figures are those of the job, not of the worker. Open Cluster
Scheduler 9.1 gives a job a scope of systemd instead, where it can (its public source; not seen).

The limit ``h_vmem`` counts twice (measured with Grid Engine 8.1.9). Linux limits the address space
of each process to it. Grid Engine ends a job whose processes together use more; what they have only
reserved does not count there, although Grid Engine calls the sum ``vmem``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gridhub.contract import STATUS_WORDS
from gridhub.session.rules import Rules

#: The last part of the address of the session's status.
ADDRESS = "gridhub/status"

#: Shortest time between two readings of /proc, in seconds; several pages share a reading.
READ_EVERY = 4.0

#: The next reading comes at the earliest after this many times the duration of the last one: with
#: hundreds of GB, it takes Linux seconds to count the pages of memory that processes share.
REST = 50

#: How many seconds before the end the pages save. The first one is long enough for pages that are
#: not seen, whose browsers let them work once a minute.
SAVE_BEFORE = (90, 20)

#: Pages that are seen have asked within the last so many seconds.
SEEN = 30.0

#: How many seconds before the end the time is highlighted, if the site sets no warnings.
SOON = 300

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a session uses."""

    #: The memory that its processes use together, in bytes.
    memory: int
    #: The largest address space of one of its processes, in bytes.
    reserved: int
    #: The processor time, in cores.
    cores: float


#: The path of a job's scope in a line of ``/proc/PID/cgroup`` (cgroups(7)), such as
#: ``0::/ocs6444.slice/ocs6444-jobs.slice/ocs6444.12.scope``.
_SCOPE = re.compile(r"^\d+:[^:\n]*:(/(?:[^\n]*/)?ocs\d+\.[^/\n]*\.scope)(?:/|$)", re.M | re.ASCII)


def job_scope(cgroups: str) -> str:
    """Return the path of the job's scope, from ``/proc/PID/cgroup``; empty if it has none."""
    found = _SCOPE.search(cgroups)
    return found[1] if found else ""


def _is_in(scope: str, cgroups: str) -> bool:
    paths = (line.split(":", 2)[-1] for line in cgroups.splitlines())
    return any(path == scope or path.startswith(f"{scope}/") for path in paths)


def job_processes(groups: set[int], scope: str = "") -> Iterator[Path]:
    """Yield the folders in /proc of the user's processes that are in all groups and in the scope.

    The session's own process is one of them, although its folder in /proc belongs to root, because
    it leaves no core dumps.
    """
    own = os.getpid()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if int(folder.name) != own and folder.stat().st_uid != os.getuid():
                continue
            if scope and not _is_in(scope, (folder / "cgroup").read_text(encoding="utf-8")):
                continue
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:  # the process has ended
            continue
        line = status.partition("\nGroups:")[2].partition("\n")[0]
        if groups <= {int(each) for each in line.split()}:
            yield folder


def address_space(folder: Path) -> int:
    """Return the address space of a process in bytes: all that it has reserved."""
    return int((folder / "statm").read_text(encoding="utf-8").split()[0]) * _PAGE


def memory_in_use(folder: Path) -> int:
    """Return the memory that a process uses, in bytes, with its part of what processes share."""
    try:
        rollup = (folder / "smaps_rollup").read_text(encoding="utf-8")
        return int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    except (PermissionError, FileNotFoundError, IndexError):
        # The session's own process, or a kernel of Linux without this file.
        return int((folder / "statm").read_text(encoding="utf-8").split()[1]) * _PAGE


def cpu_time(folder: Path) -> float:
    """Return the processor time that a process has used, in seconds (proc(5), fields 14, 15)."""
    fields = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    user, system = fields.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


class Meter:
    """Measures what the job's processes use."""

    def __init__(self) -> None:
        self._groups = set(os.getgroups())
        self._scope = ""
        with contextlib.suppress(OSError):
            self._scope = job_scope(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
        self._times: dict[Path, float] = {}
        self._read_at = time.monotonic()
        self._next = 0.0
        self._usage = Usage(0, 0, 0.0)
        self.read()

    def read(self) -> Usage:
        """Read /proc, unless the last reading is recent; return what the job uses.

        The processor time is the average since the reading before.
        """
        begin = time.monotonic()
        if begin < self._next:
            return self._usage
        folders = list(job_processes(self._groups, self._scope))
        times = dict(self._each(cpu_time, folders))
        now = time.monotonic()
        used = sum(max(each - self._times.get(path, 0.0), 0.0) for path, each in times.items())
        cores = used / (now - self._read_at) if self._times else 0.0
        self._times, self._read_at = times, now
        memory = sum(dict(self._each(memory_in_use, folders)).values())
        reserved = max(dict(self._each(address_space, folders)).values(), default=0)
        self._usage = Usage(int(memory), int(reserved), cores)
        end = time.monotonic()
        self._next = end + max(READ_EVERY, REST * (end - begin))
        return self._usage

    def _each(
        self, measure: Callable[[Path], float], folders: list[Path]
    ) -> Iterator[tuple[Path, float]]:
        """Yield each process with its figure; leave out processes that have ended."""
        for folder in folders:
            with contextlib.suppress(OSError, ValueError, IndexError):
                yield folder, measure(folder)


def limits() -> tuple[int | None, bool, int]:
    """Return the session's memory in bytes, if it is limited, and its number of cores.

    The value between them is whether the limit also is one for the address space of each process.
    If so (``h_vmem``), Grid Engine has set it; otherwise it is the amount that the user chose,
    which the broker writes to ``MEM_LIMIT``, as JupyterHub's other spawners do.
    """
    cores = int(os.environ.get("NSLOTS") or len(os.sched_getaffinity(0)))
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return limit, True, cores
    chosen = os.environ.get("MEM_LIMIT", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else None, False, cores


class Status:
    """The session's status, and the server's address and settings for it.

    :param start: the start of the job, in seconds since the epoch.
    """

    def __init__(self, rules: Rules, start: float) -> None:
        self._rules = rules
        #: The end of the session, in seconds since the epoch; None if it has no run time.
        self.end = None if rules.run_time is None else start + rules.run_time
        self._memory, self._is_address_space, self._cores = limits()
        self._meter = Meter()
        self._saves = 0
        self._asked = -SEEN

    def save(self) -> None:
        """Let all pages save what is open in them."""
        self._saves += 1

    def is_watched(self) -> bool:
        """Return whether a page of the session is seen."""
        return time.monotonic() - self._asked < SEEN

    def read(self) -> dict[str, Any]:
        """Return the status as the pages get it."""
        self._asked = time.monotonic()
        usage = self._meter.read()
        # Rounded down, so that pages do not show more time than there is.
        left = None if self.end is None else max(int(self.end - time.time()), 0)
        near_end = sum(left <= each for each in SAVE_BEFORE) if left is not None else 0
        return {
            "left": left,
            # A page saves when this number grows.
            "saves": self._saves + near_end,
            "memory": {
                "used": usage.memory,
                "limit": self._memory,
                # None if address space is not limited.
                "reserved": usage.reserved if self._is_address_space else None,
            },
            "cpu": {"used": round(usage.cores, 2), "limit": self._cores},
        }

    def page_settings(self) -> dict[str, Any]:
        """Return the settings of ``files/status_bar``; empty if a job from before has no words."""
        rules = self._rules
        if not rules.words.keys() >= STATUS_WORDS:
            return {}
        soon = max((each for each in rules.warnings if each < (rules.run_time or 0)), default=SOON)
        words = {name: rules.words[name] for name in sorted(STATUS_WORDS)}
        return {"gridhubStatus": {"words": words, "soon": soon}}

    def install(self, web_app: Any) -> None:
        """Make the session's server answer the pages' questions, and pass on the settings."""
        from jupyter_server.base.handlers import APIHandler
        from tornado import web

        status = self

        class StatusHandler(APIHandler):
            @web.authenticated
            async def get(self) -> None:
                self.finish(await asyncio.to_thread(status.read))

        web_app.settings.setdefault("page_config_data", {}).update(self.page_settings())
        base_url = web_app.settings["base_url"]  # it ends with a slash
        web_app.add_handlers(".*$", [(f"{base_url}{ADDRESS}", StatusHandler)])
