# SPDX-License-Identifier: BSD-3-Clause
"""Certificates of the traffic between hub, proxy and sessions.

JupyterHub and certipy make the authorities and the certificates of hub and proxy. Those of sessions
are made here: in memory, because they belong on the worker alone, and with keys that cost nothing.

Every session has a name of its own, and its certificate holds that name instead of the workers'.
Hub and proxy ask for it, so that no other session can answer in its place, on whatever port.

``sge_tls.py FOLDER NAME…`` makes what is missing and renews what ends: see :func:`renew`.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: The authority that certifies sessions, as JupyterHub names it.
SESSIONS = "notebooks-ca"
#: The one that certifies what the proxy shows to hub and sessions, and nothing else.
PROXY = "proxy-client-ca"

#: Certificates of hub and proxy are made anew when they end within this time, …
RENEW_BEFORE = timedelta(days=365)
#: … and those of authorities are renewed, with the same key. Sessions that run trust the old one:
#: this is how long they can go on.
RENEW_AUTHORITY_BEFORE = timedelta(days=2 * 365)
AUTHORITY_LIFETIME = timedelta(days=5 * 365)

#: Clocks of hub and workers may differ by this much.
CLOCKS_DIFFER = timedelta(days=1)

_COMPONENTS = ("hub-internal", "proxy-api", "proxy-client")


class Certificates(NamedTuple):
    """What a session needs, each as PEM."""

    key: str
    certificate: str
    #: Whom the session trusts: the hub and the proxy, and no other session.
    authorities: str


def session_name(session: str) -> str:
    """Return the name that a session's certificate holds."""
    return f"{session}.session"


def _certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name / f"{name}.crt").read_bytes())


@lru_cache(maxsize=4)
def _authority(folder: Path, name: str) -> tuple[x509.Certificate, Any]:
    """Return an authority's certificate and key; to load the key takes longer than to sign."""
    key = (folder / name / f"{name}.key").read_bytes()
    return _certificate(folder, name), serialization.load_pem_private_key(key, password=None)


def issue(folder: Path, session: str) -> Certificates:
    """Make a session's key and certificate, which ends with that of its authority.

    :raises OSError: when the authority cannot be read.
    """
    authority, signing_key = _authority(folder, SESSIONS)
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    # The address is for the session itself.
    names = [x509.DNSName(session_name(session)), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, session)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - CLOCKS_DIFFER)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )
    return Certificates(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        (folder / f"{SESSIONS}_trust.crt").read_text(encoding="ascii"),
    )


@lru_cache(maxsize=4)
def hub_context(folder: Path) -> ssl.SSLContext:
    """Return how the hub speaks to sessions: it shows its certificate and trusts sessions' only.

    :raises OSError: when a file cannot be read.
    """
    context = ssl.create_default_context(cafile=folder / SESSIONS / f"{SESSIONS}.crt")
    pair = folder / "hub-internal/hub-internal"
    context.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))
    return context


def issuer(certificate: dict[str, Any] | None) -> str:
    """Return the common name of the authority behind a certificate that ``getpeercert`` returned.

    Empty where there is none. Authorities sign for one kind of component each, so the name says
    who holds the certificate.
    """
    names = [pair for part in (certificate or {}).get("issuer", ()) for pair in part]
    return str(dict(names).get("commonName", ""))


def is_proxy(connection: socket.socket) -> bool:
    """Tell whether it is the proxy that has shown its certificate at a connection's other end."""
    if not isinstance(connection, ssl.SSLSocket):
        return False
    return issuer(connection.getpeercert()) == PROXY


def session_of(connection: socket.socket) -> str:
    """Return the name of the session that has shown its certificate; empty where none has."""
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    certificate: Any = connection.getpeercert()
    if issuer(certificate) != SESSIONS:
        return ""
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    return str(dict(names).get("commonName", ""))


# -- made and renewed by Ansible ------------------------------------------------------------------


def _names(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {f"DNS:{name}" for name in found.get_values_for_type(x509.DNSName)} | {
        f"IP:{address}" for address in found.get_values_for_type(x509.IPAddress)
    }


def alt_name(name: str) -> str:
    """Return a host's name or address as certificates are asked for it."""
    try:
        return f"IP:{ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _ends_within(certificate: x509.Certificate, span: timedelta) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) < span


def _renew_authority(folder: Path, name: str) -> None:
    """Give an authority's key a new certificate: all that it has signed stays good."""
    old, key = _authority(folder, name)
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
    """Make what is missing, renew what ends, and make anew what lacks one of the hosts' names.

    JupyterHub makes them, as it would at its own start.

    :returns: the names of what has changed; empty when all was well.
    :raises OSError: when the folder cannot be written.
    """
    from certipy import Certipy

    wanted = [alt_name(host) for host in hosts]
    changed = []
    folder.mkdir(exist_ok=True)
    store = Certipy(store_dir=str(folder)).store
    for name in list(store.store):
        if store.store[name]["is_ca"]:
            if _ends_within(_certificate(folder, name), RENEW_AUTHORITY_BEFORE):
                _renew_authority(folder, name)
                changed.append(name)
        elif name in _COMPONENTS:
            certificate = _certificate(folder, name)
            if _ends_within(certificate, RENEW_BEFORE) or not set(wanted) <= _names(certificate):
                store.remove_record(name)
    before = set(store.store)
    if not changed and before.issuperset((SESSIONS, *_COMPONENTS)):
        return []
    from jupyterhub.app import JupyterHub  # takes its time

    async def make() -> None:
        hub = JupyterHub(
            internal_ssl=True, internal_certs_location=str(folder), trusted_alt_names=wanted
        )
        hub.log.disabled = True
        hub.init_internal_ssl()

    asyncio.run(make())
    made = json.loads((folder / "certipy.json").read_text(encoding="utf-8"))
    return sorted(changed + [name for name in made if name not in before])


def main() -> int:
    """``sge_tls.py FOLDER NAME…``: print what has changed."""
    os.umask(0o077)
    print("\n".join(renew(Path(sys.argv[1]), sys.argv[2:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
