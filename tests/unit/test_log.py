# SPDX-License-Identifier: BSD-3-Clause
"""Each event is logged as exactly one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridhub.log import one_line


@given(st.text(max_size=200))
def test_a_log_line_is_one_line_for_every_reader(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert [a for a, b in zip(text, line, strict=True) if a != b and a.isprintable()] == []


def test_a_log_line_has_a_maximum_length() -> None:
    assert len(one_line("x" * 60_000)) == 4_000
