# SPDX-License-Identifier: BSD-3-Clause
"""The last lines of a session's log, on the pages about its end."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from jupyterhub import roles

from fake_grid import Qstat, until
from gridhub.broker.protocol import Answer, Log
from gridhub.grid.engine import GridEngine
from sge_spawner import SGESpawner
from whole_hub import SERVICE_TOKEN, Broker, Hub, Lab, answers, record, running, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINES = "Traceback\n  <b>No module named x</b>"
SHOWN = "Traceback\n  &lt;b&gt;No module named x&lt;/b&gt;"
HEADING = "The last lines of ~/.jupyterhub-sessions/1.log:"


async def failed_start(
    hub: Hub, alice: Any, broker: Broker, qstat: Qstat, grid: GridEngine, token: str
) -> None:
    """Let a job end before its session is up; wait until the start has failed."""
    broker.letters = "r"
    asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
    await until(lambda: hub.spawner().job_id)
    await answers(qstat, hub.spawner())
    grid.accounting_file.parent.mkdir(parents=True, exist_ok=True)
    grid.accounting_file.write_text(record("t-exit3", broker.session), encoding="utf-8")
    broker.cluster.remove(broker.session)
    await asking
    await until(lambda: hub.spawner()._failed)


class TestFailedStart:
    @pytest.fixture(autouse=True)
    def log(self, broker: Broker) -> None:
        broker.logs[1] = LINES

    async def test_the_page_shows_the_last_lines(
        self, hub: Hub, alice: Any, broker: Broker, qstat: Qstat, grid: GridEngine, token: str
    ) -> None:
        await failed_start(hub, alice, broker, qstat, grid, token)
        page = await hub.page("spawn-pending/alice")
        assert "Job 1 ended before JupyterLab was up." in page
        assert f"{HEADING}</summary>" in page
        assert SHOWN in page
        assert page.count("No module named x") == 1
        # So do the card and the form, where a new spawner asks again.
        assert SHOWN in await hub.page("home")
        assert SHOWN in await hub.page("spawn")
        assert Log(user="alice", job=1) in broker.requests

    async def test_the_api_gives_them_to_the_person_only(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        qstat: Qstat,
        grid: GridEngine,
        token: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        await failed_start(hub, alice, broker, qstat, grid, token)
        path = "users/alice/server/progress"
        own = (await hub.ask(path, token, method="GET")).body.decode()
        event = json.loads(own.partition("data: ")[2].splitlines()[0])
        assert event["failed"]
        assert event["message"].endswith(f"{HEADING}\n{LINES}")
        service = (await hub.ask(path, SERVICE_TOKEN, method="GET")).body.decode()
        assert "ended before JupyterLab was up" in service
        assert "No module named x" not in service
        # Nor does the hub's log have them.
        assert "No module named x" not in caplog.text

    async def test_an_administrator_does_not_see_them(
        self, hub: Hub, alice: Any, broker: Broker, qstat: Qstat, grid: GridEngine, token: str
    ) -> None:
        await failed_start(hub, alice, broker, qstat, grid, token)
        boss = hub.person("bob")
        boss.admin = True
        roles.assign_default_roles(hub.db, entity=boss.orm_user)
        hub.db.commit()
        page = await hub.page("spawn-pending/alice", "bob")
        assert "Job 1 ended before JupyterLab was up." in page
        assert "No module named x" not in page
        assert "No module named x" not in await hub.page("spawn/alice", "bob")

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ("", "1.log is empty: the job ended on 127.0.0.1 before it wrote anything"),
            (None, "There is no file ~/.jupyterhub-sessions/1.log: 127.0.0.1 has not started"),
        ],
    )
    async def test_a_log_without_lines_is_explained_too(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        qstat: Qstat,
        grid: GridEngine,
        token: str,
        answer: str | None,
        words: str,
    ) -> None:
        broker.logs = {} if answer is None else {1: answer}
        await failed_start(hub, alice, broker, qstat, grid, token)
        assert words in await hub.page("spawn-pending/alice")
        assert words in await hub.page("home")

    async def test_a_job_that_never_had_a_worker_has_no_log(
        self, hub: Hub, alice: Any, broker: Broker, token: str
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        await hub.ask("users/alice/server", token, {})
        assert "no more today" in await hub.page("home")
        broker.letters = "Eqw"
        start = await starting(alice, broker)
        await asyncio.gather(start, return_exceptions=True)
        assert "in an error state" not in await hub.page("home")
        assert not [each for each in broker.requests if isinstance(each, Log)]


class TestEnded:
    @pytest.mark.parametrize(("like", "has_log"), [("t-exit3", True), ("t-exit0", False)])
    async def test_the_card_of_a_session_that_ended_shows_them(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
        like: str,
        has_log: bool,
    ) -> None:
        broker.logs[1] = LINES
        spawner = await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        broker.cluster.remove(broker.session)
        while await spawner.poll() is None:
            spawner.collector.hurry()
            await spawner.collector.news(0.1)
        await alice.stop()
        assert (SHOWN in await hub.page("home")) is has_log
        assert (SHOWN in await hub.page("user/alice/lab")) is has_log

    async def test_a_broker_that_does_not_answer_does_not_delay_the_page(
        self,
        hub: Hub,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        qstat: Qstat,
        grid: GridEngine,
        token: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        broker.logs[1] = LINES
        monkeypatch.setattr("sge_spawner.READ_LOG_FOR", 0.0)
        await failed_start(hub, alice, broker, qstat, grid, token)
        hub.users[alice.orm_user].spawners[""]._log = None
        broker.open.clear()
        page = await asyncio.wait_for(hub.page("home"), 5)
        assert "Job 1 ended before JupyterLab was up." in page
        broker.open.set()
        spawner = hub.spawner()
        await until(lambda: spawner._log)
        assert SHOWN in await hub.page("home")
