# SPDX-License-Identifier: BSD-3-Clause
"""The kernels of the user, and why one is not offered."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridhub.session.own_kernels import add_kernels
from gridhub.session.packages import PLACE
from watching import RULES

WORDS = {
    "kernel_hidden": "{kernel} is hidden: {path}",
    "kernel_broken": "{kernel} is broken: {path}: {reason}",
}
SPEC = {"argv": ["python", "-m", "kernel"], "display_name": "Own", "language": "python"}


def write(folder: Path, content: str = json.dumps(SPEC)) -> Path:
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def added(tmp_path: Path, home: Path) -> Any:
    """Add the kernels; return the folders that the server searches, and the sentences."""
    write(tmp_path / "site/python3")
    own = home / ".local/share/jupyter/kernels"
    kernels = SimpleNamespace(kernel_dirs=[f"{tmp_path}/site"], user_kernel_dir=str(own))

    def add(**environment: str) -> tuple[list[str], list[str]]:
        person: Any = SimpleNamespace(home=home, environment=environment)
        words = add_kernels(kernels, person, RULES._replace(words=RULES.words | WORDS))
        return kernels.kernel_dirs, words

    return add


def test_the_folders_of_user_and_site_come_after_those_of_the_server(
    added: Any, tmp_path: Path, home: Path
) -> None:
    write(home / ".local/share/jupyter/kernels/own")
    assert added(JUPYTER_PATH="/apps::/more") == (
        [
            f"{tmp_path}/site",
            f"{home}/.local/share/jupyter/kernels",
            f"{home}/.ipython/kernels",
            f"{home / PLACE}/share/jupyter/kernels",
            "/apps/kernels",
            "/more/kernels",
        ],
        [],
    )


def test_the_sites_kernels_come_first_also_from_folders_that_are_named_twice(
    added: Any, tmp_path: Path, home: Path
) -> None:
    dirs, words = added(JUPYTER_PATH=str(tmp_path))
    assert dirs[0] == f"{tmp_path}/site" and words == []


def test_a_kernel_with_the_name_of_the_sites_is_reported(added: Any, home: Path) -> None:
    folder = write(home / ".local/share/jupyter/kernels/Python3")
    # pip may bring the same kernel, with the same Python.
    write(home / PLACE / "share/jupyter/kernels/python3")
    assert added()[1] == [f"Python3 is hidden: {folder}"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("own", '{"argv": ["x"],}', "double quotes"),
        ("own", "\ufeff{}", "BOM"),
        ("own", "[" * 60_000, "recursion"),
        ("own", " " * 70_000, "at most 65536 bytes"),
        ("own", "[]", "no list of words named argv"),
        ("own", '{"argv": "python"}', "no list of words named argv"),
        ("my kernel", json.dumps(SPEC), "only letters, digits"),
    ],
)
def test_a_description_that_cannot_be_read_is_reported(
    added: Any, home: Path, name: str, content: str, reason: str
) -> None:
    write(home / ".local/share/jupyter/kernels" / name, content)
    (words,) = added()[1]
    assert words.startswith(f"{name} is broken: {home}") and reason in words


def test_only_some_of_many_are_reported(added: Any, home: Path) -> None:
    for number in range(10):
        write(home / f".local/share/jupyter/kernels/own{number}", "{")
    assert len(added()[1]) == 3
