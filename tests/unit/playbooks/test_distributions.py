"""What the roles know about each system: names for all that their tasks use, or a refusal.

The facts are typed from Ansible's documentation, not recorded. The table in
docs/administrators/systems.md ("Systems") tells which systems were tried for real.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from folders import ROOT

ROLES = ROOT / "roles"

#: The facts of each system: distribution, major version, family.
SYSTEMS = {
    "Debian 12": ("Debian", "12", "Debian"),
    "Debian 13": ("Debian", "13", "Debian"),
    "Ubuntu 24.04": ("Ubuntu", "24", "Debian"),
    "RHEL 9": ("RedHat", "9", "RedHat"),
    "Rocky 8": ("Rocky", "8", "RedHat"),
    "Rocky 9": ("Rocky", "9", "RedHat"),
    "Rocky 10": ("Rocky", "10", "RedHat"),
    "Alma 9": ("AlmaLinux", "9", "RedHat"),
    "Fedora 44": ("Fedora", "44", "RedHat"),
}
WITH_DISTRIBUTIONS = sorted(path.parents[1].name for path in ROLES.glob("*/vars/Debian.yml"))

#: The roles that install Grid Engine or Prometheus, which only Debian's archive has.
ONLY_DEBIAN = {"monitoring", "sge_common", "sge_qmaster"}


def is_supported(system: str, role: str) -> bool:
    _, major, family = SYSTEMS[system]
    if family == "Debian":
        return True
    if major == "8":  # only to build the environment that workers share
        return role == "python_env"
    return major in ("9", "10") and role not in ONLY_DEBIAN


def load(path: Path) -> Any:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}) or {}


def file_of(system: str, role: str) -> Path | None:
    """Return the file that the role ``distribution`` loads, with its own list of names."""
    distribution, major, family = SYSTEMS[system]
    facts = {
        "distribution": distribution,
        "distribution_major_version": major,
        "os_family": family,
    }
    text = load(ROLES / "distribution/vars/main.yml")["__distribution_file"]
    names = re.search(r"'files': (\[.*?\]),\s+'paths'", text, re.DOTALL)
    assert names
    rendered = Environment().from_string(f"{{{{ {names[1]} | join(' ') }}}}")
    for name in rendered.render(ansible_facts=facts).split():
        if (path := ROLES / role / "vars" / name).is_file():
            return path
    return None


CASES = [(system, role) for system in SYSTEMS for role in WITH_DISTRIBUTIONS]


@pytest.mark.parametrize(("system", "role"), CASES)
def test_a_role_supports_a_system_or_refuses_it(system: str, role: str) -> None:
    assert (file_of(system, role) is not None) is is_supported(system, role)


@pytest.mark.parametrize(("system", "role"), [case for case in CASES if is_supported(*case)])
def test_all_that_tasks_and_templates_use_has_a_value(system: str, role: str) -> None:
    path = file_of(system, role)
    assert path
    parts = ("tasks", "handlers", "templates", "vars")
    files = [each for part in parts for each in (ROLES / role / part).glob("*")]
    text = "\n".join(each.read_text(encoding="utf-8") for each in files)
    used = set(re.findall(rf"\b__{role}_[a-z_0-9]+", text))
    # Values of tasks: registered, noted, or variables of a task.
    own = re.findall(rf"register: (__{role}_\w+)|^\s+(__{role}_\w+):", text, re.MULTILINE)
    defined = {name for pair in own for name in pair}
    defined |= set(load(path)) | set(load(ROLES / role / "vars/main.yml"))
    assert used - defined == set()


def test_the_table_of_systems_is_what_the_roles_do() -> None:
    text = (ROOT / "docs/administrators/systems.md").read_text(encoding="utf-8")
    table = text.partition("## Systems")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in table.splitlines() if row.startswith("| ")][1:]
    columns = ("jupyterhub", "sge_exec", "sge_common")
    shown = {row[0].strip(): [each.strip() for each in row[1:4]] for row in rows}
    for system, cells in shown.items():
        for role, cell in zip(columns, cells, strict=True):
            assert (cell != "refused") is is_supported(system, role), (system, role)
    assert shown.keys() == SYSTEMS.keys()


def rendered(role: str, template: str, system: str, **variables: object) -> str:
    path = file_of(system, role)
    assert path
    environment = Environment(trim_blocks=True, autoescape=False, undefined=StrictUndefined)
    environment.filters |= {
        "comment": lambda words: f"# {words}",
        "quote": lambda text: text,
        "regex_replace": lambda text, old, new: re.sub(old, new, text),
        "bool": bool,
    }
    known = load(ROLES / role / "defaults/main.yml") | load(ROLES / role / "vars/main.yml")
    known |= load(path) | {"ansible_managed": "managed"} | variables
    text = (ROLES / role / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(known)


@pytest.mark.parametrize(
    ("origins", "upgrade"), [([], "security"), (["*"], "default")], ids=["security", "all"]
)
def test_dnf_installs_what_the_inventory_allows(origins: list[str], upgrade: str) -> None:
    text = rendered("maintenance", "dnf-automatic.conf.j2", "Rocky 9", maintenance_origins=origins)
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["commands"]["upgrade_type"] == upgrade
    assert parser["commands"]["apply_updates"] == "yes"
    assert parser["base"]["excludepkgs"] == "gridengine-*"


def test_the_pam_service_uses_the_systems_own_rules() -> None:
    assert "@include common-auth" in rendered("jupyterhub", "pam.j2", "Debian 12")
    lines = rendered("jupyterhub", "pam.j2", "Rocky 9").splitlines()
    assert lines[1:] == ["auth include password-auth", "account include password-auth"]


@pytest.mark.parametrize(("system", "group"), [("Debian 12", "shadow"), ("Rocky 10", "")])
def test_the_hub_is_in_a_group_only_if_the_system_has_it(system: str, group: str) -> None:
    """With a group that does not exist, systemd would not start the unit."""
    unit = rendered("jupyterhub", "jupyterhub.service.j2", system)
    assert ("SupplementaryGroups=" in unit) is bool(group)
    assert not group or f"SupplementaryGroups={group}\n" in unit
