"""When maintenance is due, and when a date counts as missed."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gridhub.maintenance import host, publish, schedule, timer
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


@pytest.mark.parametrize(
    ("installed", "last", "why"),
    [
        (-60, None, ""),
        (5, None, "This is no time for it"),  # the timer was installed after the date
        (-60, 1, "There was one at"),
        (-60, -60 * 24 * 28, ""),
    ],
)
def test_a_date_counts_once_and_only_if_the_timer_was_installed_before_it(
    installed: int,
    last: int | None,
    why: str,
    report: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    unit = tmp_path / "timer"
    unit.touch()
    moment = (date + timedelta(minutes=installed)).timestamp()
    os.utime(unit, (moment, moment))
    monkeypatch.setattr(timer, "UNIT", unit)
    monkeypatch.setattr(timer, "expression", lambda: "")
    monkeypatch.setattr(timer, "dates", lambda *_: [date])
    monkeypatch.setattr(schedule, "next_date", lambda _: (date, ""))
    if last is not None:
        report.data["started"] = (date + timedelta(minutes=last)).isoformat()
        publish.close(Settings(), report, "done")
    assert schedule.why_not_now(date + timedelta(minutes=10)).startswith(why)
    assert bool(schedule.why_not_now(date + timedelta(minutes=10))) is bool(why)


def test_a_date_without_a_report_is_missed() -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    before, after = date - timedelta(days=30), date + timedelta(minutes=1)
    assert schedule.is_missed([date], before, None)
    assert schedule.is_missed([date], before, before)
    assert not schedule.is_missed([date], before, after)
    assert not schedule.is_missed([date], after, None)  # the timer was installed after the date
    assert not schedule.is_missed([], before, None)


def test_a_manual_maintenance_that_runs_at_the_date_counts_for_that_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = datetime.fromisoformat(report.data["started"])
    report.data["started"] = (date - timedelta(minutes=6)).isoformat()
    monkeypatch.setattr(timer, "expression", lambda: "")
    monkeypatch.setattr(timer, "dates", lambda *_: [date])
    monkeypatch.setattr(timer, "installed", lambda: date - timedelta(days=30))
    for ended, is_missed in ((9, False), (-1, True)):
        monkeypatch.setattr(host, "now", lambda end=ended: date + timedelta(minutes=end))
        publish.close(Settings(), report, "done")
        assert schedule.missed_last(date + timedelta(hours=2)) is is_missed
