"""Ask a dashboard's queries, and draw a picture of it from the answers.

Grafana itself is not available for the tests. The pictures only resemble what it draws.
"""

from __future__ import annotations

import json
import math
import textwrap
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import dates
from matplotlib.figure import Figure

from folders import ROOT
from prometheus import ask

DASHBOARDS = ROOT / "roles/monitoring/files/dashboards"


class Series(NamedTuple):
    label: str
    times: list[float]
    values: list[float]


def load(name: str) -> dict[str, Any]:
    return dict(json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels with queries."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expression(target: dict[str, Any]) -> str:
    """Return a query with a value for Grafana's own variable."""
    return str(target["expr"]).replace("$__rate_interval", "20s")


def _label(target: dict[str, Any], labels: dict[str, str]) -> str:
    legend = str(target.get("legendFormat", ""))
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def answers(panel: dict[str, Any], seconds: float, steps: int = 120) -> list[Series]:
    """Return what a panel shows of the last ``seconds``."""
    found = []
    end = time.time()
    for target in panel["targets"]:
        if target["range"]:
            step = max(seconds / steps, 1.0)
            data = ask(
                "query_range", query=expression(target), start=end - seconds, end=end, step=step
            )
        else:
            data = ask("query", query=expression(target))
        for each in data["result"]:
            points = each.get("values") or [each["value"]]
            numbers = [(float(when), float(value)) for when, value in points]
            known = [(when, value) for when, value in numbers if not math.isnan(value)]
            if known:
                times, values = zip(*known, strict=True)
                found.append(Series(_label(target, each["metric"]), list(times), list(values)))
    return found


def in_words(value: float, unit: str) -> str:
    """Return a value with its unit, about as Grafana shows it."""
    if unit == "dateTimeAsIso":
        return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d\n%H:%M UTC}"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MB"
    return f"{value:.3g}{ {'s': ' s', 'h': ' h', 'd': ' d', 'reqps': ' /s'}.get(unit, '') }"


def _color(panel: dict[str, Any], value: float) -> str:
    color = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return {"green": "#56a64b", "red": "#e02f44", "yellow": "#e0b400", "blue": "#3274d9"}[color]


def _draw(panel: dict[str, Any], axes: Any, series: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    title = "\n".join(textwrap.wrap(panel["title"], 34))
    axes.set_title(title, fontsize=8, loc="left")
    if panel["type"] == "stat":
        [one] = series
        mappings = defaults.get("mappings") or [{"options": {}}]
        known = mappings[0]["options"].get(f"{one.values[-1]:g}")
        axes.set_facecolor(_color(panel, one.values[-1]))
        words = known["text"] if known else in_words(one.values[-1], unit)
        axes.text(0.5, 0.5, words, ha="center", va="center", color="white", fontsize=13)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.tick_params(labelsize=6)
    if panel["type"] == "bargauge":
        names = [each.label for each in series]
        axes.barh(names, [each.values[-1] for each in series], color="#3274d9")
        return
    custom = defaults["custom"]
    moments = [[datetime.fromtimestamp(when, UTC) for when in each.times] for each in series]
    for each, when in zip(series, moments, strict=True):
        style = "steps-post" if custom["drawStyle"] == "bars" else "default"
        axes.plot(when, each.values, label=each.label, lw=1, drawstyle=style, marker=".", ms=2)
        axes.fill_between(when, each.values, alpha=custom["fillOpacity"] / 300)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=4))
    axes.set_ylim(bottom=0)
    if unit != "short":
        axes.yaxis.set_major_formatter(lambda value, _: in_words(value, unit))
    axes.grid(visible=True, lw=0.3)
    axes.legend(fontsize=5, loc="upper left", ncols=2)


def picture(name: str, seconds: float, path: Path) -> None:
    """Draw a dashboard from what Prometheus has of the last ``seconds``."""
    dashboard = load(name)
    rows = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in dashboard["panels"])
    mpl.use("agg")
    figure = Figure(figsize=(14, rows * 0.32), dpi=100)
    grid = figure.add_gridspec(rows, 24, hspace=1.6, wspace=3.5)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y, w, h = (place[key] for key in "xywh")
        axes = figure.add_subplot(grid[y : y + h, x : x + w])
        if panel["type"] == "row":
            axes.axis("off")
            axes.text(0, 0.5, panel["title"], fontsize=11, fontweight="bold", va="center")
        else:
            _draw(panel, axes, answers(panel, seconds))
    figure.suptitle(f"{dashboard['title']}: drawn by the tests from real answers, not by Grafana")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
