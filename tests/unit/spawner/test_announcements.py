# SPDX-License-Identifier: BSD-3-Clause
"""What a starting session reports to the hub: its port, or why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fake_grid import until
from gridhub import contract
from sge_spawner import SGESpawner
from whole_hub import SERVICE_TOKEN, Broker, Hub, Lab, readonly, starting, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestAnnouncements:
    @pytest_asyncio.fixture(loop_scope="module")
    async def session(self, alice: Any, broker: Broker) -> AsyncIterator[str]:
        """The token of a session that is starting."""
        start = await starting(alice, broker)
        yield broker.token
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    async def test_a_starting_session_may_announce_its_port(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        for port in (40000, 40500, 40999):
            with subtests.test(port=port):
                spawner.port = 0
                assert (await hub.ask("sge/port", session, {"port": port})).code == 204
                assert spawner.port == port
                assert (stored(hub)[0] or {})["port"] == port

    async def test_nothing_else_may_be_announced(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        wrong: list[object] = [
            {},
            [],
            [40001],
            40001,
            "40001",
            None,
            {"port": "40001"},
            {"port": 40001.0},
            {"port": True},
            {"port": None},
            {"port": [40001]},
            {"port": 39999},
            {"port": 41000},
            {"port": 0},
            {"port": -40001},
            {"port": 10**30},
            {"port": 40001, "ip": "10.0.0.1"},
            {"port": 40001, "job_id": "1"},
            {"ip": "10.0.0.1"},
            {"Port": 40001},
            {"reason": "no"},
            b"",
            b"{",
            b"\xff",
            b"port=40001",
        ]
        before = (spawner.ip, spawner.job_id, spawner.get_state())
        for body in wrong:
            with subtests.test(body=body):
                assert (await hub.ask("sge/port", session, body)).code == 400
                assert spawner.port == 0
                assert (spawner.ip, spawner.job_id, spawner.get_state()) == before

    async def test_a_reason_is_text_of_limited_length(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        most = contract.MAX_REASON
        wrong: list[object] = [
            {},
            [],
            "no",
            {"reason": ""},
            {"reason": None},
            {"reason": 5},
            {"reason": ["no"]},
            {"reason": "x" * (most + 1)},
            {"reason": "no", "port": 40001},
            {"port": 40001},
            b"\xff",
        ]
        for body in wrong:
            with subtests.test(body=body):
                assert (await hub.ask("sge/failure", session, body)).code == 400
                assert spawner.failure is None
        assert (await hub.ask("sge/failure", session, {"reason": "x" * most})).code == 204

    async def test_a_port_is_announced_once(
        self, hub: Hub, spawner: SGESpawner, session: str
    ) -> None:
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert (await hub.ask("sge/port", session, {"port": 40002})).code == 403
        assert (await hub.ask("sge/failure", session, {"reason": "no"})).code == 403
        assert spawner.port == 40001

    async def test_a_port_may_be_announced_again_if_the_answer_was_lost(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        start = await starting(alice, broker)
        for _ in range(2):
            assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port + 1})).code == 403

    async def test_no_other_token_is_accepted(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        bob = hub.person("bob")
        others = {
            "none": None,
            "wrong": "0" * 32,
            "alice's own": spawner.user.new_api_token(),
            "bob's own": bob.new_api_token(),
            "a service's": SERVICE_TOKEN,
        }
        for what, body in (("port", {"port": 40001}), ("failure", {"reason": "no"})):
            found = {
                name: (await hub.ask(f"sge/{what}", other, body)).code
                for name, other in others.items()
            }
            assert found == dict.fromkeys(others, 403)
        assert spawner.port == 0
        assert spawner.failure is None

    @pytest.mark.parametrize("attribute", ["_start_pending", "stopping"])
    async def test_a_session_that_is_not_starting_may_announce_nothing(
        self, hub: Hub, spawner: SGESpawner, session: str, attribute: str
    ) -> None:
        setattr(spawner, attribute, attribute == "stopping")
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 403
        assert (await hub.ask("sge/failure", session, {"reason": "no"})).code == 403
        assert spawner.port == 0

    @pytest.mark.parametrize("used_before", [False, True])
    async def test_a_port_that_cannot_be_stored_is_not_accepted_and_may_be_announced_again(
        self, hub: Hub, spawner: SGESpawner, session: str, used_before: bool
    ) -> None:
        # The hub must not accept a port that it cannot store, or a restart would lose the port.
        # A refusal would end the job. Therefore the hub answers 503, and the session tries again.
        if used_before:
            assert (await hub.ask("sge/port", session, {"port": 1})).code == 400
        with readonly(hub.db):
            answer = await hub.ask("sge/port", session, {"port": 40001})
            assert answer.code == 503
            assert spawner.port == 0
        assert (await hub.ask("sge/port", session, {"port": 40001})).code == 204
        assert (stored(hub)[0] or {})["port"] == 40001

    async def test_a_session_may_be_faster_than_the_brokers_answer(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        broker.open.clear()
        start = asyncio.create_task(alice.spawn(options={}))
        await until(lambda: broker.starts)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.letters = "r"
        broker.open.set()
        await asyncio.wait_for(start, 10)

    async def test_announcements_can_only_be_posted(
        self, hub: Hub, spawner: SGESpawner, session: str, subtests: pytest.Subtests
    ) -> None:
        for method in ("GET", "DELETE", "PUT"):
            for what in ("port", "failure", "ended"):
                with subtests.test(method=method, what=what):
                    answer = await hub.ask(f"sge/{what}", session, {"port": 40001}, method=method)
                    assert answer.code in (404, 405)
                    assert spawner.port == 0
