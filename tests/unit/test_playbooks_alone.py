"""What small playbooks say of a host, without one: with ``--check``, or an answer made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
STARTED = "2026-12-08T03:26:00+00:00"


def playbook(
    name: str | Path, folder: Path, *arguments: str, group: str = "hub", **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run a playbook on this machine, which is a host of the group."""
    groups = {each: {"hosts": {"here": HERE}} for each in {group, "proxy"}}
    inventory = folder / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("--inventory", inventory, ROOT / "playbooks" / name),
            *("--extra-vars", json.dumps(variables), *arguments),
        ],
        cwd=folder,
        env=os.environ
        | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("running", "words"),
    [("", "maintenance now: none"), (STARTED, f"maintenance now: running since {STARTED}, updating")],
    ids=["none", "running"],
)
def test_the_status_says_since_when_a_maintenance_runs(
    running: str, words: str, tmp_path: Path
) -> None:
    seen = {"next": None, "problems": [], "last": None, "running": running, "phase": "updating"}
    done = playbook(
        "status.yml",
        tmp_path,
        group="maintenance",
        maintenance_timer=False,
        status_report={"rc": 0, "stdout": json.dumps(seen)},
        status_units=[],
    )
    assert done.returncode == 0, said(done)
    assert words in said(done)
