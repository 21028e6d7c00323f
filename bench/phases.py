"""When a session of ours reached each step of its start, as its logs and processes say."""

from __future__ import annotations

import os
import re
import time

from bench.demo import inside


def process_start(host: str, process: str) -> float:
    """Return when a process in a container started, to a hundredth of a second (Unix time)."""
    stat = inside(host, f"cat /proc/{process}/stat")
    # The name in parentheses may contain blanks; the 22nd field is the time since boot.
    ticks = int(stat.rpartition(")")[2].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


PHASES: list[tuple[str, str]] = []


def seconds(name: str, began: float) -> dict[str, float]:
    return {}
