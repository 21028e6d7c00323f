# SPDX-License-Identifier: BSD-3-Clause
"""Authorities are replaced while sessions run: old and new sides trust each other meanwhile."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest

from gridhub import tls
from gridhub.hub import certificates, rotation
from gridhub.hub.rotation import RotationError

NAMES = ["hub", "proxy"]


def make(folder: Path) -> None:
    certificates.make(folder, [certificates.alt_name(name) for name in NAMES])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that JupyterHub has made; slow, so a copy is used in each test."""
    folder = tmp_path_factory.mktemp("made") / "internal-ssl"
    certificates.renew(folder, NAMES)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    place = tmp_path / "internal-ssl"
    shutil.copytree(made, place)
    rotation._move_records(place, made, place)
    forget()
    return place


def forget() -> None:
    """Forget what is cached, as a restart of the hub does."""
    tls.read_authority.cache_clear()
    tls.hub_context.cache_clear()


def session_side(issued: tls.Certificates, place: Path) -> ssl.SSLContext:
    """Return the context of a session's server, as ``gridhub/session/secrets.py`` makes it."""
    place.mkdir(exist_ok=True)
    for name, text in zip(("key", "crt", "ca"), issued, strict=True):
        (place / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=place / "ca")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(place / "crt", place / "key")
    return context


