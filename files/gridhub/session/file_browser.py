# SPDX-License-Identifier: BSD-3-Clause
"""The file browser's root folder, and the site's shortcuts to other folders."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import select
import signal
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from gridhub.session.rules import Rules

#: How long the folders may take to answer, in seconds. A file server that is down might answer
#: never, and would block the session's server whenever the file browser shows the folder.
ANSWER_WITHIN = 5.0

#: The pages of JupyterLab and Notebook whose addresses end with the path of a file or folder.
PAGES = ("lab/tree", "doc/tree", "tree", "notebooks", "edit", "view", "files")


def _is_usable(path: str) -> bool:
    try:
        return Path(path).is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:
        return False


def _check_all(paths: Collection[str], writer: int) -> None:
    """Write the number of each folder that answers, and whether it can be opened."""

    def check(number: int, path: str) -> None:
        os.write(writer, f"{number} {_is_usable(path):d}\n".encode())

    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=check, args=each, daemon=True) for each in enumerate(paths)]
    # If memory is short, the folders that are left over count as silent.
    with contextlib.suppress(RuntimeError):
        for thread in threads:
            thread.start()
    for thread in threads:
        if thread.ident is not None:
            thread.join()


class FolderChecks:
    """Checks whether folders can be opened, in a child process.

    A check of a file server that is down may block its thread for ever. The threads are not in the
    session's own process, whose address space Grid Engine limits (``h_vmem``).
    """

    def __init__(self, paths: Collection[str]) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._deadline = time.monotonic() + ANSWER_WITHIN
        self._results: dict[str, bool] = {}
        if not self._paths:
            return
        self._reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                _check_all(self._paths, writer)
            finally:
                os._exit(0)
        os.close(writer)

    def results(self) -> dict[str, bool]:
        """Wait for the folders; return whether each that has answered can be opened."""
        while len(self._results) < len(self._paths):
            left = max(self._deadline - time.monotonic(), 0)
            data = b""
            if select.select([self._reader], [], [], left)[0]:
                data = os.read(self._reader, 65_536)
            for line in data.splitlines():  # the child writes whole lines, and pipes keep them
                number, usable = map(int, line.split())
                self._results[self._paths[number]] = bool(usable)
            if not data or len(self._results) == len(self._paths):
                self._end()
        return self._results

    def _end(self) -> None:
        """End the child: these results are final."""
        self._paths = list(self._results)
        os.close(self._reader)
        os.kill(self._child, signal.SIGKILL)
        # A process that waits for a file server may not end before the server answers.
        threading.Thread(target=os.waitpid, args=[self._child, 0], daemon=True).start()


class FileBrowser:
    """What the file browser offers to a person.

    :param root: the highest folder; empty for the home.
    :param shortcuts: paths of folders below it, by the names that people see.
    """

    def __init__(self, home: Path, root: str, shortcuts: Mapping[str, str]) -> None:
        self._home = home
        self._root = root or str(home)
        self._shortcuts = shortcuts
        # The home has its own checks.
        more = [] if self._root == str(home) else [self._root]
        self._checks = FolderChecks([*more, *shortcuts.values()])

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
        return (self._root, "") if self._checks.results().get(self._root) else (home, self._root)

    def shortcuts(self, root: str) -> tuple[dict[str, str], list[str]]:
        """Return the shortcuts that can be opened, and the folders that did not answer.

        :param root: the root folder. Shortcuts to folders outside it are left out.
        """
        results = self._checks.results()
        inside = {
            name: path
            for name, path in self._shortcuts.items()
            if PurePosixPath(path).is_relative_to(root)
        }
        usable = {name: path for name, path in inside.items() if results.get(path)}
        return usable, [path for path in inside.values() if path not in results]


def root_arguments(root: str, home: Path) -> list[str]:
    """Return the arguments of the server for a root folder; the browser opens the home first."""
    if root == str(home):
        return []
    arguments = [f"--ServerApp.root_dir={root}", f"--FileContentsManager.root_dir={root}"]
    if home.is_relative_to(root):
        arguments.append(f"--FileContentsManager.preferred_dir={home.relative_to(root)}")
    return arguments


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


def path_in_home(path: str, root: str, home: Path) -> str | None:
    """Return where a link leads that was made for the home: a path below the root folder.

    :param path: the path in the link, relative to the root folder.
    :returns: None if the link needs no change: its path exists, or does not exist in the home.
    """
    if not path.strip("/") or ".." in path.split("/") or not home.is_relative_to(root):
        return None
    wanted = Path(home, path.lstrip("/"))
    try:
        if os.path.lexists(Path(root, path.lstrip("/"))) or not wanted.exists():
            return None
    except (OSError, ValueError):  # for example, the path is too long or has a NUL
        return None
    return str(wanted.relative_to(root))


def follow_links_into_home(handler_class: Any, base_url: str, root: str, home: Path) -> None:
    """Make links such as ``lab/tree/week1.ipynb`` work although the root is not the home.

    Such a link is the same for all members of a class. Only the user of the session learns whether
    a file exists.

    :param handler_class: the class of all pages, ``JupyterHandler``, which this function changes.
    """
    plain = handler_class.prepare
    link = re.compile(rf"{re.escape(base_url)}(?P<page>{'|'.join(PAGES)})/(?P<path>.+)")

    async def prepare(self: Any, *arguments: Any, **options: Any) -> None:
        result = plain(self, *arguments, **options)
        if inspect.isawaitable(result):
            await result
        found = link.fullmatch(self.request.path)
        if self._finished or not found or not self.current_user:
            return
        if self.request.method not in ("GET", "HEAD"):
            return
        # In a thread, because a file server may not answer.
        there = await asyncio.to_thread(path_in_home, unquote(found["path"]), root, home)
        if there is not None:
            query = f"?{self.request.query}" if self.request.query else ""
            self.redirect(f"{base_url}{found['page']}/{quote(there)}{query}")

    handler_class.prepare = prepare
