"""Write docs/performance.md from the results; the text is in performance.md.j2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bench import plots
from bench.phases import PHASES
from bench.stats import column, ratio, spread, steps

TEMPLATE = Path(__file__).with_name("performance.md.j2")
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the table that sums everything up.

    :param value: a ratio, or a figure of ours with its unit.
    :param goal: the largest value that is good enough; None if there is no goal.
    """

    what: str
    ours: str
    other: str
    value: float
    goal: float | None
    unit: str = ""

    def text(self) -> str:
        """Return a row of a Markdown table."""
        reached = "" if self.goal is None else "yes" if self.value <= self.goal else "**no**"
        goal = "" if self.goal is None else f"≤ {self.goal:g}{self.unit}"
        cells = (self.what, self.ours, self.other, f"{self.value:.2f}{self.unit}", goal, reached)
        return f"| {' | '.join(cells)} |"


def compare(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: float | None = None,
    name: str = "stock",
    unit: str = "s",
) -> Line:
    """Return the line for two rows of values."""
    other = f"{name}: {spread(theirs).text(unit)}"
    return Line(what, spread(ours).text(unit), other, ratio(ours, theirs), goal)


#: What the plots call the ones that are compared.
NAMES = {"ours": "GridHub", "stock": "stock batchspawner", "bare": "bare jupyter lab"}


def start(found: Found, images: Path) -> list[Line]:
    """Draw the plots of part ``start``; return its lines."""
    runs = found["runs"]
    plots.bars(
        images / "performance-start.svg",
        "From the click on Start (lines: lowest to highest)",
        "seconds",
        {
            title: {NAMES[side]: spread(column(rows, step)) for side, rows in runs.items()}
            for step, title in (("page", "JupyterLab's page"), ("cell", "first cell's output"))
        },
    )
    taken = steps(PHASES, runs["ours"])
    named = [(title, seconds) for (_, title), seconds in zip(PHASES, taken, strict=True)]
    plots.steps(images / "performance-phases.svg", "A start of GridHub, until …", named)
    page = {side: column(rows, "page") for side, rows in runs.items()}
    cell = {side: column(rows, "cell") for side, rows in runs.items()}
    return [
        compare("Click to page", page["ours"], page["bare"], 0.9, "bare"),
        compare("Click to page", page["ours"], page["stock"], 0.4),
        compare("Click to first cell", cell["ours"], cell["stock"], 0.5),
    ]


def crowd(found: Found, images: Path) -> list[Line]:
    """Draw the plot of part ``class``; return its lines."""
    last = {side: column(rows, "last") for side, rows in found["runs"].items()}
    cpu = {side: column(rows, "cpu_per_start") for side, rows in found["runs"].items()}
    for what, values in (("class", last), ("cpu", cpu)):
        plots.bars(
            images / f"performance-{what}.svg",
            f"{found['people']} people press Start together",
            "seconds",
            {TITLES[what]: {NAMES[side]: spread(each) for side, each in values.items()}},
        )
    figure = spread(cpu["ours"])
    return [
        compare(f"Class of {found['people']}: last page", last["ours"], last["stock"], 0.5),
        Line("… CPU seconds a start", figure.text("s"), f"stock: {spread(cpu['stock']).text('s')}",
             figure.median, 1.6, " s"),
    ]  # fmt: skip


TITLES = {"class": "last page has answered", "cpu": "CPU for one start"}

#: How each part's result becomes plots and lines, in the order of the table.
PARTS: dict[str, Callable[[Found, Path], list[Line]]] = {"start": start, "class": crowd}


def origin(result: Mapping[str, Any]) -> str:
    """Say where figures come from."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"*{result['runs']} runs on {result['date']} UTC, GridHub {machine['gridhub']}, "
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, "
        f"Linux {machine['kernel']}, load before {result['load_before']}; {versions}. "
        f"All values: `bench/results/{result['part']}.json`.*"
    )


def write(results: Mapping[str, Mapping[str, Any]], page: Path) -> None:
    """Write the page and its plots."""
    measured = {name: build for name, build in PARTS.items() if name in results}
    images = page.parent / "images"
    lines = [
        line for name, build in measured.items() for line in build(results[name]["found"], images)
    ]
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True, lstrip_blocks=True
    )
    text = template.render(lines=lines, origin=origin, spread=spread, column=column, **results)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
