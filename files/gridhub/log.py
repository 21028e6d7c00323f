# SPDX-License-Identifier: BSD-3-Clause
"""Keep each log entry on a single line."""

from __future__ import annotations

#: Longest log line, in characters. A line may contain text of any length from the hub.
_LONGEST_LINE = 4_000


def one_line(text: str) -> str:
    """Return a text as a single log line that nobody can mistake for several lines.

    All Unicode line breaks, control characters and marks that change the text direction become
    spaces.
    """
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_LINE])
