# SPDX-License-Identifier: BSD-3-Clause
"""When certificates expire: the one that people see, and those inside the cluster.

The standard library shows the dates of a certificate only if it also trusts it, so openssl reads
them.
"""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gridhub.maintenance import host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: No file with a certificate is longer, in bytes.
_MAX_BYTES = 1 << 20

#: A certificate that expires within so many days is a problem. Those inside are renewed by
#: ``site.yml`` a year before, so the next one would have to be far away.
EDGE_DAYS, INSIDE_DAYS = 21, 90


def not_after(certificate: bytes) -> datetime:
    """Return when a certificate expires.

    :param certificate: PEM; the first certificate counts.
    :raises MaintenanceError: when this is no certificate.
    """
    with host.in_memory(certificate) as file:
        shown = host.run(["openssl", "x509", "-noout", "-enddate"], seconds=5, reads=file)
    seconds = ssl.cert_time_to_seconds(shown.strip().removeprefix("notAfter="))
    return datetime.fromtimestamp(seconds, UTC)


def read(path: Path) -> bytes:
    """Return a file with certificates.

    :raises OSError: when there is none.
    """
    # The hub owns its folder, and could put a pipe or something huge there.
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise OSError(f"{path} is no file with a certificate")
    return path.read_bytes()


def edge_certificate(settings: Settings) -> bytes:
    """Return the certificate that people's browsers get from the proxy, as PEM.

    :raises OSError: when there is no connection.
    """
    place = urlsplit(settings.proxy)
    name = urlsplit(f"//{settings.names.get(place.netloc, place.netloc)}").hostname
    address = (place.hostname or "", place.port or 443)
    context = probes.public_tls(verify=False)
    with (
        socket.create_connection(address, 10) as link,
        context.wrap_socket(link, server_hostname=name) as tls,
    ):
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"").encode()


def rotated_at(settings: Settings) -> str:
    """Return since when replaced authorities are still trusted (``gridhub/hub/rotation.py``).

    :returns: empty if none is.
    """
    path = Path(settings.certificates or "/nonexistent") / "retired/rotated.json"
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return ""
        return str(json.loads(path.read_bytes())["rotated"])
    except (OSError, ValueError, KeyError, TypeError):
        return "a time that is not known"


def certificates(settings: Settings) -> list[dict[str, Any]]:
    """Return all certificates that this host can see, each with its days left or a problem."""
    found: list[dict[str, Any]] = []

    def note(name: str, place: str, read: Any) -> None:
        entry: dict[str, Any] = {"name": name, "place": place, "days": None, "problem": ""}
        try:
            left = not_after(read()) - host.now()
            entry["days"] = left.days
            least = EDGE_DAYS if place == "edge" else INSIDE_DAYS
            if left.days < least:
                entry["problem"] = f"the certificate {name} expires in {left.days} days"
        except (OSError, ValueError, MaintenanceError) as error:
            entry["problem"] = f"the certificate {name}: {error}"
        found.append(entry)

    if settings.proxy:
        note(urlsplit(settings.proxy).netloc, "edge", lambda: edge_certificate(settings))
    folder = Path(settings.certificates or "/nonexistent")
    if settings.hub_api and folder.is_dir():
        for path in sorted(folder.glob("*/*.crt")):
            if path.stem == path.parent.name:
                note(path.stem, "inside", lambda path=path: read(path))
    return found
