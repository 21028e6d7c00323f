# SPDX-License-Identifier: BSD-3-Clause
"""Log lines: one line for each event."""

from __future__ import annotations

#: Longest log line, in characters. The limit is needed because a line may contain text from the
#: hub.
_LONGEST_LINE = 4_000


def one_line(text: str) -> str:
    """Return a text as a single log line that cannot imitate further lines.

    All Unicode line breaks, control characters and marks that change the text direction become
    spaces.
    """
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_LINE])
