"""Fixtures for the maintenance tests: a report, a hub's settings and a session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gridhub.maintenance import hold, probes, schedule, timer
from gridhub.maintenance import report as reports
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Report]:
    monkeypatch.setattr(reports, "STATE", tmp_path / "state")
    monkeypatch.setattr(reports, "LOGS", tmp_path / "log")
    yield Report(datetime(2026, 12, 8, 3, 26, tzinfo=UTC), by_hand=False)


@pytest.fixture
def hub(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a hub whose notice is in a temporary folder."""
    monkeypatch.setattr(hold, "FILE", tmp_path / "hold")
    monkeypatch.setattr(timer, "expression", lambda: "Tue *-*-08..14 03:26:00 UTC")
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (None, ""))
    (tmp_path / "state").mkdir()
    return Settings(notice_file=str(tmp_path / "notice.json"))


@pytest.fixture
def session() -> probes.Session:
    """A session, as ``files/sge_sessions.py`` prints it."""
    return {
        "user": "alice",
        "label": "alice",
        "name": "",
        "job": "42",
        "scheme": "https",
        "host": "exec1",
        "port": 40001,
        "path": "/user/alice/",
    }
