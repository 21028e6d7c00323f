# SPDX-License-Identifier: BSD-3-Clause
"""A start that takes too long, or that the broker refuses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from fake_grid import Qstat, until
from gridhub.broker.protocol import SESSION_VARIABLES, Answer, Stop
from sge_spawner import SGESpawner
from whole_hub import (
    Broker,
    Cluster,
    Hub,
    Lab,
    answers,
    readonly,
    starting,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestUnstarted:
    @pytest.mark.parametrize(
        ("letters", "words"),
        [
            ("qw", "no place for it became free. The last known reason: Job 1 is waiting"),
            ("hqw", "it is still held"),
            ("r", "JupyterLab did not come up on 127.0.0.1"),
            ("t", "JupyterLab did not come up on 127.0.0.1"),
        ],
    )
    async def test_a_start_that_takes_too_long_is_ended_with_what_it_waited_for(
        self, alice: Any, spawner: SGESpawner, broker: Broker, letters: str, words: str
    ) -> None:
        spawner.wait_limit = 0.2
        broker.letters = letters
        start = await starting(alice, broker)
        with pytest.raises(
            SpawnException, match=f"The hub gave up on job 1 after 0.2 seconds: {words}"
        ):
            await asyncio.wait_for(start, 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    @pytest.mark.parametrize("why", ["old answer", "suspended", "host does not report"])
    async def test_a_start_is_not_ended_while_something_else_may_be_the_reason(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        why: str,
    ) -> None:
        spawner.wait_limit = 0.1
        broker.letters = "s" if why == "suspended" else "r"
        if why == "old answer":
            monkeypatch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
        before = Cluster.put
        if why == "host does not report":
            monkeypatch.setattr(
                Cluster,
                "put",
                lambda self, session, letters="r", **more: before(
                    self, session, letters, **{"reports": False} | more
                ),
            )
        start = await starting(alice, broker)
        await asyncio.wait([start], timeout=0.5)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        broker.cluster.put(broker.session, reports=True)
        await asyncio.wait_for(start, 10)

    async def test_a_refusal_by_the_broker_reaches_the_user(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, subtests: pytest.Subtests
    ) -> None:
        kinds = {"choice": 400, "home": 400, "grid": 400, "refused": 400}
        for kind, status in (kinds | {"request": 500, "broker": 500}).items():
            with subtests.test(kind=kind):
                broker.answers = [Answer(ok=False, kind=kind, error="cannot run: no <b>host</b>")]
                answer = await hub.ask("users/alice/server", token, {})
                assert "cannot run: no <b>host</b>" in json.loads(answer.body)["message"]
                assert not broker.stops  # after a refusal, there is no job to delete
                assert answer.code == status
                assert not hub.spawner().active

    @pytest.mark.parametrize("fault", ["absent", "silent", "hanging"])
    async def test_a_broker_that_does_not_answer_is_reported_without_details(
        self,
        hub: Hub,
        spawner: SGESpawner,
        broker: Broker,
        token: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
    ) -> None:
        if fault == "absent":
            (tmp_path / "broker.sock").unlink()
        elif fault == "silent":
            monkeypatch.setattr(Answer, "model_dump_json", lambda self: "")
        else:
            spawner.broker_timeout = 0.1
            broker.open.clear()
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 503
        assert b"submission service does not answer" in answer.body
        assert str(tmp_path).encode() not in answer.body
        if fault == "hanging":
            # If the broker submits the job later, the job is deleted.
            broker.open.set()
            await until(lambda: len(broker.stops) > 0 and not broker.cluster.jobs)

    async def test_the_session_gets_its_variables_and_no_others(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
        monkeypatch.setenv("LD_PRELOAD", "")
        spawner.environment = {"PYTHONPATH": "/tmp", "JUPYTERHUB_DEBUG": "1"}
        broker.answers = [Answer(ok=False, kind="grid", error="not now")]
        with pytest.raises(SpawnException):
            await alice.spawn(options={})
        environment = broker.starts[0].environment
        assert set(environment) <= SESSION_VARIABLES
        assert environment["JUPYTERHUB_USER"] == "alice"
        assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/alice/"
        assert {"JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN"} <= set(environment)

    async def test_the_name_is_stored_before_the_job_is_requested(
        self, hub: Hub, alice: Any, broker: Broker
    ) -> None:
        broker.open.clear()
        start = asyncio.create_task(alice.spawn(options={}))
        await until(lambda: broker.starts)
        (state,) = stored(hub)
        assert state
        assert state["session"] == broker.session
        assert not state.get("job_id")
        broker.open.set()
        await until(lambda: (stored(hub)[0] or {}).get("job_id") == "1")
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    async def test_without_a_database_no_job_is_requested(
        self, hub: Hub, broker: Broker, alice: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit = SGESpawner.submit_batch_script

        async def submit_without(self: SGESpawner) -> str:
            # Make the database read-only for this call only. JupyterHub must be able to write
            # before the call and after it.
            with readonly(hub.db):
                return await submit(self)

        monkeypatch.setattr(SGESpawner, "submit_batch_script", submit_without)
        with pytest.raises(SpawnException, match="cannot write to its database"):
            await alice.spawn(options={})
        assert not hub.spawner().active
        assert not broker.requests

    async def test_a_start_stopped_while_the_broker_works_leaves_no_job(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str
    ) -> None:
        spawner.stop_timeout = 0.1
        spawner.broker_timeout = 0.2
        broker.open.clear()
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops
        broker.deaf = True
        broker.open.set()  # the broker submits the job only now, after the deletion
        await until(lambda: broker.cluster.jobs)
        broker.deaf = False
        await until(lambda: not broker.cluster.jobs)
        await asking

    async def test_all_sessions_share_one_collector(self, hub: Hub) -> None:
        alice, bob = (hub.person(name).spawners[""] for name in ("alice", "bob"))
        assert alice.collector is bob.collector

    async def test_the_user_sees_what_the_job_does(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        messages: list[str] = []

        async def read() -> None:
            async for event in spawner.progress():
                messages.append(event["message"])

        await lab.fall_silent()
        start = await starting(alice, broker)
        reading = asyncio.create_task(read())
        for letters, reports, words in (
            ("qw", True, "Job 1 is waiting for a free place"),
            ("hqw", True, "Job 1 is held"),
            ("t", True, "Job 1 is starting on 127.0.0.1"),
            ("r", True, "Job 1 is running on 127.0.0.1"),
            ("r", False, "127.0.0.1, where job 1 runs, does not report"),
            ("s", True, "Job 1 is suspended on 127.0.0.1"),
        ):
            broker.cluster.put(broker.session, letters, reports=reports)
            await until(lambda words=words: messages and words in messages[-1])
        with monkeypatch.context() as patch:
            patch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
            await until(lambda: "Grid Engine does not answer" in messages[-1])
        spawner.announce(lab.port)
        broker.cluster.put(broker.session)
        await until(lambda: "but does not answer yet" in messages[-1])
        lab.answer()
        await asyncio.wait_for(start, 10)
        await asyncio.wait_for(reading, 10)
