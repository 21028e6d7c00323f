# SPDX-License-Identifier: BSD-3-Clause
"""Runs commands of the documentation as they are written there (``<!-- run by: … -->``)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from doc_pages import SHELL
from folders import ROOT

MARKER = f"run by: {Path(__file__).relative_to(ROOT)}"
PAGES = sorted({block.page for block in SHELL if block.comment == MARKER})


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy what a clone has: the files that Git knows, and nothing of this machine."""
    listed = subprocess.run(
        ["/usr/bin/git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    return tmp_path / "clone"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_in_a_clone(page: Path, clone: Path, tmp_path: Path) -> None:
    commands = "\n".join(
        block.text for block in SHELL if block.page == page and block.comment == MARKER
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = ("PIP_", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "LANG")
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", commands],
        cwd=clone,
        env={name: value for name, value in os.environ.items() if name.startswith(kept)}
        | {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The last command is the check of the inventory that the page says to copy.
    assert (clone / "inventories/mysite/hosts.yml").is_file()
    assert "failed=0" in done.stdout


def test_some_commands_are_run() -> None:
    assert PAGES
