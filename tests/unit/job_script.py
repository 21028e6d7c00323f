# SPDX-License-Identifier: BSD-3-Clause
"""The job script, rendered as Ansible renders it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment

from folders import ROOT

TEMPLATE = ROOT / "roles/jupyterhub/templates/session.sh.j2"


def render_job_script(
    menu: list[dict[str, Any]],
    prologue: str = "",
    debugger: object = False,
    path: object = "/opt/jupyterhub-session",
    owner: str = "root",
) -> str:
    environment = Environment(trim_blocks=True, autoescape=False)
    environment.filters |= {"comment": lambda words: f"# {words}"}
    environment.filters["bool"] = lambda value: value in (True, "true")
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    environment.globals["lookup"] = lambda _, path: Path(path).read_text(encoding="utf-8")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        ansible_managed="managed",
        jupyterhub_debugger=debugger,
        jupyterhub_job_prologue=prologue,
        jupyterhub_resource_menu=menu,
        sge_common_session_path=path,
        sge_common_session_owner=owner,
        sge_common_files_dir=str(ROOT / "files"),
    )


def job_script(prologue: str, software: Mapping[str, str]) -> str:
    """Return a job script for a menu with these software environments and their prologues."""
    options = [{"value": name, "prologue": lines} for name, lines in software.items()]
    return render_job_script([{"request": {"kind": "environment"}, "options": options}], prologue)
