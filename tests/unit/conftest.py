# SPDX-License-Identifier: BSD-3-Clause
"""What the unit tests share: the modules on the path, recorded outputs, fake Grid Engine commands.

The outputs in ``data/qstat`` were recorded from Grid Engine 8.1.9 (Debian 12); the README.md there
says how. A fake command is a real executable: what is tested starts it as it would start qstat.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tornado.httpserver import HTTPServer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "files"))

from fake_grid import Qstat  # noqa: E402
from gridhub.grid.engine import GridEngine  # noqa: E402

# The same examples every time, so that a change is judged and not the dice;
# `--hypothesis-profile=thorough` throws them.
settings.register_profile("gridhub", max_examples=80, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=3000, deadline=None)
settings.load_profile("gridhub")


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], str]:
    """Return a recorded output by its file's name."""
    return lambda name: (HERE / "data" / "qstat" / name).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def tornados_own_server() -> Iterator[None]:
    """What a test lets the server of a session or of the hub be is so for no other test."""
    yield
    HTTPServer.configure(None)


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(bin_dir: Path) -> Callable[[str, str], Path]:
    """Make (or replace) a fake Grid Engine command from the text of a shell script."""

    def make(name: str, script: str) -> Path:
        path = bin_dir / name
        new = bin_dir / f".{name}.new"
        new.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        new.chmod(0o755)
        new.rename(path)  # a running shell goes on reading the old one
        return path

    return make


@pytest.fixture
def grid(tmp_path: Path, bin_dir: Path) -> GridEngine:
    return GridEngine(root=tmp_path / "root", cell="default", bin_dir=bin_dir, timeout=10.0)


@pytest.fixture
def qstat(fake: Callable[[str, str], Path], tmp_path: Path) -> Qstat:
    return Qstat(fake, tmp_path / "qstat")
