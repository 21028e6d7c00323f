# SPDX-License-Identifier: BSD-3-Clause
"""Certificates of the traffic between hub, proxy and sessions.

JupyterHub and certipy make the authorities and the certificates of hub and proxy. Those of sessions
are made here: in memory, because they belong on the worker alone, and with keys that cost nothing.

Every session has a name of its own, and its certificate holds that name instead of the workers'.
Hub and proxy ask for it, so that no other session can answer in its place, on whatever port.

"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address
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

#: Clocks of hub and workers may differ by this much.
CLOCKS_DIFFER = timedelta(days=1)
COMPONENTS = ("hub-internal", "proxy-api", "proxy-client")


class Certificates(NamedTuple):
    """What a session needs, each as PEM."""

    key: str
    certificate: str
    #: Whom the session trusts: the hub and the proxy, and no other session.
    authorities: str


def session_name(session: str) -> str:
    """Return the name that a session's certificate holds."""
    return f"{session}.session"


def read_certificate(folder: Path, name: str) -> x509.Certificate:
    """Read a certificate of the hub's own.

    :raises OSError: when it cannot be read.
    """
    return x509.load_pem_x509_certificate((folder / name / f"{name}.crt").read_bytes())


@lru_cache(maxsize=4)
def read_authority(folder: Path, name: str) -> tuple[x509.Certificate, Any]:
    """Return an authority's certificate and key; to load the key takes longer than to sign."""
    key = (folder / name / f"{name}.key").read_bytes()
    return read_certificate(folder, name), serialization.load_pem_private_key(key, password=None)


def issue(folder: Path, session: str) -> Certificates:
    """Make a session's key and certificate, which ends with that of its authority.

    :raises OSError: when the authority cannot be read.
    """
    authority, signing_key = read_authority(folder, SESSIONS)
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
    return _common_name(certificate, "issuer")


def _common_name(certificate: dict[str, Any] | None, of: str) -> str:
    names = [pair for part in (certificate or {}).get(of, ()) for pair in part]
    return str(dict(names).get("commonName", ""))


def is_proxy(connection: socket.socket) -> bool:
    """Tell whether it is the proxy that has shown its certificate at a connection's other end."""
    if not isinstance(connection, ssl.SSLSocket):
        return False
    return issuer(connection.getpeercert()) == PROXY


def session_of(connection: socket.socket) -> str:
    """Return the name of the session at a connection's other end; empty where it is none."""
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    certificate = connection.getpeercert()
    return _common_name(certificate, "subject") if issuer(certificate) == SESSIONS else ""
