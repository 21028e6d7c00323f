# SPDX-License-Identifier: BSD-3-Clause
"""The canary: a session that is started and stopped through the hub's REST API.

Only the session that was started here is stopped: if the account has one already, the hub refuses
to start another.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gridhub.maintenance import host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: How long a start may take that a deployment waits for, in seconds.
START_WITHIN = 180.0


def _ask(settings: Settings, method: str, path: str, size: int = -1) -> tuple[int, bytes]:
    """Call the hub's REST API with the canary's token; return the status and the answer.

    :param size: how many bytes of the answer to read at most.
    :raises MaintenanceError: naming the address and the reason, when the hub does not answer.
    """
    target = urlsplit(settings.hub_api)
    try:
        token = Path(settings.canary_token).read_text(encoding="utf-8").strip()
        context = probes.internal_tls(settings.certificates, "hub-ca")
        link = probes.connect(settings.hub_api, context, 60)
        try:
            link.request(method, target.path + path, headers={"Authorization": f"token {token}"})
            answer = link.getresponse()
            return answer.status, answer.read() if size < 0 else answer.read1(size)
        finally:
            link.close()
    except (OSError, http.client.HTTPException) as error:
        raise MaintenanceError(f"{settings.hub_api}{path}: {error or repr(error)}") from error


def call_hub(settings: Settings, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """Call the hub's REST API with the canary's token; return the status and the answer.

    :raises MaintenanceError: when the hub does not answer, or not in JSON.
    """
    status, content = _ask(settings, method, path)
    try:
        body = json.loads(content or b"{}")
    except ValueError as error:
        raise MaintenanceError(f"{settings.hub_api}{path}: status {status}, {error}") from error
    return status, body if isinstance(body, dict) else {}


def _progress(settings: Settings) -> str:
    """Return the hub's last message about the start; empty if it has none."""
    _, content = _ask(settings, "GET", f"/users/{settings.canary_user}/server/progress", 65536)
    found = re.findall(rb"^data: (.+)$", content, re.MULTILINE)
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(found[-1] if found else b"{}").get("message", ""))
    return ""


def _reach_problem(settings: Settings) -> str:
    """Return why people could not reach the canary's session."""
    try:
        sessions = probes.running_sessions(settings.sessions)
    except MaintenanceError as error:
        return str(error)
    own = [each for each in sessions if (each["user"], each["name"]) == (settings.canary_user, "")]
    if not own:
        return "the hub's database does not list it"
    return probes.session_problem(settings, own[0]) or probes.route_problem(settings, own[0])


def start_and_stop(settings: Settings, seconds: float) -> str:
    """Start a session as people do, wait until it can be reached, and stop it.

    :param seconds: how long the session may take to become ready.
    :returns: how long the start took, in words.
    :raises MaintenanceError: with the hub's message, when the session does not start or stop.
    """
    user = f"/users/{settings.canary_user}"

    def session() -> dict[str, Any]:
        status, body = call_hub(settings, "GET", user)
        if status != 200:
            raise MaintenanceError(f"the hub answered {status} {body.get('message', '')}")
        return dict(body.get("servers", {}).get("") or {})

    def refused() -> str:
        status, body = call_hub(settings, "POST", f"{user}/server")
        return "" if status in (201, 202) else f"{status} {body.get('message', '')}"

    if session():
        raise MaintenanceError(
            f"{settings.canary_user} has a session already, which is left alone; use an account "
            "that has no sessions of its own"
        )
    begun = time.monotonic()
    if found := host.wait_until_clear(refused, 10):
        raise MaintenanceError(f"it does not start: {found}")
    try:
        if host.wait_until_clear(lambda: "" if session().get("ready") else "not ready", seconds):
            reason = _progress(settings)
            raise MaintenanceError(f"it was not ready within {seconds:.0f} s. {reason}".strip())
        took = time.monotonic() - begun
        if found := host.wait_until_clear(lambda: _reach_problem(settings), 30):
            raise MaintenanceError(f"it cannot be reached: {found}")
    finally:
        call_hub(settings, "DELETE", f"{user}/server")
    if host.wait_until_clear(lambda: "not gone" if session() else "", 120):
        raise MaintenanceError("it does not stop within 120 s")
    return f"ready after {took:.0f} s"


def try_session(settings: Settings) -> str:
    """Start and stop a session at the end of a deployment; return how long the start took.

    :raises MaintenanceError: when the session does not start, cannot be reached, or does not stop.
    """
    try:
        return start_and_stop(settings, START_WITHIN)
    except MaintenanceError as error:
        raise MaintenanceError(f"The session of {settings.canary_user}: {error}") from error
