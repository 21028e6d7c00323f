"""Ask a dashboard's queries, and draw a picture of it from the answers.

Grafana itself is not available for the tests. The pictures only resemble what it draws.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import dates
from matplotlib.figure import Figure
from matplotlib.ticker import LinearLocator

from folders import ROOT
from prometheus import ask

DASHBOARDS = ROOT / "roles/monitoring/files/dashboards"


#: The height of a unit of Grafana's grid in the pictures, in inches.
UNIT = 0.3


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
    """Return a query with a value for Grafana's own variable.

    The rules of the tests record every two seconds, not every five minutes.
    """
    return str(target["expr"]).replace("$__rate_interval", "20s").replace("* 5 / 60", "* 2 / 3600")


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
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}{ {'s': ' s', 'h': ' h', 'd': ' d', 'reqps': ' /s'}.get(unit, '') }"


def _color(panel: dict[str, Any], value: float) -> str:
    color = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return {"green": "#56a64b", "red": "#e02f44", "yellow": "#e0b400", "blue": "#3274d9"}[color]


def _with_gaps(series: Series) -> tuple[list[datetime], list[float]]:
    """Return a series with a gap where values are missing, as Grafana draws it."""
    times, values = [series.times[0]], [series.values[0]]
    pauses = [after - before for before, after in pairwise(series.times)]
    for when, value, pause in zip(series.times[1:], series.values[1:], pauses, strict=True):
        if pause > 2.5 * min(pauses):
            times.append(when - pause / 2)
            values.append(math.nan)
        times.append(when)
        values.append(value)
    return [datetime.fromtimestamp(when, UTC) for when in times], values


def _draw(panel: dict[str, Any], axes: Any, series: list[Series], seconds: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    axes.set_title(panel["title"], fontsize=8, loc="left")
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
        bars = axes.barh(names, [each.values[-1] for each in series], color="#3274d9")
        axes.bar_label(bars, names, label_type="center", fontsize=6, color="white")
        axes.set_yticks([])
        return
    custom = defaults["custom"]
    for each in series:
        style = "steps-post" if custom["drawStyle"] == "bars" else "default"
        times, values = _with_gaps(each)
        axes.plot(times, values, label=each.label, lw=1, drawstyle=style, marker=".", ms=2)
        axes.fill_between(times, values, alpha=custom["fillOpacity"] / 300)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    now = time.time()
    axes.set_xlim(datetime.fromtimestamp(now - seconds, UTC), datetime.fromtimestamp(now, UTC))
    axes.xaxis.set_major_locator(LinearLocator(4))
    axes.set_ylim(bottom=0)
    if unit != "short":
        axes.yaxis.set_major_formatter(lambda value, _: in_words(value, unit))
    axes.grid(visible=True, lw=0.3)
    if series:
        axes.legend(fontsize=5, loc="upper left", ncols=2)


def picture(name: str, seconds: float, path: Path) -> None:
    """Draw a dashboard from what Prometheus has of the last ``seconds``."""
    dashboard = load(name)
    rows = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in dashboard["panels"])
    mpl.use("agg")
    width, height = 14.0, (rows + 2) * UNIT
    figure = Figure(figsize=(width, height), dpi=100)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y, w, h = (place[key] for key in "xywh")
        left, top = x * width / 24, (y + 2) * UNIT
        if panel["type"] == "row":
            figure.text(0.01, 1 - (top + UNIT * 0.8) / height, panel["title"], fontsize=12)
            continue
        # Room for the title above, and for the axes' numbers.
        inner = (left + 0.55, top + 0.3, w * width / 24 - 0.7, h * UNIT - 0.6)
        box = (inner[0] / width, 1 - (inner[1] + inner[3]) / height, inner[2] / width)
        axes = figure.add_axes((*box, inner[3] / height))
        _draw(panel, axes, answers(panel, seconds), seconds)
    words = f"{dashboard['title']}: drawn by the tests from real answers, not by Grafana"
    figure.text(0.01, 1 - UNIT / height, words, fontsize=14)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
