# SPDX-License-Identifier: BSD-3-Clause
"""Ask the hub on this host about itself, as root, with the hub's own certificate."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from gridhub.maintenance import probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: Stopping many sessions takes minutes.
_END_WITHIN, _OTHER_WITHIN = 900.0, 60.0


def call(settings: Settings, method: str, what: str, body: Any = None) -> dict[str, Any]:
    """Call the hub (``gridhub/hub/operator.py``), and return its answer.

    :param what: ``status``, ``notice`` or ``end``.
    :raises MaintenanceError: when there is no hub, it does not answer, or it answers with an error.
    """
    if not settings.hub_api:
        raise MaintenanceError("there is no hub on this host")
    target = urlsplit(settings.hub_api)
    path = f"{target.path}/sge/operator/{what}"
    try:
        context = probes.internal_tls(settings.certificates, "hub-ca")
        seconds = _END_WITHIN if what == "end" else _OTHER_WITHIN
        link = probes.connect(settings.hub_api, context, seconds)
        try:
            content = json.dumps(body or {}).encode() if method == "POST" else None
            link.request(method, path, content, {"Content-Type": "application/json"})
            answer = link.getresponse()
            status, shown = answer.status, answer.read(1 << 24)
        finally:
            link.close()
        found = json.loads(shown)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MaintenanceError(f"the hub at {target.netloc}: {error or repr(error)}") from error
    if status != 200 or not isinstance(found, dict):
        raise MaintenanceError(f"the hub at {target.netloc}: status {status} {found}")
    return found
