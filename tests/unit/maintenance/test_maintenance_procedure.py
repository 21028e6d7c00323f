"""The steps of a maintenance: reboots, notices and failures."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gridhub.maintenance import host, mail, notice, packages, probes, procedure, schedule
from gridhub.maintenance import report as reports
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings
from gridhub.notices.next_maintenance import parse_maintenance


@pytest.mark.parametrize(
    ("reboot", "asked_for", "reboots"),
    [
        ("always", False, True),
        ("always", True, True),
        ("when_required", False, False),
        ("when_required", True, True),
    ],
)
def test_the_host_reboots_always_or_when_an_update_requires_it(
    report: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reboot: str,
    asked_for: bool,
    reboots: bool,
) -> None:
    required = tmp_path / "reboot-required"
    monkeypatch.setattr(packages, "REBOOT_REQUIRED", required)
    if asked_for:
        required.touch()
    commands: list[list[str]] = []
    monkeypatch.setattr(host, "run", commands.append)
    monkeypatch.setattr(procedure, "finish", lambda *_: 0)
    assert procedure.reboot(Settings(reboot=reboot), report, reboots=True) == 0
    assert (commands == [["systemctl", "reboot", "--no-block"]]) is reboots


def test_no_session_starts_before_the_reboot_even_if_the_updates_take_long(
    hub: Settings, session: probes.Session, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = report.data["started"].replace("03:26", "04:30")
    monkeypatch.setattr(host, "now", lambda: datetime.fromisoformat(later))

    def refuses() -> bool:
        with contextlib.suppress(FileNotFoundError):
            content = Path(hub.notice_file).read_text("utf-8")
            return bool(parse_maintenance(content).refusal(host.now()))
        return False

    notice.publish(hub, datetime.fromisoformat(report.data["started"]))
    assert not refuses()
    report.enter_phase("updating")
    procedure.announce(hub)
    assert refuses()

    # Before the reboot, the notice says that maintenance begins now, and the running sessions are
    # recorded.
    notice.publish(hub, datetime.fromisoformat(report.data["started"]))
    monkeypatch.setattr(probes, "running_sessions", lambda _: [session])
    settings = dataclasses.replace(hub, sessions=["ask"])
    assert procedure.reboot(settings, report, reboots=False) == 0
    assert refuses() and report.data["sessions"] == [session]


@pytest.mark.parametrize(
    ("phase", "minutes", "process", "is_over"),
    [
        ("updating", 0, "gone", True),
        ("updating", 0, "another", True),  # its PID was reused
        ("updating", 60, "there", False),
        ("updating", 181, "there", True),  # it hangs
        ("rebooting", 19, "gone", False),
        ("rebooting", 21, "gone", True),  # the reboot did not happen
        ("checking", 0, "gone", True),
    ],
)
def test_after_an_interrupted_maintenance_sessions_start_and_the_next_one_is_announced(
    phase: str,
    minutes: int,
    process: str,
    is_over: bool,
    hub: Settings,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = datetime.fromisoformat(report.data["started"])
    moment = began
    monkeypatch.setattr(host, "now", lambda: moment)
    coming = datetime(2027, 1, 12, 3, 26, tzinfo=UTC)
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (coming, ""))
    notice.publish(hub, began)
    if process == "another":
        report.data["process"] = 1
    elif process == "gone":
        child = subprocess.Popen(["true"])
        child.wait()
        report.data["process"] = child.pid
    report.enter_phase(phase)

    moment += timedelta(minutes=minutes)
    procedure.announce(hub)
    announced = parse_maintenance(Path(hub.notice_file).read_text("utf-8"))
    assert (announced.begins["date"] == "2027-01-12") is is_over
    assert bool(announced.refusal(moment)) is not is_over


def test_the_next_maintenance_is_announced_even_if_no_report_can_be_written(
    hub: Settings, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.enter_phase("updating")
    write = host.write

    def full(path: Path, text: str, mode: int) -> None:
        if path.parent == reports.STATE:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text, mode)

    monkeypatch.setattr(host, "write", full)
    coming = datetime(2027, 1, 12, 3, 26, tzinfo=UTC)
    monkeypatch.setattr(schedule, "next_date", lambda _moment: (coming, ""))
    assert procedure.end(hub, report, "failed") == 1
    assert json.loads(Path(hub.notice_file).read_text("utf-8"))["begins"]["date"] == "2027-01-12"


def test_a_full_disk_is_reported_by_mail_even_if_no_report_can_be_written(
    hub: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sent: list[str] = []
    monkeypatch.setattr(host, "write", full)
    monkeypatch.setattr(mail, "send", lambda _, report: sent.append(mail.report_text(report.data)))
    settings = dataclasses.replace(hub, mail_to="admins@example.org")
    assert procedure.maintain(settings, by_hand=True) == 1
    assert len(sent) == 1 and "No space left on device" in sent[0]
