# SPDX-License-Identifier: BSD-3-Clause
"""Certificates in real TLS connections: who can connect to a session, and who is trusted."""

from __future__ import annotations

import shutil
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pamela
import pytest
from cryptography import x509
from jupyterhub.utils import make_ssl_context
from tornado import web
from tornado.httpclient import AsyncHTTPClient
from tornado.testing import bind_unused_port

from gridhub import tls
from gridhub.broker.protocol import Answer, Tls
from gridhub.hub import account_rules, certificates, login
from gridhub.hub.certificates import renew
from gridhub.hub.login import ClusterAuthenticator
from gridhub.hub.server import HubServer
from gridhub.maintenance.probes import internal_tls
from gridhub.session import secrets
from gridhub.spawner.cluster import SETTING
from gridhub.tls import hub_context, issue, session_name, session_of

ALICE, BOB = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "internal"
    renew(folder, ["hub", "10.2.3.4"])
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the certificates, for tests that change them."""
    copy = tmp_path / "internal"
    shutil.copytree(made, copy)
    index = copy / "certipy.json"
    index.write_text(index.read_text().replace(str(made), str(copy)))
    tls.read_authority.cache_clear()
    return copy


def files(folder: Path, session: str) -> secrets.Tls:
    """Issue a session's certificate and key; return the files that the starter writes."""
    tls = Tls(**issue(folder, session)._asdict())  # the broker accepts both
    found = secrets.read_tls(tls.model_dump())
    assert found
    return found


def pair(folder: Path, name: str, trusts: str) -> ssl.SSLContext:
    """Make the TLS context of the hub or the proxy as JupyterHub does."""
    path = folder / name / name
    context: ssl.SSLContext = make_ssl_context(
        path.with_suffix(".key"), path.with_suffix(".crt"), folder / f"{trusts}_trust.crt"
    )
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Connect a client to a server, in memory.

    :raises ssl.SSLError: if one end does not trust the other.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    ends[0].write(b"x")
    assert ends[1].read() == b"x"


class TestSession:
    def test_hub_and_proxy_can_connect(self, made: Path) -> None:
        server = files(made, ALICE).server()
        handshake(server, hub_context(made), session_name(ALICE))
        handshake(server, pair(made, "proxy-client", "proxy-client-ca"), session_name(ALICE))

    def test_the_session_can_connect_to_itself(self, made: Path) -> None:
        tls = files(made, ALICE)
        handshake(tls.server(), tls.client(), "127.0.0.1")

    def test_another_session_cannot_connect(self, made: Path) -> None:
        other = files(made, BOB).client()
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            handshake(files(made, ALICE).server(), other, session_name(ALICE))

    def test_a_client_without_a_certificate_cannot_connect(self, made: Path) -> None:
        client = ssl.create_default_context(cafile=made / "notebooks-ca/notebooks-ca.crt")
        with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
            handshake(files(made, ALICE).server(), client, session_name(ALICE))

    @pytest.mark.parametrize("who", ["hub", "proxy"])
    def test_another_session_is_not_trusted_in_its_place(self, made: Path, who: str) -> None:
        client = hub_context(made) if who == "hub" else pair(made, "proxy-client", "hub-ca")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            handshake(files(made, BOB).server(), client, session_name(ALICE))

    def test_a_session_is_not_trusted_as_the_hub(self, made: Path) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(files(made, BOB).server(), files(made, ALICE).client(), "hub")

    def test_the_hub_is_trusted(self, made: Path) -> None:
        path = made / "hub-internal/hub-internal"
        server = make_ssl_context(
            path.with_suffix(".key"),
            path.with_suffix(".crt"),
            made / "hub-ca_trust.crt",
            purpose=ssl.Purpose.CLIENT_AUTH,
        )
        handshake(server, files(made, ALICE).client(), "hub")

    def test_keys_differ_and_are_not_stored(self, made: Path) -> None:
        before = sorted(made.rglob("*"))
        assert issue(made, ALICE).key != issue(made, ALICE).key
        assert sorted(made.rglob("*")) == before


class TestRenewal:
    def test_valid_certificates_are_kept(self, made: Path) -> None:
        assert renew(made, ["hub", "10.2.3.4"]) == []
        assert renew(made, ["10.2.3.4"]) == []

    def test_keys_are_for_the_hub_alone(self, made: Path) -> None:
        assert {key.stat().st_mode & 0o777 for key in made.rglob("*.key")} == {0o600}

    def test_another_name_renews_the_certificates_of_hub_and_proxy(self, folder: Path) -> None:
        assert renew(folder, ["hub2"]) == ["hub-internal", "proxy-api", "proxy-client"]
        assert renew(folder, ["hub2"]) == []
        assert "DNS:hub2" in certificates.names_of(tls.read_certificate(folder, "hub-internal"))

    def test_missing_certificates_are_made(self, folder: Path) -> None:
        shutil.rmtree(folder)
        assert {"hub-internal", "notebooks-ca"} <= set(renew(folder, ["hub"]))

    def test_an_expiring_authority_is_renewed_and_sessions_go_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = files(folder, ALICE)
        before = tls.read_certificate(folder, "notebooks-ca")
        monkeypatch.setattr(
            "gridhub.hub.certificates.RENEW_AUTHORITY_BEFORE", timedelta(days=10 * 365)
        )
        monkeypatch.setattr("gridhub.hub.certificates.RENEW_BEFORE", timedelta(days=10 * 365))
        changed = renew(folder, ["hub"])
        assert {"hub-ca", "notebooks-ca", "proxy-client-ca", "hub-internal"} <= set(changed)
        after = tls.read_certificate(folder, "notebooks-ca")
        assert after.serial_number != before.serial_number
        assert after.not_valid_after_utc - datetime.now(UTC) > timedelta(days=4 * 365)
        tls.read_authority.cache_clear()
        hub_context.cache_clear()
        # The running session has only the old certificates. The hub already uses new certificates,
        # but the session and the hub still trust each other.
        handshake(running.server(), hub_context(folder), session_name(ALICE))
        handshake(files(folder, BOB).server(), hub_context(folder), session_name(BOB))

    def test_a_sessions_certificate_expires_with_its_authority_and_allows_for_wrong_clocks(
        self, made: Path
    ) -> None:
        found = x509.load_pem_x509_certificate(issue(made, ALICE).certificate.encode())
        assert (
            found.not_valid_after_utc
            == tls.read_certificate(made, "notebooks-ca").not_valid_after_utc
        )
        assert found.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)


