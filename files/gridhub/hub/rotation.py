# SPDX-License-Identifier: BSD-3-Clause
"""Replace the certificates inside the cluster, and their authorities, while sessions run.

A running session trusts the authorities of the time when it started, and nothing can change that.
So a new authority's key is also certified by the old authority (a cross-certificate), and hub and
proxy send this along with their own certificates. Old sessions then trust the new certificates, and
new sessions know the new authority itself. The other way round, hub and proxy trust both
authorities of sessions: the certificates of the old ones are in the folder :data:`RETIRED`. Hub,
proxy and sessions can therefore be restarted in any order.

The old keys are destroyed at once. When the last old session has ended, :func:`finish` ends the
trust in the old authorities.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gridhub.tls import (
    CLOCKS_DIFFER,
    COMPONENTS,
    HUB,
    PROXY,
    RETIRED,
    SESSIONS,
    read_authority,
    read_certificate,
)

#: The authority of the proxy's API. Sessions have nothing to do with it.
_PROXY_API = "proxy-api-ca"

#: An authority that JupyterHub makes and trusts, but that signs nothing here. No session knows it,
#: so an old one need not be trusted any longer.
_SERVICES = "services-ca"

#: Which authority signs each component's certificate.
_SIGNED_BY = {"hub-internal": HUB, "proxy-api": _PROXY_API, "proxy-client": PROXY}

#: Which retired authorities belong to each file of trusted certificates (JupyterHub's
#: ``init_internal_ssl``). JupyterHub writes these files when the hub starts.
_TRUST = {
    f"{HUB}_trust.crt": (HUB, _PROXY_API, PROXY, SESSIONS),
    f"{_PROXY_API}_trust.crt": (HUB, SESSIONS),
    f"{PROXY}_trust.crt": (HUB, SESSIONS),
    f"{SESSIONS}_trust.crt": (HUB, PROXY),
}

#: When the authorities were replaced.
_RECORD = "rotated.json"


class RotationError(Exception):
    """The certificates were not changed; the message gives the reason."""


def cross_certify(
    new: x509.Certificate, old: x509.Certificate, old_key: object
) -> x509.Certificate:
    """Return a certificate for a new authority's key, signed by the old authority.

    Both have the same name, so this counts as self-issued: the length of the path that the old
    authority allows applies only to other names (RFC 5280, section 4.2.1.9).
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(old.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - CLOCKS_DIFFER)
        .not_valid_after(min(new.not_valid_after_utc, old.not_valid_after_utc))
    )
    for extension in new.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(old.public_key())  # type: ignore[arg-type]
    return builder.add_extension(issuer, critical=False).sign(old_key, hashes.SHA256())  # type: ignore[arg-type]


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def recover(folder: Path) -> None:
    """Put the folder back if a rotation was killed between its two renames."""
    old = folder.with_name(f"{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (old, folder.with_name(f"{folder.name}.new")):
        shutil.rmtree(left, ignore_errors=True)


def _replace(folder: Path, change: Callable[[Path], None]) -> None:
    """Change a copy of the folder, and put the copy into its place."""
    recover(folder)
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.copytree(folder, fresh)
    _move_records(fresh, folder, fresh)
    change(fresh)
    _move_records(fresh, fresh, folder)
    old = folder.with_name(f"{folder.name}.old")
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)


def _move_records(place: Path, before: Path, after: Path) -> None:
    """Replace the folder in the paths of certipy's list of certificates."""
    path = place / "certipy.json"
    records = path.read_text(encoding="utf-8").replace(f'"{before}/', f'"{after}/')
    path.write_text(records, encoding="utf-8")


def _forget(place: Path, names: tuple[str, ...]) -> None:
    """Remove records from certipy's list, so that the certificates are made again.

    Certipy's own function refuses to remove an authority that has signed something.
    """
    path = place / "certipy.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    for name in names:
        records.pop(name, None)
    for record in records.values():
        record["signees"] = {
            each: count for each, count in (record["signees"] or {}).items() if each not in names
        }
    path.write_text(json.dumps(records), encoding="utf-8")


def rotate_certificates(folder: Path, make: Callable[[Path], object]) -> list[str]:
    """Replace the keys and certificates of hub and proxy; the authorities stay.

    :param make: makes the certificates that a folder lacks.
    :returns: the names of the new certificates.
    """

    def change(place: Path) -> None:
        _forget(place, COMPONENTS)
        make(place)

    _replace(folder, change)
    return list(COMPONENTS)


