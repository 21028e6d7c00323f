# SPDX-License-Identifier: BSD-3-Clause
"""The results of a maintenance run: the final report, the mail and the metrics."""

from __future__ import annotations

import json
import smtplib
import socket
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from gridhub.maintenance import host, schedule
from gridhub.maintenance import report as reports
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings

#: How many logs to keep.
LOGS_KEPT = 24


def close(settings: Settings, report: Report, result: str) -> None:
    """Save the final report, write the metrics, and send the mail if the site wants it."""
    report.data["result"], report.data["ended"] = result, host.now().isoformat()
    report.log(f"The maintenance of {report.data['host']}: {result}.")
    try:
        for old in sorted(reports.LOGS.glob("*.log"))[:-LOGS_KEPT]:
            old.unlink()
        host.write(reports.STATE / report.LAST, json.dumps(report.data, indent=1), 0o600)
        (reports.STATE / report.UNFINISHED).unlink(missing_ok=True)
        write_metrics(settings)
    except (OSError, MaintenanceError) as error:
        report.log(f"FAILED: the report: {error}")
    if settings.mail_to and (settings.mail_always or result != "done"):
        try:
            mail(settings, report)
        except (OSError, smtplib.SMTPException) as error:
            report.log(f"FAILED: mail to {settings.mail_to}: {error}")


def report_text(report: Mapping[str, Any]) -> str:
    """Return a report's data as text for people."""
    lines = [
        f"Maintenance of {report['host']}: {report['result'] or report['phase']}",
        f"Started {report['started']}, ended {report.get('ended', 'not yet')}.",
        f"Log: {report['log']}",
    ]
    for step in report["steps"]:
        lines.append(f"{'ok' if step['ok'] else 'FAILED'}: {step['name']}")
        lines += [f"  {line}" for line in step["words"].splitlines()]
    return "\n".join(lines)


def mail(settings: Settings, report: Report) -> None:
    """Mail a report.

    :raises OSError, smtplib.SMTPException: when the server does not accept it.
    """
    message = EmailMessage()
    message["Subject"] = f"Maintenance of {report.data['host']}: {report.data['result']}"
    message["From"] = settings.mail_from or f"root@{socket.getfqdn()}"
    message["To"] = settings.mail_to
    message.set_content(report_text(report.data))
    server_name, _, port = settings.mail_server.partition(":")
    with smtplib.SMTP(server_name, int(port or 25), timeout=30) as server:
        server.send_message(message)


def metrics(report: Mapping[str, Any] | None, coming: datetime | None, missed: bool) -> str:
    """Return the metrics, in the format of node_exporter's textfile collector."""
    numbers: list[tuple[str, str, float]] = [
        (
            "gridhub_maintenance_next_timestamp_seconds",
            "When the next maintenance begins; 0: none is planned.",
            coming.timestamp() if coming else 0,
        ),
        (
            "gridhub_maintenance_missed",
            "Whether the last date passed without a maintenance.",
            missed,
        ),
    ]
    if report:
        ended = datetime.fromisoformat(report["ended"]).timestamp()
        failed = sum(not step["ok"] for step in report["steps"])
        numbers += [
            ("gridhub_maintenance_last_timestamp_seconds", "When the last one ended.", ended),
            (
                "gridhub_maintenance_last_success",
                "Whether all steps of the last one succeeded.",
                report["result"] == "done",
            ),
            ("gridhub_maintenance_last_failed_steps", "Failed steps of the last one.", failed),
        ]
    return "".join(
        f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {float(value):g}\n"
        if value < 1e6
        else f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value:.0f}\n"
        for name, meaning, value in numbers
    )


def write_metrics(settings: Settings) -> None:
    """Write the metrics if the site wants them."""
    if settings.metrics_file:
        report = Report.load(Report.LAST)
        lines = metrics(
            report.data if report else None,
            schedule.next_date(host.now())[0],
            settings.timer and schedule.missed_last(host.now()),
        )
        host.write(Path(settings.metrics_file), lines, 0o644)
