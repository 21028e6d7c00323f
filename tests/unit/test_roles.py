"""The roles' variables: declared, defaulted and named alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
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


PASSWORD = "5ec4e7"

#: Variables for pip and npm, and those of them that are refused.
ENVIRONMENTS: list[tuple[dict[str, object], str]] = [
    ({}, ""),
    (
        {
            "PIP_INDEX_URL": "https://pypi.example.org/simple",
            "NPM_CONFIG_REGISTRY": "https://npm.example.org/@ours/",
            "PIP_TIMEOUT": 60,
        },
        "",
    ),
    ({"PIP_INDEX_URL": f"https://me:{PASSWORD}@pypi.example.org/simple"}, "PIP_INDEX_URL"),
    (
        {
            "HTTPS_PROXY": f"http://me:{PASSWORD}@proxy.example.org:3128",
            "PIP_TIMEOUT": 60,
            "PIP_EXTRA_INDEX_URL": f"https://a.example.org https://{PASSWORD}@b.example.org",
        },
        "HTTPS_PROXY, PIP_EXTRA_INDEX_URL",
    ),
]


def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """Ansible would show it in the command line of what it runs."""
    role = {"name": "python_env", "tasks_from": "preflight"}
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "block": [{"include_role": role, "vars": {"python_env_environment": asked}}],
                    "rescue": [{"debug": {"msg": f"case {number} refused"}}],
                }
            ],
        }
        for number, (asked, _) in enumerate(ENVIRONMENTS)
    ]
    (tmp_path / "plays.yml").write_text(json.dumps(plays), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-vvv", "plays.yml"],
        cwd=tmp_path,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for number, (_, names) in enumerate(ENVIRONMENTS):
        assert (f"case {number} refused" in said) is bool(names), number
        assert not names or f"{names} in jupyterhub_environment" in said
    assert PASSWORD not in said + done.stderr
