# SPDX-License-Identifier: BSD-3-Clause
"""The Grid Engines that GridHub knows: their names, and where their answers differ.

This module uses only the standard library, and imports no other part of GridHub: the roles'
filters and the maintenance script import it.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path


class Dialect(enum.StrEnum):
    """A family of Grid Engines, as ``sge_common_dialect`` names it."""

    #: Son of Grid Engine 8.1.9 and Grid Engine 6.2, from which all others come.
    SGE = "sge"
    #: Open Cluster Scheduler and Gridware Cluster Scheduler 9.
    OCS = "ocs"
    #: Altair Grid Engine, before that Univa Grid Engine.
    AGE = "age"

    @property
    def products(self) -> str:
        """The name of the products, for people."""
        return _PRODUCTS[self]

    def accounting_files(self, file: Path) -> tuple[Path, ...]:
        """Return the files with the accounting records, the one to read first in front.

        Open Cluster Scheduler writes ``accounting.jsonl``, or with ``old_accounting=true``
        (reporting_params, sge_conf(5)) ``accounting``. A cell has both if the setting was changed.

        :param file: the file as the site names it, in either form.
        """
        if self is not Dialect.OCS:
            return (file,)
        old = file.with_suffix("") if file.suffix == JSON_SUFFIX else file
        return old.with_name(old.name + JSON_SUFFIX), old

    def is_execd_at_work(self, shown: str) -> bool:
        """Return whether ``qping -info`` shows an execution daemon that has registered.

        The daemon's main loop, which begins after that, is listed with a letter: R if it runs; W
        or E if its last report is older than 10 or 600 s. Open Cluster Scheduler 9 shows W and E
        for healthy daemons too, because their loop reports once only (seen with 9.0.13 and 9.1.4).
        """
        return bool(_LOOPS[self].search(shown))


_PRODUCTS = {
    Dialect.SGE: "Son of Grid Engine (8.1.9) or a fork of it",
    Dialect.OCS: "Open or Gridware Cluster Scheduler 9",
    Dialect.AGE: "Altair or Univa Grid Engine",
}

#: How the name of an accounting file with a JSON object in each line ends.
JSON_SUFFIX = ".jsonl"

_LOOPS = {
    Dialect.SGE: re.compile(r"info: +[^ ]+: R "),
    Dialect.OCS: re.compile(r"info: +[^ ]+: [RWE] "),
    Dialect.AGE: re.compile(r"info: +[^ ]+: R "),
}

#: How the first line of ``qstat -help`` begins: the name of the product, and its version. Those of
#: SGE and OCS were seen, GCS is its maker's name for the same program with extensions; the others
#: are from public documentation.
_NAMES = {
    "SGE": Dialect.SGE,
    "GE": Dialect.SGE,
    "OCS": Dialect.OCS,
    "GCS": Dialect.OCS,
    "UGE": Dialect.AGE,
    "AGE": Dialect.AGE,
    "Univa Grid Engine": Dialect.AGE,
    "Altair Grid Engine": Dialect.AGE,
}
_NAME = re.compile(
    rf"(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))})\b", re.ASCII | re.IGNORECASE
)


def read_product(shown: str) -> tuple[str, Dialect | None]:
    """Return the product that ``qstat -help`` names in its first line, and its dialect.

    :returns: the line as it is, empty if there is none; the dialect is ``None`` if it is not known.
    """
    line = next(iter(shown.strip().splitlines()), "").strip()
    found = _NAME.match(line)
    if not found:
        return line, None
    names = {name.lower(): dialect for name, dialect in _NAMES.items()}
    return line, names[found[0].lower()]
