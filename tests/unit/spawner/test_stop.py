# SPDX-License-Identifier: BSD-3-Clause
"""A session is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from jupyterhub import orm

from fake_directory import FakeDirectory
from fake_grid import Qstat, until
from gridhub.broker.protocol import Answer, Stop, job_name
from gridhub.contract import Ending
from gridhub.spawner.ended import SessionEnd
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Lab, answers, readonly, running, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestStop:
    async def test_stopping_without_a_job_does_nothing(
        self, spawner: SGESpawner, broker: Broker
    ) -> None:
        await spawner.stop()
        await spawner.stop(now=True)
        assert not broker.requests

    async def test_a_second_stop_does_nothing(self, alice: Any, broker: Broker, lab: Lab) -> None:
        spawner = await running(alice, broker, lab)
        await asyncio.wait_for(spawner.stop(), 10)
        await asyncio.wait_for(spawner.stop(), 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert spawner.get_state() == {}

    async def test_a_session_belongs_to_the_account_whatever_name_the_hubs_user_has(
        self,
        alice: Any,
        broker: Broker,
        lab: Lab,
        accounts: FakeDirectory,
        qstat: Qstat,
    ) -> None:
        """The owner in Grid Engine is the uid's name; another owner's job would be a stray."""
        accounts.add("ann.smith", "alice")
        spawner = await running(alice, broker, lab)
        assert broker.starts[-1].user == spawner.owner == "ann.smith"
        assert spawner.collector.watched[job_name(broker.session)].owner == "ann.smith"
        assert spawner.get_state()["owner"] == "ann.smith"
        await asyncio.wait_for(spawner.stop(), 10)
        assert broker.stops == [Stop(user="ann.smith", session=broker.session)]

    async def test_stopping_waits_for_the_job_to_be_gone(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        stop = asyncio.create_task(spawner.stop())
        await until(lambda: broker.stops)
        await answers(qstat, spawner, 3)
        assert not stop.done()
        broker.cluster.remove(broker.session)
        await asyncio.wait_for(stop, 10)
        assert not spawner.collector.watched
        assert len(broker.stops) == 1

    async def test_stopping_is_stored_and_the_token_revoked_before_the_job_is_deleted(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.open.clear()
        stop = asyncio.create_task(spawner.stop())
        await until(lambda: broker.stops)
        (state,) = stored(hub)
        assert state
        assert state["stopping"]
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 403
        assert not orm.APIToken.find(hub.db, broker.token)
        broker.open.set()
        await asyncio.wait_for(stop, 10)

    async def test_stopping_now_does_not_wait(self, alice: Any, broker: Broker, lab: Lab) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        await asyncio.wait_for(spawner.stop(now=True), 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_a_job_that_does_not_go_away_is_shown_on_the_next_form(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        spawner.stop_timeout = 0.3
        await asyncio.wait_for(alice.stop(), 10)
        assert f"Job 1 of alice ({broker.session}) is not gone after 0.3 s" in caplog.text
        form = await hub.spawner().get_options_form()
        assert "Your last session, job 1, is being stopped but has not ended yet." in form
        assert "Your last session, job 1" in await hub.page("spawn/alice")
        # The next session clears the message.
        broker.sticky = False
        await running(alice, broker, lab)
        assert "last session" not in await hub.spawner().get_options_form()

    @pytest.mark.parametrize("replaced_by", ["", "another end", "a session", "another spawner"])
    async def test_a_late_reason_is_stored_only_if_it_is_still_the_latest(
        self, alice: Any, spawner: SGESpawner, hub: Hub, replaced_by: str
    ) -> None:
        unknown, found = (
            SessionEnd(job="1", why=Ending.UNKNOWN),
            SessionEnd(job="1", why=Ending.DELETED),
        )
        spawner.last = unknown
        if replaced_by == "another end":
            spawner.last = SessionEnd(job="2", why=Ending.IDLE)
        elif replaced_by == "a session":
            spawner.session = "0" * 32
        elif replaced_by == "another spawner":
            alice.spawners[""] = alice._new_spawner("")
        before = spawner.last
        spawner._store_last(unknown, found)
        spawner.session = ""
        assert spawner.last is (before if replaced_by else found)
        assert bool((stored(hub)[0] or {}).get("last")) == (not replaced_by)

    async def test_the_notice_disappears_once_the_job_is_gone(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.sticky = True
        spawner.stop_timeout = 0.1
        await asyncio.wait_for(alice.stop(), 10)
        assert "has not ended yet" in (await hub.spawner().view()).ended
        broker.cluster.remove(broker.session)
        name = job_name(broker.session)
        await until(lambda: not hub.spawner().collector.watches(name))
        assert (await hub.spawner().view()).ended == ""
        assert "last" not in (stored(hub)[0] or {})

    async def test_the_notice_is_shown_only_to_its_user(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        hub.spawner().last = SessionEnd(job="<b>", why=Ending.ITSELF)
        assert "last" not in await hub.spawner("bob").get_options_form()
        assert "Your last session, job &lt;b&gt;," in await hub.spawner().get_options_form()

    async def test_a_grid_engine_that_is_down_deletes_the_job_when_it_is_back(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        # JupyterHub forgets the session while the session's job still exists. If the hub asked the
        # broker only once to delete the job, the job would stay.
        spawner = await running(alice, broker, lab)
        qstat.fails()
        broker.answers = [Answer(ok=False, kind="grid", error="qmaster is down")] * 3
        await asyncio.wait_for(alice.stop(), 10)
        assert broker.cluster.jobs
        qstat.recovers()
        await until(lambda: not broker.cluster.jobs)
        assert set(broker.stops) == {Stop(user="alice", session=broker.session)}
        await until(lambda: not spawner.collector.watched)

    async def test_the_job_is_deleted_even_if_the_database_cannot_be_written(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        with readonly(hub.db):
            stop = asyncio.create_task(spawner.stop())
            await until(lambda: not broker.cluster.jobs)
            await until(lambda: not spawner.collector.watched)
            # JupyterHub cannot record the session's end yet, so ``stop`` waits for the database.
            await asyncio.wait([stop], timeout=0.2)
            assert not stop.done()
            assert spawner.session
        await asyncio.wait_for(stop, 10)
        assert not orm.APIToken.find(hub.db, broker.token)
