# SPDX-License-Identifier: BSD-3-Clause
"""Amounts of memory in words, in the unit that the person chose."""

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
    """Return an amount in use and its limit in words; both arguments are in bytes.

    The amount is rounded up and the limit down, so that an amount above its limit never appears to
    be below the limit.
    """
    return _bytes(used, limit, ceil), _bytes(limit, limit, floor)
