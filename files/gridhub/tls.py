# SPDX-License-Identifier: BSD-3-Clause
"""Certificates for the traffic between hub, proxy and sessions.

JupyterHub and certipy make the authorities, and the certificates of the hub and the proxy. This
module makes the sessions' certificates, with keys that are quick to generate. A session's key is
never written to the hub's disk, because only the session needs the key.

Every session has a unique name. The session's certificate contains this name, not the worker's
name. The hub and the proxy check the name, and therefore notice when a port now belongs to another
session.
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

#: JupyterHub's name for the authority that signs the sessions' certificates.
SESSIONS = "notebooks-ca"

#: The name of an authority that signs only one certificate, which the proxy presents to the hub and
#: to sessions.
PROXY = "proxy-client-ca"

#: The name of an authority that signs only one certificate, which the hub presents.
HUB = "hub-ca"

#: The folder, in that of the certificates, with the certificates of authorities that were replaced
#: but are still trusted (``gridhub/hub/rotation.py``).
RETIRED = "retired"

#: The clocks of hub and workers may differ by up to this much.
CLOCKS_DIFFER = timedelta(days=1)
COMPONENTS = ("hub-internal", "proxy-api", "proxy-client")


class Certificates(NamedTuple):
    """The key and certificates that a session needs, each as PEM."""

    key: str
    certificate: str
    #: The authorities that the session trusts: those that certify the hub and the proxy, but not
    #: the authority that certifies sessions.
    authorities: str


def session_name(session: str) -> str:
    """Return the name in a session's certificate."""
    return f"{session}.session"


def read_certificate(folder: Path, name: str) -> x509.Certificate:
    """Read one of the hub's own certificates.

    :raises OSError: when the certificate cannot be read.
    """
    return x509.load_pem_x509_certificate((folder / name / f"{name}.crt").read_bytes())


@lru_cache(maxsize=4)
def read_authority(folder: Path, name: str) -> tuple[x509.Certificate, Any]:
    """Return an authority's certificate and key; cached, because loading the key is slow."""
    key = (folder / name / f"{name}.key").read_bytes()
    return read_certificate(folder, name), serialization.load_pem_private_key(key, password=None)


def issue(folder: Path, session: str) -> Certificates:
    """Make a session's key, and a certificate that is valid as long as the authority's.

    :raises OSError: when the authority cannot be read.
    """
    authority, signing_key = read_authority(folder, SESSIONS)
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    # The session connects to itself at 127.0.0.1.
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
    """Return the TLS context for the hub's connections to sessions.

    The hub presents its own certificate, and trusts only the certificates of sessions.

    :raises OSError: when a file cannot be read.
    """
    context = ssl.create_default_context(cafile=folder / SESSIONS / f"{SESSIONS}.crt")
    retired = folder / RETIRED / f"{SESSIONS}.crt"
    if retired.is_file():
        context.load_verify_locations(retired)
    pair = folder / "hub-internal/hub-internal"
    context.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))
    return context


def issuer(certificate: dict[str, Any] | None) -> str:
    """Return the common name of the authority that signed a certificate from ``getpeercert``.

    The name is empty if there is no certificate. Each authority signs for only one kind of
    component, so the authority's name shows which kind of component owns the certificate.
    """
    return _common_name(certificate, "issuer")


def _common_name(certificate: dict[str, Any] | None, of: str) -> str:
    names = [pair for part in (certificate or {}).get(of, ()) for pair in part]
    return str(dict(names).get("commonName", ""))


def is_proxy(connection: socket.socket) -> bool:
    """Return whether the other end of a connection has presented the proxy's certificate."""
    if not isinstance(connection, ssl.SSLSocket):
        return False
    return issuer(connection.getpeercert()) == PROXY


def is_hub(connection: socket.socket) -> bool:
    """Return whether the other end of a connection has presented the hub's own certificate."""
    if not isinstance(connection, ssl.SSLSocket):
        return False
    return issuer(connection.getpeercert()) == HUB


def session_of(connection: socket.socket) -> str:
    """Return the name of the session at a connection's other end; empty if there is no session."""
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    certificate = connection.getpeercert()
    return _common_name(certificate, "subject") if issuer(certificate) == SESSIONS else ""
