# SPDX-License-Identifier: BSD-3-Clause
"""If every port of a worker is taken, the session starts on another worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fake_grid import until
from gridhub import contract
from gridhub.broker.protocol import Answer, job_name
from gridhub.contract import NO_PORT
from gridhub.grid.jobs import Job
from gridhub.spawner.failures import Holders, read_no_port
from gridhub.words import text
from whole_hub import (
    Broker,
    Hub,
    Lab,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestFullWorkers:
    async def test_the_hub_words_the_message_that_every_port_is_taken(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        # Grid Engine has not reported yet that the job runs, so the job's worker is not known.
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        await hub.ask("sge/failure", broker.token, {"reason": contract.NO_PORT})
        message = json.loads((await asking).body)["message"]
        # As in older releases, the report above names no worker and no accounts.
        assert "every port from 40000 to 40999 " in message

    @staticmethod
    async def full(hub: Hub, broker: Broker, place: int, words: str) -> None:
        """Report that start number ``place`` (counted from 1) found no free port."""
        await until(lambda: len(broker.starts) == place)
        answer = await hub.ask("sge/failure", broker.token, {"reason": f"{NO_PORT} {words}"})
        assert answer.code == 204

    async def test_if_every_port_is_taken_the_session_starts_elsewhere(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        token: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Another account's programs hold all ports of the worker on which the session starts."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await self.full(hub, broker, 1, "exec1 bob=998,alice=1")
        await until(lambda: len(broker.starts) == 2)
        first, second = broker.starts
        assert (first.avoid, second.avoid) == ((), ("exec1",))
        assert first.session != second.session and first.choice == second.choice
        spawner = hub.spawner()
        words = spawner.progress_message()[1]
        assert words.endswith(text("start.no_port_elsewhere", host="exec1"))
        assert "bob" not in words
        assert "all ports of exec1 are taken. Reported holders: bob 998, alice 1" in caplog.text
        # The hub forgets the failed job, and the second job is now the session's job.
        await until(lambda: not spawner.collector.watches(job_name(first.session)))
        broker.cluster.put(second.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        assert (await asking).code == 201
        assert spawner.ready and spawner.session == second.session
        assert stored(hub)[0]["session"] == second.session

    async def test_the_avoided_worker_is_the_one_grid_engine_names(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts and isinstance(hub.spawner()._job(), Job))
        await self.full(hub, broker, 1, "another-name")
        await until(lambda: len(broker.starts) == 2)
        assert broker.starts[1].avoid == ("127.0.0.1",)
        await hub.ask("users/alice/server", token, method="DELETE")
        await asking

    async def test_after_three_workers_the_user_sees_why(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2, 3):
            await self.full(hub, broker, place, f"exec{place} bob=1000")
        answer = await asking
        values = {"first": 40000, "last": 40999, "host": "exec3"}
        assert json.loads(answer.body)["message"] == text("start.no_port_other", **values)
        assert [each.avoid for each in broker.starts] == [(), ("exec1",), ("exec1", "exec2")]
        assert "bob" not in answer.body.decode()

    async def test_an_avoided_worker_is_not_tried_forever(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        """A site's own request for a host may override the list of workers to avoid."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2):
            await self.full(hub, broker, place, "exec1 alice=1000")
        answer = await asking
        values = {"first": 40000, "last": 40999, "host": "exec1"}
        assert json.loads(answer.body)["message"] == text("start.no_port_own", **values)

    @pytest.mark.parametrize(
        ("kind", "also"), [("grid", ""), ("home", " Your home folder is full")]
    )
    async def test_if_no_other_worker_takes_the_session_the_user_sees_this_and_any_other_problem(
        self, hub: Hub, broker: Broker, token: str, kind: str, also: str
    ) -> None:
        refused = also.strip() or "Grid Engine refused the session: no suitable queues"
        broker.answers = [
            Answer(ok=True, job_id=1),
            Answer(ok=False, kind=kind, error=refused),
            Answer(ok=True, verdict="now"),
        ]
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await self.full(hub, broker, 1, "exec1 bob=1000")
        values = {"first": 40000, "last": 40999, "host": "exec1"}
        words = text("start.no_port_other", **values) + also
        assert json.loads((await asking).body)["message"] == words

    @pytest.mark.parametrize(
        ("reason", "found"),
        [
            ("no_port", Holders("", {})),
            ("no_port exec1", Holders("exec1", {})),
            ("no_port exec1.x a=1,DOM\\b=22", Holders("exec1.x", {"a": 1, "DOM\\b": 22})),
            ("no_port exec1 a=x,=3,b", Holders("exec1", {})),
            ("no_port exec1|exec2", None),
            ("no_port exec1 a=1 b=2", None),
            ("no_port exec1\n", None),
            ("no_ports", None),
        ],
    )
    async def test_only_valid_reports_of_a_starter_are_parsed(
        self, reason: str, found: Holders | None
    ) -> None:
        assert read_no_port(reason) == found
