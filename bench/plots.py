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

#: Ours first, then what it is measured against.
COLOURS = ("#1f6f54", "#b5651d", "#7a7a7a", "#4a6fa5")
#: For steps that follow each other.
STEPS = (
    "#0b3d2e", "#14573f", "#1f6f54", "#2f8a69", "#4aa583",
    "#6fbd9e", "#97d3ba", "#bfe6d6", "#e0f3ea",
)  # fmt: skip


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
            axes.text(spread.high, place, f"  {spread.median:.3g} {name}", va="center", fontsize=8)
            place += 1
        place += 0.6
    axes.set_yticks(ticks, list(figures))
    finish(figure, axes, path, title, unit)


def steps(path: Path, title: str, named: Sequence[tuple[str, float]]) -> None:
    """Draw what follows each other as one bar, with what each part takes in the legend."""
    figure, axes = pyplot.subplots(figsize=(7, 2.2), layout="constrained")
    left = 0.0
    for (name, seconds), colour in zip(named, STEPS, strict=False):
        label = f"{name} {seconds:.2f} s"
        axes.barh(0, seconds, left=left, color=colour, label=label, edgecolor="white")
        left += seconds
    axes.set_yticks([])
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    finish(figure, axes, path, title, "s")


def finish(figure: object, axes: object, path: Path, title: str, unit: str) -> None:
    """Give a plot its title and write the file."""
    axes.set_title(title, loc="left", fontsize=10)  # type: ignore[attr-defined]
    axes.set_xlabel(unit)  # type: ignore[attr-defined]
    axes.margins(x=0.18)  # type: ignore[attr-defined]
    axes.set_xlim(left=0)  # type: ignore[attr-defined]
    axes.invert_yaxis()  # type: ignore[attr-defined]
    axes.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})  # type: ignore[attr-defined]
    pyplot.close(figure)  # type: ignore[arg-type]
