"""Run the measurements on the demo, and write docs/performance.md from their results."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bench import attacked, crowd, form, many, page, proxy, results, start, stock, weight
from bench.demo import ROOT


@dataclass(frozen=True)
class Part:
    """A part of the measurement.

    :param measure: takes the number of runs, and returns what it has found.
    :param runs: how often it measures, and how often for ``make bench-quick``; 0 leaves it out.
    """

    measure: Callable[[int], dict[str, Any]]
    runs: int
    quick: int


PARTS = {
    "start": Part(start.measure, 20, 3),
    "class": Part(crowd.measure, 5, 1),
    "weight": Part(weight.measure, 10, 1),
    "proxy": Part(proxy.measure, 10, 1),
    "many": Part(many.measure, 3, 0),
    # These two measure only ours, and take long: name them to have them.
    "form": Part(form.measure, 0, 0),
    "attacked": Part(attacked.measure, 0, 0),
}


def end(number: int, frame: FrameType | None) -> None:
    """Let the measurements clean up when they are ended from outside; nothing interrupts that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--quick", action="store_true", help="few runs, in .cache/bench")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    arguments = parser.parse_args()
    if os.geteuid() != 0 and not arguments.page:
        parser.error("only root reaches the containers' own network")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    folder = ROOT / (".cache/bench" if arguments.quick else "bench/results")
    chosen = arguments.parts or [name for name, part in PARTS.items() if part.runs]
    if not arguments.page:
        with stock.environment():
            for name in chosen:
                part = PARTS[name]
                runs = arguments.runs or (part.quick if arguments.quick else part.runs)
                if runs:
                    run_part(name, part, runs, folder)
    text = folder / "performance.md" if arguments.quick else ROOT / "docs/performance.md"
    page.write(results.read(folder), text)
    print(f"The results are in {text.relative_to(ROOT)}.")


def run_part(name: str, part: Part, runs: int, folder: Path) -> None:
    """Measure one part and save its result."""
    print(f"{name}: {runs} runs", flush=True)
    load, began = os.getloadavg()[0], time.monotonic()
    results.save(folder, name, runs, load, part.measure(runs))
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
