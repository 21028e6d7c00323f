"""What the role maintenance refuses of an inventory, and what it makes of a database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sge_maintenance

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/maintenance"
POSTGRES = "postgresql://hub@database/hub"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there"
)

#: What an inventory says, and what the role says to that; nothing: it takes it.
CASES: dict[str, tuple[dict[str, object], str]] = {
    "nothing": ({}, ""),
    "everything": (
        {
            "maintenance_weekday": "Sun",
            "maintenance_week": "last",
            "maintenance_time": "23:59",
            "maintenance_time_zone": "America/Argentina/Buenos_Aires",
        },
        "",
    ),
    "weekday": ({"maintenance_weekday": "Tuesday"}, "maintenance_weekday ('Tuesday') must be Mon"),
    "week": ({"maintenance_week": 5}, "maintenance_week ('5') 1, 2, 3, 4 or last"),
    "time": ({"maintenance_time": "24:00"}, "('24:00') a time in quotes, such as \"03:26\""),
    "number": ({"maintenance_time": 12360}, "('12360') a time in quotes"),  # YAML's 3:26:00
    "zone": ({"maintenance_time_zone": "Europe; x"}, "('Europe; x') empty or a name such as"),
    "no such zone": (
        {"maintenance_time_zone": "Europe/Atlantis"},
        "Check maintenance_time_zone ('Europe/Atlantis')",
    ),
    "database": (
        {"jupyterhub_database_url": POSTGRES},
        "The hub's database is not SQLite: maintenance_backup_command must say how to back it up",
    ),
    "database with a command": (
        {"jupyterhub_database_url": POSTGRES, "maintenance_backup_command": ["/sbin/dump"]},
        "",
    ),
    "relative database": ({"jupyterhub_database_url": "sqlite:///hub.sqlite"}, ""),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the role says to each case, and the database that it would copy."""
    folder = tmp_path_factory.mktemp("role")

    def note(name: str, said: str) -> dict[str, object]:
        return {"copy": {"content": said, "dest": f"{folder}/{name}.json", "mode": "0600"}}

    role = {"name": "maintenance", "tasks_from": "preflight", "public": True}
    taken = "{{ {'said': '', 'database': __maintenance_settings.database} | to_json }}"
    refused = "{{ {'said': ansible_failed_result.msg} | to_json }}"
    plays = [
        {
            "hosts": "hub",
            "gather_facts": False,
            "vars": variables,
            "tasks": [
                {
                    "block": [{"include_role": role}, note(name, taken)],
                    "rescue": [note(name, refused)],
                }
            ],
        }
        for name, (variables, _) in CASES.items()
    ]
    (folder / "plays.yml").write_text(json.dumps(plays), encoding="utf-8")
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"hub": {"hosts": {"here": host}}}
    (folder / "hosts.yml").write_text(json.dumps(hosts), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts.yml", "plays.yml"],
        cwd=folder,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_refused_with_what_would_be_right(
    name: str, answers: dict[str, dict[str, str]]
) -> None:
    said = " ".join(answers[name]["said"].split())
    assert CASES[name][1] in said
    assert bool(said) is bool(CASES[name][1])


def test_the_database_that_is_copied_is_the_hubs(answers: dict[str, dict[str, str]]) -> None:
    assert answers["nothing"]["database"] == "/var/lib/jupyterhub/jupyterhub.sqlite"
    assert answers["relative database"]["database"] == "/var/lib/jupyterhub/hub.sqlite"
    assert answers["database with a command"]["database"] == ""


def test_a_reboot_is_told_from_the_boot_before_on_a_machine_and_in_a_container() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/now.yml").read_text(encoding="utf-8"))
    [task] = [
        task
        for task in tasks[-1]["block"]
        if "ansible.builtin.reboot"
        in task  # on a machine the first process starts at the same tick
    ]
    command = task["ansible.builtin.reboot"]["boot_time_command"]
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    kernel, started = shown.stdout.split()
    assert f"{kernel}/{started}" == sge_maintenance.boot_id()
