"""The summary of a test run names failed tests, and files in which no test ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from folders import ROOT

TOOL = ROOT / "tools/count_tests.py"

PASSED = '<testcase classname="tests.test_a" name="test_one"/>'
FAILED = (
    '<testcase classname="tests.test_a" name="test_two">'
    '<failure message="AssertionError: not within 60 s">long</failure></testcase>'
)


def count(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A folder with one test file."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_a.py").touch()
    (folder / "helper.py").touch()
    return folder


def results(folder: Path, cases: str, ran: int, failed: int) -> Path:
    path = folder / "results.xml"
    suite = f'<testsuite tests="{ran}" failures="{failed}" errors="0" skipped="0">{cases}'
    path.write_text(f"<testsuites>{suite}</testsuite></testsuites>", encoding="utf-8")
    return path


def test_passed_tests_are_a_success(tmp_path: Path, tests: Path) -> None:
    done = count(results(tmp_path, PASSED, 1, 0), tests)
    assert (done.returncode, done.stdout) == (0, "results: 1 passed, 0 failed, 0 skipped\n")


def test_a_failed_test_is_named_with_its_message(tmp_path: Path, tests: Path) -> None:
    done = count(results(tmp_path, PASSED + FAILED, 2, 1), tests)
    assert done.returncode == 1
    assert "FAILED tests.test_a::test_two\n  AssertionError: not within 60 s\n" in done.stdout
    assert "1 passed, 1 failed, 0 skipped" in done.stdout


def test_a_test_file_without_a_test_that_ran_is_a_failure(tmp_path: Path, tests: Path) -> None:
    (tests / "more").mkdir()
    (tests / "more/test_b.py").touch()
    done = count(results(tmp_path, PASSED, 1, 0), tests)
    assert done.returncode == 1
    assert done.stderr.endswith(f"no test ran from {tests}: test_b.py\n")


def test_a_test_in_a_class_counts_for_its_file(tmp_path: Path, tests: Path) -> None:
    in_class = PASSED.replace("tests.test_a", "tests.test_a.TestIt")
    assert count(results(tmp_path, in_class, 1, 0), tests).returncode == 0


def test_missing_results_are_a_failure_with_a_message(tmp_path: Path, tests: Path) -> None:
    done = count(tmp_path / "none.xml", tests)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'none.xml'}: no test has run\n")


def test_a_failure_before_the_tests_is_shown_without_molecules_decoration(
    tmp_path: Path, tests: Path
) -> None:
    lines = [
        "  \x1b[2m│\x1b[0m TASK [Wait until systemd is up]",
        "  \x1b[2m\x1b[31m│\x1b[0m \x1b[0;31m[ERROR]: Task failed: non-zero return code\x1b[0m",
        "  \x1b[2m\x1b[31m│\x1b[0m \x1b[0;31mfatal: [qmaster]: FAILED! =>\x1b[0m",
        *(f"  \x1b[2m│\x1b[0m later {number}" for number in range(100)),
    ]
    (tmp_path / "none.log").write_text("\n".join(lines), encoding="utf-8")
    shown = count(tmp_path / "none.xml", tests).stderr.splitlines()
    assert shown[1:3] == [
        "  [ERROR]: Task failed: non-zero return code",
        "  fatal: [qmaster]: FAILED! =>",
    ]
    assert "  later 99" not in shown


def test_the_last_lines_are_shown_if_no_task_failed(tmp_path: Path, tests: Path) -> None:
    lines = [f"line {number}" for number in range(100)]
    (tmp_path / "none.log").write_text("\n".join(lines), encoding="utf-8")
    shown = count(tmp_path / "none.xml", tests).stderr.splitlines()
    assert (shown[1], shown[-1]) == ("  line 80", "  line 99")


def test_one_bad_scenario_of_several_is_a_failure(tmp_path: Path, tests: Path) -> None:
    (tmp_path / "good").mkdir()
    good = results(tmp_path / "good", PASSED, 1, 0)
    bad = results(tmp_path, FAILED, 1, 1)
    for files in ((good, tests, bad, tests), (bad, tests, good, tests)):
        done = count(*files)
        assert done.returncode == 1
        assert "results: 1 passed" in done.stdout
        assert "FAILED tests.test_a::test_two" in done.stdout


def test_a_call_without_files_is_a_failure() -> None:
    assert count().returncode == 1
