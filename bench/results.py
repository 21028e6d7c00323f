"""Results as files: what was measured, on which machine, with which versions."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.demo import ROOT
from bench.stock import versions

#: Packages whose version says what was measured.
PACKAGES = ("batchspawner", "jupyterhub", "jupyterlab", "jupyter-server", "ipykernel")


def git(*arguments: str) -> str:
    """Return what git prints."""
    command = ["/usr/bin/git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Describe this machine and what is installed on it."""
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # The results of other parts, and the page with their plots, are no change of what is measured.
    changed = git("status", "--porcelain", "--", ".", ":!bench/results", ":!docs")
    commit = git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    locked = dict(re.split("==| ;", line)[:2] for line in versions())
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "gridhub": commit,
        "versions": {name: locked[name] for name in PACKAGES},
    }


def save(folder: Path, part: str, runs: int, load: float, found: dict[str, Any]) -> None:
    """Write what a part has found.

    :param load: the machine's load before the part: other programs make all figures worse.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "part": part,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "runs": runs,
        "load_before": round(load, 2),
        "machine": machine(),
        "found": found,
    }
    text = json.dumps(whole, indent=1) + "\n"
    (folder / f"{part}.json").write_text(text, encoding="utf-8")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all results of a folder, by the name of their part."""
    files = sorted(folder.glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
