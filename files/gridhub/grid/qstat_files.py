# SPDX-License-Identifier: BSD-3-Clause
"""Notice files that make qstat leave out jobs or print something else.

qstat adds the options of two files to its arguments: the files of the cell and of the account's
home (qstat(1)). An argument overrides the same option of the files. Options that have no neutral
value cannot be overridden: even ``-q '*'`` leaves out jobs that fit into no queue, as seen with
8.1.9.

Of the options that change the form of the answer, only ``-g c`` (a summary of the queues) leaves
the jobs out. ``-g t`` overrides it, but prints a parallel job once for each of its slots.
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

#: Options that select queues: qstat then leaves out the jobs of all other queues.
HIDING = frozenset({"-l", "-pe", "-q", "-qs", "-U"})


def paths(grid: GridEngine) -> tuple[Path, Path]:
    """Return the files from which qstat takes options if this account runs it."""
    home = pwd.getpwuid(os.geteuid()).pw_dir
    return grid.root / grid.cell / "common" / "sge_qstat", Path(home, ".sge_qstat")


#: The arguments that override ``-g c``.
UNGROUPED = ("-g", "t")


def overriding_arguments(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the arguments with which qstat lists jobs in spite of these files.

    :raises GridEngineError: when a file has an option that hides jobs; the message names both.
    """
    arguments: tuple[str, ...] = ()
    for path in files:
        with contextlib.suppress(OSError):  # qstat cannot read it either
            words = path.read_text(encoding="utf-8", errors="replace").split()
            if found := next((word for word in words if word in HIDING), ""):
                raise GridEngineError(
                    f"{path} has {found}, which hides jobs from the hub; remove it"
                )
            if "-g" in words:
                arguments = UNGROUPED
    return arguments


class QstatFiles:
    """The files of one account; a separate thread reads them, because a file server may hang."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._pool = ThreadPoolExecutor(1, "qstat-files")
        self._reading: asyncio.Future[tuple[str, ...]] | None = None

    async def check(self, timeout: float) -> tuple[str, ...]:
        """Return the arguments with which an answer of qstat lists all jobs.

        :param timeout: how long reading the files may take, in seconds.
        :raises GridEngineError: when a file hides jobs, or cannot be read in time.
        """
        if self._reading is None:  # otherwise, the thread still reads
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._pool, overriding_arguments, self._files)
        await asyncio.wait([self._reading], timeout=timeout)
        if not self._reading.done():
            names = " and ".join(map(str, self._files))
            raise GridEngineError(f"{names} cannot be read within {timeout:g} s")
        reading, self._reading = self._reading, None
        return reading.result()
