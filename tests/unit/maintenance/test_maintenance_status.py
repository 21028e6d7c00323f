"""The status and the plan that the maintenance program prints."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from gridhub.maintenance import (
    checks,
    hold,
    host,
    packages,
    procedure,
    publish,
    schedule,
    status,
    timer,
)
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


def test_a_running_maintenance_is_shown_with_its_start_and_misses_no_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = datetime.fromisoformat(report.data["started"])
    monkeypatch.setattr(host, "now", lambda: date + timedelta(hours=2))
    monkeypatch.setattr(timer, "expression", lambda: "")
    monkeypatch.setattr(timer, "dates", lambda *_: [date])
    monkeypatch.setattr(timer, "installed", lambda: date - timedelta(days=30))
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (None, ""))
    missed = "the last date passed without a maintenance: the host was off, or asleep"
    assert status.status(Settings())["problems"] == [missed]

    def shown() -> tuple[str, list[str]]:
        found = status.status(Settings())
        return found["running"], found["problems"]

    report.enter_phase("updating")
    assert shown() == (report.data["started"], []) and not schedule.missed_last(host.now())
    # During the reboot, the maintenance program does not run.
    report.data |= {"boot": "the last one", "process": -1}
    report.enter_phase("rebooting")
    assert shown() == (report.data["started"], [])

    # After the boot, another process runs the checks.
    seen = []
    monkeypatch.setattr(checks, "check_services", lambda *_: seen.append(shown()))
    monkeypatch.setattr(publish, "close", lambda *_: None)
    procedure.finish(Settings(), report)
    assert seen == [(report.data["started"], [])]

    # Maintenance no longer counts as running if it was killed or if its reboot does not happen.
    report.data["process"] = -1
    report.enter_phase("checking")
    assert shown() == ("", [missed, "a maintenance is not finished: checking"])
    report.enter_phase("rebooting")
    monkeypatch.setattr(host, "now", lambda: date + timedelta(hours=2, minutes=31))
    assert shown() == ("", [missed, "a maintenance is not finished: rebooting"])


def test_a_host_maintained_only_by_playbook_misses_no_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (None, "the timer is not active"))
    monkeypatch.setattr(schedule, "missed_last", lambda _moment: True)
    publish.close(Settings(), report, "done")
    assert status.status(Settings(timer=False))["problems"] == []
    problems = status.status(Settings())["problems"]
    assert problems[0] == "the timer is not active" and "without a maintenance" in problems[1]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (
            "2026-12-08 03:26:00,000 INFO Packages that will be upgraded: a b",
            "  Packages that will",
        ),
        ("Lock could not be acquired", "  not known: unattended-upgrade --dry-run does not say"),
    ],
)
def test_a_plan_shows_a_hold_and_what_is_not_known(
    hub: Settings,
    output: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = "held until 2126-01-31 18:00 UTC: exams"
    hold.FILE.write_text("reason: exams\nuntil: 2126-01-31 18:00+00:00\n")
    monkeypatch.setattr(timer, "dates", lambda *_: [])
    for name in ("lock_holder", "problem"):
        monkeypatch.setattr(packages, name, lambda: "")
    monkeypatch.setattr(host, "check_disk", lambda *_: None)
    monkeypatch.setattr(host, "run", lambda *_, **_kw: output)
    assert status.plan(hub) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "A maintenance now would do nothing, even by hand: " + held in lines
    assert any(line.startswith(shown) for line in lines)


def test_a_plan_lists_no_dates_if_the_timer_is_off(
    hub: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lock_holder", "problem"):
        monkeypatch.setattr(packages, name, lambda: "")
    monkeypatch.setattr(host, "check_disk", lambda *_: None)
    monkeypatch.setattr(host, "run", lambda *_, **_kw: "")
    monkeypatch.setattr(timer, "dates", lambda *_: [datetime(2026, 12, 8, tzinfo=UTC)])
    assert status.plan(dataclasses.replace(hub, timer=False)) == 0
    shown = capsys.readouterr().out
    assert "2026" not in shown and shown.startswith("No timer: it is maintained by playbook only.")


def test_the_status_shows_the_phase(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (None, ""))
    monkeypatch.setattr(schedule, "missed_last", lambda _moment: False)
    phases = []
    monkeypatch.setattr(
        checks,
        "check_services",
        lambda *_: phases.append(status.status(Settings())["phase"]),
    )
    report.enter_phase("updating")
    assert status.status(Settings())["phase"] == "updating"
    assert status.status(Settings())["held"] == ""
    assert procedure.finish(Settings(), report) == 0
    assert phases == ["checking"] and status.status(Settings())["phase"] == ""
