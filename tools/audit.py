"""Check the versions in the lock files against published advisories: ``audit.py [--offline]``.

The first check uses requirements/advisories.toml and needs no network. Unless ``--offline`` is
given, pip-audit and npm audit then query the lists of PyPI and npm. If a list cannot be reached,
the program reports the failure and relies on advisories.toml alone. The exit status is 1 if any
check finds something.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted([*ROOT.glob("roles/*/files/requirements.txt"), *ROOT.glob("requirements/*.txt")])
NODE = ROOT / "roles/proxy/files/node"
ADVISORIES = ROOT / "requirements/advisories.toml"
#: Time limit for one auditor, in seconds.
TIMEOUT = 300


def locked() -> Iterator[tuple[str, str, Version]]:
    """Yield file, package and version of every pinned package."""
    for path in LOCKS:
        pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==([^ ;\\]+)", path.read_text(), re.M)
        for name, version in pins:
            yield str(path.relative_to(ROOT)), name.lower(), Version(version)
    path = NODE / "package-lock.json"
    for place, package in json.loads(path.read_text())["packages"].items():
        if place:
            name = place.rpartition("node_modules/")[2]
            yield str(path.relative_to(ROOT)), name, Version(package["version"])


def behind(pins: Iterator[tuple[str, str, Version]], advisories: dict[str, Any]) -> list[str]:
    """Return a line for each pinned version that is older than an advisory's fix."""
    return [
        f"{path}: {name} {version} is behind {advisory}, fixed in {fixed}"
        for path, name, version in pins
        for advisory, fixed in advisories.get(name, {}).items()
        if version < Version(fixed)
    ]


def audit(title: str, command: list[str], folder: Path, found: tuple[int, str]) -> bool:
    """Run an auditor; return whether its exit status and its output show a finding.

    pip-audit and npm audit also exit with 1 if they cannot reach their list. The program prints
    such a failure, but it does not count as a finding.
    """
    try:
        run = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{title}: not run ({error.__class__.__name__})")
        return False
    words = run.stdout + run.stderr
    if run.returncode == 0:
        # pip-audit succeeds even if some packages are not in its list.
        unknown = words.count("could not be audited")
        print(f"{title}: nothing found" + (f"; {unknown} not in its list" if unknown else ""))
        return False
    if run.returncode == found[0] and found[1] in words:
        print(f"{title}:\n{words}", file=sys.stderr)
        return True
    print(f"{title}: its list cannot be reached; only the pinned list was checked")
    return False


def main() -> int:
    """Run all checks; return 1 if any of them finds something."""
    advisories = tomllib.loads(ADVISORIES.read_text())
    problems = behind(locked(), advisories)
    print(*problems or [f"advisories.toml of {advisories['looked_up']}: nothing found"], sep="\n")
    bad = bool(problems)
    if "--offline" not in sys.argv[1:]:
        for path in LOCKS:
            title = f"pip-audit {path.relative_to(ROOT)}"
            command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
            bad |= audit(title, [*command, "-r", str(path)], ROOT, (1, "known vulnerabilit"))
        command = ["npm", "audit", "--package-lock-only", "--omit=dev"]
        bad |= audit("npm audit", command, NODE, (1, "severity"))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
