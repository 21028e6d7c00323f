# SPDX-License-Identifier: BSD-3-Clause
"""Finish a maintenance run: save and mail the report, and update the metrics."""

from __future__ import annotations

import json
import smtplib

from gridhub.maintenance import host, mail, metrics
from gridhub.maintenance import report as reports
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings

LOGS_KEPT = 24


def close(settings: Settings, report: Report, result: str) -> None:
    """Save the final report, write the metrics, and mail the report if the site wants mail."""
    report.data["result"], report.data["ended"] = result, host.now().isoformat()
    report.log(f"The maintenance of {report.data['host']}: {result}.")
    try:
        for old in sorted(reports.LOGS.glob("*.log"))[:-LOGS_KEPT]:
            old.unlink()
        host.write(reports.STATE / report.LAST, json.dumps(report.data, indent=1), 0o600)
        (reports.STATE / report.UNFINISHED).unlink(missing_ok=True)
        metrics.write(settings)
    except (OSError, MaintenanceError) as error:
        report.log(f"FAILED: the report: {error}")
    if settings.mail_to and (settings.mail_always or result != "done"):
        try:
            mail.send(settings, report)
        except (OSError, smtplib.SMTPException) as error:
            report.log(f"FAILED: mail to {settings.mail_to}: {error}")
