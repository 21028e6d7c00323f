# SPDX-License-Identifier: BSD-3-Clause
"""Numbers with Grid Engine's multipliers, such as ``G``."""

from __future__ import annotations

import math

import pytest

from gridhub.grid.numbers import read_number
from recorded import GB


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0.0),
        ("4.000G", 4 * GB),
        ("512.000M", 512 * 2.0**20),
        ("3k", 3000.0),
        ("2.000000", 2.0),
        ("N/A", None),
        ("", None),
        ("INFINITY", math.inf),
        ("infinity", math.inf),
        ("infinitely", None),
        ("-1", None),
        ("1e9", None),
        ("١", None),
    ],
)
def test_numbers_are_read_with_grid_engines_multipliers(text: str, number: float | None) -> None:
    assert read_number(text) == number
