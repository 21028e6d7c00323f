# SPDX-License-Identifier: BSD-3-Clause
"""Find folders of the home that the session cannot use, and replace them for this session.

A folder may belong to another account (after a command with sudo, or after a copy), or be
read-only. Without a replacement, the server or each kernel would fail.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

#: For each folder of the home: the variable that names another folder (jupyter_core and IPython),
#: and the folders in it that must be usable too if they exist.
FOLDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    ".jupyter": ("JUPYTER_CONFIG_DIR", ("lab", "lab/user-settings", "lab/workspaces")),
    ".local/share/jupyter": ("JUPYTER_DATA_DIR", ("nbsignatures.db", "notebook_secret")),
    ".ipython": (
        "IPYTHONDIR",
        (
            "profile_default",
            "profile_default/db",
            "profile_default/history.sqlite",
            "profile_default/log",
            "profile_default/pid",
            "profile_default/security",
            "profile_default/startup",
        ),
    ),
}


#: Check at most this many files of JupyterLab's settings.
MAX_SETTINGS = 500


class BadFolder(NamedTuple):
    """A folder or file of the home that the session cannot use."""

    path: Path
    #: The variable that names another folder instead.
    variable: str


def _usable(path: Path, *, must_be_folder: bool = False) -> bool:
    """Return whether a folder or file is ours and can be written.

    What does not exist is usable if it can be created.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():  # the link leads nowhere
            return False
        return _usable(path.parent, must_be_folder=True)
    except OSError:
        return False
    is_folder = path.is_dir()
    if must_be_folder and not is_folder:
        return False
    mode = os.W_OK | os.X_OK | os.R_OK if is_folder else os.W_OK | os.R_OK
    return found.st_uid == os.geteuid() and os.access(path, mode)


def _existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    while not os.path.lexists(path) and path.parent != path:
        path = path.parent
    return path


def owner(path: Path) -> str:
    """Return the name of the account that owns a path, or its number if it has no name."""
    try:
        uid = path.stat().st_uid
    except OSError:
        return "?"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _unreadable_settings(home: Path, name: str) -> list[Path]:
    """Return the first of JupyterLab's settings that cannot be read: it reads all or none."""
    if name != ".jupyter":
        return []
    try:
        paths = islice(
            (home / name / "lab/user-settings").rglob("*.jupyterlab-settings"), MAX_SETTINGS
        )
        bad = (path for path in paths if path.exists() and not os.access(path, os.R_OK))
        return list(islice(bad, 1))
    except OSError:
        return []


def bad_folders(home: Path) -> list[BadFolder]:
    """Return the first unusable path for each of the home's folders that a session needs."""
    found = []
    for name, (variable, inner) in FOLDERS.items():
        for path in (home / name, *(home / name / each for each in inner)):
            is_first = path == home / name
            is_missing = not is_first and not os.path.lexists(path)
            if not is_missing and not _usable(path, must_be_folder=is_first):
                found.append(BadFolder(_existing(path), variable))
                break
        else:
            found += [BadFolder(path, variable) for path in _unreadable_settings(home, name)]
    return found


def replacements(bad: list[BadFolder], parent: Path) -> dict[str, str]:
    """Make a folder for each unusable one, and return the variables that name the new folders."""
    variables = {}
    for each in bad:
        folder = parent / each.variable.lower()
        folder.mkdir(mode=0o700, exist_ok=True)
        variables[each.variable] = str(folder)
    return variables
