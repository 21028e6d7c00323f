# SPDX-License-Identifier: BSD-3-Clause
"""Which names of accounts Grid Engine takes; recorded with 8.1.9, one job for each name."""

from __future__ import annotations

import pytest

from gridhub.grid.owners import refused_part


@pytest.mark.parametrize(
    "name",
    [
        "ann",
        "Ann.Smith",
        "4you",
        "1234",
        "a+b",
        "a-b",
        "_u",
        "a~b",
        "a$",
        "$x",
        "~x",
        "ann..",
        "x" * 127,
    ],
)
def test_names_that_grid_engine_takes(name: str) -> None:
    assert refused_part(name) == ""


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ann@example.org", "@"),
        ("EXAMPLE\\ann", "\\"),
        ("ann smith", " "),  # the job is accepted, and then fails
        ("ünal", "ü"),
        ("annü", "ü"),
        (".ann", "."),
        ("-ann", "-"),
        ("ann,bob", ","),
        ("a%b", "%"),
        ("a(b", "("),
        ("a'b", "'"),
        ("a*b", "*"),  # a wildcard in qstat -u
        ("a?b", "?"),
        ("ann\n", "\n"),
        ("none", "none"),
        ("All", "All"),
        ("TEMPLATE", "TEMPLATE"),
        ("default", "default"),
    ],
)
def test_names_that_it_refuses(name: str, part: str) -> None:
    assert refused_part(name) == part
