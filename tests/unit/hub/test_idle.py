# SPDX-License-Identifier: BSD-3-Clause
"""Sessions that have been idle for too long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from jupyterhub import roles
from jupyterhub.utils import utcnow
from tornado.httpclient import HTTPResponse

from fake_grid import until
from gridhub.hub import idle
from sge_spawner import SGESpawner
from whole_hub import CULLER_TOKEN, SERVICE_TOKEN, Broker, Hub, Lab, running, stored


@pytest.mark.asyncio(loop_scope="module")
class TestIdleEnd:
    """The culler asks the hub to end a session. The hub first checks that the session is idle."""

    async def report(self, hub: Hub, broker: Broker, minutes: float) -> HTTPResponse:
        """Report, as the session does, that the session was last used this many minutes ago."""
        last = (utcnow() - timedelta(minutes=minutes)).isoformat()
        body = {"servers": {"": {"last_activity": last}}, "last_activity": last}
        return await hub.ask("users/alice/activity", broker.token, body)

    @pytest_asyncio.fixture(loop_scope="module")
    async def used_long_ago(self, alice: Any, broker: Broker, lab: Lab) -> SGESpawner:
        spawner = await running(alice, broker, lab)
        spawner.orm_spawner.last_activity = utcnow(with_tz=False) - timedelta(minutes=30)
        return spawner

    async def cull(self, hub: Hub) -> HTTPResponse:
        return await hub.ask("users/alice/server", CULLER_TOKEN, method="DELETE")

    async def test_an_idle_session_is_ended_and_the_user_sees_why(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        assert (await self.report(hub, broker, 10)).code == 200
        assert (await self.cull(hub)).code in (202, 204)
        await until(lambda: not used_long_ago.active)
        assert [request.session for request in broker.stops]
        assert used_long_ago.last and used_long_ago.last.why == "idle"
        assert "was ended because it was idle" in await hub.page("spawn")
        state = stored(hub)
        assert state[0] and state[0]["last"]["why"] == "idle"

    @pytest.mark.parametrize("token", [SERVICE_TOKEN, ""])
    async def test_a_stop_by_anyone_else_is_not_recorded_as_idle(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner, token: str
    ) -> None:
        await self.report(hub, broker, 10)
        answer = await hub.ask(
            "users/alice/server", token or str(alice.new_api_token()), method="DELETE"
        )
        assert answer.code in (202, 204)
        await until(lambda: not used_long_ago.active)
        assert used_long_ago.last is None

    @pytest.mark.parametrize("up", [True, False])
    async def test_a_stop_by_an_administrator_is_shown_as_such(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, up: bool
    ) -> None:
        admin = hub.person("bob")
        roles.grant_role(hub.db, admin.orm_user, "admin")
        asking = asyncio.create_task(hub.ask("users/alice/server", str(alice.new_api_token()), {}))
        await until(lambda: hub.spawner().job_id)
        if up:
            broker.cluster.put(broker.session)
            hub.spawner().announce(lab.port)
            assert (await asking).code == 201
        answer = await hub.ask("users/alice/server", str(admin.new_api_token()), method="DELETE")
        assert answer.code in (202, 204)
        await until(lambda: not hub.spawner().active)
        await asking
        words = "Your last session, job 1, was stopped by an administrator."
        assert (await hub.spawner().view()).ended == words
        assert (stored(hub)[0] or {})["last"]["why"] == "administrator"

    async def test_a_session_the_hub_has_not_heard_from_is_kept(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        idle.last_heard.clear()
        assert (await self.cull(hub)).code == 409
        assert used_long_ago.active
        assert broker.stops == []
        await alice.stop()

    async def test_a_session_used_since_the_culler_looked_is_kept(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        await self.report(hub, broker, 0.5)
        assert (await self.cull(hub)).code == 409
        assert used_long_ago.active
        await alice.stop()

    async def test_the_culler_cannot_exceed_its_scopes(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        assert (await hub.ask("users?state=ready", CULLER_TOKEN, method="GET")).code == 200
        for path, method in (("users/alice", "DELETE"), ("users/bob/server", "POST")):
            assert (await hub.ask(path, CULLER_TOKEN, {}, method)).code in (403, 404)
        await alice.stop()

    async def test_reports_of_use_are_still_accepted(
        self, hub: Hub, alice: Any, broker: Broker, used_long_ago: SGESpawner
    ) -> None:
        await self.report(hub, broker, 10)
        ago = utcnow(with_tz=False) - used_long_ago.orm_spawner.last_activity
        assert abs(ago.total_seconds() - 600) < 10
        assert (await hub.ask("users/alice/activity", broker.token, [])).code == 400
        assert (await hub.ask("users/alice/activity", "x" * 32, {})).code == 403
        await alice.stop()


@pytest.mark.parametrize(
    ("silent", "unused", "reason"),
    [
        (None, 10_000, "not heard"),
        (481, 10_000, "not heard"),
        (480, 10_000, ""),
        (0, 3600, ""),
        (0, 3599, "used meanwhile"),
    ],
)
def test_a_session_is_ended_only_if_the_hub_knows_it_is_idle(
    silent: float | None, unused: float, reason: str
) -> None:
    objection = idle.why_not({"timeout": 3600, "report": 300}, silent, unused)
    assert reason in objection
    assert bool(objection) is bool(reason)
