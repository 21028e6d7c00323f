# SPDX-License-Identifier: BSD-3-Clause
"""When a session could start."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_grid import until
from gridhub.broker.protocol import Answer, Check
from gridhub.grid.places import QueueInstance
from gridhub.menu.file import load_menu
from gridhub.menu.items import Choice
from gridhub.spawner import form
from gridhub.spawner.form import Link
from gridhub.spawner.view import Free
from gridhub.words import text
from hub_menus import MEMORY, MENU
from sge_spawner import SGESpawner
from whole_hub import Broker, Lab, known

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestForecast:
    FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"slots": 0.0})
    ROOMY = QueueInstance("all.q", "exec2", 4, 3, True, {"slots": 3.0, "gpu": 2.0})

    @pytest.fixture
    def places(self, spawner: SGESpawner) -> Iterator[Callable[..., None]]:
        """Set what is free."""

        def put(*places: QueueInstance) -> None:
            known(spawner.status.places, list(places))

        yield put
        spawner.cluster.verdicts.kept.clear()

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (Answer(ok=True, verdict="now"), "There is room for it now."),
            (
                Answer(ok=True, verdict="later", words="<full>"),
                "It would have to wait until one worker has all of this free: CPU cores (4). "
                "Free now on one worker that it may use: CPU cores 3 of 4.",
            ),
            (
                Answer(ok=True, verdict="later", words='exceeds limit "a/" in rule "mine/1"'),
                "It would have to wait: a limit of the cluster (mine/1)",
            ),
            (
                Answer(ok=True, verdict="never", words="Unable to run job: No cost centre."),
                "It can never start, because the cluster refuses it: No cost centre. Ask",
            ),
            (
                Answer(ok=True, verdict="never", words="no suitable queues"),
                "It can never start: no",
            ),
            (
                Answer(ok=True, verdict="never", words='has no permission for cluster queue "q"'),
                "It can never start: your account may not use any",
            ),
            (
                Answer(
                    ok=True,
                    verdict="never",
                    words='has no permission for cluster queue "q"\nonly offers 0 slots',
                ),
                "It can never start: no worker has all of this at once",
            ),
            (
                Answer(
                    ok=True,
                    verdict="never",
                    words='no permission\ncannot run in PE "smp" because it only offers 0 slots',
                ),
                "It can never start: the parallel environment smp gives your account fewer CPU",
            ),
            (
                Answer(ok=True, verdict="never", words='exceeds limit "/////" in rule "mine/1"'),
                "It can never start: a limit of the cluster (mine/1) allows less than that.",
            ),
        ],
    )
    async def test_grid_engines_verdict_is_shown(
        self,
        answer: Answer,
        message: str,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
    ) -> None:
        broker.answers = [answer]
        places(self.FULL, self.ROOMY)
        forecast = await spawner.forecast({"cores": "4"})
        assert forecast.message.startswith(message)
        assert (forecast.verdict, forecast.raw) == (answer.verdict, answer.words)
        assert forecast.free == (Free("CPU cores", "3", "3"),)
        assert forecast.age == pytest.approx(0, abs=5)
        (request,) = broker.requests
        assert request == Check(user="alice", choice={"cores": 4})

    @pytest.mark.parametrize(
        ("words", "places", "message"),
        [
            (
                'cannot run at host "exec1" because it offers only hc:gpu=0.000000\n'
                'cannot run at host "exec2" because it offers only hc:gpu=1.000000\n'
                'cannot run in PE "smp" because it only offers 0 slots\n',
                [ROOMY],
                "It can never start. No worker offers GPUs (2); the most that one has is 1.",
            ),
            # One worker has the GPUs, but not the other resources.
            (
                'cannot run at host "exec1" because it offers only hc:gpu=2.000000',
                [ROOMY],
                "It can never start: no worker has all of this at once",
            ),
            (
                'cannot run in PE "smp" because it only offers 3 slots',
                [FULL, replace(ROOMY, slots=3), replace(FULL, slots=2)],
                "It can never start: no worker has all of this at once",
            ),
            (
                'cannot run in PE "smp" because it only offers 3 slots',
                [replace(ROOMY, slots=3), replace(FULL, slots=2)],
                "It can never start. No worker offers CPU cores (4); the most that one has is 3.",
            ),
        ],
    )
    async def test_an_amount_that_no_worker_has_is_named_with_the_most_that_one_has(
        self,
        words: str,
        places: list[QueueInstance],
        message: str,
        spawner: SGESpawner,
        broker: Broker,
        menu_file: Path,
    ) -> None:
        gpus = {key: value for key, value in MENU[1].items() if key != "groups"}
        menu_file.write_text(json.dumps({"items": [MENU[0], gpus]}), encoding="utf-8")
        known(spawner.status.places, places)
        spawner.cluster.verdicts.kept.clear()
        broker.answers = [Answer(ok=True, verdict="never", words=words)]
        assert (await spawner.forecast({"cores": "4", "gpus": "2"})).message.startswith(message)
        spawner.cluster.verdicts.kept.clear()

    async def test_memory_that_no_queue_limits_is_neither_shown_nor_unavailable(
        self,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
        menu_file: Path,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [MENU[0], MEMORY]}), encoding="utf-8")
        places(replace(self.FULL, resources={"h_vmem": math.inf, "slots": 0.0}))
        broker.answers = [Answer(ok=True, verdict="later")]
        forecast = await spawner.forecast({"memory": 4})
        assert forecast.free == (Free("CPU cores", "0", "0"),)
        assert forecast.message.startswith(text("forecast.unavailable", what="CPU cores (1)"))
        assert "Memory" not in forecast.message
        link, shown = Link({}, ("memory",)), {"memory": 4}
        notes = form.shift(load_menu(menu_file), (), shown, link, spawner.status.places.answer)
        assert notes["memory"].startswith("Memory: 2 GB instead of 4 GB, the next smaller amount.")

    async def test_the_broker_is_asked_once_per_choice_for_any_number_of_forecasts(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        broker.answers = [Answer(ok=True, verdict="now")] * 9
        await asyncio.gather(*(spawner.forecast({"cores": 1}) for _ in range(20)))
        await spawner.forecast({"cores": "1"})
        assert len(broker.requests) == 1
        await spawner.forecast({"cores": 2})
        assert len(broker.requests) == 2

    async def test_the_broker_is_asked_again_once_something_else_is_unavailable(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        async def message() -> str:
            return (await spawner.forecast({"cores": 4})).message

        broker.answers = [
            Answer(ok=True, verdict="later", words="<full>"),
            Answer(ok=True, verdict="now"),
        ]
        places(self.ROOMY)
        assert (await message()).startswith("It would have to wait until")
        places(self.FULL, replace(self.ROOMY, free=2))
        assert (await message()).startswith("It would have to wait until")
        assert len(broker.requests) == 1, "the same is unavailable"
        places(replace(self.ROOMY, free=4))
        assert await message() == "There is room for it now."
        # A recent verdict applies again if the same items are unavailable.
        places(self.FULL, self.ROOMY)
        assert (await message()).startswith("It would have to wait until")
        assert len(broker.requests) == 2

    async def test_a_refused_choice_is_not_sent_to_the_broker(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        forecast = await spawner.forecast({"cores": 64})
        assert (forecast.item, forecast.verdict) == ("cores", "")
        assert "64" in forecast.message
        assert forecast.free
        assert broker.requests == []

    async def test_a_refusal_by_the_broker_is_shown(
        self, spawner: SGESpawner, broker: Broker, places: Callable[..., None]
    ) -> None:
        places(self.ROOMY)
        broker.answers = [Answer(ok=False, kind="refused", error="You may not.")]
        forecast = await spawner.forecast({})
        assert (forecast.message, forecast.verdict) == ("You may not.", "")

    async def test_many_forecasts_of_one_user_do_not_delay_others(
        self, alice: Any, spawner: SGESpawner, broker: Broker, places: Callable[..., None], lab: Lab
    ) -> None:
        places(self.ROOMY)
        broker.open.clear()
        looks = [
            asyncio.create_task(
                spawner.cluster.verdicts.verdict("alice", Choice(values={"cores": cores}), None)
            )
            for cores in range(100)
        ]
        await until(lambda: len(broker.requests) == 2)  # the third check waits in line
        assert spawner.cluster.verdicts.checks.total() == 3
        assert not spawner.cluster.broker.line.locked()
        broker.answers = [Answer(ok=True, verdict="now")] * 3
        broker.open.set()
        answers = await asyncio.gather(*looks)
        assert [answer.verdict if answer else None for answer in answers] == (
            ["now"] * 3 + [None] * 97
        )
        assert spawner.cluster.verdicts.checks.total() == 0
        assert len(broker.requests) == 3

    async def test_verdicts_that_are_no_longer_requested_are_forgotten(
        self,
        spawner: SGESpawner,
        broker: Broker,
        places: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("gridhub.spawner.verdicts.MAX_VERDICTS", 2)
        places(self.ROOMY)
        broker.answers = [Answer(ok=True, verdict="now")] * 9
        for cores in (1, 2, 4):
            await spawner.forecast({"cores": cores})
        assert [key[1] for key in spawner.cluster.verdicts.kept] == [
            "[('cores', 2)]",
            "[('cores', 4)]",
        ]
