"""When certificates expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gridhub.maintenance import expiry
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings


def certificate(until: datetime) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 64)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("year", [2026, 2049, 2050, 2150])
def test_the_date_is_read_in_both_of_its_forms(year: int) -> None:
    until = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    shown = certificate(until).public_bytes(serialization.Encoding.PEM)
    assert expiry.not_after(shown) == until


@pytest.mark.parametrize("content", [b"", b"x" * 99])
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(MaintenanceError, match="openssl x509"):
        expiry.not_after(content)


def write(folder: Path, name: str, days: float) -> None:
    until = datetime.now(UTC) + timedelta(days=days)
    (folder / name).mkdir(parents=True)
    pem = certificate(until).public_bytes(serialization.Encoding.PEM)
    (folder / name / f"{name}.crt").write_bytes(pem + b"-----BEGIN CERTIFICATE-----\nsecond\n")


def test_the_certificates_inside_are_listed_and_those_that_expire_soon_are_problems(
    tmp_path: Path,
) -> None:
    write(tmp_path, "hub-ca", 1000.5)
    write(tmp_path, "proxy-api", 10.5)
    write(tmp_path, "retired", 1)
    (tmp_path / "retired/retired.crt").rename(tmp_path / "retired/hub-ca.crt")
    found = expiry.certificates(Settings(hub_api="https://x/hub/api", certificates=str(tmp_path)))
    assert [(each["name"], each["days"]) for each in found] == [("hub-ca", 1000), ("proxy-api", 10)]
    assert [each["problem"] for each in found] == [
        "",
        "the certificate proxy-api expires in 10 days",
    ]


def test_replaced_authorities_are_known_until_the_end(tmp_path: Path) -> None:
    settings = Settings(certificates=str(tmp_path))
    assert expiry.rotated_at(settings) == expiry.rotated_at(Settings()) == ""
    (tmp_path / "retired").mkdir()
    (tmp_path / "retired/rotated.json").write_text('{"rotated": "2026-03-01"}')
    assert expiry.rotated_at(settings) == "2026-03-01"


def test_a_certificate_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "hub-ca").mkdir()
    (tmp_path / "hub-ca/hub-ca.crt").write_text("nothing")
    (found,) = expiry.certificates(
        Settings(hub_api="https://x/hub/api", certificates=str(tmp_path))
    )
    assert found["days"] is None and "the certificate hub-ca:" in found["problem"]