def client_side(folder: Path, name: str, trusted: list[Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for path in trusted:
        context.load_verify_locations(path)
    context.load_cert_chain(folder / name / f"{name}.crt", folder / name / f"{name}.key")
    return context


def server_side(folder: Path, name: str, trusted: list[Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    for path in trusted:
        context.load_verify_locations(path)
    context.load_cert_chain(folder / name / f"{name}.crt", folder / name / f"{name}.key")
    return context


def connect(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "x") -> str:
    """Connect both contexts; return the common name of the authority that certified the client.

    :raises ssl.SSLError: when one does not trust the other.
    """
    near, far = socket.socketpair()
    errors: list[Exception] = []
    issuers: list[str] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as link:
                link.recv(1)
                issuers.append(tls.issuer(link.getpeercert()))
                link.send(b"y")
        except OSError as error:
            errors.append(error)
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname=name) as link:
            link.send(b"x")
            if link.recv(1) != b"y":
                raise ssl.SSLError("refused")
    finally:
        near.close()
        thread.join()
    if errors:
        raise errors[0]
    return issuers[0]


def proxy_trusts(folder: Path) -> list[Path]:
    """Return what the role ``proxy`` lets configurable-http-proxy trust as a client."""
    names = ["hub-ca/hub-ca.crt", "notebooks-ca/notebooks-ca.crt"]
    retired = [f"retired/{each}" for each in ("hub-ca.crt", "notebooks-ca.crt")]
    return [folder / each for each in [*names, *retired] if (folder / each).is_file()]


def test_sessions_of_both_times_and_hub_and_proxy_trust_each_other(
    folder: Path, tmp_path: Path
) -> None:
    old_session = session_side(tls.issue(folder, "old"), tmp_path / "old")
    old_hub = client_side(folder, "hub-internal", [folder / "hub-ca_trust.crt"])
    old_hub_server = server_side(folder, "hub-internal", [folder / "hub-ca_trust.crt"])
    old_proxy = client_side(folder, "proxy-client", proxy_trusts(folder))

    changed = rotation.rotate_authorities(folder, make)
    assert {"hub-ca", "notebooks-ca", "hub-internal"} <= set(changed)
    forget()
    new_session = session_side(tls.issue(folder, "new"), tmp_path / "new")
    new_proxy = client_side(folder, "proxy-client", proxy_trusts(folder))
    new_hub_server = server_side(folder, "hub-internal", [folder / "hub-ca_trust.crt"])

    hub = tls.hub_context(folder)
    hub.check_hostname = False
    for session in (old_session, new_session):
        assert connect(hub, session) == "hub-ca"
        assert connect(new_proxy, session) == "proxy-client-ca"
    # Until it is restarted, each of hub and proxy goes on with what it has read.
    assert connect(old_proxy, old_session) == "proxy-client-ca"
    assert connect(old_proxy, new_hub_server) == "proxy-client-ca"
    assert connect(new_proxy, old_hub_server) == "proxy-client-ca"
    assert connect(old_hub, old_session) == "hub-ca"


def test_a_session_of_both_times_can_report_to_the_hub(folder: Path, tmp_path: Path) -> None:
    old = tls.issue(folder, "old")
    rotation.rotate_authorities(folder, make)
    forget()
    hub = server_side(folder, "hub-internal", [folder / "hub-ca_trust.crt"])
    for name, issued in (("old", old), ("new", tls.issue(folder, "new"))):
        session_side(issued, tmp_path / name)
        place = tmp_path / name
        context = ssl.create_default_context(cafile=place / "ca")
        context.load_cert_chain(place / "crt", place / "key")
        assert connect(context, hub, "hub") == "notebooks-ca"


def test_hub_and_the_proxys_api_trust_each_other_in_any_order(folder: Path) -> None:
    def sides() -> tuple[ssl.SSLContext, ssl.SSLContext]:
        retired = folder / "retired/hub-ca.crt"
        trusted = [folder / "hub-ca/hub-ca.crt", *([retired] if retired.is_file() else [])]
        hub = client_side(folder, "hub-internal", [folder / "hub-ca_trust.crt"])
        return hub, server_side(folder, "proxy-api", trusted)

    old_hub, old_api = sides()
    rotation.rotate_authorities(folder, make)
    new_hub, new_api = sides()
    for hub in (old_hub, new_hub):
        for api in (old_api, new_api):
            assert connect(hub, api) == "hub-ca"


def test_after_the_end_old_sessions_are_no_longer_trusted(folder: Path, tmp_path: Path) -> None:
    old_session = session_side(tls.issue(folder, "old"), tmp_path / "old")
    rotation.rotate_authorities(folder, make)
    forget()
    new_session = session_side(tls.issue(folder, "new"), tmp_path / "new")
    assert rotation.rotated_at(folder)
    assert rotation.finish(folder)
    assert not rotation.rotated_at(folder) and rotation.finish(folder) == []
    forget()
    hub = tls.hub_context(folder)
    hub.check_hostname = False
    assert connect(hub, new_session) == "hub-ca"
    with pytest.raises(OSError):
        connect(hub, old_session)
    assert (folder / "hub-ca_trust.crt").read_text().count("BEGIN") == 5


def test_all_keys_are_replaced_and_no_old_key_is_left(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.rglob("*.key")}
    rotation.rotate_authorities(folder, make)
    after = {path.name: path.read_bytes() for path in folder.rglob("*.key")}
    assert before.keys() == after.keys() and len(after) == 8
    assert not set(before.values()) & set(after.values())


def test_a_second_rotation_waits_for_the_end_of_the_first(folder: Path) -> None:
    rotation.rotate_authorities(folder, make)
    before = (folder / "hub-ca/hub-ca.crt").read_text()
    with pytest.raises(RotationError, match="finish that first"):
        rotation.rotate_authorities(folder, make)
    assert (folder / "hub-ca/hub-ca.crt").read_text() == before


def test_a_failed_rotation_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(_: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        rotation.rotate_authorities(folder, fail)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_rotation_that_was_killed_between_two_renames_is_undone(folder: Path) -> None:
    before = (folder / "hub-ca/hub-ca.crt").read_text()
    folder.rename(folder.with_name("internal-ssl.old"))
    (folder.with_name("internal-ssl.new")).mkdir()
    rotation.recover(folder)
    assert (folder / "hub-ca/hub-ca.crt").read_text() == before
    assert [each.name for each in folder.parent.iterdir()] == ["internal-ssl"]


def test_a_restart_of_the_hub_keeps_the_trust_in_retired_authorities(folder: Path) -> None:
    rotation.rotate_authorities(folder, make)
    retired = (folder / "retired/notebooks-ca.crt").read_text()
    make(folder)  # as the hub does when it starts
    assert (folder / "hub-ca_trust.crt").read_text().count(retired) == 1


def test_a_renewal_during_the_overlap_keeps_the_trust_of_old_sessions(
    folder: Path, tmp_path: Path
) -> None:
    old_session = session_side(tls.issue(folder, "old"), tmp_path / "old")
    rotation.rotate_authorities(folder, make)
    # The host gets another name, so its certificate is made again (``site.yml``).
    assert certificates.renew(folder, [*NAMES, "other"]) == list(tls.COMPONENTS)
    forget()
    hub = tls.hub_context(folder)
    hub.check_hostname = False
    assert connect(hub, old_session) == "hub-ca"


def test_new_certificates_keep_the_authorities(folder: Path, tmp_path: Path) -> None:
    session = session_side(tls.issue(folder, "old"), tmp_path / "old")
    authority = (folder / "hub-ca/hub-ca.crt").read_text()
    key = (folder / "hub-internal/hub-internal.key").read_text()
    rotation.rotate_certificates(folder, make)
    forget()
    assert (folder / "hub-ca/hub-ca.crt").read_text() == authority
    assert (folder / "hub-internal/hub-internal.key").read_text() != key
    hub = tls.hub_context(folder)
    hub.check_hostname = False
    assert connect(hub, session) == "hub-ca"
