# SPDX-License-Identifier: BSD-3-Clause
"""The file browser's root folder, and the site's shortcuts to other folders."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gridhub.session.rules import Rules

#: How long the folders may take to answer, in seconds. A file server that is down might answer
#: never, and would block the session's server whenever the file browser shows the folder.
ANSWER_WITHIN = 5.0


class FolderChecks:
    """Checks in the background whether folders can be opened."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._deadline = time.monotonic() + ANSWER_WITHIN
        self._results: dict[str, bool] = {}
        self._threads = {
            path: threading.Thread(target=self._check, args=[path], daemon=True)
            for path in dict.fromkeys(paths)
        }
        for thread in self._threads.values():
            thread.start()

    def _check(self, path: str) -> None:
        try:
            usable = Path(path).is_dir() and os.access(path, os.R_OK | os.X_OK)
        except OSError:
            usable = False
        self._results[path] = usable

    def result(self, path: str) -> bool | None:
        """Wait for a folder; return whether it can be opened. None means that it did not answer."""
        self._threads[path].join(max(self._deadline - time.monotonic(), 0))
        return self._results.get(path)


class FileBrowser:
    """What the file browser offers to a person.

    :param root: the highest folder.
    :param shortcuts: paths of folders below it, by the names that people see.
    """

    def __init__(self, home: Path, root: str, shortcuts: Mapping[str, str]) -> None:
        self._home = home
        self._root = root or str(home)
        self._shortcuts = shortcuts
        # Without a folder of the site's, nothing is checked: the home has its own checks.
        site = [] if self._root == str(home) else [self._root]
        self._checks = FolderChecks([*site, *shortcuts.values()])

    def _is_below_hidden_folder(self) -> bool:
        """Return whether Jupyter Server, which opens no hidden folders, would not open the home."""
        if not self._home.is_relative_to(self._root):
            return False
        return any(part.startswith(".") for part in self._home.relative_to(self._root).parts)

    def root(self) -> tuple[str, str]:
        """Return the root folder, and the site's one if that cannot be opened (else empty)."""
        home = str(self._home)
        if self._root == home or self._is_below_hidden_folder():
            return home, ""
        return (self._root, "") if self._checks.result(self._root) else (home, self._root)

    def shortcuts(self, root: str) -> tuple[dict[str, str], list[str]]:
        """Return the shortcuts that can be opened, and the folders that did not answer.

        :param root: the root folder. Shortcuts to folders outside it are left out.
        """
        results = {path: self._checks.result(path) for path in self._shortcuts.values()}
        usable = {
            name: path
            for name, path in self._shortcuts.items()
            if results[path] and PurePosixPath(path).is_relative_to(root)
        }
        return usable, [path for path, result in results.items() if result is None]


def root_arguments(root: str, home: Path) -> list[str]:
    """Return the arguments of the server for a root folder; the browser opens the home first."""
    if root == str(home):
        return []
    # The home might be outside the root folder, for example /projects.
    first = home if home.is_relative_to(root) else root
    return [f"--ServerApp.root_dir={root}", f"--ServerApp.preferred_dir={first}"]


def page_settings(
    rules: Rules, root: str, home: Path, shortcuts: Mapping[str, str]
) -> dict[str, Any]:
    """Return the settings of ``files/shortcuts``; empty if there is no shortcut.

    :param shortcuts: paths of folders in the folder ``root``. The home is added as the first one.
    """
    if not shortcuts:
        return {}
    named = [*shortcuts.items()]
    if home.is_relative_to(root):
        named.insert(0, (rules.text("shortcut_home"), str(home)))
    folders = [
        {"name": name, "path": str(PurePosixPath(path).relative_to(root)).removeprefix(".")}
        for name, path in named
    ]
    return {"gridhubShortcuts": {"heading": rules.text("shortcuts"), "folders": folders}}
