"""The smallest choice of a menu, which the smoke test starts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from folders import ROOT
from gridhub.menu.file import parse_menu


def menu(*limits: str, **defaults: int) -> Any:
    values = {"cores": 4, "memory": 8, "run_time": 8} | defaults
    request = {
        "cores": {"kind": "slots", "parallel_environment": "smp"},
        "memory": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
        "run_time": {"kind": "run_time", "complex": "h_rt"},
    }
    units = {"memory": "GB", "run_time": "hours"}
    items = [
        {
            "name": name,
            "label": name,
            "range": {"minimum": 1, "maximum": 1_000_000_000},
            "default": default,
            "request": request[name],
            **({"unit": units[name]} if name in units else {}),
        }
        for name, default in values.items()
    ]
    rules = [{"rule": rule, "item": "memory", "message": "no"} for rule in limits]
    return parse_menu(json.dumps({"items": items, "limits": rules}))


def test_each_amount_becomes_the_smallest() -> None:
    assert menu().smallest().values == {"cores": 1, "memory": 1, "run_time": 1}


def test_the_rules_of_the_menu_are_kept() -> None:
    values = menu("memory >= 2 * cores", "run_time >= 3").smallest().values
    assert values == {"cores": 1, "memory": 2, "run_time": 3}


@pytest.mark.parametrize("folder", ["demo", "example", "example_rich"])
def test_the_menus_of_the_inventories_have_one(folder: str) -> None:
    values: dict[str, Any] = {}
    for path in (ROOT / "inventories" / folder / "group_vars/all").glob("*.yml"):
        values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    whole = parse_menu(
        json.dumps(
            {
                "items": values["jupyterhub_resource_menu"],
                "presets": values.get("jupyterhub_resource_presets", []),
                "limits": values.get("jupyterhub_resource_limits", []),
            }
        )
    )
    choice = whole.smallest()
    assert whole.choose(choice.values, ()) == choice
    default = whole.choose({}, ())
    for name, value in choice.values.items():
        if isinstance(value, int):
            assert value <= int(default.values[name])
