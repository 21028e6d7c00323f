"""The tables in docs/faults.md and docs/security.md agree with the tests' markers."""

from __future__ import annotations

from pathlib import Path

import fault_table
import pytest


@pytest.mark.parametrize("path", fault_table.TABLES, ids=lambda path: path.name)
def test_the_table_is_up_to_date(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == fault_table.render(page, fault_table.TABLES[path]), "run `make fault-table`"


def test_variants_have_their_own_lines(tmp_path: Path) -> None:
    test = tmp_path / "test_x.py"
    test.write_text(
        '"""Heading."""\n'
        '@pytest.mark.parametrize("x", [\n'
        '    pytest.param(1, marks=pytest.mark.fault("one", outcome="Nothing.")),\n'
        '    pytest.param(2, marks=pytest.mark.fault("two", outcome="A "\n'
        '        "word.")),\n'
        "])\n"
        "def test_a(x): ...\n"
    )
    assert fault_table.section(test).endswith("| one | Nothing. |\n| two | A word. |\n")


@pytest.mark.parametrize(
    "text",
    [
        "def test_a(): ...\n",
        '@pytest.mark.fault(f"{x}", outcome="y")\ndef test_a(): ...\n',
        '@pytest.mark.fault("x")\ndef test_a(): ...\n',
    ],
)
def test_a_test_that_does_not_name_its_fault_is_an_error(tmp_path: Path, text: str) -> None:
    test = tmp_path / "test_x.py"
    test.write_text(text)
    with pytest.raises(fault_table.MarkerError):
        fault_table.section(test)
