"""Mail and metrics."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gridhub.maintenance import mail, metrics, publish
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


def test_a_report_of_a_failure_is_sent_and_one_of_success_is_not(
    report: Report,
) -> None:
    received: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def take_one() -> None:
        link, _ = server.accept()
        with link, link.makefile("rw", encoding="utf-8", newline="\r\n") as talk:

            def answer(words: str) -> None:
                talk.write(f"{words}\n")
                talk.flush()

            answer("220 here")
            body = False
            for line in talk:
                received.append(line.strip())
                if body and line.strip() == ".":
                    body = False
                    answer("250 taken")
                elif not body:
                    command = line.strip().lower()
                    body = command == "data"
                    answer({"data": "354 go on", "quit": "221 bye"}.get(command, "250 ok"))

    settings = Settings(
        mail_to="admins@example.org",
        mail_from="hub@example.org",
        mail_server=f"127.0.0.1:{server.getsockname()[1]}",
    )
    with server:
        # By default, a report of success is not sent. An attempt to send it would be logged
        # as a failure, because no mail server answers yet.
        publish.close(settings, report, "done")
        with report.step("the hub answers"):
            raise MaintenanceError("it does not")
        taker = threading.Thread(target=take_one)
        taker.start()
        publish.close(settings, report, "failed in part")
        taker.join(10)
    assert "To: admins@example.org" in received
    assert any(line.startswith("Subject: Maintenance of") for line in received)
    assert "FAILED: the hub answers" in received and "it does not" in received
    log = Path(report.data["log"]).read_text()
    assert "mail to" not in log
    # The mail server no longer answers. The log shows the failure, but nothing else fails.
    publish.close(settings, report, "failed in part")
    assert "FAILED: mail to admins@example.org" in Path(report.data["log"]).read_text()


@pytest.mark.parametrize(
    ("always", "result", "sent"),
    [(False, "done", 0), (True, "done", 1), (False, "held", 1), (True, "failed", 1)],
)
def test_a_report_of_success_is_sent_if_the_site_wants_it(
    always: bool, result: str, sent: int, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails: list[Report] = []
    monkeypatch.setattr(mail, "send", lambda _settings, mailed: mails.append(mailed))
    publish.close(Settings(mail_to="admins@example.org", mail_always=always), report, result)
    assert mails == [report] * sent


def test_the_metrics_have_the_end_of_each_certificate(tmp_path: Path) -> None:
    path = tmp_path / "site.crt"
    argv = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 9"
    )
    subprocess.run(
        [*argv.split(), "-keyout", tmp_path / "key", "-out", path], check=True, capture_output=True
    )
    text = metrics.certificates_text({"edge": str(path), "inside": str(tmp_path / "none")})
    [line] = [line for line in text.splitlines() if not line.startswith("#")]
    name, end = line.split()
    assert name == 'gridhub_certificate_expiry_timestamp_seconds{certificate="edge"}'
    assert abs(float(end) - time.time() - 9 * 86_400) < 60


def test_the_metrics_have_the_time_of_the_newest_backup(hub: Settings, tmp_path: Path) -> None:
    path, backups = tmp_path / "metrics" / "maintenance.prom", tmp_path / "backups"
    settings = replace(hub, timer=False, metrics_file=str(path), backup_folder=str(backups))
    metrics.write(settings)
    # Without the timer, the age of a backup is no problem.
    assert "gridhub_backup" not in path.read_text()
    settings = replace(settings, daily_backup=True)
    name = "gridhub_backup_last_success_timestamp_seconds"
    metrics.write(settings)
    assert f"\n{name} 0\n" in path.read_text()
    backups.mkdir()
    for each in ("2026-12-07T021700.tar", "2026-12-08T021700.tar.age", "2027-01-01T000000.txt"):
        (backups / each).touch()
    # This one is not finished.
    (backups / ".unfinished").mkdir()
    metrics.write(settings)
    assert f"\n{name} {datetime(2026, 12, 8, 2, 17, tzinfo=UTC).timestamp():.0f}\n" in (
        path.read_text()
    )


def test_the_result_of_a_smoke_test_that_the_site_has_given_up_is_removed(
    hub: Settings, tmp_path: Path
) -> None:
    result = tmp_path / "gridhub_smoke.prom"
    result.touch()
    path = str(tmp_path / "maintenance.prom")
    settings = replace(hub, timer=False, metrics_file=path, canary_user="canary")
    metrics.write(settings)
    assert result.exists()
    metrics.write(replace(settings, canary_user=""))
    assert not result.exists()


def test_the_metrics_have_the_format_of_node_exporter() -> None:
    report = {
        "ended": "2026-12-08T03:40:00+00:00",
        "result": "failed",
        "steps": [{"ok": True}, {"ok": False}],
    }
    text = metrics.metrics_text(report, datetime(2027, 1, 12, 3, 26, tzinfo=UTC), False)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        "gridhub_maintenance_next_timestamp_seconds 1799724360",
        "gridhub_maintenance_missed 0",
        "gridhub_maintenance_last_timestamp_seconds 1796701200",
        "gridhub_maintenance_last_success 0",
        "gridhub_maintenance_last_failed_steps 1",
    ]
    assert "gridhub_maintenance_next_timestamp_seconds 0" in metrics.metrics_text(None, None, True)