def send_along(folder: Path) -> None:
    """Append the cross-certificates, if there are any, to the certificates of hub and proxy."""
    for name, authority in _SIGNED_BY.items():
        cross = folder / RETIRED / f"{authority}.cross.crt"
        if cross.is_file():
            own = _pem(read_certificate(folder, name))
            path = folder / name / f"{name}.crt"
            path.write_text(own + cross.read_text(encoding="ascii"), encoding="ascii")


def rotate_authorities(folder: Path, make: Callable[[Path], object]) -> list[str]:
    """Replace all authorities, and the certificates of hub and proxy.

    :param make: makes the certificates that a folder lacks.
    :returns: the names of the new certificates.
    :raises RotationError: when an earlier rotation is not finished.
    """
    recover(folder)
    if (folder / RETIRED).exists():
        raise RotationError(
            f"the authorities were already replaced at {rotated_at(folder)}, and the old ones are "
            "still trusted; finish that first"
        )
    authorities = (*dict.fromkeys(_SIGNED_BY.values()), SESSIONS)

    def change(place: Path) -> None:
        olds = {name: read_authority(place, name) for name in authorities}
        _forget(place, (*COMPONENTS, *authorities, _SERVICES))
        make(place)
        # The key of an authority is cached by its path.
        read_authority.cache_clear()
        retired = place / RETIRED
        retired.mkdir(mode=0o700)
        for name, (old, key) in olds.items():
            new = read_certificate(place, name)
            cross = cross_certify(new, old, key)
            (retired / f"{name}.crt").write_text(_pem(old), encoding="ascii")
            (retired / f"{name}.cross.crt").write_text(_pem(cross), encoding="ascii")
        send_along(place)
        record = {"rotated": datetime.now(UTC).isoformat(timespec="seconds")}
        (retired / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        trust_retired(place)

    _replace(folder, change)
    return [*authorities, _SERVICES, *COMPONENTS]


def rotated_at(folder: Path) -> str:
    """Return when the authorities were replaced; empty if no old one is trusted any more."""
    try:
        record = json.loads((folder / RETIRED / _RECORD).read_text(encoding="utf-8"))
        return str(record["rotated"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError) as error:
        raise RotationError(f"{folder / RETIRED / _RECORD}: {error!r}") from error


def trust_retired(folder: Path) -> None:
    """Add the retired authorities to the files of trusted certificates, which JupyterHub writes."""
    for name, authorities in _TRUST.items():
        path = folder / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="ascii")
        for authority in authorities:
            retired = folder / RETIRED / f"{authority}.crt"
            if retired.is_file() and (old := retired.read_text(encoding="ascii")) not in text:
                text += old
        path.write_text(text, encoding="ascii")


@cache
def keep_trusting_retired() -> None:
    """Let certipy add the retired authorities whenever it writes files of trusted certificates.

    JupyterHub writes and reads these files in one function, so they cannot be changed in between.
    """
    from certipy import Certipy

    write = Certipy.trust_from_graph

    def write_all(self: Any, graph: Any) -> Any:
        files = write(self, graph)
        trust_retired(Path(self.store.containing_dir))
        return files

    Certipy.trust_from_graph = write_all


def finish(folder: Path) -> list[str]:
    """End the trust in the retired authorities.

    Sessions that started before the rotation must have ended: hub and proxy could not reach them
    any more. The caller checks this.

    :returns: the names of the changed certificates; empty if there is nothing to finish.
    """
    recover(folder)
    if not (folder / RETIRED).exists():
        return []

    def change(place: Path) -> None:
        retired = [path.read_text(encoding="ascii") for path in (place / RETIRED).glob("*-ca.crt")]
        shutil.rmtree(place / RETIRED)
        for name in COMPONENTS:
            path = place / name / f"{name}.crt"
            path.write_text(_pem(read_certificate(place, name)), encoding="ascii")
        for name in _TRUST:
            path = place / name
            text = path.read_text(encoding="ascii")
            for old in retired:
                text = text.replace(old, "")
            path.write_text(text, encoding="ascii")

    _replace(folder, change)
    return list(COMPONENTS)
