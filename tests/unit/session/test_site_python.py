# SPDX-License-Identifier: BSD-3-Clause
"""How kernels of the notebook environment's Python are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gridhub.session.site_python import is_site_python, with_own_settings, without_folder

FILE = ["-f", "/tmp/kernel.json"]


def test_only_the_python_of_this_environment_is_the_sites() -> None:
    assert is_site_python(sys.executable)
    assert not is_site_python("/usr/bin/python3.99")
    assert not is_site_python("python")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module named like one of the standard library."""
    (tmp_path / "this.py").write_text("print('planted')", encoding="utf-8")
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:])", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        ["-m"],
        ["-um"],
        ["-Xfrozen_modules=off", "-m"],
        ["-X", "frozen_modules=off", "-W", "ignore", "-m"],
        ["-I", "-m"],
        ["-u", "-Bm"],
    ],
)
def test_a_module_is_not_loaded_from_the_working_folder(folder: Path, options: list[str]) -> None:
    plain = [sys.executable, *options, "this", *FILE]
    command = without_folder(plain)
    assert command != plain
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("The Zen of Python")
    if "-I" not in options:  # control: without the change, it is loaded from there
        ran = subprocess.run(plain, cwd=folder, capture_output=True, text=True, check=True)
        assert ran.stdout == "planted\n"


@pytest.mark.parametrize(
    "words", [["script.py", "-m", "x"], ["-c", "print(1)", "-m", "x"], ["-mthis"], ["-m"], []]
)
def test_other_commands_stay(words: list[str]) -> None:
    assert without_folder([sys.executable, *words]) == [sys.executable, *words]


@pytest.mark.parametrize(
    "words",
    [
        ["/envs/x/bin/python", "-m", "ipykernel_launcher", *FILE],
        ["python3", "-Im", "ipykernel", *FILE],
        ["conda", "run", "-n", "x", "python", "-m", "ipykernel_launcher", *FILE],
    ],
)
def test_an_ipython_kernel_reads_our_settings_without_the_workers_folder(words: list[str]) -> None:
    *command, settings = with_own_settings(words)
    assert command == words
    assert settings.startswith("--config=/") and settings.endswith("/gridhub/session/kernel.py")
    assert Path(settings.removeprefix("--config=")).is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["R", "--slave", "-e", "IRkernel::main()"],
        ["python", "-m", "bash_kernel", *FILE],
        ["sh", "ipykernel", *FILE],
        ["python", "-m", "ipykernel_launcher", *FILE, "--config=/own.py"],
        [],
    ],
)
def test_other_kernels_get_no_settings(words: list[str]) -> None:
    assert with_own_settings(words) == words
