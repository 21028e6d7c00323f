"""The delivery of programs: each host gets exactly the modules that its programs import."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from folders import ROOT

FILES = ROOT / "files"


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def delivered() -> dict[str, tuple[list[str], list[str]]]:
    """Return the programs and the wings that each role delivers."""
    hub = load("roles/jupyterhub/vars/main.yml")
    (worker,) = (
        task["vars"]
        for task in load("roles/sge_exec/tasks/notebook.yml")
        if "python_env_wings" in task.get("vars", {})
    )
    programs = [Path(path).name for path in worker["python_env_programs"]]
    return {
        "jupyterhub": (hub["__jupyterhub_programs"], hub["__jupyterhub_wings"]),
        "sge_exec": (programs, worker["python_env_wings"]),
    }


def modules_of(path: Path) -> set[Path]:
    """Return the project's files that a module imports, and imported packages' ``__init__.py``."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = FILES / name.replace(".", "/")
            found |= {file for file in (place.with_suffix(".py"),) if file.exists()}
            if place.is_dir():
                found.add(place / "__init__.py")
    return found


def closure(programs: list[str]) -> set[Path]:
    """Return the programs and all files of this project that they import, even indirectly."""
    todo = [FILES / name for name in programs if name.endswith(".py")]
    done: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in done:
            done.add(path)
            todo += modules_of(path)
    return done


def imported(role: str) -> set[Path]:
    """Return all files that the programs and the hub's configuration of a role import."""
    config = ROOT / "roles" / role / "templates/jupyterhub_config.py.j2"
    lines = config.read_text(encoding="utf-8").splitlines() if config.exists() else []
    imports = "\n".join(line for line in lines if line.startswith("from gridhub"))
    files = closure(delivered()[role][0])
    for node in ast.walk(ast.parse(imports)):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}".replace(".", "/") for alias in node.names]
            files |= closure([f"{name}.py" for name in names])
    return files


@pytest.mark.parametrize("role", delivered())
def test_a_host_gets_exactly_the_wings_that_its_programs_import(role: str) -> None:
    programs, wings = delivered()[role]
    inside = {path.relative_to(FILES).parts for path in imported(role)}
    needed = {parts[1] for parts in inside if parts[0] == "gridhub"} - {"__init__.py"}
    assert needed == set(wings)
    assert {parts[0] for parts in inside if parts[0] != "gridhub"} <= set(programs)


def test_the_programs_and_wings_that_roles_name_exist() -> None:
    for programs, wings in delivered().values():
        for name in programs:
            assert (FILES / name).is_file(), name
        for wing in wings:
            assert (FILES / "gridhub" / wing).exists(), wing


def test_every_module_is_imported() -> None:
    """Some modules take effect by being imported: they replace handlers of JupyterHub."""
    files = imported("jupyterhub") | imported("sge_exec") | closure(["sge_maintenance.py"])
    # It runs on the controller, from the repository.
    files |= modules_of(ROOT / "plugins/filter/site_problems.py")
    # The configuration of IPython loads it, from a path of its own.
    files.add(FILES / "gridhub/session/kernel.py")
    modules = {path for path in FILES.glob("gridhub/**/*.py") if path.name != "__init__.py"}
    assert modules <= files
