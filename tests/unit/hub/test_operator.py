# SPDX-License-Identifier: BSD-3-Clause
"""What root's programs may ask the hub, and that nobody else may."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_grid import until
from gridhub.contract import Ending
from gridhub.hub import operator
from whole_hub import SERVICE_TOKEN, Broker, Hub, Lab, running


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's own connections, which have no certificate, count as those of root."""
    monkeypatch.setattr(operator, "is_hub", lambda _: True)


@pytest.mark.asyncio(loop_scope="module")
class TestOperator:
    async def ask(self, hub: Hub, what: str, method: str = "GET", body: Any = None) -> Any:
        return await hub.ask(f"sge/operator/{what}", "", body, method=method)

    @pytest.mark.parametrize("what", ["status", "notice", "end"])
    async def test_nobody_without_the_hubs_certificate_is_answered(
        self, hub: Hub, what: str
    ) -> None:
        method = "GET" if what == "status" else "POST"
        body = None if what == "status" else {}
        for token in ("", SERVICE_TOKEN):
            answer = await hub.ask(f"sge/operator/{what}", token, body, method=method)
            assert answer.code == 404

    async def test_the_status_lists_the_sessions_by_state(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, as_root: None
    ) -> None:
        assert json.loads((await self.ask(hub, "status")).body)["sessions"] == []
        await running(alice, broker, lab)
        found = json.loads((await self.ask(hub, "status")).body)
        (session,) = found["sessions"]
        assert (session["user"], session["state"]) == ("alice", "running")
        assert session["started"] and session["job"]
        assert found["version"] and found["collector_failures"] == 0

    async def test_all_sessions_are_ended_as_an_administrator_does(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, as_root: None
    ) -> None:
        spawner = await running(alice, broker, lab)
        answer = await self.ask(hub, "end", "POST", {})
        assert json.loads(answer.body) == {"asked": 1, "failed": []}
        await until(lambda: not spawner.active)
        assert spawner.last and spawner.last.why == Ending.ADMINISTRATOR

    @pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": 5}, {"message": "x" * 1001}])
    async def test_a_notice_needs_a_text(self, hub: Hub, as_root: None, body: Any) -> None:
        answer = await self.ask(hub, "notice", "POST", body)
        assert answer.code == 400 and b"1 to 1000 characters" in answer.body
