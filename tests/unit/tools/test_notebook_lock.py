"""A site's own notebook packages: the list, the lock file, and the mistakes in them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from folders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from notebook_lock import OWN_LOCK, LockError, check, lock, main, own_names, pins, stamp

OWN = OWN_LOCK.read_text(encoding="utf-8")
MORE = "bqplot==0.13.1 \\\n    --hash=sha256:00\n"
#: A stand-in for uv, which writes the lock file it is asked for: our own packages and the site's.
UV = """#!/bin/sh
while [ "$1" != --output-file ]; do shift; done
cp {own} "$2"
printf 'bqplot==0.13.1 \\\\\\n    --hash=sha256:00\\n' >> "$2"
"""
NO_SUCH = """#!/bin/sh
echo "Because bqplott was not found in the package registry, it is unsatisfiable." >&2
echo "hint: Consider limiting your project's supported Python versions" >&2
exit 1
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "notebook.in").write_text("# plots\nbqplot  # the newest\n", encoding="utf-8")
    return tmp_path


def uv(site: Path, script: str = UV) -> str:
    program = site / "uv"
    program.write_text(script.replace("{own}", str(OWN_LOCK)), encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def test_a_list_is_locked_and_the_lock_file_is_accepted(site: Path) -> None:
    path = lock(site, uv(site))
    check(path)
    assert pins(path.read_text(encoding="utf-8")) == pins(OWN) | {"bqplot": {"0.13.1"}}


def test_our_own_lock_file_is_accepted_and_has_what_we_name() -> None:
    check(OWN_LOCK)
    assert {"jupyterhub", "jupyterlab", "jupyterlab-widgets", "ipykernel"} <= own_names()
    assert "jupyterlab-server-timer" not in pins(OWN)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bqplot @ file:///x", "line 1: 'bqplot @ file:///x' is not a package of the index"),
        ("git+https://x/y", "'git+https://x/y' is not a package"),
        ("-r other.txt", "'-r other.txt' is not a package"),
        ("--index-url=https://x", "set UV_DEFAULT_INDEX"),
    ],
)
def test_a_line_that_is_no_package_is_named(site: Path, line: str, words: str) -> None:
    (site / "notebook.in").write_text(line, encoding="utf-8")
    with pytest.raises(LockError, match="notebook.in, line 1") as error:
        lock(site, uv(site))
    assert words in str(error.value)


def test_a_package_that_cannot_be_resolved_is_named_and_the_old_lock_file_stays(
    site: Path,
) -> None:
    before = lock(site, uv(site)).read_text(encoding="utf-8")
    with pytest.raises(LockError) as error:
        lock(site, uv(site, NO_SUCH))
    words = str(error.value)
    assert "bqplott was not found" in words and "Correct the name or the version in" in words
    assert "hint:" not in words
    assert (site / "notebook.txt").read_text(encoding="utf-8") == before


def test_a_folder_or_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"INVENTORY is '.*nowhere'"):
        lock(tmp_path / "nowhere", "uv")
    with pytest.raises(LockError, match=r"There is no .*notebook\.in: write the names"):
        lock(tmp_path, "uv")
    with pytest.raises(LockError, match=r"No such file.*make lock INVENTORY="):
        check(tmp_path / "notebook.txt")


def test_a_lock_file_is_out_of_date_after_a_change_of_the_list_or_of_gridhub(site: Path) -> None:
    path = lock(site, uv(site))
    made = path.read_text(encoding="utf-8")
    (site / "notebook.in").write_text("bqplot\nipympl\n", encoding="utf-8")
    with pytest.raises(LockError, match=r"out of date: .*notebook\.in has changed.*make lock"):
        check(path)
    line = stamp(site / "notebook.in")
    older = f"{line[:-17]}{16 * '0'}."
    path.write_text(made.replace(made.splitlines()[0], older), encoding="utf-8")
    with pytest.raises(LockError, match=r"out of date: GridHub's own roles/sge_exec"):
        check(path)


@pytest.mark.parametrize("name", ["jupyterhub", "jupyterlab-widgets"])
def test_a_lock_file_without_one_of_our_packages_or_in_another_version_is_refused(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "own.txt"
    path.write_text(MORE + OWN.replace(f"\n{name}==", "\nsomething-else=="), encoding="utf-8")
    with pytest.raises(LockError, match=f"lacks {name}, without which sessions do not work"):
        check(path)
    path.write_text(OWN.replace(f"\n{name}==", f"\n{name}==0."), encoding="utf-8")
    with pytest.raises(LockError, match=rf"has {name} 0\..*; GridHub is tested with"):
        check(path)


def test_a_package_without_a_hash_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text(f"{OWN}bqplot==0.13.1\n", encoding="utf-8")
    with pytest.raises(LockError, match=r"bqplot==0\.13\.1 has no hash"):
        check(path)


def test_the_program_reports_mistakes_with_its_exit_status(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lock", str(site), uv(site)]) == 0
    assert (
        'Set sge_exec_requirements: "{{ inventory_dir }}/notebook.txt"' in capsys.readouterr().out
    )
    assert main(["check", str(site / "nothing.txt")]) == 1
    assert "nothing.txt" in capsys.readouterr().err
    assert main(["check"]) == 2
