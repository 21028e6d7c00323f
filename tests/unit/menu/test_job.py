# SPDX-License-Identifier: BSD-3-Clause
"""Requests to Grid Engine that result from a choice."""

from __future__ import annotations

import json

import pytest

from gridhub.menu.file import (
    parse_menu,
)
from gridhub.menu.job import requested
from gridhub.menu.menu import ending_within
from menus import ALL, CORES, HOURS, menu_of


def test_the_requests_of_a_choice_are_listed_with_their_totals() -> None:
    menu = parse_menu(
        json.dumps(
            {
                "items": [
                    {
                        "name": "cores",
                        "label": "CPU cores",
                        "range": {"minimum": 1, "maximum": 4},
                        "default": 2,
                        "request": {"kind": "slots", "parallel_environment": "smp"},
                    },
                    {
                        "name": "memory",
                        "label": "Memory",
                        "unit": "GB",
                        "choices": [3],
                        "default": 3,
                        "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
                    },
                    {
                        "name": "gpus",
                        "label": "GPUs",
                        "choices": [0, 1],
                        "default": 0,
                        "request": {"kind": "count", "complex": "gpu", "per": "job"},
                    },
                    {
                        "name": "run_time",
                        "label": "Run time",
                        "unit": "minutes",
                        "choices": [90],
                        "default": 90,
                        "request": {"kind": "run_time", "complex": "h_rt"},
                    },
                    {
                        "name": "queue",
                        "label": "Queue",
                        "options": [{"value": "gpu.q", "label": "Graphics"}],
                        "default": "gpu.q",
                        "request": {"kind": "queue"},
                    },
                ],
                "presets": [],
                "limits": [],
            }
        )
    )
    listed = [(a.item, a.words, a.complex, a.total) for a in requested(menu, menu.choose({}, ()))]
    assert listed == [
        ("cores", "2", "", 2),
        ("memory", "3 GB", "h_vmem", 3 * 2**30),  # the total, although memory is requested per slot
        ("run_time", "90 minutes", "h_rt", 5400),
        ("queue", "Graphics", "", 0),
    ]
    assert menu.complexes() == {"h_vmem", "gpu"}


@pytest.mark.parametrize(
    ("chosen", "hours", "left"),
    [(4, 4.0, 4), (4, 8.0, 4), (4, 3.99, 1), (8, 7.0, 4), (8, 0.5, None), (1, -2.0, None)],
)
def test_a_run_time_that_is_too_long_is_replaced_by_one_that_fits(
    chosen: int, hours: float, left: int | None
) -> None:
    menu = menu_of(*ALL)
    choice = menu.choose({"hours": chosen}, ())
    found = ending_within(menu, choice, (), hours * 3600)
    assert found is not None
    item, fitting = found
    assert item.name == "hours"
    expected = None if left is None else choice.values | {"hours": left}
    assert (fitting and fitting.values) == expected


def test_a_run_time_that_fits_keeps_the_limits_of_the_menu() -> None:
    limit = {"rule": "cores < 8 or hours != 4", "item": "hours", "message": "Not four."}
    menu = menu_of(*ALL, limits=[limit])
    choice = menu.choose({"hours": 8, "cores": 8}, ())
    found = ending_within(menu, choice, (), 5 * 3600)
    assert found and found[1] and found[1].values["hours"] == 1


def test_minutes_in_a_range_are_rounded_down_to_its_steps() -> None:
    steps = {"minimum": 10, "maximum": 60, "step": 25}
    item = {key: value for key, value in HOURS.items() if key != "choices"}
    menu = menu_of(item | {"range": steps, "unit": "minutes", "default": 60})
    choice = menu.choose({}, ())
    found = ending_within(menu, choice, (), 50 * 60)
    assert found and found[1] and found[1].values == {"hours": 35}


def test_a_menu_without_a_run_time_has_none_that_fits() -> None:
    menu = menu_of(CORES)
    assert ending_within(menu, menu.choose({}, ()), (), 60) is None
