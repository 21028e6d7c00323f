# SPDX-License-Identifier: BSD-3-Clause
"""The session's reports to the hub."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from gridhub.contract import (
    EXIT_REFUSED,
    MAX_REASON,
)
from gridhub.session.hub_api import announce, is_refusal, post_to_hub, report
from gridhub.session.rules import EarlyEnd
from started import TOKEN, Hub


class Ended(BaseException):
    """Raised instead of ending the process."""


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def end(status: int) -> None:
        seen.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return seen


class TestAnnouncement:
    @pytest.mark.parametrize("slash", ["", "/"])
    async def test_the_port_is_announced_with_the_sessions_token(
        self, hub: Hub, slash: str
    ) -> None:
        environment = hub.environment
        environment["JUPYTERHUB_API_URL"] += slash
        await announce(environment, 40123)
        ((method, path, headers, body),) = hub.requests
        assert (method, path, body) == ("POST", "/hub/api/sge/port", {"port": 40123})
        assert headers["Authorization"] == f"token {TOKEN}"
        assert headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("status", [200, 201, 204])
    async def test_any_success_status_is_accepted(self, hub: Hub, status: int) -> None:
        hub.answers = [status]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 1

    async def test_the_hub_may_answer_with_an_earlier_end(
        self, hub: Hub, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for body, early_end in (
            (b'{"end": 5000, "words": "ends at {end}"}', EarlyEnd(5000, "ends at {end}")),
            (b'{"end": "soon"}', None),
            (b"[]", None),
        ):
            hub.answers = [b"HTTP/1.0 200 OK\r\n\r\n" + body]
            assert await announce(hub.environment, 40123) == early_end
        assert capsys.readouterr().err.count("The hub's answer: not the end of a session") == 2

    async def test_the_announcement_is_repeated_until_the_hub_is_back(
        self, hub: Hub, endings: list[int]
    ) -> None:
        hub.answers = [503, 502, 500, 429, 408, b"", 204]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 7
        assert not endings

    @pytest.mark.parametrize(
        "garbage",
        [b"", b"\0\xff" * 10 + b"\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.1 999999 x\r\n\r\n"],
        ids=["nothing", "no HTTP", "half a line", "no status"],
    )
    async def test_an_answer_that_is_not_http_counts_as_no_answer(
        self, hub: Hub, endings: list[int], garbage: bytes
    ) -> None:
        hub.answers = [garbage, 204]
        await announce(hub.environment, 40123)
        assert len(hub.requests) == 2
        assert not endings

    async def test_a_hub_that_does_not_listen_counts_as_no_answer(
        self, hub: Hub, capfd: pytest.CaptureFixture[str]
    ) -> None:
        environment = hub.environment
        hub.close()
        status, reason = post_to_hub(environment, "port", {"port": 40123})
        assert status == 0
        printed = capfd.readouterr().err
        address = f"{environment['JUPYTERHUB_API_URL'].rstrip('/')}/sge/port"
        assert f"The hub does not answer at {address}: {reason.decode()}" in printed
        assert "Connection refused" in printed
        assert TOKEN not in printed
        hub.__init__()  # type: ignore[misc]  # the fixture closes it

    async def test_a_hub_that_answers_with_an_error_is_named_with_the_status(
        self, hub: Hub, capfd: pytest.CaptureFixture[str]
    ) -> None:
        hub.answers = [503]
        assert post_to_hub(hub.environment, "port", {"port": 40123})[0] == 503
        assert f"{hub.environment['JUPYTERHUB_API_URL']}/sge/port: status 503" in (
            capfd.readouterr().err
        )

    async def test_a_name_without_an_address_is_named(
        self, hub: Hub, capfd: pytest.CaptureFixture[str]
    ) -> None:
        environment = hub.environment | {"JUPYTERHUB_API_URL": "https://no.invalid:8081/hub/api"}
        assert post_to_hub(environment, "port", {"port": 40123})[0] == 0
        printed = capfd.readouterr().err
        assert "https://no.invalid:8081/hub/api/sge/port: [Errno -" in printed

    async def test_pauses_grow_and_the_last_one_repeats(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.001, 0.002, 0.003))
        pauses: list[float] = []
        sleep = asyncio.sleep

        async def record(seconds: float) -> None:
            pauses.append(seconds)
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", record)
        hub.answers = [503, 503, 503, 503, 503, 204]
        await announce(hub.environment, 40123)
        assert pauses == [0.001, 0.002, 0.003, 0.003, 0.003]

    async def test_waiting_for_the_hub_does_not_block_the_event_loop(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads: list[int] = []

        def once(*_: object) -> tuple[int, bytes]:
            threads.append(threading.get_ident())
            return 204, b""

        monkeypatch.setattr("gridhub.session.hub_api.post_to_hub", once)
        await announce({}, 40123)
        assert threads
        assert threading.get_ident() not in threads

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410])
    async def test_a_refusal_by_the_hub_ends_the_job(
        self,
        hub: Hub,
        endings: list[int],
        capsys: pytest.CaptureFixture[str],
        status: int,
    ) -> None:
        hub.answers = [503, status, 204]
        with pytest.raises(Ended):
            await announce(hub.environment, 40123)
        assert endings == [EXIT_REFUSED]
        assert len(hub.requests) == 2
        assert f"HTTP {status}" in capsys.readouterr().err

    async def test_proxy_variables_in_the_environment_are_ignored(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert post_to_hub(hub.environment, "port", {"port": 40123})[0] == 204

    @pytest.mark.parametrize(
        ("status", "refusal"),
        [(400, True), (401, True), (403, True), (404, True), (499, True)]
        + [(408, False), (429, False), (500, False), (503, False), (599, False)]
        + [(0, False), (200, False), (204, False), (302, False)],
    )
    def test_only_a_definite_client_error_is_a_refusal(self, status: int, refusal: bool) -> None:
        assert is_refusal(status) is refusal


class TestReport:
    """The session reports why it cannot start."""

    def test_the_reason_is_reported_with_the_sessions_token(self, hub: Hub) -> None:
        report(hub.environment, "no <port> is free: é")
        ((method, path, headers, body),) = hub.requests
        assert (method, path) == ("POST", "/hub/api/sge/failure")
        assert body == {"reason": "no <port> is free: é"}
        assert headers["Authorization"] == f"token {TOKEN}"

    def test_a_reason_is_cut_to_the_length_that_the_hub_accepts(self, hub: Hub) -> None:
        report(hub.environment, "x" * 10_000)
        assert hub.requests[0][3] == {"reason": "x" * MAX_REASON}
        assert MAX_REASON == MAX_REASON

    @pytest.mark.parametrize("status", [204, 403, 404, 500])
    def test_the_reason_is_reported_once_with_any_answer(self, hub: Hub, status: int) -> None:
        hub.answers = [status]
        report(hub.environment, "no")
        assert len(hub.requests) == 1

    def test_the_report_to_an_unavailable_hub_is_repeated_only_a_few_times(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.session.hub_api.PAUSES", (0.0,) * 6)
        hub.answers = [b"", b"", 204]
        report(hub.environment, "no")
        assert len(hub.requests) == 3
        hub.requests.clear()
        hub.answers = [b""]
        report(hub.environment, "no")
        assert 1 < len(hub.requests) < 10
