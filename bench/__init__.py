"""Measure GridHub against its alternatives, in the same run on the demo: ``make bench``."""

import sys
from pathlib import Path

#: The folder of the project.
ROOT = Path(__file__).resolve().parents[1]
# The measurements use the same clients and faults as the tests.
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("cluster", "faults", "security", "browser")]
