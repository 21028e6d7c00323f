# SPDX-License-Identifier: BSD-3-Clause
"""How much memory a session has left, as Grid Engine counts it (``h_vmem``)."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

#: A request is large from this size on, in bytes: the session's memory matters then.
LARGE = 2**23


def memory_left(process: int | None = None, folder: Path = Path("/proc")) -> int | None:
    """Return how many bytes a process and its descendants may still use together.

    Grid Engine limits the address space of each process to the job's memory (``RLIMIT_AS``), and
    ends the job if all of its processes together use more.

    :param process: the process; by default, this one.
    :returns: None if the job has no such limit.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    used, waiting = 0, [str(process or os.getpid())]
    while waiting:
        here = folder / waiting.pop()
        try:
            pages = int((here / "statm").read_text(encoding="ascii").split()[0])  # proc(5)
            children = [path.read_text(encoding="ascii") for path in here.glob("task/*/children")]
        except (OSError, ValueError, IndexError):
            continue  # the process has ended
        used += pages * resource.getpagesize()
        waiting += " ".join(children).split()
    return max(limit - used, 0)


def free_large_bodies(handler: Any) -> None:
    """Free a large request's body once it has been parsed; Jupyter would keep it during the save.

    :param handler: the class of Jupyter's API handlers, which this function changes.
    """
    parse = handler.get_json_body

    def get_json_body(self: Any) -> Any:
        model = parse(self)
        if len(self.request.body) >= LARGE:
            self.request.body = b""
        return model

    handler.get_json_body = get_json_body
