"""The maintenance role: inventories that it refuses, its settings, and the files it delivers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from folders import ROOT
from gridhub.maintenance.host import boot_id

ROLE = ROOT / "roles/maintenance"
POSTGRES = "postgresql://hub@database/hub"
WITH_COMMAND = "database with a command"
NOT_ASKED = "hub-not-asked"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there"
)

#: For each case: variables of an inventory, and words from the role's refusal ("" if the role
#: accepts the variables).
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
    "database": ({"jupyterhub_database_url": POSTGRES}, ""),
    WITH_COMMAND: (
        {"jupyterhub_database_url": POSTGRES, "maintenance_backup_command": ["/sbin/dump"]},
        "",
    ),
    "database with options": (
        {"jupyterhub_database_url": "sqlite:////srv/hub.sqlite?timeout=30"},
        "",
    ),
    "relative database": ({"jupyterhub_database_url": "sqlite:///hub.sqlite"}, ""),
}


def play(folder: Path, plays: list[dict[str, Any]], hosts: dict[str, Any], *arguments: str) -> str:
    """Write plays and their inventory to a folder; run them there and return the output."""
    (folder / "plays.yml").write_text(json.dumps(plays), encoding="utf-8")
    (folder / "hosts.yml").write_text(json.dumps(hosts), encoding="utf-8")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", "hosts.yml", "plays.yml", *arguments),
        ],
        cwd=folder,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the role for each case; return the refusal or the settings of each case."""
    folder = tmp_path_factory.mktemp("role")

    def note(name: str, content: str) -> dict[str, object]:
        return {
            "copy": {
                "content": content,
                "dest": f"{folder}/{name}.{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
            # Outside of the role, Ansible does not set it.
            "vars": {"role_path": str(ROLE)},
        }

    role = {"name": "maintenance", "tasks_from": "preflight", "public": True}
    taken = "{{ {'refusal': '', 'settings': __maintenance_settings} | to_json }}"
    refused = "{{ {'refusal': ansible_failed_result.msg} | to_json }}"
    plays = [
        {
            "hosts": "hub,proxy" if name == WITH_COMMAND else "hub",
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
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"hub": {"hosts": {"here": host}}, "proxy": {"hosts": {"there": host}}}
    play(folder, plays, hosts)
    return {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*.*here.json")}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_variable_is_refused_with_the_right_values(
    name: str, answers: dict[str, dict[str, Any]]
) -> None:
    refusal = " ".join(answers[f"{name}.here"]["refusal"].split())
    assert CASES[name][1] in refusal
    assert bool(refusal) is bool(CASES[name][1])


def test_the_backup_copies_the_hubs_database(answers: dict[str, dict[str, Any]]) -> None:
    found = {name: answer.get("settings", {}).get("database") for name, answer in answers.items()}
    assert found["nothing.here"] == "/var/lib/jupyterhub/jupyterhub.sqlite"
    assert found["relative database.here"] == "/var/lib/jupyterhub/hub.sqlite"
    assert found["database with options.here"] == "/srv/hub.sqlite"
    assert found["database.here"] == ""
    printed = {
        name: answer.get("settings", {}).get("print_database") for name, answer in answers.items()
    }
    assert printed["nothing.here"] == []
    assert printed["database.here"][-3:] == [
        "/opt/jupyterhub/current/sge_database.py",
        "print",
        "/etc/jupyterhub/jupyterhub_config.py",
    ]


def test_the_backup_command_runs_only_on_the_hubs_host(
    answers: dict[str, dict[str, Any]],
) -> None:
    command = {
        place: answers[f"{WITH_COMMAND}.{place}"]["settings"]["backup_command"]
        for place in ("here", "there")
    }
    assert command == {"here": ["/sbin/dump"], "there": []}


def test_the_hubs_host_looks_for_sessions_through_the_proxy(
    answers: dict[str, dict[str, Any]],
) -> None:
    proxies = {
        place: answers[f"{WITH_COMMAND}.{place}"]["settings"]["proxy"]
        for place in ("here", "there")
    }
    assert proxies == {"here": "https://there", "there": ""}


#: For each case: variables of the hub, variables of a proxy on another host, and words from the
#: role's refusal ("" if the role accepts the variables). ``clock`` is the time zone of the proxy's
#: host.
APART: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    NOT_ASKED: ({}, {"maintenance_weekday": "Wed"}, "'Wed 2 03:26 '"),
    "same": ({}, {}, ""),
    "same-as-said": ({}, {"maintenance_week": 2, "maintenance_time": "03:26"}, ""),
    "own-zone": ({}, {"maintenance_time_zone": "Asia/Tokyo"}, "'Tue 2 03:26 Asia/Tokyo'"),
    "own-clock": ({}, {"clock": "Asia/Tokyo"}, "maintenance_time_zone must name one"),
    "by-hand": ({}, {"maintenance_timer": False, "maintenance_weekday": "Wed"}, ""),
    # Variables that a case sets for the hub stay set in all later cases.
    "week-of-hub": ({"maintenance_week": "last"}, {}, "'Tue last 03:26 '"),
    "own-clock-one-zone": (
        {"maintenance_week": 2, "maintenance_time_zone": "Europe/London"},
        {"clock": "Asia/Tokyo", "maintenance_time_zone": "Europe/London"},
        "",
    ),
    "not-announced": (
        {"maintenance_timer": False},
        {"maintenance_time_zone": "Europe/London"},
        "the same maintenance_timer",
    ),
}


@pytest.fixture(scope="module")
def answers_apart(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run the role on the hub and each proxy (NOT_ASKED: only the proxy); return the refusals."""
    folder = tmp_path_factory.mktemp("apart")
    role = {"name": "maintenance", "tasks_from": "preflight"}
    plays = []
    for name, (hub, _, _) in APART.items():
        refusal = "{{ ansible_failed_result.msg | to_json }}"
        note = {"copy": {"content": refusal, "dest": f"{folder}/{name}.json", "mode": "0600"}}
        tasks: list[object] = [{"block": [{"include_role": role}], "rescue": [note]}]
        if hub:
            tasks.insert(0, {"set_fact": hub, "when": "inventory_hostname == 'hub'"})
        plays.append(
            {
                "hosts": [name] if name == NOT_ASKED else ["hub", name],
                "gather_facts": False,
                "environment": {"TZ": "{{ clock | default('UTC') }}"},
                "tasks": tasks,
            }
        )
    proxies = {name: proxy for name, (_, proxy, _) in APART.items()}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {"hub": {"hosts": {"hub": {}}}, "proxy": {"hosts": proxies}}
    play(folder, plays, {"all": {"vars": here, "children": groups}})
    return {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")}


@pytest.mark.parametrize("name", APART)
def test_a_proxy_on_its_own_host_reboots_when_the_hubs_pages_announce_it(
    name: str, answers_apart: dict[str, str]
) -> None:
    refusal = " ".join(answers_apart.get(name, "").split())
    assert APART[name][2] in refusal
    assert bool(refusal) is bool(APART[name][2])


#: The settings that Debian's package installs, plus ``Update-Days``, which a site could have added.
DISTRIBUTION = """
Unattended-Upgrade::Origins-Pattern { "origin=Debian,label=Debian-Security"; };
Unattended-Upgrade::Package-Blacklist { };
Unattended-Upgrade::Update-Days { "Mon"; };
"""


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ([], ["origin=Debian,label=Debian-Security"]),
        (["origin=Site", "origin=Other"], ["origin=Site", "origin=Other"]),
    ],
    ids=["distribution", "site"],
)
def test_packages_come_from_the_origins_that_the_site_sets(
    origins: list[str], expected: list[str], tmp_path: Path
) -> None:
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters["comment"] = lambda text, _style: f"// {text}"
    rendered = environment.from_string(
        (ROLE / "templates/apt.conf.j2").read_text(encoding="utf-8")
    ).render(maintenance_origins=origins, maintenance_held_packages=["gridengine-"])
    (tmp_path / "50unattended-upgrades").write_text(DISTRIBUTION, encoding="utf-8")
    (tmp_path / "52gridhub-maintenance").write_text(rendered, encoding="utf-8")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::parts "{tmp_path}"; Dir::Etc::main "/dev/null";', encoding="utf-8"
    )
    shown = subprocess.run(
        ["apt-config", "dump"],
        env=os.environ | {"APT_CONFIG": str(tmp_path / "apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    def values(name: str) -> list[str]:
        return re.findall(rf'^{name}:: "(.*)";$', shown, re.MULTILINE)

    assert values("Unattended-Upgrade::Origins-Pattern") == expected
    assert values("Unattended-Upgrade::Package-Blacklist") == ["gridengine-"]
    assert values("Unattended-Upgrade::Update-Days") == []
    assert values("D[Pp]kg::Options") == ["--force-confdef", "--force-confold"]


def test_a_reboot_is_detected_on_a_machine_and_in_a_container() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/now.yml").read_text(encoding="utf-8"))
    [task] = [task for task in tasks[-1]["block"] if "ansible.builtin.reboot" in task]
    # The command prints the boot id and the start time of the first process, because neither value
    # alone shows every reboot. A restarted container keeps its boot id. On a machine, the first
    # process starts at the same tick after every boot.
    command = task["ansible.builtin.reboot"]["boot_time_command"]
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    kernel, started = shown.stdout.split()
    assert f"{kernel}/{started}" == boot_id()


def deliver(folder: Path, *arguments: str) -> dict[str, int]:
    """Let the role deliver the program into a folder; return the counts in Ansible's recap."""
    variables = {
        "__maintenance_files": str(folder / "files"),
        "__maintenance_folder": str(folder / "lib"),
    }
    role = {"name": "maintenance", "tasks_from": "program"}
    plays = [
        {
            "hosts": "here",
            "gather_facts": False,
            "tasks": [{"include_role": role, "vars": variables}],
        }
    ]
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    shown = play(folder, plays, {"all": {"hosts": {"here": host}}}, *arguments)
    recap = shown.rpartition("PLAY RECAP")[2]
    assert "WARNING" not in shown, shown
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap)}


