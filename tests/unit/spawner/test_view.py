# SPDX-License-Identifier: BSD-3-Clause
"""What the pages show about a session."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, timedelta
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from fake_grid import SINCE, Qstat, details, until
from gridhub.grid.details import Details
from gridhub.grid.places import QueueInstance
from gridhub.hub import pages
from gridhub.spawner.view import Amount, View, amounts
from hub_menus import HAD, WITH_RMEM
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Lab, known, running, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def press(
    hub: Hub, path: str, body: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> HTTPResponse:
    """Send a page's form as a browser would, but with a token instead of a cookie."""
    monkeypatch.setattr(pages.StopHandler, "_accept_token_auth", True)
    monkeypatch.setattr(pages.StopHandler, "check_xsrf_cookie", lambda self: None)
    return await AsyncHTTPClient().fetch(
        f"{hub.base}/hub/{path}",
        method="POST",
        headers={"Authorization": f"token {token}"},
        body=body,
        follow_redirects=False,
        raise_error=False,
    )


class TestView:
    async def test_a_running_session_shows_what_it_has_and_uses(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.explains(details(usage={"cpu": 10, "vmem": 150 * 2**20}))
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        assert (await spawner.view()).state == "running"
        await spawner.status.details.look(10)
        view = await spawner.view()
        assert (view.job, view.host, view.message, view.ended) == (1, "127.0.0.1", "", "")
        assert view.since is not None
        assert view.ends == view.since + timedelta(seconds=20)
        assert view.since.replace(tzinfo=UTC).timestamp() == SINCE
        cores, memory, gpus, queue, run_time = view.amounts
        assert cores.label == "CPU cores"
        assert re.fullmatch(r"\d+\.\d of 2 in use on average", cores.words)
        share = pytest.approx(150 * 2**20 / 3e8)
        assert memory == Amount("Memory", "150.0 MB of 300 MB", share)
        assert (gpus.words, gpus.share, run_time.share) == ("1", None, None)
        assert queue == Amount("Queue", "any")
        spawner.asked = WITH_RMEM
        assert (await spawner.view()).amounts[1] == Amount("Memory", "300 MB")

    async def test_use_is_not_shown_before_the_worker_has_reported(
        self, alice: Any, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.explains(details(usage={}))
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        await spawner.status.details.look(10)
        assert [amount.share for amount in (await spawner.view()).amounts] == [None] * 5

    async def test_what_is_not_measured_is_not_shown(self) -> None:
        def words(**usage: float) -> list[str]:
            return [each.words for each in amounts(HAD, Details(1, "alice", **usage), 100.0)][:2]

        assert words(cpu=50.0, vmem=1.5e8) == ["0.5 of 2 in use on average", "143.1 MB of 300 MB"]
        # Open Cluster Scheduler 9.1 may measure the processor time, but no memory, ...
        assert words(cpu=50.0) == ["0.5 of 2 in use on average", "300 MB"]
        # ... and on cgroup v1 neither: all is 0.
        assert words(cpu=0.0) == words() == ["2", "300 MB"]

    @pytest.mark.parametrize(("rss", "shown"), [(1.5e8, "143.1 MB of 300 MB"), (None, "300 MB")])
    async def test_of_resident_memory_the_address_space_is_not_shown(
        self, rss: float | None, shown: str
    ) -> None:
        (memory,) = (each for each in HAD if each.kind == "memory")
        had = [memory.model_copy(update={"complex": "h_rss"})]
        found = Details(1, "alice", 50.0, vmem=9e9, rss=rss)
        assert [each.words for each in amounts(had, found, 100.0)] == [shown]

    @pytest.mark.parametrize(
        ("letters", "reports", "words"),
        [
            ("s", True, "is suspended on 127.0.0.1"),
            ("dr", True, "is being deleted"),
            ("r", False, "does not report to Grid Engine"),
            ("Rq", True, "has moved job 1 back into its queue"),
        ],
    )
    async def test_card_and_address_of_a_silent_session_give_the_reason(
        self,
        alice: Any,
        hub: Hub,
        broker: Broker,
        lab: Lab,
        token: str,
        letters: str,
        reports: bool,
        words: str,
    ) -> None:
        async def ask(path: str, **headers: str) -> HTTPResponse:
            return await AsyncHTTPClient().fetch(
                f"{hub.base}{path}",
                headers={"Authorization": f"token {token}", **headers},
                follow_redirects=False,
                raise_error=False,
            )

        spawner = await running(alice, broker, lab)
        await spawner.check_silence()
        assert not spawner.silent
        broker.cluster.put(broker.session, letters, reports=reports)
        async with asyncio.timeout(10):
            while not (await spawner.view()).message:
                spawner.collector.hurry()
                await spawner.collector.news(10)
        assert words in (await spawner.view()).message
        # Grid Engine's word alone is not enough.
        await spawner.check_silence()
        assert not spawner.silent
        await lab.fall_silent()
        await spawner.check_silence()
        assert spawner.silent
        page = await ask("/hub/user/alice/lab")
        assert page.code == 503
        assert words in page.body.decode()
        answer = await ask("/hub/user/alice/api/kernels")
        assert (answer.code, words in json.loads(answer.body)["message"]) == (503, True)
        # Without a login, nobody learns the state of the job.
        answer = await ask("/user/alice/api/kernels", Authorization="")
        assert answer.code == 503
        assert words not in json.loads(answer.body)["message"]
        lab.answer()
        await spawner.check_silence()
        assert not spawner.silent

    async def test_a_named_session_is_shown_and_stopped_even_if_no_longer_allowed(
        self, alice: Any, hub: Hub, broker: Broker, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not alice.allow_named_servers
        start = asyncio.create_task(alice.spawn("second", options={}))
        await until(lambda: broker.starts)
        assert [view.name for view in await pages.views(alice)] == ["", "second"]
        answer = await press(hub, "stop/alice/second", "", token, monkeypatch)
        assert (answer.code, answer.headers["Location"]) == (303, "/hub/home")
        start.cancel()
        await asyncio.wait([start], timeout=10)
        await until(lambda: not alice.spawners["second"].active)
        assert [view.name for view in await pages.views(alice)] == [""]

    @pytest.mark.parametrize(("free", "link"), [(1, "?_less=cores"), (4, "")])
    async def test_asking_for_less_opens_the_form_at_the_unavailable_item(
        self,
        free: int,
        link: str,
        alice: Any,
        hub: Hub,
        broker: Broker,
        token: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        start = await starting(alice, broker, cores=2)
        broker.cluster.put(broker.session, "qw")
        known(alice.spawners[""].status.places, [QueueInstance("all.q", "exec1", 4, free, True)])
        answer = await press(hub, "stop/alice", "then=choose", token, monkeypatch)
        assert (answer.code, answer.headers["Location"]) == (303, f"/hub/spawn/alice{link}")
        start.cancel()
        await asyncio.wait([start], timeout=10)

    async def test_without_a_session_the_view_is_empty(self, spawner: SGESpawner) -> None:
        assert await spawner.view() == View(name="", state="none")
