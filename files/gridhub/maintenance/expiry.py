# SPDX-License-Identifier: BSD-3-Clause
"""When certificates expire: the one that people see, and those inside the cluster.

The standard library shows the dates of a certificate only if it also trusts it, so the dates are
read from the certificate itself (RFC 5280, section 4.1; X.690 for the encoding).
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gridhub.maintenance import host, probes
from gridhub.maintenance.settings import Settings

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0

#: No certificate is longer, in bytes.
_MAX_BYTES = 1 << 20

#: A certificate that expires within so many days is a problem. Those inside are renewed by
#: ``site.yml`` a year before, so the next one would have to be far away.
EDGE_DAYS, INSIDE_DAYS = 21, 90


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element of a sequence."""
    while content:
        tag, size, start = content[0], content[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[2:start], "big")
        if start + size > len(content):
            raise ValueError("it is cut off")
        yield tag, content[start : start + size]
        content = content[start + size :]


def not_after(certificate: bytes) -> datetime:
    """Return when a certificate expires.

    :param certificate: the certificate as DER.
    :raises ValueError: when this is no certificate.
    """
    try:
        ((_, whole),) = _parts(certificate)
        (_, signed), *_ = _parts(whole)
        fields = [each for each in _parts(signed) if each[0] != _VERSION]
        # Serial number, signature algorithm, issuer, validity.
        (_, _), (kind, words) = _parts(fields[3][1])
    except (IndexError, ValueError) as error:
        raise ValueError(f"this is no certificate: {error}") from error
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[kind]
    return datetime.strptime(words.decode("ascii"), form).replace(tzinfo=UTC)


def first_in(path: Path) -> bytes:
    """Return the first certificate of a file, as DER.

    :raises OSError, ValueError: when there is none.
    """
    # The hub owns its folder, and could put a pipe or something huge there.
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise OSError(f"{path} is no file with a certificate")
    text = path.read_text(encoding="ascii")
    begin, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(text[begin:end])


def edge_certificate(settings: Settings) -> bytes:
    """Return the certificate that people's browsers get from the proxy, as DER.

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
        return tls.getpeercert(binary_form=True) or b""


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
        except (OSError, ValueError, KeyError) as error:
            entry["problem"] = f"the certificate {name}: {error}"
        found.append(entry)

    if settings.proxy:
        note(urlsplit(settings.proxy).netloc, "edge", lambda: edge_certificate(settings))
    folder = Path(settings.certificates or "/nonexistent")
    if settings.hub_api and folder.is_dir():
        for path in sorted(folder.glob("*/*.crt")):
            if path.stem == path.parent.name:
                note(path.stem, "inside", lambda path=path: first_in(path))
    return found
