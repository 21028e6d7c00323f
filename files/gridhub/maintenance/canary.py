# SPDX-License-Identifier: BSD-3-Clause
"""The canary: a session that is started and stopped through the hub's REST API."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gridhub.maintenance import host, notice, probes, schedule
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings


def call_hub(settings: Settings, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """Call the hub's REST API with the canary's token; return the status and the answer.

    :raises OSError: when the hub does not answer.
    """
    target = urlsplit(settings.hub_api)
    token = Path(settings.canary_token).read_text(encoding="utf-8").strip()
    context = probes.internal_tls(settings.certificates, "hub-ca")
    link = probes.connect(settings.hub_api, context, 60)
    try:
        link.request(method, target.path + path, headers={"Authorization": f"token {token}"})
        answer = link.getresponse()
        body = json.loads(answer.read() or b"{}")
    except http.client.HTTPException as error:
        raise OSError(f"{settings.hub_api}: {error!r}") from error
    finally:
        link.close()
    return answer.status, body if isinstance(body, dict) else {}


def start_and_stop(settings: Settings, seconds: float) -> str:
    """Start a session as people do, wait until it is ready, and stop it.

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

    # The notice of this maintenance keeps sessions from starting, so first publish the notice of
    # the next one. The hub reads the new notice within a few seconds.
    notice.publish(settings, schedule.next_date(host.now())[0])
    begun = time.monotonic()
    if found := host.wait_until_clear(refused, 10):
        raise MaintenanceError(f"it does not start: {found}")
    try:
        if host.wait_until_clear(lambda: "" if session().get("ready") else "not ready", seconds):
            raise MaintenanceError(f"it was not ready within {seconds:.0f} s")
        took = time.monotonic() - begun
    finally:
        call_hub(settings, "DELETE", f"{user}/server")
    if host.wait_until_clear(lambda: "not gone" if session() else "", 120):
        raise MaintenanceError("it does not stop within 120 s")
    return f"ready after {took:.0f} s"
