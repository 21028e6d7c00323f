"""Draw the plots of docs/performance.md, as SVG whose text is text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from bench.stats import Spread

matplotlib.use("svg")
# The same figures give the same file, so that a change in Git is a change of figures.
matplotlib.rcParams.update({"svg.hashsalt": "gridhub", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

#: Ours first, then what it is measured against.
COLOURS = ("#1f6f54", "#b5651d", "#7a7a7a", "#4a6fa5")


def bars(
    path: Path, title: str, unit: str, figures: Mapping[str, Mapping[str, Spread]], wide: float = 7
) -> None:
    """Draw a group of bars for each figure: medians, with lines from the lowest to the highest.

    :param figures: for each figure, the spread of each one that is compared.
    """
    names = list(dict.fromkeys(name for compared in figures.values() for name in compared))
    height = 0.5 + 0.28 * sum(len(compared) + 0.6 for compared in figures.values())
    figure, axes = pyplot.subplots(figsize=(wide, height), layout="constrained")
    place, ticks = 0.0, []
    for compared in figures.values():
        ticks.append(place + (len(compared) - 1) / 2)
        for name, spread in compared.items():
            around = [[spread.median - spread.low], [spread.high - spread.median]]
            axes.barh(
                place, spread.median, 0.8, color=COLOURS[names.index(name)], xerr=around,
                error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
            )  # fmt: skip
            label(axes, spread.high, place, f"{spread.median:.3g} {name}")
            place += 1
        place += 0.6
    axes.set_yticks(ticks, list(figures))
    finish(figure, axes, path, title, unit)


def steps(path: Path, title: str, named: Sequence[tuple[str, float]]) -> None:
    """Draw what follows each other, each step below the one before it."""
    height = 0.7 + 0.26 * len(named)
    figure, axes = pyplot.subplots(figsize=(7, height), layout="constrained")
    left = 0.0
    for place, (_, seconds) in enumerate(named):
        axes.barh(place, seconds, 0.8, left=left, color=COLOURS[0])
        left += seconds
        label(axes, left, place, f"{seconds:.2f}")
    axes.set_yticks(range(len(named)), [name for name, _ in named])
    finish(figure, axes, path, title, "seconds")


def label(axes: Axes, right: float, place: float, text: str) -> None:
    """Write a text to the right of a bar."""
    axes.annotate(text, (right, place), (6, 0), textcoords="offset points", va="center", fontsize=8)


def finish(figure: Figure, axes: Axes, path: Path, title: str, unit: str) -> None:
    """Give a plot its title and write the file."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(unit)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.25)  # room for the texts
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