class TestHubServer:
    """Who can connect to the hub, and on whose behalf."""

    class Handler(web.RequestHandler):
        def get(self) -> None:
            self.write(f"{self.request.protocol} from {self.request.remote_ip}")

    async def get(
        self,
        made: Path,
        scheme: str,
        *,
        has_tls: bool = True,
        shows: ssl.SSLContext | None = None,
        **headers: str,
    ) -> str:
        path = made / "hub-internal/hub-internal"
        context = make_ssl_context(
            path.with_suffix(".key"),
            path.with_suffix(".crt"),
            made / "hub-ca_trust.crt",
            purpose=ssl.Purpose.CLIENT_AUTH,
        )
        app = web.Application([("/", self.Handler)])
        server = HubServer(app, ssl_options=context if has_tls else None, xheaders=True)
        listening, port = bind_unused_port()
        server.add_socket(listening)
        options: dict[str, Any] = {}
        if scheme == "https":
            options["ssl_options"] = shows or files(made, ALICE).client()
        try:
            answer = await AsyncHTTPClient().fetch(
                f"{scheme}://127.0.0.1:{port}/", headers=headers, **options
            )
            return answer.body.decode()
        finally:
            server.stop()
            await server.close_all_connections()

    async def test_tls_works(self, made: Path) -> None:
        assert await self.get(made, "https") == "https from 127.0.0.1"

    async def test_plain_http_is_refused(self, made: Path) -> None:
        with pytest.raises(OSError):  # the error's type depends on how the connection ends
            await self.get(made, "http")

    @pytest.mark.parametrize(
        "forged",
        [
            {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "http"},
            {"x-real-ip": "192.0.2.66", "x-scheme": "http"},
        ],
    )
    async def test_only_the_proxy_may_name_the_source_of_a_request(
        self, made: Path, forged: dict[str, str]
    ) -> None:
        proxy = pair(made, "proxy-client", "proxy-client-ca")
        answer = await self.get(made, "https", shows=proxy, **forged)
        assert answer == "http from 192.0.2.66"
        for shows in (files(made, ALICE).client(), pair(made, "hub-internal", "hub-ca")):
            answer = await self.get(made, "https", shows=shows, **forged)
            assert answer == "https from 127.0.0.1"
        answer = await self.get(made, "http", has_tls=False, **{"X-Real-IP": "192.0.2.66"})
        assert answer == "http from 127.0.0.1"

    async def test_a_session_is_known_by_its_certificate(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Who(web.RequestHandler):
            def get(self) -> None:
                connection: Any = self.request.connection
                self.write(session_of(connection.stream.socket) or "none")

        monkeypatch.setattr(self, "Handler", Who)
        answer = await self.get(made, "https")
        assert answer == ALICE
        for shows in (
            pair(made, "proxy-client", "proxy-client-ca"),
            pair(made, "hub-internal", "hub-ca"),
        ):
            assert await self.get(made, "https", shows=shows) == "none"
        assert await self.get(made, "http", has_tls=False) == "none"

    async def test_passwords_are_accepted_only_from_the_proxy(
        self, made: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def accept(name: str, *_: object) -> str:
            asked.append(name)
            return name

        async def has_sessions(_: object) -> Answer:
            return Answer(ok=True)

        monkeypatch.setattr(login, "accepted_name", accept)
        monkeypatch.setattr(account_rules, "account_of", lambda name: SimpleNamespace(pw_name=name))
        monkeypatch.setattr(pamela, "check_account", lambda *_, **__: None)
        authenticator = ClusterAuthenticator()
        cluster = SimpleNamespace(broker=SimpleNamespace(ask=has_sessions))

        class Login(web.RequestHandler):
            users = SimpleNamespace(settings={SETTING: cluster})

            async def get(self) -> None:
                data = {"username": "alice", "password": "right"}
                self.write(await authenticator.authenticate(self, data) or "nobody")

        monkeypatch.setattr(self, "Handler", Login)
        for shows in (files(made, ALICE).client(), pair(made, "hub-internal", "hub-ca")):
            answer = await self.get(made, "https", shows=shows)
            assert answer == "nobody"
        assert await self.get(made, "http", has_tls=False) == "nobody"
        assert asked == []
        proxy = pair(made, "proxy-client", "proxy-client-ca")
        answer = await self.get(made, "https", shows=proxy)
        assert (answer, asked) == ("alice", ["alice"])


def test_the_maintenance_reaches_sessions_and_trusts_only_them(made: Path) -> None:
    server = files(made, ALICE).server()
    handshake(server, internal_tls(str(made), "notebooks-ca"), "10.9.9.9")
    with pytest.raises(ssl.SSLError):
        handshake(server, internal_tls(str(made), "hub-ca"), "10.9.9.9")
