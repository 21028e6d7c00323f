"""Roles that run on this machine: what they refuse, and how their module is delivered."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from folders import DATA, ROOT

ROLES = ROOT / "roles"


#: Facts of a host, and the roles that refuse it. test_distributions.py has all systems and roles.
FOUND: list[tuple[dict[str, str], set[str]]] = [
    ({"distribution": "Debian", "distribution_version": "12.11", "os_family": "Debian"}, set()),
    ({"distribution": "Ubuntu", "distribution_version": "24.04", "os_family": "Debian"}, set()),
    (
        {"distribution": "Rocky", "distribution_version": "9.4", "os_family": "RedHat"},
        {"monitoring", "sge_common", "sge_qmaster"},
    ),
    (
        {"distribution": "AlmaLinux", "distribution_version": "8.10", "os_family": "RedHat"},
        {
            "database",
            "firewall",
            "jupyterhub",
            "maintenance",
            "monitoring",
            "proxy",
            "sge_common",
            "sge_exec",
            "sge_qmaster",
        },
    ),
]
WITH_DISTRIBUTIONS = sorted(path.parents[1].name for path in ROLES.glob("*/vars/Debian.yml"))


def test_an_unsupported_distribution_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    plays = []
    for number, (facts, _) in enumerate(FOUND):
        major = {"distribution_major_version": facts["distribution_version"].split(".")[0]}
        tasks: list[dict[str, Any]] = [{"set_fact": {"ansible_facts": facts | major}}]
        for role in WITH_DISTRIBUTIONS:
            loads = {"import_role": {"name": "distribution"}, "vars": {"distribution_role": role}}
            shown = f"case {number} {role} {{{{ ansible_failed_result.msg | default('') }}}}"
            loaded = f"case {number} {role} loaded {{{{ vars['{first_variable(role)}'] }}}}"
            refused = [{"debug": {"msg": shown}}]
            tasks.append({"block": [loads, {"debug": {"msg": loaded}}], "rescue": refused})
        plays.append({"hosts": "localhost", "gather_facts": False, "tasks": tasks})
    output = run_plays(tmp_path, plays)
    for number, (facts, refusing) in enumerate(FOUND):
        for role in WITH_DISTRIBUTIONS:
            system = f"{facts['distribution']} {facts['distribution_version']} (family RedHat)"
            refusal = (
                f"case {number} {role} localhost runs {system}, which the role {role} does not "
                "support. It supports Debian"
            )
            assert (f"case {number} {role} loaded" in output) is (role not in refusing)
            assert (refusal in output) is (role in refusing)


def first_variable(role: str) -> str:
    return str(
        next(iter(yaml.safe_load((ROLES / role / "vars/Debian.yml").read_text(encoding="utf-8"))))
    )


def run_plays(
    folder: Path,
    plays: list[dict[str, Any]],
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run plays on this machine, check that they succeed, and return their output."""
    (folder / "plays.yml").write_text(json.dumps(plays), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *arguments, "plays.yml"],
        cwd=folder,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")} | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_a_stopped_postgresql_of_the_site_is_not_taken_over(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "runuser").write_text(
        "#!/bin/sh\necho 'psql: error: connection to server failed' >&2; exit 2\n", encoding="utf-8"
    )
    (programs / "runuser").chmod(0o755)
    plays: list[dict[str, Any]] = []
    folders = ["15/main", "data", "16/data", ""]
    for number, folder in enumerate(folders):
        data = tmp_path / f"pgsql{number}"
        if folder:
            (data / folder).mkdir(parents=True)
            (data / folder / "PG_VERSION").write_text("15\n", encoding="utf-8")
        variables = {
            "__database_data_folders": [str(data)],
            "__database_folder": str(tmp_path / "ours"),
        }
        role = {"import_role": {"name": "database", "tasks_from": "preflight"}, "vars": variables}
        shown = f"case {number} refused {{{{ ansible_failed_result.msg }}}}"
        tasks: list[dict[str, Any]] = [
            {
                "block": [role, {"debug": {"msg": f"case {number} accepted"}}],
                "rescue": [{"debug": {"msg": shown}}],
            }
        ]
        plays.append({"hosts": "localhost", "gather_facts": False, "tasks": tasks})
    path = f"{programs}:{os.environ['PATH']}"
    output = run_plays(tmp_path, plays, environment={"PATH": path})
    for number, folder in enumerate(folders):
        refusal = (
            f"case {number} refused localhost has the files of a PostgreSQL server in "
            f"{tmp_path}/pgsql{number}/{folder}, but the server does not answer "
            "(psql: error: connection to server failed)"
        )
        assert (refusal in output) is bool(folder)
        assert (f"case {number} accepted" in output) is (not folder)


#: The settings of a cell, and the ports that are found in them.
SETTINGS: list[tuple[str, dict[str, int]]] = [
    ("SGE_ROOT=/opt/sge; export SGE_ROOT\nunset SGE_QMASTER_PORT\n", {}),
    ("SGE_QMASTER_PORT=6444; export SGE_QMASTER_PORT", {"SGE_QMASTER_PORT": 6444}),
    (
        "  export SGE_QMASTER_PORT='536'\n  export SGE_EXECD_PORT=\"537\"\n# SGE_EXECD_PORT=1\n",
        {"SGE_QMASTER_PORT": 536, "SGE_EXECD_PORT": 537},
    ),
    ("SGE_QMASTER_PORT=$PORT\nMY_SGE_EXECD_PORT=1\n", {}),
]


