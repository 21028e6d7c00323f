# SPDX-License-Identifier: BSD-3-Clause
"""A session starts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from batchspawner.api import BatchSpawnerAPIHandler
from jupyterhub.apihandlers import default_handlers
from jupyterhub.spawner import SpawnException

from fake_grid import Qstat, until
from gridhub.broker.protocol import Stop
from gridhub.hub.starter import SessionHandler
from gridhub.spawner.cluster import hub_mark
from sge_spawner import SGESpawner
from whole_hub import (
    SECRET,
    Broker,
    Hub,
    Lab,
    answers,
    starting,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestHandlers:
    async def test_batchspawners_handler_that_sets_any_attribute_is_gone(self) -> None:
        assert not [entry for entry in default_handlers if entry[1] is BatchSpawnerAPIHandler]
        assert [entry for entry in default_handlers if "batchspawner" in entry[0]] == []
        assert default_handlers.count((r"/api/sge/(port|failure)", SessionHandler)) == 1

    async def test_the_hub_does_not_serve_that_handler(self, hub: Hub, spawner: SGESpawner) -> None:
        token = spawner.user.new_api_token()
        for body in ({"port": 40001}, {"job_id": "1"}):
            assert (await hub.ask("batchspawner", token, body)).code == 404


class TestStart:
    async def test_a_session_starts_and_ends_through_the_api(
        self, hub: Hub, broker: Broker, lab: Lab, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await until(lambda: broker.starts)
        broker.cluster.put(broker.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        answer = await asking
        assert answer.code == 201, answer.body
        spawner = hub.spawner()
        assert spawner.ready
        assert spawner.server.url == f"http://127.0.0.1:{lab.port}/user/alice/"
        (token_row,) = [
            found for found in spawner.orm_spawner.user.api_tokens if found.match(broker.token)
        ]
        assert stored(hub) == [
            {
                "job_id": "1",
                "session": broker.session,
                "owner": "alice",
                "token_hash": token_row.hashed,
                "host": "127.0.0.1",
                "port": lab.port,
                "stopping": False,
                "ends": 0.0,
                "note": "",
                "asked": [
                    {
                        "item": "cores",
                        "label": "CPU cores",
                        "value": 2,
                        "words": "2",
                        "kind": "slots",
                        "complex": "",
                        "total": 2.0,
                    }
                ],
            }
        ]
        assert hub.proxy.routes["/user/alice/"]["target"] == f"http://127.0.0.1:{lab.port}"
        # A session can also be ended through the API.
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert "/user/alice/" not in hub.proxy.routes
        assert stored(hub) == [{}]

    async def test_the_sessions_name_begins_with_the_mark_of_this_hub(
        self, alice: Any, broker: Broker
    ) -> None:
        await starting(alice, broker)
        assert re.fullmatch("[0-9a-f]{32}", broker.session)
        assert broker.session.startswith(hub_mark(SECRET))
        assert hub_mark(SECRET) != hub_mark(b"y" * 32)
        assert re.fullmatch("[0-9a-f]{8}", hub_mark(SECRET))

    async def test_settings_of_a_hook_that_have_no_effect_are_logged(
        self,
        spawner: SGESpawner,
        broker: Broker,
        hub: Hub,
        token: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def hook(spawner: SGESpawner) -> None:
            spawner.environment = {"SECRET": "value"}
            spawner.mem_limit = "2G"

        monkeypatch.setattr(spawner, "pre_spawn_hook", hook)
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        assert "A hook has set environment, mem_limit of the spawner" in caplog.text
        assert "value" not in caplog.text
        asking.cancel()

    async def test_a_request_that_the_broker_cannot_take_is_reported_without_values(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = "s3cret" * 2000
        monkeypatch.setattr(SGESpawner, "get_env", lambda self: {"JUPYTERHUB_API_TOKEN": secret})
        with pytest.raises(SpawnException) as caught:
            await alice.spawn("", options={})
        assert "does not accept such a environment" in caught.value.jupyterhub_message
        assert secret not in str(caught.value)
        assert broker.requests == []
        assert not alice.spawners[""].session

    async def test_the_port_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)

    async def test_the_host_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        broker.letters = "r"
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_does_not_answer_is_not_up(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        lab.answer()
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_cannot_be_reached_is_reported_with_its_address(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        spawner.http_timeout = 1
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        with pytest.raises(SpawnException, match=f"on 127.0.0.1 in job 1.* at port {lab.port}"):
            await asyncio.wait_for(start, 10)

    async def test_the_end_of_a_job_whose_server_never_answered_is_reported(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await until(lambda: spawner.host)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Your last session, job 1, has ended"):
            await asyncio.wait_for(start, 10)

    async def test_an_unknown_state_does_not_end_a_start(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.fails()
        start = await starting(alice, broker)
        await until(lambda: len(qstat.calls) > 3)
        assert not start.done()
        broker.cluster.put(broker.session)
        qstat.recovers()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)
