# SPDX-License-Identifier: BSD-3-Clause
"""Inventories for the tests of ``playbooks/validate.yml``, and its filters."""

from __future__ import annotations

import importlib.util
from typing import Any

import yaml

from folders import ROOT

DEMO = ROOT / "inventories/demo/group_vars/all/site.yml"
GROUPS = {
    "all": ["hub", "web", "w1", "w2"],
    "hub": ["hub"],
    "proxy": ["web"],
    "sge_exec": ["w1", "w2"],
}


def load_plugin() -> Any:
    path = ROOT / "plugins/filter/site_problems.py"
    spec = importlib.util.spec_from_file_location("site_problems", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLUGIN = load_plugin()


def site(**changes: Any) -> dict[str, Any]:
    """Return the demo's variables for every host, with changes."""
    values = yaml.safe_load(DEMO.read_text(encoding="utf-8")) | changes
    return dict.fromkeys(GROUPS["all"], values)


def problems(groups: dict[str, list[str]] | None = None, **changes: Any) -> list[str]:
    found: list[str] = PLUGIN.inventory_problems(site(**changes), groups or GROUPS)
    return found
