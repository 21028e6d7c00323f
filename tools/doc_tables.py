# SPDX-License-Identifier: BSD-3-Clause
"""Write the generated parts of the documentation: ``doc_tables.py [--check]``.

- The messages on docs/researchers/messages.md. A row of its tables begins with a comment that
  names sentences of files/words.toml, such as ``<!-- ended.memory -->``. This program writes the
  first of them behind the comment; what the message means is written by hand.
- Tables of variables, from the roles' ``meta/argument_specs.yml``. A comment such as
  ``<!-- variables: jupyterhub drain -->`` names a role and its entry points; the table follows.

With ``--check``, the program writes nothing; its exit status shows whether all is up to date.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = ROOT / "docs/researchers/messages.md"
WORDS = ROOT / "files/words.toml"
#: A row of a table of messages: the names of the sentences, the old sentence, the meaning.
ROW = re.compile(r"^\| <!-- ([a-z0-9_. ]+) -->[^|]*\| (.+) \|$", re.MULTILINE)
#: The groups of files/words.toml of which each sentence is on the page of messages.
COMPLETE = ("account", "ended", "home", "start", "waiting")
#: Sentences of these groups that are only a part of another one.
PARTS = ("ended.a_worker", "start.no_reason")
#: A table of variables: the role and the entry points, and the old table.
VARIABLES = re.compile(r"^<!-- variables: (\w+)((?: \w+)+) -->\n\n(?:\|.*\n)*\n*", re.MULTILINE)
#: A page and a section, as the descriptions of variables name them.
PLACE = re.compile(r"\b((?:docs|roles)/[\w/-]+\.md)(#[\w-]+)?")


class TableError(Exception):
    """A table cannot be written."""


def sentences() -> dict[str, str]:
    """Return every sentence of files/words.toml by its name, such as ``ended.memory``."""
    groups = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    return {
        f"{group}.{name}": text for group, words in groups.items() for name, text in words.items()
    }


def shown(text: str) -> str:
    """Return the beginning of a sentence as a cell shows it, with dots for what differs."""
    text = re.sub(r"\{\w+\}", "…", " ".join(text.split()))
    first = re.split(r"(?<=\.)\s+(?=[A-Z])", text, maxsplit=1)[0]
    return first.replace("… …", "…").replace("|", r"\|")


def messages(page: str) -> str:
    """Return the page of messages with the sentences of files/words.toml.

    :raises TableError: if a name is wrong, or a sentence of a complete group is missing.
    """
    words = sentences()
    named = [name for row in ROW.finditer(page) for name in row[1].split()]
    if wrong := [name for name in named if name not in words]:
        raise TableError(f"files/words.toml has no {', '.join(wrong)}")
    missing = [
        name
        for name in words
        if name.partition(".")[0] in COMPLETE and name not in (*named, *PARTS)
    ]
    if missing:
        raise TableError(f"{MESSAGES.name} says nothing about {', '.join(missing)}")

    def cells(row: re.Match[str]) -> str:
        return f"| <!-- {row[1]} --> {shown(words[row[1].split()[0]])} | {row[2]} |"

    return ROW.sub(cells, page)


def headings(page: Path) -> dict[str, str]:
    """Return the headings of a page by their anchors; the title also has the anchor ""."""
    found: dict[str, str] = {}
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.setdefault("#" + anchor, heading.replace("`", ""))
        found.setdefault("", heading)
    return found


def linked(text: str, page: Path) -> str:
    """Return a description in Markdown, for a page: Ansible's markup, and links to pages.

    :raises TableError: if the description names a page or a section that does not exist.
    """

    def link(place: re.Match[str]) -> str:
        target, anchor = ROOT / place[1], place[2] or ""
        try:
            title = headings(target)[anchor]
        except (KeyError, FileNotFoundError):
            raise TableError(f"there is no {place[0]}, which {text!r} names") from None
        return f"[{title}]({os.path.relpath(target, page.parent)}{anchor})"

    # The argument of C(...) may have parentheses of its own, in pairs.
    text = re.sub(r"\b[COBI]\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", r"`\1`", text)
    return PLACE.sub(link, " ".join(text.split())).replace("|", r"\|")


def default_of(option: dict[str, Any]) -> str:
    """Return the cell with the default of a variable; empty if the description has it."""
    if option.get("required"):
        return "required"
    value = option.get("default")
    if value in ("", [], {}):
        return "none"
    if value is None or "{{" in str(value):
        return ""
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"`{shown}`" if len(shown) <= 80 else ""


def variables(page: Path, role: str, entries: list[str]) -> str:
    """Return a table of the variables of a role's entry points.

    :raises TableError: if the role has no such entry point.
    """
    file = ROOT / "roles" / role / "meta/argument_specs.yml"
    specs = yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"]
    if wrong := [entry for entry in entries if entry not in specs]:
        raise TableError(f"{page}: the role {role} has no entry point {', '.join(wrong)}")
    rows = ["| variable | meaning | default |", "|---|---|---|"]
    for name, option in {k: v for e in entries for k, v in specs[e]["options"].items()}.items():
        description = option["description"]
        words = " ".join(description) if isinstance(description, list) else description
        if choices := option.get("choices"):
            words += f" One of {', '.join(f'C({choice})' for choice in choices)}."
        rows.append(f"| `{name}` | {linked(words, page)} | {default_of(option)} |")
    return "\n".join(rows) + "\n\n"


def with_variables(path: Path, page: str) -> str:
    """Return a page with new tables of variables."""

    def table(place: re.Match[str]) -> str:
        return (
            f"<!-- variables: {place[1]}{place[2]} -->\n\n"
            f"{variables(path, place[1], place[2].split())}"
        )

    return VARIABLES.sub(table, page).rstrip("\n") + "\n"


def render(path: Path, page: str) -> str:
    """Return a page with its generated parts as they should be."""
    page = with_variables(path, page)
    return messages(page) if path == MESSAGES else page


def pages() -> list[Path]:
    """Return the pages that may have generated parts."""
    return sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")])


def main() -> int:
    """Write the pages, or check them."""
    wrong = False
    for path in pages():
        old = path.read_text(encoding="utf-8")
        new = render(path, old)
        if old == new:
            continue
        if "--check" in sys.argv[1:]:
            wrong = True
            print(f"{path} is out of date: run `make docs-tables`", file=sys.stderr)
        else:
            path.write_text(new, encoding="utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
