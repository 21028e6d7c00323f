# SPDX-License-Identifier: BSD-3-Clause
"""Sessions survive a restart of the hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from jupyterhub import orm
from sqlalchemy.orm import object_session
from traitlets.config import Config

from fake_grid import Qstat, until
from gridhub.broker.protocol import Stop, job_name
from gridhub.grid.engine import GridEngine
from gridhub.spawner.cluster import hub_mark
from sge_spawner import SGESpawner
from whole_hub import (
    SECRET,
    Broker,
    Hub,
    Lab,
    answers,
    configuration,
    page_says,
    readonly,
    record,
    stored,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("connections")]


# If a subprocess's start is cancelled, Python later closes the subprocess's pipes with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestRestart:
    """A second hub opens the database of a hub that was killed."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def hubs(
        self, settings: Config, accounts: None, broker: Broker, tmp_path: Path
    ) -> AsyncIterator[Callable[[], Any]]:
        """Kill the previous hub, or end it as on SIGTERM; open a new hub on the same database."""
        opened: list[Hub] = []
        config = configuration(tmp_path, f"sqlite:///{tmp_path}/hub.sqlite")
        config.SGESpawner = settings

        async def open_hub(politely: bool = False) -> Hub:
            database = tmp_path / "hub.sqlite"
            content = database.read_bytes() if opened else b""
            await close_hub()
            if content and not politely:
                # Undo what the cancelled tasks have written, since a killed hub writes nothing.
                database.write_bytes(content)
            opened.append(Hub(config=config))
            await opened[0].open()
            return opened[0]

        async def close_hub() -> None:
            if opened:
                await opened.pop().kill(broker.tasks)

        yield open_hub
        await close_hub()

    @pytest_asyncio.fixture(loop_scope="module")
    async def first(self, hubs: Callable[[], Any]) -> Hub:
        hub: Hub = await hubs()
        await hub.opening
        return hub

    @pytest.fixture
    def token(self, first: Hub) -> str:
        """A token of alice."""
        return str(first.person("alice").new_api_token())

    async def start(self, hub: Hub, broker: Broker, token: str) -> None:
        """Queue a session."""
        asyncio.create_task(hub.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: hub.spawner().job_id)

    async def run(self, hub: Hub, broker: Broker, token: str, lab: Lab) -> None:
        """Start a session and wait until it is up."""
        await self.start(hub, broker, token)
        broker.cluster.put(broker.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        await until(lambda: hub.spawner().ready)

    async def test_a_running_session_is_reconnected_at_once(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        second = await hubs()
        await asyncio.wait_for(second.opening, 10)
        spawner = second.spawner()
        assert spawner.ready
        assert spawner.job_id == "1"
        assert spawner.server.url == f"http://127.0.0.1:{lab.port}/user/alice/"
        assert not broker.stops
        assert (await second.ask("users/alice/server", token, method="DELETE")).code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_a_session_that_states_an_impossible_version_does_not_end_the_hub(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        lab.version = "no version"
        second = await hubs()
        await asyncio.wait_for(second.opening, 10)
        assert second.spawner().ready

    async def test_a_session_that_does_not_answer_is_kept_and_is_ready_when_it_does(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        spawner = second.spawner()
        spawner.http_timeout = 1
        await asyncio.wait_for(second.opening, 10)  # the hub does not wait for the session
        assert spawner.pending == "spawn"
        page = await second.page("spawn-pending/alice")
        assert "progress" in page
        following = asyncio.create_task(
            second.ask("users/alice/server/progress", token, method="GET")
        )
        await answers(qstat, spawner)
        assert not following.done()
        lab.answer()
        answer = await asyncio.wait_for(following, 10)
        assert b"Job 1 is running on 127.0.0.1, but does not answer yet." in answer.body
        assert b'"ready": true' in answer.body
        assert spawner.ready
        assert not broker.stops

    @pytest.mark.parametrize("announced", ["before", "after"])
    async def test_a_queued_session_comes_up_as_without_a_restart(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, announced: str
    ) -> None:
        await self.start(first, broker, token)
        if announced == "before":
            assert (await first.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        second = await hubs()
        spawner = second.spawner()
        assert spawner.pending == "spawn"
        if announced == "after":
            assert (await second.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await until(lambda: spawner.ready)
        url = f"http://127.0.0.1:{lab.port}"
        assert spawner.server.url == f"{url}/user/alice/"
        await until(lambda: "/user/alice/" in second.proxy.routes)
        assert second.proxy.routes["/user/alice/"]["target"] == url
        assert not broker.stops
        # After another restart, JupyterHub still knows the address.
        third = await hubs()
        await asyncio.wait_for(third.opening, 10)
        assert third.spawner().ready
        assert third.spawner().server.url == f"{url}/user/alice/"

    async def test_a_job_whose_number_was_never_known_is_found_by_its_name(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        broker.open.clear()
        asyncio.create_task(first.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        second = await hubs()
        spawner = second.spawner()
        assert spawner.job_id == ""
        broker.open.set()
        await until(lambda: spawner.job_id == "1")
        assert (stored(second)[0] or {})["job_id"] == "1"
        assert (await second.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        await until(lambda: spawner.ready)
        assert not broker.stops

    async def test_a_job_that_was_never_submitted_is_reported(
        self, hubs: Any, first: Hub, broker: Broker, token: str, monkeypatch: Any
    ) -> None:
        broker.letters = ""
        broker.open.clear()
        asyncio.create_task(first.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        monkeypatch.setattr("gridhub.spawner.cluster.BROKER_MARGIN", -29.8)
        broker.open.set()
        second = await hubs()
        spawner = second.spawner()
        await until(lambda: spawner._failed and not spawner.active)
        assert "The job was not submitted" in await second.page("spawn-pending/alice")
        assert "The job was not submitted" in (stored(second)[0] or {})["last"]["text"]

    @pytest.mark.parametrize("politely", [True, False])
    async def test_a_stop_resumes(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, politely: bool
    ) -> None:
        await self.run(first, broker, token, lab)
        broker.deaf = True
        asyncio.create_task(  # noqa: RUF006
            first.ask("users/alice/server", token, method="DELETE")
        )
        await until(lambda: broker.stops)
        second = await hubs(politely)
        broker.deaf = False
        await until(lambda: not broker.cluster.jobs)
        await asyncio.wait_for(second.opening, 10)
        assert not second.spawner().active
        assert stored(second) == [{}]
        assert set(broker.stops) == {Stop(user="alice", session=broker.session)}

    @pytest.mark.parametrize(
        ("like", "words"),
        [
            ("t-qdel", "job 1, was deleted by an administrator"),
            ("", "job 1, has ended: its run time was"),
        ],
    )
    async def test_a_session_that_ended_during_the_restart_is_closed_with_its_reason(
        self,
        like: str,
        words: str,
        hubs: Any,
        first: Hub,
        broker: Broker,
        token: str,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        grid.accounting_file.parent.mkdir(parents=True)
        line = record(like, broker.session) if like else ""
        grid.accounting_file.write_text(line, encoding="utf-8")
        broker.cluster.remove(broker.session)
        second = await hubs()
        spawner = second.spawner()
        following = asyncio.create_task(
            second.ask("users/alice/server/progress", token, method="GET")
        )
        await asyncio.wait_for(second.opening, 10)
        await until(lambda: not spawner.active)
        assert b'"ready": true' not in (await asyncio.wait_for(following, 10)).body
        for path, code in (("spawn-pending/alice", 200), ("user/alice/", 424)):
            page = await second.visit(path)
            assert page.code == code
            assert page_says(page, "failed.not_running")
            assert not page_says(page, "failed.heading")
            assert words in page.body.decode()
        assert [set(state) for state in stored(second)] == [{"last"}]
        assert not orm.APIToken.find(second.db, broker.token)
        # After the failed reconnection, the next session starts as usual.
        lab.answer()
        await self.run(second, broker, token, lab)

    async def test_a_grid_engine_that_does_not_answer_ends_no_session(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        qstat.fails()
        second = await hubs()
        before = len(qstat.calls)
        await until(lambda: len(qstat.calls) > before + 3)
        assert second.spawner().pending == "spawn"
        lab.answer()
        await until(lambda: second.spawner().ready)
        assert not broker.stops

    async def test_a_session_stopped_while_it_is_reconnected_is_stopped_once(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        answer = await second.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert not broker.cluster.jobs
        await asyncio.wait_for(second.opening, 10)
        assert stored(second) == [{}]
        # Once the hub has checked all sessions, the next session can start.
        await until(lambda: second.looked)
        lab.answer()
        await self.run(second, broker, token, lab)
        assert len(broker.stops) == 1

    @pytest.mark.parametrize("fault", ["database", "ours"])
    async def test_an_internal_error_ends_no_session(
        self,
        hubs: Any,
        first: Hub,
        broker: Broker,
        token: str,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
    ) -> None:
        await self.start(first, broker, token)
        assert (await first.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        broker.cluster.put(broker.session)
        faults = 3
        real = SGESpawner._until_up

        async def fail(self: SGESpawner, limit: float) -> None:
            nonlocal faults
            if faults and fault == "ours":
                faults -= 1
                raise RuntimeError("a fault of ours")
            with readonly(object_session(self.orm_spawner)) if faults else contextlib.nullcontext():
                faults = 0
                await real(self, limit)

        monkeypatch.setattr(SGESpawner, "_until_up", fail)
        second: Hub = await hubs()
        await until(lambda: second.spawner().ready)
        assert not faults
        assert not broker.stops

    async def test_a_hub_stopped_while_it_reconnects_ends_no_session(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab, qstat: Qstat
    ) -> None:
        await self.run(first, broker, token, lab)
        await lab.fall_silent()
        second = await hubs()
        await answers(qstat, second.spawner(), 1)
        third = await hubs(politely=True)  # all tasks of the second hub are cancelled
        assert not broker.stops
        lab.answer()
        await until(lambda: third.spawner().ready)
        assert third.spawner().job_id == "1"
        assert not broker.stops

    async def test_jobs_of_this_hub_without_a_session_are_deleted_and_no_others(
        self, hubs: Any, first: Hub, broker: Broker, token: str, lab: Lab
    ) -> None:
        await self.run(first, broker, token, lab)
        ours, others = hub_mark(SECRET) + "0" * 24, hub_mark(b"y" * 32) + "0" * 24
        broker.cluster.put(ours, owner="bob")
        broker.cluster.put(others, owner="bob")
        second = await hubs()
        await until(lambda: job_name(ours) not in broker.cluster.jobs)
        await asyncio.wait_for(second.opening, 10)
        assert broker.stops == [Stop(user="bob", session=ours)]
        assert set(broker.cluster.jobs) == {job_name(others), job_name(broker.session)}

    async def test_a_start_does_not_wait_for_many_jobs_without_a_session(
        self, hubs: Any, first: Hub, broker: Broker, token: str
    ) -> None:
        for n in range(40):
            broker.cluster.put(f"{hub_mark(SECRET)}{n:024x}", "hqw", owner="mallory")
        broker.open.clear()
        second = await hubs()
        await asyncio.wait_for(second.opening, 10)
        await until(lambda: len(broker.stops) == 2)
        asyncio.create_task(second.ask("users/alice/server", token, {}))  # noqa: RUF006
        await until(lambda: broker.starts)
        assert len(broker.stops) == 2
        broker.open.set()
        await until(lambda: second.spawner().job_id)
        await until(lambda: len(broker.stops) == 40 and not second.spawner().collector.deletions)
