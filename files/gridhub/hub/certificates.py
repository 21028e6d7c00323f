# SPDX-License-Identifier: BSD-3-Clause
"""Make and renew the certificates of the hub and the proxy, for Ansible and for maintenance."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gridhub.hub.rotation import (
    RotationError,
    finish,
    keep_trusting_retired,
    recover,
    rotate_authorities,
    rotate_certificates,
    rotated_at,
    send_along,
)
from gridhub.tls import CLOCKS_DIFFER, COMPONENTS, SESSIONS, read_authority, read_certificate

#: The hub's or the proxy's certificate is replaced if it expires within this time.
RENEW_BEFORE = timedelta(days=365)

#: An authority's certificate is renewed, with the same key, if it expires within this time. Running
#: sessions trust only the old certificate, so they can continue until the old certificate expires.
RENEW_AUTHORITY_BEFORE = timedelta(days=2 * 365)
AUTHORITY_LIFETIME = timedelta(days=5 * 365)


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses in a certificate, in the form in which OpenSSL writes them."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {f"DNS:{name}" for name in found.get_values_for_type(x509.DNSName)} | {
        f"IP:{address}" for address in found.get_values_for_type(x509.IPAddress)
    }


def alt_name(name: str) -> str:
    """Return a host's name or address in the form that :func:`names_of` returns."""
    try:
        return f"IP:{ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _expires_within(certificate: x509.Certificate, span: timedelta) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) < span


def _renew_authority(folder: Path, name: str) -> None:
    """Renew an authority's certificate with the old key, so that old signatures stay valid."""
    old, key = read_authority(folder, name)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + AUTHORITY_LIFETIME)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    new = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    path = folder / name / f"{name}.crt"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(new)
    fresh.replace(path)


def renew(folder: Path, hosts: list[str]) -> list[str]:
    """Make missing certificates, and replace those that expire soon or do not name all hosts.

    JupyterHub's own code makes the new certificates. An authority whose certificate is renewed
    keeps its key.

    :returns: the names of the changed certificates; empty if all certificates were good.
    :raises OSError: when the folder cannot be written.
    """
    from certipy import Certipy

    wanted = [alt_name(host) for host in hosts]
    changed = []
    folder.mkdir(exist_ok=True)
    store = Certipy(store_dir=str(folder)).store
    for name in list(store.store):
        if store.store[name]["is_ca"]:
            if _expires_within(read_certificate(folder, name), RENEW_AUTHORITY_BEFORE):
                _renew_authority(folder, name)
                changed.append(name)
        elif name in COMPONENTS:
            certificate = read_certificate(folder, name)
            has_all_names = set(wanted) <= names_of(certificate)
            if _expires_within(certificate, RENEW_BEFORE) or not has_all_names:
                store.remove_record(name)
    before = set(store.store)
    if not changed and before.issuperset((SESSIONS, *COMPONENTS)):
        return []
    make(folder, wanted)
    made = json.loads((folder / "certipy.json").read_text(encoding="utf-8"))
    return sorted(changed + [name for name in made if name not in before])


def make(folder: Path, names: list[str]) -> None:
    """Make the certificates that a folder lacks, with JupyterHub's own code.

    :param names: the names of the hosts, in the form that :func:`alt_name` returns.
    """
    from jupyterhub.app import JupyterHub  # a slow import

    async def run() -> None:
        hub = JupyterHub(
            internal_ssl=True, internal_certs_location=str(folder), trusted_alt_names=names
        )
        hub.log.disabled = True
        hub.init_internal_ssl()

    keep_trusting_retired()
    asyncio.run(run())
    send_along(folder)


def main() -> int:
    """``sge_certificates.py FOLDER [OPTION] NAME…``: renew certificates, and print their names.

    With the option ``--rotate-certificates`` or ``--rotate-authorities``, replace them all; with
    ``--finish``, end the trust in replaced authorities; with ``--rotated``, print since when
    replaced authorities are still trusted.
    """
    os.umask(0o077)
    folder, *names = Path(sys.argv[1]), *sys.argv[2:]
    option = names.pop(0) if names and names[0].startswith("--") else ""
    wanted = [alt_name(host) for host in names]
    try:
        recover(folder)
        match option:
            case "":
                changed = renew(folder, names)
            case "--rotate-certificates":
                changed = rotate_certificates(folder, partial(make, names=wanted))
            case "--rotate-authorities":
                changed = rotate_authorities(folder, partial(make, names=wanted))
            case "--finish":
                changed = finish(folder)
            case "--rotated":
                changed = [rotated_at(folder)]
            case _:
                print(main.__doc__, file=sys.stderr)
                return 2
    except RotationError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(changed))
    return 0
