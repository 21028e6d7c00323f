"""Each wing of the package ``gridhub`` imports only what its host has and its duty allows."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "files"

#: What each wing may import besides the standard library and itself: other parts of ``gridhub``,
#: and packages.
MAY_IMPORT: dict[str, set[str]] = {
    "maintenance": {"gridhub.contract"},
}
MODULES = [
    (wing, path)
    for wing in MAY_IMPORT
    for path in (FILES / f"sge_{wing}.py", *sorted((FILES / "gridhub" / wing).rglob("*.py")))
    if path.exists()
]


def imports(source: str, package: str) -> Iterator[str]:
    """Yield the full name of each module that a module of a package imports, at any place in it.

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
    """Return what a module of a wing imports and may not."""
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
    assert forbidden(path.read_text(encoding="utf-8"), package, wing) == []


def test_every_wing_of_the_table_is_there() -> None:
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
        ("from ..grid.engine import run", ["gridhub.grid.engine.run"]),
    ],
)
def test_an_import_that_is_not_allowed_is_found(line: str, found: list[str]) -> None:
    assert forbidden(line, "gridhub.maintenance", "maintenance") == found
