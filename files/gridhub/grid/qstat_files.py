# SPDX-License-Identifier: BSD-3-Clause
"""Notice files that make qstat leave out jobs.

qstat adds the options of two files to its arguments: the files of the cell and of the account's
home (qstat(1)). An argument overrides the same option of the files. Options that have no neutral
value cannot be overridden: even ``-q '*'`` leaves out jobs that fit into no queue, as seen with
8.1.9.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gridhub.grid.engine import GridEngine, GridEngineError

#: Options that select queues: qstat then leaves out the jobs of all other queues. Options that
#: change the form of the answer are missing here, because the parsers notice them.
HIDING = frozenset({"-l", "-pe", "-q", "-qs", "-U"})


def paths(grid: GridEngine) -> tuple[Path, Path]:
    """Return the files from which qstat takes options if this account runs it."""
    home = pwd.getpwuid(os.geteuid()).pw_dir
    return grid.root / grid.cell / "common" / "sge_qstat", Path(home, ".sge_qstat")


def find_hiding(files: Iterable[Path]) -> str:
    """Return a message that names a file and its option that hides jobs; empty if there is none."""
    for path in files:
        with contextlib.suppress(OSError):  # qstat cannot read it either
            words = path.read_text(encoding="utf-8", errors="replace").split()
            if found := next((word for word in words if word in HIDING), ""):
                return f"{path} has {found}, which hides jobs from the hub; remove it"
    return ""


class QstatFiles:
    """The files of one account; a separate thread reads them, because a file server may hang."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._pool = ThreadPoolExecutor(1, "qstat-files")
        self._reading: asyncio.Future[str] | None = None

    async def check(self, timeout: float) -> None:
        """Check that an answer of qstat lists all jobs.

        :param timeout: how long reading the files may take, in seconds.
        :raises GridEngineError: when a file hides jobs, or cannot be read in time.
        """
        if self._reading is None:  # otherwise, the thread still reads
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._pool, find_hiding, self._files)
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.shield(self._reading)
        except TimeoutError as error:
            names = " and ".join(map(str, self._files))
            raise GridEngineError(f"{names} cannot be read within {timeout:g} s") from error
        self._reading = None
        if found:
            raise GridEngineError(found)
