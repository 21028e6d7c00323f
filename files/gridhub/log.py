# SPDX-License-Identifier: BSD-3-Clause
"""Log lines: one event, one line."""

from __future__ import annotations

#: Longest line of the log, in characters; what the hub sends may be in it.
_LONGEST_LINE = 4_000


def one_line(text: str) -> str:
    """Return a text as one line of a log, in which nothing can look like another one.

    Line breaks of every alphabet, control characters and marks that turn the reading direction
    become blanks.
    """
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_LINE])
