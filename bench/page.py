"""Write docs/performance.md from the results; the text is in performance.md.j2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bench import plots
from bench.phases import PHASES
from bench.stats import column, percentile, ratio, spread, steps

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


def weight(found: Found, images: Path) -> list[Line]:
    """Draw the plots of part ``weight``; return its lines."""
    goals = {"first": {"bytes": 0.4, "seconds": 0.6}, "second": {"bytes": None, "seconds": 0.5}}
    lines, shown = [], {}
    for load, wanted in goals.items():
        for figure, goal in wanted.items():
            scale, unit = (1e6, "MB") if figure == "bytes" else (1, "s")
            sides = {
                side: [run[load][figure] / scale for run in runs]
                for side, runs in found["runs"].items()
            }
            what = f"JupyterLab's {load} load, {unit}"
            shown[f"{load} load, {unit}"] = {
                NAMES[side]: spread(values) for side, values in sides.items()
            }
            lines.append(compare(what, sides["ours"], sides["stock"], goal, unit=unit))
    title = f"JupyterLab in Chromium over {found['line']}"
    plots.bars(images / "performance-weight.svg", title, "megabytes, seconds", shown)
    return lines


def many(found: Found, images: Path) -> list[Line]:
    """Draw the plots of part ``many``; return its lines."""
    sides = {side: found[side] for side in ("ours", "stock")}
    plots.bars(
        images / "performance-many.svg",
        "A hub whose sessions do nothing",
        "CPU seconds a minute",
        {
            f"{found[number]} sessions": {
                NAMES[side]: spread([hub[number]["cpu_per_minute"]]) for side, hub in sides.items()
            }
            for number in ("few", "many")
        },
    )
    taken = {side: column(hub["restarts"], "taken_up") for side, hub in sides.items()}
    plots.bars(
        images / "performance-restart.svg",
        f"Restart of a hub with {found['many']} sessions",
        "seconds",
        {
            title: {
                NAMES[side]: spread(column(hub["restarts"], step)) for side, hub in sides.items()
            }
            for step, title in (("answers", "hub answers"), ("taken_up", "all taken up"))
        },
    )

    def steady(number: str, goal: float | None) -> Line:
        ours, stock = ([sides[side][number]["cpu_per_minute"]] for side in ("ours", "stock"))
        return compare(f"Hub's CPU a minute, {found[number]} sessions", ours, stock, goal)

    starts = sides["ours"]["starts"]
    pressed = f"{starts['people']} people press Start within {starts['within']:g} s: last one ready"
    last = {side: [hub["starts"]["last"]] for side, hub in sides.items()}
    what = f"Hub restart, {found['many']} sessions taken up"
    return [
        compare(pressed, last["ours"], last["stock"]),
        steady("few", None),
        steady("many", 0.1),
        compare(what, taken["ours"], taken["stock"]),
    ]


def proxy(found: Found, images: Path) -> list[Line]:
    """Draw the plots of part ``proxy``; return its lines."""
    names = {"ours": "nginx and CHP (GridHub)", "chp": "CHP alone (stock)", "server": "no proxy"}
    figures = {"requests": "requests a second", "echo_ms": "websocket round trip, ms"}
    runs = found["runs"]
    for figure, title in figures.items():
        shown = {names[path]: spread(column(rows, figure)) for path, rows in runs.items()}
        name = f"performance-proxy-{figure.partition('_')[0]}.svg"
        plots.bars(images / name, title, title, {"": shown})
    return [
        compare(f"Proxy: {title}", column(runs["ours"], figure), column(runs["chp"], figure),
                name="CHP alone", unit="")
        for figure, title in figures.items()
    ]  # fmt: skip


def form(found: Found, images: Path) -> list[Line]:
    """Return the line of part ``form``."""
    p95 = [percentile(run["form_ms"], 95) for run in found["runs"]]
    what = f"Form, p95 with {found['sessions']} sessions, {found['jobs']} jobs"
    middle = spread(p95)
    return [Line(what, middle.text("ms", 0), "", middle.median, 100, " ms")]


def attacked(found: Found, images: Path) -> list[Line]:
    """Draw the plot of part ``attacked``."""
    plots.bars(
        images / "performance-attacked.svg",
        "Login, start and first cell of a person meanwhile",
        "seconds",
        {
            attack: {
                title: spread(column(pairs, key))
                for key, title in (("without", "no attack"), ("attacked", "attacked"))
            }
            for attack, pairs in found["runs"].items()
        },
    )
    return []


#: How each part's result becomes plots and lines, in the order of the table.
PARTS: dict[str, Callable[[Found, Path], list[Line]]] = {
    "start": start,
    "class": crowd,
    "weight": weight,
    "many": many,
    "proxy": proxy,
    "form": form,
    "attacked": attacked,
}


def sizing(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return what a hub's host needs, as far as the results tell.

    The hub is one process, so one core is all that it can use.
    """
    found = {}
    if "many" in results:
        many = results["many"]["found"]
        hub = many["ours"]
        apart = many["many"] - many["few"]
        cpu, memory = (
            (hub["many"][figure] - hub["few"][figure]) / apart
            for figure in ("cpu_per_minute", "memory_mb")
        )
        found = {"cpu": max(cpu, 0.0), "memory": max(memory, 0.0)}
        # A quarter of the core for sessions that are there leaves the rest for starts and pages.
        left = 15.0 - hub["many"]["cpu_per_minute"]
        found["people"] = many["many"] + left / max(cpu, 0.001)
        found["restart"] = spread(column(hub["restarts"], "taken_up")).median * 1000 / many["many"]
    if "class" in results:
        runs = results["class"]["found"]["runs"]["ours"]
        found["hub_start"] = spread(column(runs, "hub_cpu_per_start")).median
    return found


def origin(result: Mapping[str, Any]) -> str:
    """Say where figures come from."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    runs = f"{result['runs']} run{'s' if result['runs'] > 1 else ''}"
    return (
        f"*{runs} on {result['date']} UTC, GridHub {machine['gridhub']}, "
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
    text = template.render(
        lines=lines, origin=origin, spread=spread, column=column, sizing=sizing(results), **results
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
