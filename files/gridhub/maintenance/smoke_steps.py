# SPDX-License-Identifier: BSD-3-Clause
"""The steps of the smoke test, in words and as metrics."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Any

from gridhub.maintenance import host
from gridhub.maintenance.settings import Settings

#: The steps by name: what each shows, and what to look at if it fails.
STEPS = {
    "prepare": (
        "the smoke test can begin",
        "the message; roles/maintenance/README.md, 'The canary'",
    ),
    "login_page": (
        "the login page answers through the proxy",
        "on the proxy's host: systemctl status nginx jupyterhub-proxy; on the hub's host: "
        "systemctl status jupyterhub; journalctl -u jupyterhub",
    ),
    "login": (
        "the canary can log in",
        "on the hub's host: id {user}; journalctl -u jupyterhub | grep {user}; "
        "/etc/gridhub/canary-password; jupyterhub_allowed_groups",
    ),
    "leftover": (
        "no session of an earlier smoke test is left",
        "qstat -u {user}; journalctl -u jupyterhub | grep {user}",
    ),
    "start": (
        "the smallest session of the menu starts",
        "qstat -u {user}; qstat -j NUMBER; on the hub's host: journalctl -u jupyterhub; journalctl "
        "-t jupyterhub-broker; the session's log in ~{user}/.jupyterhub-sessions",
    ),
    "open": (
        "the session can be opened through the proxy",
        "on the proxy's host: journalctl -u jupyterhub-proxy -u nginx; whether the proxy's host "
        "reaches the worker at the session's port (jupyterhub_session_ports)",
    ),
    "kernel": (
        "a kernel starts",
        "the session's log in ~{user}/.jupyterhub-sessions; the notebook environment on the worker "
        "(/opt/jupyterhub-session/current)",
    ),
    "cell": (
        "a cell runs through the kernel's websocket",
        "on the proxy's host: journalctl -u nginx -u jupyterhub-proxy; a firewall or load balancer "
        "that lets no websockets through",
    ),
    "stop": (
        "the session stops",
        "qstat -u {user}; on the hub's host: journalctl -u jupyterhub; journalctl -t "
        "jupyterhub-broker",
    ),
    "clean": (
        "nothing is left: no job, no file, no token",
        "qstat -u {user}; the page Tokens of {user}; ~{user}",
    ),
}


def metrics_text(result: dict[str, Any], *, has_timer: bool) -> str:
    """Return the metrics of a smoke test, in the format of node_exporter's textfile collector.

    :param has_timer: whether a timer repeats the smoke test. If not, its age says nothing, so the
        time of the last success is left out.
    """
    succeeded = result["last_success"] if has_timer else ""
    ended = datetime.fromisoformat(result["ended"]).timestamp()
    lines = [
        "# HELP gridhub_smoke_success Whether all steps of the last smoke test succeeded.",
        "# TYPE gridhub_smoke_success gauge",
        f"gridhub_smoke_success {int(result['ok'])}",
        "# HELP gridhub_smoke_last_timestamp_seconds When the last smoke test ended.",
        "# TYPE gridhub_smoke_last_timestamp_seconds gauge",
        f"gridhub_smoke_last_timestamp_seconds {ended:.0f}",
        "# HELP gridhub_smoke_step_failed Whether the last smoke test failed at this step.",
        "# TYPE gridhub_smoke_step_failed gauge",
        *(
            f'gridhub_smoke_step_failed{{step="{name}"}} {int(result["failed"] == name)}'
            for name in STEPS
        ),
        "# HELP gridhub_smoke_step_seconds How long the steps of the last smoke test took.",
        "# TYPE gridhub_smoke_step_seconds gauge",
        *(
            f'gridhub_smoke_step_seconds{{step="{name}"}} {result["seconds"][name]:g}'
            for name in STEPS
            if name in result["seconds"]
        ),
    ]
    if succeeded:
        lines += [
            "# HELP gridhub_smoke_last_success_timestamp_seconds When the last good one ended.",
            "# TYPE gridhub_smoke_last_success_timestamp_seconds gauge",
            "gridhub_smoke_last_success_timestamp_seconds "
            f"{datetime.fromisoformat(succeeded).timestamp():.0f}",
        ]
    return "".join(f"{line}\n" for line in lines)


def metrics_path(settings: Settings) -> Path:
    """Return the file for the metrics of the smoke test, beside that of the maintenance."""
    return Path(settings.metrics_file).with_name("gridhub_smoke.prom")


def write_metrics(settings: Settings, result: dict[str, Any]) -> None:
    """Write the metrics if the site wants them."""
    if settings.metrics_file:
        text = metrics_text(result, has_timer=settings.smoke_minutes > 0)
        with contextlib.suppress(OSError):
            host.write(metrics_path(settings), text, 0o644)
