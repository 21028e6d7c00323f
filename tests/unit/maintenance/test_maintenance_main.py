"""The commands of the maintenance program, which runs with the host's own Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import sge_maintenance
from gridhub.maintenance import host, settings
from gridhub.maintenance import report as reports
from gridhub.maintenance.main import main
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


@pytest.mark.parametrize(
    ("act", "code"), [("run", 0), ("after", 0), ("now", 1), ("update", 1)], ids=str
)
def test_a_second_start_fails_by_hand_but_not_by_the_timer(
    act: str, code: int, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "read_settings", Settings)
    with host.lock(reports.STATE) as first:
        assert first
        assert main([act]) == code


def test_the_program_needs_only_python(tmp_path: Path) -> None:
    done = subprocess.run(
        # With -S, Python finds no packages that are installed on the host.
        ["/usr/bin/python3", "-sES", sge_maintenance.__file__, "check", "/dev/null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "/dev/null: " in done.stderr
    assert "Traceback" not in done.stderr
