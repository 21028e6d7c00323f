# SPDX-License-Identifier: BSD-3-Clause
"""Show amounts in words, in the unit that the person chose, and never overstate what is free."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

from gridhub.menu.job import Requested
from gridhub.words import number_text


def _bytes(number: float, other: float, whole: Callable[[float], int]) -> str:
    """Return a number of bytes in words: in GB if ``other`` is at least 1 GB, and in MB otherwise.

    :param whole: how to round to tenths of the unit: ``floor``, ``ceil`` or ``round``.
    """
    unit, size = ("GB", 2**30) if other >= 2**30 else ("MB", 2**20)
    return f"{whole(number / size * 10) / 10:.1f} {number_text(f'unit.{unit}', 0)}"


def beside(memory: Requested, number: float, whole: Callable[[float], int]) -> str:
    """Return a number of bytes in words, in the unit in which memory was requested.

    :param whole: how to round to tenths of the unit: ``floor``, ``ceil`` or ``round``.
    """
    return _bytes(number, memory.total / int(memory.value), whole)


def limit_in_words(used: float, limit: float) -> tuple[str, str]:
    """Return in words the amount used and its limit, which are both given in bytes.

    The amount used is rounded up and the limit down, so that an amount above the limit never looks
    smaller.
    """
    return _bytes(used, limit, ceil), _bytes(limit, limit, floor)
