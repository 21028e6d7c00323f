"""No pinned version is affected by an advisory in requirements/advisories.toml."""

from __future__ import annotations

import datetime
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from folders import ROOT

_spec = importlib.util.spec_from_file_location("audit", ROOT / "tools/audit.py")
assert _spec is not None and _spec.loader is not None
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)


@pytest.fixture(scope="module")
def advisories() -> dict[str, Any]:
    return tomllib.loads(audit.ADVISORIES.read_text(encoding="utf-8"))


def test_no_pinned_version_is_behind_an_advisory(advisories: dict[str, Any]) -> None:
    assert audit.behind(audit.locked(), advisories) == []


def test_every_package_of_the_list_is_pinned_somewhere(advisories: dict[str, Any]) -> None:
    """If a name in the list differs from the lock files, the name's advisories never match."""
    pinned = {name for _, name, _ in audit.locked()}
    named = {name for name, fixed in advisories.items() if isinstance(fixed, dict)}
    assert named and named | set(advisories["none_published"]) <= pinned


def test_an_older_version_is_found(advisories: dict[str, Any]) -> None:
    old = [("lock", "jupyterhub", Version("5.5.0"))]
    (line, other) = audit.behind(iter(old), advisories)
    assert line == "lock: jupyterhub 5.5.0 is behind GHSA-c4gm-pwx9-9w8j, fixed in 5.5.1"
    assert "GHSA-69wv-m5fw-2fhp" in other


def test_the_list_has_its_date(advisories: dict[str, Any]) -> None:
    assert isinstance(advisories["looked_up"], datetime.date)


@pytest.mark.parametrize("path", audit.LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_line_of_a_lock_file_has_hashes(path: Path) -> None:
    for pin in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip()):
        assert re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?==\S+", pin), pin[:80]
        assert "--hash=sha256:" in pin, pin[:80]


def test_every_installation_requires_hashes() -> None:
    sources = [*ROOT.glob("tools/*.sh"), *ROOT.glob("roles/*/templates/*"), ROOT / ".ci/run"]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    installs = [line for line in lines if re.search(r"\bpip\b.* install\b", line)]
    assert len(installs) >= 3
    assert [line for line in installs if "--require-hashes" not in line] == []


def test_every_npm_package_has_a_checksum() -> None:
    lock = json.loads((audit.NODE / "package-lock.json").read_text(encoding="utf-8"))
    for place, package in lock["packages"].items():
        assert not place or package["integrity"].startswith("sha512-"), place
