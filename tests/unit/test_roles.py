"""The roles' variables: declared, defaulted and named alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


@pytest.mark.parametrize("role", NAMES)
def test_a_role_declares_the_variables_it_defaults_and_defaults_those_it_declares(
    role: str,
) -> None:
    defaults = load(ROLES / role / "defaults/main.yml")
    options = load(ROLES / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    declared = {name: option.get("default") for name, option in options.items()}
    required = {name for name, option in options.items() if option.get("required")}
    assert {name: value for name, value in declared.items() if name not in required} == defaults


@pytest.mark.parametrize("role", NAMES)
def test_a_roles_variables_start_with_its_name(role: str) -> None:
    for name in load(ROLES / role / "defaults/main.yml"):
        assert name.startswith(f"{role}_")
    if (ROLES / role / "vars/main.yml").exists():
        for name in load(ROLES / role / "vars/main.yml"):
            assert name.startswith(f"__{role}_")


@pytest.mark.parametrize("role", NAMES)
def test_a_roles_readme_names_its_variables(role: str) -> None:
    readme = (ROLES / role / "README.md").read_text(encoding="utf-8")
    missing = [
        name for name in load(ROLES / role / "defaults/main.yml") if f"`{name}`" not in readme
    ]
    assert missing == [], f"{role}/README.md"
