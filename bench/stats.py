"""Numbers about numbers: no input, no output."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some values, with the smallest and the largest one."""

    median: float
    low: float
    high: float
    count: int

    def text(self, unit: str = "", digits: int = 2) -> str:
        """Return all of it in words, such as ``2.10 s (1.95 to 2.40)``."""
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return f"{self.median:.{digits}f}{unit and ' ' + unit} ({low} to {high})"


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return how many times as large our median is as theirs."""
    return statistics.median(ours) / statistics.median(theirs)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def column(rows: Sequence[Mapping[str, float]], name: str) -> list[float]:
    """Return one figure of each run."""
    return [row[name] for row in rows]


def steps(phases: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the median time of each phase alone, given the moments at which phases end.

    A run without one of the moments does not count for the phases on both sides of it.
    """
    found = []
    before = None
    for name, _ in phases:
        spans = [
            row[name] - (0.0 if before is None else row[before])
            for row in rows
            if name in row and (before is None or before in row)
        ]
        found.append(max(statistics.median(spans), 0.0) if spans else 0.0)
        before = name
    return found
