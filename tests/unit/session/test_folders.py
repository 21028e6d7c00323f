# SPDX-License-Identifier: BSD-3-Clause
"""Folders of the home that a session cannot use."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from gridhub.session.folders import bad_folders, owner, replacements

FIRST = {
    ".jupyter": "JUPYTER_CONFIG_DIR",
    ".local/share/jupyter": "JUPYTER_DATA_DIR",
    ".ipython": "IPYTHONDIR",
}


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge access by the mode of the file, as for an account other than root."""
    mine = os.geteuid()

    def access(path: Path, mode: int) -> bool:
        found = path.stat()
        bits = found.st_mode >> (6 if found.st_uid == mine else 0)
        return bits & mode == mode

    monkeypatch.setattr(os, "access", access)


def test_a_new_home_and_a_used_one_are_fine(as_user: None, tmp_path: Path) -> None:
    assert bad_folders(tmp_path) == []
    for name in (".jupyter/lab/workspaces", ".ipython/profile_default/security"):
        (tmp_path / name).mkdir(parents=True)
    assert bad_folders(tmp_path) == []


def test_an_unreadable_setting_of_jupyterlab_is_found(as_user: None, tmp_path: Path) -> None:
    setting = (
        tmp_path / ".jupyter/lab/user-settings/@jupyterlab/apputils/themes.jupyterlab-settings"
    )
    setting.parent.mkdir(parents=True)
    setting.touch()
    assert bad_folders(tmp_path) == []
    setting.chmod(0o444)
    dangling = setting.with_name("dangling.jupyterlab-settings")
    dangling.symlink_to("/nonexistent")
    assert bad_folders(tmp_path) == []
    setting.chmod(0)
    (bad,) = bad_folders(tmp_path)
    assert (bad.path, bad.variable) == (setting, "JUPYTER_CONFIG_DIR")


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o555),
        lambda path: path.chmod(0o600),
        lambda path: path.rmdir() or path.symlink_to("/nonexistent/folder/of/a/file"),
        lambda path: path.rmdir() or path.symlink_to(path),
        lambda path: path.rmdir() or path.touch(),
    ],
    ids=["read-only", "closed", "dangling", "loop", "file"],
)
def test_a_bad_folder_is_found_and_replaced(
    as_user: None, tmp_path: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    folder = tmp_path / "home" / name
    folder.mkdir(parents=True)
    spoil(folder)
    (bad,) = bad_folders(tmp_path / "home")
    assert (bad.path, bad.variable) == (folder, FIRST[name])
    variables = replacements([bad], tmp_path)
    assert variables.keys() == {FIRST[name]}
    assert not list(Path(variables[FIRST[name]]).iterdir())


def test_a_folder_of_another_account_is_not_used_even_if_it_is_open(
    as_user: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".jupyter").mkdir(mode=0o777)
    found = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: found + 1)
    assert bad_folders(tmp_path)[0].path == tmp_path / ".jupyter"
    assert owner(tmp_path / ".jupyter") == pwd.getpwuid(found).pw_name


@pytest.mark.parametrize("name", ["profile_default/history.sqlite", "profile_default/security"])
def test_a_bad_file_inside_counts_too(as_user: None, tmp_path: Path, name: str) -> None:
    path = tmp_path / ".ipython" / name
    path.parent.mkdir(parents=True)
    path.touch(mode=0o400)
    assert [each.path for each in bad_folders(tmp_path)] == [path]


def test_of_a_home_that_cannot_be_written_the_home_is_named(as_user: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        bad = bad_folders(tmp_path)
    finally:
        tmp_path.chmod(0o700)
    assert [each.path for each in bad] == [tmp_path] * 3
