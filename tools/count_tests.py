"""``count_tests.py FILE LEAST``: fail unless at least LEAST tests ran and all of them passed.

FILE is what ``pytest --junitxml`` wrote. Molecule's verifier is content when it finds no test.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def main() -> int:
    """Count, print the closing line, and tell."""
    path, least = Path(sys.argv[1]), int(sys.argv[2])
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))  # noqa: S314  # our own file
    ran, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    print(f"{ran - failed - skipped} passed, {failed} failed, {skipped} skipped")
    if ran < least or failed:
        print(f"{path}: expected at least {least} tests and no failure", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
