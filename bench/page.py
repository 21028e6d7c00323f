"""Write docs/performance.md from the results: each part is a section with its plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import plots
from bench.phases import PHASES
from bench.stats import column, ratio, spread, steps

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of the table that sums everything up: ours, the other, and what is wanted.

    :param goal: the largest ratio (or figure) that is good enough; None if there is no goal.
    """

    what: str
    ours: str
    other: str
    value: float
    goal: float | None
    unit: str = ""

    def text(self) -> str:
        reached = "" if self.goal is None else "yes" if self.value <= self.goal else "**no**"
        goal = "" if self.goal is None else f"≤ {self.goal:g}{self.unit}"
        return (
            f"| {self.what} | {self.ours} | {self.other} | {self.value:.2f}{self.unit} | {goal} | {reached} |"
        )


@dataclass(frozen=True)
class Section:
    """What the page says about one part."""

    title: str
    text: str
    lines: list[Line]


def start(result: Result, images: Path) -> Section:
    ours, stock, bare = (result["found"]["runs"][side] for side in ("ours", "stock", "bare"))
    plots.bars(
        images / "performance-start.svg",
        f"From the click on Start, medians of {len(ours)} runs (line: lowest to highest)",
        "seconds",
        {
            "JupyterLab's page": {
                "GridHub": spread(column(ours, "page")),
                "stock batchspawner": spread(column(stock, "page")),
                "bare jupyter lab": spread(column(bare, "page")),
            },
            "first cell's output": {
                "GridHub": spread(column(ours, "cell")),
                "stock batchspawner": spread(column(stock, "cell")),
                "bare jupyter lab": spread(column(bare, "cell")),
            },
        },
    )
    taken = steps(PHASES, ours)
    plots.steps(
        images / "performance-phases.svg",
        "What a session of GridHub does in this time",
        [(title, seconds) for (_, title), seconds in zip(PHASES, taken, strict=True)],
    )

    def line(what: str, step: str, other: list[dict[str, float]], named: str, goal: float) -> Line:
        mine, theirs = column(ours, step), column(other, step)
        return Line(
            what, spread(mine).text("s"), f"{named}: {spread(theirs).text('s')}",
            ratio(mine, theirs), goal,
        )  # fmt: skip

    return Section(
        "One person starts a session",
        "From the click on Start until JupyterLab's page has answered, and until the first cell has "
        "printed its result. In each round, GridHub, stock batchspawner and a bare `jupyter lab` "
        "start one after the other, on the same workers. The clock of the bare server starts with "
        "its process: nobody has to log in, wait for a scheduler or pass a proxy.\n\n"
        "![Time to a page and to a cell](images/performance-start.svg)\n\n"
        "![Phases of a start](images/performance-phases.svg)",
        [
            line("Click to page", "page", bare, "bare", 0.9),
            line("Click to page", "page", stock, "stock", 0.4),
            line("Click to first cell", "cell", stock, "stock", 0.5),
        ],
    )


def crowd(result: Result, images: Path) -> Section:
    people, runs = result["found"]["people"], result["found"]["runs"]
    ours, stock = runs["ours"], runs["stock"]
    last = {side: spread(column(runs[side], "last")) for side in runs}
    cpu = {side: spread(column(runs[side], "cpu_per_start")) for side in runs}
    plots.bars(
        images / "performance-class.svg",
        f"{people} people press Start together, {len(ours)} rounds",
        "seconds",
        {
            "last page has answered": {
                "GridHub": last["ours"],
                "stock batchspawner": last["stock"],
            },
            "CPU seconds a start": {"GridHub": cpu["ours"], "stock batchspawner": cpu["stock"]},
        },
    )
    return Section(
        f"A class of {people} presses Start together",
        "Until the last one has JupyterLab's page. The CPU seconds are those of all containers "
        "(hub, proxy, scheduler, workers) for one start; the program that plays the people is not "
        "counted.\n\n![A class](images/performance-class.svg)",
        [
            Line(
                f"Class of {people}, last one ready", last["ours"].text("s"),
                f"stock: {last['stock'].text('s')}",
                ratio(column(ours, "last"), column(stock, "last")), 0.5,
            ),
            Line(
                "CPU seconds a start", cpu["ours"].text("s"), f"stock: {cpu['stock'].text('s')}",
                cpu["ours"].median, 1.6, " s",
            ),
        ],
    )  # fmt: skip


#: How each part's result becomes a section, in the page's order.
SECTIONS: dict[str, Callable[[Result, Path], Section]] = {"start": start, "class": crowd}

INTRODUCTION = """# Performance

How fast is GridHub, compared with what people would use instead? `make bench` measures both in the
same run on the same machine, in turns, and writes this page. The alternatives are:

- **stock**: JupyterHub with batchspawner's `GridengineSpawner`, set up as their documentation says,
  on the same hub host, workers and scheduler. Its environment is what PyPI delivers, in the versions
  of our lock files; its intervals are the delivered ones.
- **bare**: `jupyter lab` of that environment, started by hand on a worker. No hub, no scheduler, no
  proxy: the floor.

Seconds depend on the machine; compare the ratios. Figures are medians, with the lowest and the
highest in parentheses.
"""


def write(results: Mapping[str, Result], page: Path) -> None:
    """Write the page and its plots."""
    images = page.parent / "images"
    sections = {
        name: build(results[name], images) for name, build in SECTIONS.items() if name in results
    }
    lines = [line.text() for section in sections.values() for line in section.lines]
    parts = [
        INTRODUCTION,
        "| | GridHub | alternative | ratio | goal | reached |\n|---|---|---|---|---|---|\n"
        + "\n".join(lines),
        *(
            f"## {section.title}\n\n{section.text}\n\n{origin(name, results[name])}"
            for name, section in sections.items()
        ),
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def origin(name: str, result: Result) -> str:
    """Say where figures come from."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"*{result['runs']} runs on {result['date']} UTC; GridHub {machine['gridhub']}; "
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, Linux "
        f"{machine['kernel']}; load before: {result['load_before']}; {versions}. All values: "
        f"`bench/results/{name}.json`.*"
    )
