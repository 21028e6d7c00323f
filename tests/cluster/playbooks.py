"""Run the playbooks as an administrator does."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import yaml

from cluster import INVENTORY, ROOT

SITE = ROOT / INVENTORY / "group_vars/all/site.yml"


def playbook(
    name: str, *arguments: str, inventory: str = INVENTORY, **variables: object
) -> subprocess.CompletedProcess[str]:
    extra = ["--extra-vars", json.dumps(variables)] if variables else []
    return subprocess.run(
        [
            "ansible-playbook",
            "--inventory",
            inventory,
            f"playbooks/{name}",
            *arguments,
            *extra,
        ],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def output(run: subprocess.CompletedProcess[str]) -> str:
    """Return all output of a run, joined into one line."""
    return " ".join((run.stdout + run.stderr).split())


def menu() -> list[dict[str, Any]]:
    return list(yaml.safe_load(SITE.read_text(encoding="utf-8"))["jupyterhub_resource_menu"])
