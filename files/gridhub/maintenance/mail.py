# SPDX-License-Identifier: BSD-3-Clause
"""The mail that reports the result of a maintenance."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any

from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


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


def send(settings: Settings, report: Report) -> None:
    """Mail a report.

    :raises OSError, smtplib.SMTPException: when the server does not accept the mail.
    """
    message = EmailMessage()
    message["Subject"] = f"Maintenance of {report.data['host']}: {report.data['result']}"
    message["From"] = settings.mail_from or f"root@{socket.getfqdn()}"
    message["To"] = settings.mail_to
    message.set_content(report_text(report.data))
    server_name, _, port = settings.mail_server.partition(":")
    with smtplib.SMTP(server_name, int(port or 25), timeout=30) as server:
        server.send_message(message)
