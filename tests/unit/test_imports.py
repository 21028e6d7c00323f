"""Each wing of ``gridhub`` imports only the modules that are listed for the wing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import FILES

SHARED = {
    "gridhub.accounts",
    "gridhub.contract",
    "gridhub.bounded_server",
    "gridhub.clock",
    "gridhub.log",
    "gridhub.tls",
    "gridhub.words",
}
PACKAGES = {
    "aiohttp",
    "alembic",
    "batchspawner",
    "certipy",
    "cryptography",
    "jupyter_events",
    "jupyterhub",
    "oauthenticator",
    "pamela",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "sqlalchemy",
    "tornado",
    "traitlets",
}

#: The parts of ``gridhub`` and the packages that each wing may import besides itself and the
#: standard library.
MAY_IMPORT: dict[str, set[str]] = {
    # This wing runs on a bare host, with the system's Python.
    "maintenance": {
        "gridhub.clock",
        "gridhub.contract",
        "gridhub.grid.engine",
        "gridhub.grid.job_numbers",
    },
    # This wing runs in the job, with the packages of the notebook environment.
    "session": {
        "gridhub.clock",
        "gridhub.contract",
        "gridhub.bounded_server",
        "ipykernel",
        "jupyter_client",
        "jupyter_server",
        "jupyter_server_terminals",
        "jupyterhub",
        "tornado",
        "zmq",
    },
    # This wing runs as root at first, and then under the person's account. It needs no event loop,
    # form or collector.
    "broker": {
        "gridhub.accounts",
        "gridhub.clock",
        "gridhub.contract",
        "gridhub.grid.engine",
        "gridhub.grid.owners",
        "gridhub.grid.request_files",
        "gridhub.grid.submit",
        "gridhub.log",
        "gridhub.menu.file",
        "gridhub.menu.job",
        "gridhub.menu.kinds",
        "gridhub.words",
        "pydantic",
    },
    "grid": {"gridhub.contract"},
    "menu": {"gridhub.words", "jinja2", "pydantic", "pydantic_core"},
    "notices": {"gridhub.clock", "gridhub.words"},
    # This wing runs on the controller.
    "site": {
        "gridhub.broker.config",
        "gridhub.grid",
        "gridhub.hub.openid_provider",
        "gridhub.hub.read_settings",
        "gridhub.menu",
        "gridhub.words",
    },
    "spawner": {
        *SHARED,
        "gridhub.broker.client",
        "gridhub.broker.protocol",
        "gridhub.grid",
        "gridhub.menu",
        "gridhub.notices",
        *PACKAGES,
    },
    "hub": {
        *SHARED,
        "gridhub.broker.protocol",
        "gridhub.grid",
        "gridhub.menu",
        "gridhub.notices",
        "gridhub.spawner",
        "sge_spawner",
        *PACKAGES,
    },
}
#: The module with which the hub calls the broker is in the broker's wing, but runs in the hub.
MAY_ALSO = {"broker/client.py": {"gridhub.grid.jobs"}}
MODULES = [
    (wing, path)
    for wing in MAY_IMPORT
    for path in (FILES / f"sge_{wing}.py", *sorted((FILES / "gridhub" / wing).rglob("*.py")))
    if path.exists()
]


def imports(source: str, package: str) -> Iterator[str]:
    """Yield the full name of each module that the source code imports, even inside functions.

    ``from a import b`` yields ``a.b``, because ``b`` may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def forbidden(source: str, package: str, wing: str) -> list[str]:
    """Return the names that a wing's module imports but must not import."""
    allowed = {f"gridhub.{wing}", *MAY_IMPORT[wing]}
    return [
        name
        for name in imports(source, package)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{each}.") for each in allowed)
    ]


@pytest.mark.parametrize(
    ("wing", "path"), MODULES, ids=[str(path.relative_to(FILES)) for _, path in MODULES]
)
def test_a_wing_imports_only_what_it_may(wing: str, path: Path) -> None:
    package = ".".join(path.relative_to(FILES).parent.parts)
    also = MAY_ALSO.get(f"{wing}/{path.name}", set())
    found = forbidden(path.read_text(encoding="utf-8"), package, wing)
    assert [name for name in found if not any(name.startswith(f"{each}.") for each in also)] == []


def test_the_shared_modules_import_only_each_other() -> None:
    for path in (FILES / "gridhub").glob("*.py"):
        names = imports(path.read_text(encoding="utf-8"), "gridhub")
        ours = {".".join(name.split(".")[:2]) for name in names if name.startswith("gridhub.")}
        assert ours <= SHARED, path


def test_there_is_no_import_cycle() -> None:
    """Imports inside functions count too."""
    modules = {
        ".".join(path.relative_to(FILES).with_suffix("").parts): path
        for path in FILES.rglob("*.py")
    }
    arrows = {}
    for module, path in modules.items():
        package = module.rpartition(".")[0]
        names = list(imports(path.read_text(encoding="utf-8"), package))
        names += [name.rpartition(".")[0] for name in names]
        arrows[module] = {name for name in names if name in modules and name != module}
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for each in sorted(arrows[module]):
                follow(each, (*path, module))
            done.add(module)

    for module in sorted(modules):
        follow(module, ())


def test_no_module_is_long() -> None:
    for path in FILES.rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= (800 if path.name == "sge_spawner.py" else 400), f"{path}: {lines} lines"


def test_every_wing_of_the_table_exists() -> None:
    for wing in MAY_IMPORT:
        assert (FILES / "gridhub" / wing / "__init__.py").exists()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import json, os.path", []),
        ("from gridhub.maintenance import host", []),
        ("from . import host", []),
        ("from .host import run", []),
        ("from gridhub.contract import FOLDER", []),
        ("from gridhub import contract", []),
        ("import jupyterhub", ["jupyterhub"]),
        ("def f():\n    from tornado import web", ["tornado.web"]),
        ("import sge_menu", ["sge_menu"]),
        ("from gridhub import broker", ["gridhub.broker"]),
        ("from gridhub.contracts import x", ["gridhub.contracts.x"]),
        ("from .. import broker", ["gridhub.broker"]),
        ("from ..grid.command import run", ["gridhub.grid.command.run"]),
    ],
)
def test_a_forbidden_import_is_found(line: str, found: list[str]) -> None:
    assert forbidden(line, "gridhub.maintenance", "maintenance") == found
