# SPDX-License-Identifier: BSD-3-Clause
"""Where Grid Engine is on this host, and what goes wrong with it.

Root's part of the broker imports this module: it stays small and has no event loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TERSE_JOB_ID = re.compile(r"[1-9]\d{0,9}", re.ASCII)


#: Part of what ``qsub -w e`` prints about a request that no queue could take on an empty cluster.
NO_QUEUE = "no suitable queues"


class GridEngineError(Exception):
    """Grid Engine was asked and did not do it; the message carries its own words."""


class AnswerError(GridEngineError):
    """Grid Engine answered something that is not in the format its manual promises."""


@dataclass(frozen=True)
class GridEngine:
    """Where Grid Engine is on this host, and how long a command may take (seconds)."""

    root: Path
    cell: str = "default"
    bin_dir: Path = Path("/usr/bin")
    timeout: float = 10.0

    def environment(self) -> dict[str, str]:
        """Return the whole environment of a Grid Engine command: nothing of ours leaks into it."""
        return {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": self.cell,
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "LC_ALL": "C",
        }

    @property
    def accounting_file(self) -> Path:
        """Where the qmaster writes how each job ended (accounting(5))."""
        return self.root / self.cell / "common" / "accounting"

    def command(self, name: str) -> str:
        """Return the full path of a command such as ``qstat``."""
        return str(self.bin_dir / name)


def parse_job_id(output: str) -> int:
    """Return the job number that ``qsub -terse`` printed.

    Submit verifiers and ``-now y`` print chatter before it (qsub(1)), so only a last line that is
    a number and nothing else counts.

    :raises AnswerError: when there is no such line.
    """
    lines = output.strip().splitlines()
    if not lines or not _TERSE_JOB_ID.fullmatch(lines[-1].strip()):
        raise AnswerError(f"qsub did not print a job number: {output.strip()[:200]!r}")
    return int(lines[-1].strip())
