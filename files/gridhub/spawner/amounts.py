# SPDX-License-Identifier: BSD-3-Clause
"""Amounts in words: in the unit the person chose, and never more free than there is."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor

from gridhub.menu.job import Requested
from gridhub.words import number_text


def _bytes(number: float, other: float, whole: Callable[[float], int]) -> str:
    """Return a number of bytes in the unit that another one has, in tenths that ``whole`` makes."""
    unit, size = ("GB", 2**30) if other >= 2**30 else ("MB", 2**20)
    return f"{whole(number / size * 10) / 10:.1f} {number_text(f'unit.{unit}', 0)}"


def beside(memory: Requested, number: float, whole: Callable[[float], int]) -> str:
    """Return a number of bytes in the unit in which memory was requested."""
    return _bytes(number, memory.total / int(memory.value), whole)


def limit_in_words(used: float, limit: float) -> tuple[str, str]:
    """Return what was used and its limit, in bytes, so that the first reads as above the second."""
    return _bytes(used, limit, ceil), _bytes(limit, limit, floor)
