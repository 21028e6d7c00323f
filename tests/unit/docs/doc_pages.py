# SPDX-License-Identifier: BSD-3-Clause
"""The pages of the documentation, and their fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from folders import ROOT

#: What people read. The changelog names what was there at its time.
PAGES = sorted(
    [ROOT / "README.md", ROOT / "SECURITY.md", *ROOT.glob("docs/**/*.md")]
    + [*ROOT.glob("roles/*/README.md")]
)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    #: The number of its first line.
    line: int
    language: str
    text: str
    #: The comment in the line before it; empty if there is none.
    comment: str

    @property
    def name(self) -> str:
        """Return the block's name in the report of a test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[str]:
        """Yield the commands of a block of shell, without comments."""
        for line in re.sub(r"\\\n\s*", " ", self.text).splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield command


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    begin: int | None = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if begin is None:
            begin = number
            continue
        before = lines[begin - 1].strip() if begin else ""
        comment = re.fullmatch(r"<!-- (.*) -->", before)
        yield Block(
            page,
            begin + 1,
            lines[begin].strip().removeprefix("```"),
            "\n".join(each.strip() for each in lines[begin + 1 : number]),
            comment[1] if comment else "",
        )
        begin = None
    assert begin is None, f"{page}: a fenced block has no end"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language == "shell"]