def test_the_ports_of_grid_engine_are_those_of_the_cell(tmp_path: Path) -> None:
    role = {"name": "sge_common", "tasks_from": "ports"}
    plays = []
    for number, (text, _) in enumerate(SETTINGS):
        common = tmp_path / f"cell{number}" / "common"
        common.mkdir(parents=True)
        (common / "settings.sh").write_text(text, encoding="utf-8")
        shown = f"case {number}: {{{{ sge_common_ports | to_json }}}}."
        tasks = [
            {"set_fact": {"sge_common_ports": {}}},
            {"import_role": role, "vars": {"sge_common_cell": f"cell{number}"}},
            {"debug": {"msg": shown}},
        ]
        plays.append({"hosts": "hub", "gather_facts": False, "tasks": tasks})
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(json.dumps({"hub": {"hosts": {"localhost": local}}}))
    output = run_plays(
        tmp_path, plays, "--inventory", "hosts.yml", "--extra-vars", f"sge_common_root={tmp_path}"
    )
    for number, (_, ports) in enumerate(SETTINGS):
        assert f"case {number}: {json.dumps(ports)}." in output


def test_the_objects_of_grid_engine_need_no_collection(tmp_path: Path) -> None:
    """Sites may install ``ansible-core`` alone."""
    workers = {"exec1": {"sge_exec_slots": 4}, "exec2": {"sge_exec_complex_values": {"gpu": 2}}}
    groups = {
        "sge_qmaster": {"hosts": {"localhost": {"ansible_connection": "local"}}},
        "sge_exec": {"hosts": workers},
    }
    (tmp_path / "hosts.yml").write_text(json.dumps(groups), encoding="utf-8")
    play = {
        "hosts": "sge_qmaster",
        "gather_facts": False,
        "vars_files": [
            str(ROLES / f"sge_qmaster/{each}/main.yml") for each in ("defaults", "vars")
        ],
        "tasks": [{"debug": {"msg": "objects: {{ __sge_qmaster_objects | to_json }}."}}],
    }
    given = {
        "sge_common_qmaster_host": "localhost",
        "sge_qmaster_host_groups": {"@gpu": ["exec2"], "@all": ["exec1", "exec2"]},
    }
    arguments = ("--inventory", "hosts.yml", "--extra-vars", json.dumps(given))
    alone = {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "0"}
    output = run_plays(tmp_path, [play], *arguments, environment=alone)
    shown = output.partition("objects: ")[2].partition("}].")[0] + "}]"
    found = {(each["kind"], each["name"]): each["attributes"] for each in json.loads(shown)}
    assert found["exec_host", "exec1"] == {"complex_values": []}
    assert found["exec_host", "exec2"] == {"complex_values": ["gpu=2"]}
    assert found["host_group", "@gpu"] == {"hostlist": ["exec2"]}
    assert found["host_group", "@all"] == {"hostlist": ["exec1", "exec2"]}


#: For each role: the tasks that look for the port, and the variable that would give it another.
WITH_PORTS = {
    "jupyterhub": ("prepare", "jupyterhub_port"),
    "proxy": ("preflight", "proxy_api_port"),
}


@pytest.mark.parametrize("role", WITH_PORTS)
def test_a_port_of_another_program_is_named_before_anything_is_changed(
    role: str, tmp_path: Path
) -> None:
    tasks_from, variable = WITH_PORTS[role]
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"hub": {"hosts": {"here": local}}, "proxy": {"hosts": {"here": {}}}}
    (tmp_path / "hosts.yml").write_text(json.dumps(hosts), encoding="utf-8")
    refused = {"debug": {"msg": "refused: {{ ansible_failed_result.msg | default('') }}"}}
    block = [{"include_role": {"name": role, "tasks_from": tasks_from}}, {"fail": {"msg": "free"}}]
    play = {"hosts": "hub", "gather_facts": False, "tasks": [{"block": block, "rescue": [refused]}]}
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        given = {variable: port, "proxy_listen_addresses": ["192.0.2.1"]}
        arguments = ("--check", "--inventory", "hosts.yml", "--extra-vars", json.dumps(given))
        output = run_plays(tmp_path, [play], *arguments)
    assert f"refused: port {port} of 127.0.0.1 is taken by " in output
    assert f"; stop it, or change {variable}" in output
    assert "changed=0" in output


PASSWORD = "5ec4e7"

#: Environment variables for pip and npm, and the names of the refused variables.
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
    """Ansible would show the password in the commands of its tasks."""
    role = {"name": "python_env", "tasks_from": "preflight"}
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "block": [
                        {"include_role": role, "vars": {"python_env_environment": variables}}
                    ],
                    "rescue": [{"debug": {"msg": f"case {number} refused"}}],
                }
            ],
        }
        for number, (variables, _) in enumerate(ENVIRONMENTS)
    ]
    output = run_plays(tmp_path, plays, "-vvv")
    for number, (_, refused) in enumerate(ENVIRONMENTS):
        assert (f"case {number} refused" in output) is bool(refused), number
        assert not refused or f"{refused} in jupyterhub_environment" in output
    assert PASSWORD not in output


def test_ansible_delivers_the_module_with_its_module_utils(tmp_path: Path) -> None:
    qconf = tmp_path / "qconf"
    qconf.write_text(
        f"#!/bin/sh\n[ $1 = -ss ] && cat {DATA}/qconf/submit_hosts.txt\n", encoding="utf-8"
    )
    qconf.chmod(0o755)
    hosts = [{"kind": "submit_host", "name": name} for name in ("exec1", "exec3")]
    options = {"sge_root": str(tmp_path), "bin_dir": str(tmp_path)}
    task = {"gridhub.gridhub.sge_object": {"objects": hosts, **options}, "register": "made"}
    show = {"debug": {"msg": "{{ made.objects | map(attribute='msg') | join(' / ') }}"}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task, show]}
    output = run_plays(tmp_path, [play], "--check")
    assert "submit_host exec1 is already as requested / would create submit_host exec3" in output
