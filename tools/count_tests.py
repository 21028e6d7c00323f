"""Fail unless the tests of each file in a folder ran and passed: ``count_tests.py FILE FOLDER …``.

FILE is the report that ``pytest --junitxml`` wrote about FOLDER. This check is needed because
Molecule's verifier succeeds even if it finds no test. The verifier prints failed tests far above
its last lines, so this program lists them again. If no test has run, this program reads the
scenario's output (FILE with the suffix .log) and shows the tasks that failed before the tests.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

#: Show at most this many characters of a failed test's message.
SHOWN = 1_500
#: Show at most this many tasks that failed before the tests, and this many lines of each task.
SHOWN_TASKS, SHOWN_LINES = 5, 20

#: Molecule's decoration of Ansible's output: colours, followed by a border.
DECORATION = re.compile(r"\x1b\[[\d;]*m|^\s*│ ?")


def failed_tasks(log: Path) -> str:
    """Return Ansible's output for the tasks that failed, or its last lines if no task failed."""
    if not log.exists():
        return ""
    lines = [
        DECORATION.sub("", DECORATION.sub("", line))
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    starts = [number for number, line in enumerate(lines) if line.startswith("[ERROR]:")]
    starts = starts[:SHOWN_TASKS] or [max(len(lines) - SHOWN_LINES, 0)]
    return "".join(f"  {line}\n" for start in starts for line in lines[start : start + SHOWN_LINES])


def not_run(folder: Path, cases: Iterable[ElementTree.Element]) -> list[str]:
    """Return a folder's test files from which no test has run."""
    # A classname is a module such as tests.security.test_edge, followed by the class, if any.
    ran = {part for case in cases for part in case.get("classname", "").split(".")}
    return sorted(path.name for path in folder.rglob("test_*.py") if path.stem not in ran)


def is_good(path: Path, folder: Path) -> bool:
    """Print the failed tests and the counts; return whether every file's tests ran and passed."""
    if not path.exists():
        before = failed_tasks(path.with_suffix(".log"))
        print(f"{path}: no test has run\n{before}", end="", file=sys.stderr)
        return False
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))  # noqa: S314  # nosec B314  # our own file
    cases = [case for suite in suites for case in suite.iter("testcase")]
    for case in cases:
        for trouble in (*case.iter("failure"), *case.iter("error")):
            message = trouble.get("message", "")[:SHOWN]
            print(f"FAILED {case.get('classname')}::{case.get('name')}\n  {message}")
    ran, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    print(f"{path.stem}: {ran - failed - skipped} passed, {failed} failed, {skipped} skipped")
    missing = not_run(folder, cases)
    if missing:
        print(f"{path}: no test ran from {folder}: {', '.join(missing)}", file=sys.stderr)
    return bool(cases) and not failed and not missing


def main() -> int:
    """Check every file; return the exit status."""
    files, folders = sys.argv[1::2], sys.argv[2::2]
    good = [is_good(Path(file), Path(of)) for file, of in zip(files, folders, strict=True)]
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
