# SPDX-License-Identifier: BSD-3-Clause
"""The Grid Engine installation on this host, and the errors of its commands.

The part of the broker that runs as root imports this module, so the module is small and has no
event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridhub.grid.dialect import Dialect


class GridEngineError(Exception):
    """A request that Grid Engine did not carry out; the message includes Grid Engine's reason."""


class AnswerError(GridEngineError):
    """An answer from Grid Engine that differs from the format in Grid Engine's manual."""


@dataclass(frozen=True)
class GridEngine:
    """The Grid Engine installation on this host, and a time limit (in seconds) for each command."""

    root: Path
    cell: str = "default"
    bin_dir: Path = Path("/usr/bin")
    timeout: float = 10.0
    #: ``SGE_QMASTER_PORT`` and ``SGE_EXECD_PORT``, unless they are in ``/etc/services``.
    ports: Mapping[str, int] = field(default_factory=dict)
    dialect: Dialect = Dialect.SGE
    #: Called after each command with its name, its result (``ok``, ``failed``, ``timeout`` or
    #: ``unreadable``) and its duration in seconds; the hub's metrics count them.
    observe: Callable[[str, str, float], None] | None = field(
        default=None, compare=False, repr=False
    )

    def environment(self) -> dict[str, str]:
        """Return the whole environment of a Grid Engine command."""
        return {
            "SGE_ROOT": str(self.root),
            "SGE_CELL": self.cell,
            **{name: str(port) for name, port in self.ports.items()},
            "PATH": f"{self.bin_dir}:/usr/bin:/bin",
            "LC_ALL": "C",
        }

    @property
    def accounting_file(self) -> Path:
        """The cell's file in which the qmaster records how each job ended (accounting(5)).

        :meth:`Dialect.accounting_files` has all its forms.
        """
        return self.root / self.cell / "common" / "accounting"

    def command(self, name: str) -> str:
        """Return the full path of a command such as ``qstat``."""
        return str(self.bin_dir / name)