def tree(folder: Path) -> dict[str, int]:
    """Return the mode of each file and folder below this folder, except for Python's caches."""
    return {
        str(path.relative_to(folder)): path.lstat().st_mode & 0o7777
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def test_the_program_is_delivered_with_its_package_and_removed_modules_are_deleted(
    tmp_path: Path,
) -> None:
    files, lib = tmp_path / "files", tmp_path / "lib"
    shutil.copytree(ROOT / "files/gridhub", files / "gridhub")
    shutil.copy(ROOT / "files/sge_maintenance.py", files)
    wing = files / "gridhub/maintenance"
    expected = {
        "sge_maintenance.py": 0o755,
        "gridhub": 0o755,
        "gridhub/__init__.py": 0o644,
        "gridhub/clock.py": 0o644,
        "gridhub/contract.py": 0o644,
        "gridhub/grid": 0o755,
        "gridhub/grid/__init__.py": 0o644,
        "gridhub/grid/dialect.py": 0o644,
        "gridhub/grid/engine.py": 0o644,
        "gridhub/grid/job_numbers.py": 0o644,
        "gridhub/maintenance": 0o755,
        **{f"gridhub/maintenance/{path.name}": 0o644 for path in wing.glob("*.py")},
    }
    # The role must not deliver Python's caches, nor parts of ``gridhub`` that the program does not
    # need.
    (wing / "__pycache__").mkdir(exist_ok=True)
    (wing / "__pycache__/x.cpython-311.pyc").touch()
    (files / "gridhub/other").mkdir()
    (files / "gridhub/other/__init__.py").touch()

    # Begin with the folder as an earlier release left it: without a package, and with the setgid
    # bit. This bit would pass the folder's group on to new files.
    lib.mkdir()
    lib.chmod(0o2775)
    assert deliver(tmp_path, "--check")["changed"] == 1
    assert tree(lib) == {}
    assert deliver(tmp_path)["changed"] == 1
    assert tree(lib) == expected and lib.stat().st_mode & 0o7777 == 0o755
    for name in expected:
        status = (lib / name).stat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        assert (lib / name).is_dir() or (lib / name).read_bytes() == (files / name).read_bytes()

    command = ["/usr/bin/python3", "-sE", lib / "sge_maintenance.py", "check", "/dev/null"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("/dev/null: "), done.stderr
    assert list(lib.rglob("__pycache__"))
    assert deliver(tmp_path)["changed"] == 0

    (lib / "gridhub/maintenance/gone.py").touch()
    (lib / "gridhub/wing").mkdir()
    (lib / "gridhub/wing/__init__.py").touch()
    (lib / "gridhub/link.py").symlink_to("/etc/passwd")
    (lib / "not-ours.py").touch()
    (lib / "gridhub/maintenance/host.py").unlink()
    (lib / "gridhub/maintenance/host.py").symlink_to(wing / "host.py")
    (lib / "gridhub/maintenance/hold.py").chmod(0o666)
    assert deliver(tmp_path)["changed"] == 1
    (lib / "not-ours.py").unlink()
    assert tree(lib) == expected
    assert not (lib / "gridhub/maintenance/host.py").is_symlink()
    assert Path("/etc/passwd").exists() and (wing / "host.py").exists()
