# SPDX-License-Identifier: BSD-3-Clause
"""The installation of Grid Engine on this host, and the errors of its commands.

The part of the broker that runs as root imports this module, so it is small and has no event loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TERSE_JOB_ID = re.compile(r"[1-9]\d{0,9}", re.ASCII)


#: Part of the message of ``qsub -w e`` when a request cannot run even on an empty cluster.
NO_QUEUE = "no suitable queues"


class GridEngineError(Exception):
    """A request that Grid Engine did not carry out; the message contains Grid Engine's words."""


class AnswerError(GridEngineError):
    """An answer of Grid Engine that does not have the format in its manual."""


@dataclass(frozen=True)
class GridEngine:
    """The installation of Grid Engine on this host, and the time limit of commands in seconds."""

    root: Path
    cell: str = "default"
    bin_dir: Path = Path("/usr/bin")
    timeout: float = 10.0

    def environment(self) -> dict[str, str]:
        """Return the complete environment of a Grid Engine command; it inherits no variables."""
        return {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": self.cell,
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "LC_ALL": "C",
        }

    @property
    def accounting_file(self) -> Path:
        """The file in which the qmaster records how each job ended (accounting(5))."""
        return self.root / self.cell / "common" / "accounting"

    def command(self, name: str) -> str:
        """Return the full path of a command such as ``qstat``."""
        return str(self.bin_dir / name)


def parse_job_id(output: str) -> int:
    """Return the job number that ``qsub -terse`` printed.

    Submit verifiers and ``-now y`` print other lines before it (qsub(1)), so only the last line
    counts, and it must contain just a number.

    :raises AnswerError: when there is no such line.
    """
    lines = output.strip().splitlines()
    if not lines or not _TERSE_JOB_ID.fullmatch(lines[-1].strip()):
        raise AnswerError(f"qsub did not print a job number: {output.strip()[:200]!r}")
    return int(lines[-1].strip())
