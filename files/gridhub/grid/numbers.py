# SPDX-License-Identifier: BSD-3-Clause
"""Numbers in Grid Engine's notation."""

from __future__ import annotations

import math
import re

#: The multipliers of Grid Engine's memory values (sge_types(1)); capital letters are powers of
#: 1024.
_MULTIPLIERS = {
    "": 1.0,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "t": 1e12,
    "K": 2.0**10,
    "M": 2.0**20,
    "G": 2.0**30,
    "T": 2.0**40,
}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", re.ASCII)


def read_number(text: str) -> float | None:
    """Return the value of a number with a Grid Engine multiplier; ``None`` for words like ``N/A``.

    Grid Engine prints ``infinity`` for an unlimited resource; the result is then infinite. For
    example, memory is unlimited if no host defines an amount of memory.
    """
    if text.strip().lower() == "infinity":
        return math.inf
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) * _MULTIPLIERS[found[2]] if found else None
