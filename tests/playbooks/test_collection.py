"""The project as an Ansible collection: built, installed, used with an inventory elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from folders import ROOT

BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site's folder, with the collection installed and a copy of an example inventory."""
    folder = tmp_path_factory.mktemp("site")
    built = run(folder, "ansible-galaxy", "collection", "build", "--output-path", ".", str(ROOT))
    archive = built.split()[-1]
    run(folder, "ansible-galaxy", "collection", "install", archive, "-p", "collections")
    shutil.copytree(ROOT / "inventories/example_rich", folder / "inventory")
    return folder


def run(folder: Path, program: str, *arguments: str, fails: bool = False) -> str:
    """Run a program of Ansible without the settings of this repository; return its output."""
    done = subprocess.run(
        [BIN / program, *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        | {"ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) is fails, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_it_needs_the_same_ansible_as_the_playbooks() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    check = (ROOT / "playbooks/validate.yml").read_text(encoding="utf-8")
    needed = re.search(r"version\('([0-9.]+)', '>='\)", check)
    assert needed
    assert runtime["requires_ansible"] == f">={needed[1]}.0"


def test_it_has_what_a_site_needs_and_nothing_else(site: Path) -> None:
    installed = site / "collections/ansible_collections/gridhub/gridhub"
    assert {path.name for path in installed.iterdir()} - {"FILES.json", "MANIFEST.json"} == {
        *("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "docs", "files", "inventories"),
        *("meta", "playbooks", "plugins", "requirements", "roles", "tools"),
    }
    assert {path.name for path in (installed / "inventories").iterdir()} == {
        path.name for path in (ROOT / "inventories").glob("example*")
    }
    assert (installed / "requirements/controller.txt").is_file()
    assert not [path for path in installed.rglob("*") if path.is_symlink()]


def test_each_playbook_can_be_called_by_its_name(site: Path) -> None:
    names = [f"gridhub.gridhub.{name}" for name in PLAYBOOKS]
    output = run(site, "ansible-playbook", "-i", "inventory", "--syntax-check", *names)
    assert all(f"gridhub/gridhub/playbooks/{name}.yml" in output for name in PLAYBOOKS)


def test_validate_reads_an_inventory_elsewhere_and_names_its_mistakes(site: Path) -> None:
    command = ("-i", "inventory", "gridhub.gridhub.validate", "--tags", "menu")
    run(site, "ansible-playbook", *command)
    mistake = ("--extra-vars", json.dumps({"jupyterhub_alowed_users": ["ann"]}))
    output = run(site, "ansible-playbook", *command, *mistake, fails=True)
    assert "jupyterhub_alowed_users is no variable of GridHub" in output


def test_a_role_delivers_the_programs_of_the_collection(site: Path) -> None:
    """Roles find files/, other roles, modules and filters in the installed collection."""
    role = {"name": "gridhub.gridhub.maintenance", "tasks_from": "program"}
    filtered = "{{ [] | gridhub.gridhub.python_environments([], {}) | to_json }}"
    tasks = [{"import_role": role}, {"debug": {"msg": f"filtered {filtered}"}}]
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    (site / "own.yml").write_text(json.dumps([play]), encoding="utf-8")
    target = site / "delivered"
    target.mkdir()
    output = run(site, "ansible-playbook", "own.yml", "-e", f"__maintenance_folder={target}")
    assert "filtered []" in output
    program = [sys.executable, "-sE", target / "sge_maintenance.py"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "sge_maintenance.py run|" in done.stderr


def test_a_module_finds_its_module_utils_in_the_collection(site: Path) -> None:
    given = json.dumps({"objects": [{"kind": "queue", "name": "a b"}], "bin_dir": "/nonexistent"})
    module = ("-m", "gridhub.gridhub.sge_object", "-a", given)
    output = run(site, "ansible", "localhost", *module, fails=True)
    assert "a b" in output
    assert "ModuleNotFoundError" not in output
