# SPDX-License-Identifier: BSD-3-Clause
"""The metrics of the maintenance, for Prometheus' node_exporter."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridhub.maintenance import archive, expiry, host, schedule, smoke_steps
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


def metrics_text(report: Mapping[str, Any] | None, coming: datetime | None, missed: bool) -> str:
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


def certificates_text(certificates: Mapping[str, str]) -> str:
    """Return the metrics of the certificates; one that cannot be read has none.

    :param certificates: the path of each certificate, keyed by its name in the metrics.
    """
    name = "gridhub_certificate_expiry_timestamp_seconds"
    lines = [f"# HELP {name} When a certificate expires.\n# TYPE {name} gauge\n"]
    for each, path in certificates.items():
        with contextlib.suppress(OSError, ValueError, MaintenanceError):
            end = expiry.not_after(expiry.read(Path(path))).timestamp()
            lines.append(f'{name}{{certificate="{each}"}} {end:.0f}\n')
    return "".join(lines)


def backup_text(folder: str) -> str:
    """Return the metric of the backups in a folder; 0 means that there is none yet.

    A backup gets its name only when it has been read back, so the newest is the last good one.
    """
    name = "gridhub_backup_last_success_timestamp_seconds"
    made = [archive.made_at(each.name) for each in archive.all_in(Path(folder))]
    last = made[-1].replace(tzinfo=UTC).timestamp() if made and made[-1] else 0
    return (
        f"# HELP {name} When the last good backup began; 0: there is none.\n"
        f"# TYPE {name} gauge\n{name} {last:.0f}\n"
    )


def write(settings: Settings) -> None:
    """Write the metrics if the site wants them."""
    if settings.metrics_file:
        if not settings.canary_user:
            # The site no longer has a smoke test, whose last result would grow old.
            smoke_steps.metrics_path(settings).unlink(missing_ok=True)
        report = Report.load(Report.LAST)
        lines = metrics_text(
            report.data if report else None,
            schedule.next_date(host.now())[0],
            settings.timer and schedule.missed_last(host.now()),
        )
        if settings.watched_certificates:
            lines += certificates_text(settings.watched_certificates)
        # Without the timer, the age of a backup says nothing.
        if settings.daily_backup:
            lines += backup_text(settings.backup_folder)
        host.write(Path(settings.metrics_file), lines, 0o644)
