"""Write the tables of docs/faults.md and docs/security.md: ``fault_table.py [--check]``.

Each test in tests/faults and in tests/database/test_lost_database.py has a marker with a fault and
its outcome, such as ``@pytest.mark.fault("hub killed", outcome="Sessions live.")``. Tests in
tests/security and tests/variants have the marker ``pytest.mark.attack``. This program reads the
markers from the source, so it needs no cluster. With ``--check``, the program writes nothing; its
exit status shows whether the tables are up to date.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The pages that contain a table; for each page, the tests that its table lists: folders and files.
TABLES = {
    ROOT / "docs/faults.md": (ROOT / "tests/faults", ROOT / "tests/database/test_lost_database.py"),
    ROOT / "docs/security.md": (ROOT / "tests/security", ROOT / "tests/variants"),
}
BEGIN = "<!-- `make fault-table` writes what follows, from the markers in %s. -->\n"
MARKERS = ("pytest.mark.fault", "pytest.mark.attack")


class MarkerError(Exception):
    """A marker cannot be read from the source, or a test has no marker."""


def read_marker(call: ast.Call) -> tuple[str, str]:
    """Return the name and the outcome of one marker.

    :raises MarkerError: if the name or the outcome is not a plain string.
    """
    try:
        (name,) = (ast.literal_eval(argument) for argument in call.args)
        outcome = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return str(name), str(outcome["outcome"])
    except (ValueError, KeyError) as error:
        raise MarkerError(
            f"line {call.lineno}: a fault's name and outcome must be plain strings"
        ) from error


def markers(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the markers of a test and of its parameters, in the order of the source."""
    calls = [
        call
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in MARKERS
    ]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        yield read_marker(call)


def section(path: Path) -> str:
    """Return a test file's part of the table; the file's docstring is the heading.

    :raises MarkerError: if a test has no marker.
    """
    module = ast.parse(path.read_text(encoding="utf-8"))
    rows: list[tuple[str, str]] = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found = list(markers(node))
            if not found:
                raise MarkerError(f"{path.name}: {node.name} has no {' or '.join(MARKERS)}")
            rows += found
    heading = (ast.get_docstring(module) or path.name).splitlines()[0].rstrip(".")
    table = "".join(f"| {name} | {outcome} |\n" for name, outcome in rows)
    return f"\n## {heading}\n\n| what happens | what comes of it |\n|---|---|\n{table}"


def render(page: str, folders: tuple[Path, ...]) -> str:
    """Return the page with a new table; keep everything before the table.

    :raises MarkerError: if the page has no place for the table.
    """
    line = BEGIN % " and ".join(str(folder.relative_to(ROOT)) for folder in folders)
    head, begin, _ = page.partition(line)
    if not begin:
        raise MarkerError(f"the page must have the line {line.strip()}")
    paths = [path for each in folders for path in (sorted(each.glob("test_*.py")) or [each])]
    return head + begin + "".join(map(section, paths))


def main() -> int:
    """Write the pages, or check them."""
    wrong = False
    for path, folders in TABLES.items():
        old = path.read_text(encoding="utf-8")
        new = render(old, folders)
        if "--check" not in sys.argv[1:]:
            path.write_text(new, encoding="utf-8")
        elif old != new:
            wrong = True
            print(f"{path} is out of date: run `make fault-table`", file=sys.stderr)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
