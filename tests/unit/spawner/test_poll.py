# SPDX-License-Identifier: BSD-3-Clause
"""How the hub decides whether a session is alive, gone or unknown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batchspawner.batchspawner import JobStatus
from jupyterhub import orm

from fake_grid import Qstat, listing, until
from gridhub.broker.protocol import job_name
from sge_spawner import SGESpawner
from whole_hub import Broker, Cluster, Hub, Lab, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestPoll:
    @pytest.fixture
    def session(self, alice: Any, spawner: SGESpawner, broker: Broker) -> str:
        """The name of a session whose job qstat has not shown yet."""
        spawner.load_state({"job_id": "1", "session": "a" * 32, "host": "exec1", "port": 40001})
        return "a" * 32

    async def test_a_session_that_is_not_known_yet_counts_as_alive(
        self, spawner: SGESpawner, session: str, qstat: Qstat
    ) -> None:
        qstat.fails()
        assert await spawner.poll() is None
        await until(lambda: len(qstat.calls) >= 1)
        assert await spawner.poll() is None
        assert await spawner.query_job_status() is JobStatus.UNKNOWN

    async def test_a_session_whose_job_is_listed_is_alive(
        self, spawner: SGESpawner, session: str, cluster: Cluster, subtests: pytest.Subtests
    ) -> None:
        letters = dict.fromkeys(("qw", "hqw", "Eqw"), JobStatus.PENDING)
        letters |= dict.fromkeys(("t", "r", "hr", "s", "dr"), JobStatus.RUNNING)
        for state, status in letters.items():
            with subtests.test(state=state):
                cluster.put(session, state)
                assert await spawner.poll() is None
                async with asyncio.timeout(10):
                    while getattr(spawner._job(), "letters", None) != state:
                        spawner.collector.hurry()
                        await spawner.collector.news(10)
                assert await spawner.poll() is None
                assert await spawner.query_job_status() is status

    async def test_a_session_is_over_after_two_answers_without_it(
        self, spawner: SGESpawner, session: str, qstat: Qstat, cluster: Cluster
    ) -> None:
        cluster.put(session)
        qstat.says_once(2, listing())
        pipe = qstat.holds_back(3)
        assert await spawner.poll() is None
        await spawner.collector.news(10)
        spawner.collector.hurry()
        await until(lambda: len(qstat.calls) == 3)
        assert await spawner.poll() is None  # one answer without it
        await asyncio.to_thread(pipe.write_text, listing())
        async with asyncio.timeout(10):
            while await spawner.poll() != 1:
                await spawner.collector.news(10)
        assert qstat.asked_alone == [job_name(session)]
        assert set(spawner.get_state()) == {"last"}
        assert not spawner.collector.watched
        assert await spawner.poll() == 1

    async def test_a_session_that_is_over_loses_its_token(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        assert orm.APIToken.find(hub.db, broker.token)
        async with asyncio.timeout(10):
            while await spawner.poll() is None:
                spawner.collector.hurry()
                await spawner.collector.news(1)
        assert not orm.APIToken.find(hub.db, broker.token)

    async def test_without_a_job_there_is_no_session(
        self, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        assert await spawner.poll() == 1
        assert qstat.calls == []

    async def test_a_poll_does_not_query_grid_engine(
        self, spawner: SGESpawner, session: str, qstat: Qstat, cluster: Cluster
    ) -> None:
        cluster.put(session)
        await spawner.poll()
        await spawner.collector.news(10)
        for _ in range(100):
            assert await spawner.poll() is None
        await spawner.collector.news(0.1)
        assert len(qstat.calls) == 1
