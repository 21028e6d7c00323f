# SPDX-License-Identifier: BSD-3-Clause
"""Why a job waits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from fake_grid import Qstat, details, job
from gridhub.grid.details import Details
from gridhub.grid.places import QueueInstance
from gridhub.spawner import waiting
from gridhub.spawner.view import amounts
from hub_menus import HAD
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, known, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestWhyJobsWait:
    FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 9e9, "gpu": 1.0})

    @pytest.mark.parametrize(
        ("places", "words"),
        [
            (None, "Job 7 is waiting for a free place in the queue."),
            (
                [FULL],
                "Job 7 is waiting until one worker has all of this free: CPU cores (2). "
                "Free now on one worker that it may use: CPU cores 0 of 2.",
            ),
            (
                [replace(FULL, free=4, resources={"h_vmem": 1e8, "gpu": 0.0})],
                "Job 7 is waiting until one worker has all of this free: Memory (300 MB), "
                "GPUs (1). Free now on one worker that it may use: "
                "Memory 95.3 MB of 300 MB, GPUs 0 of 1.",
            ),
            ([replace(FULL, free=4)], "Job 7 is waiting for its turn; there is room for it."),
            ([replace(FULL, is_open=False)], "Job 7 is waiting: the queue takes no jobs"),
        ],
    )
    async def test_the_user_sees_what_is_unavailable(
        self, places: list[QueueInstance] | None, words: str, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, places)
        known(spawner.status.line, [3, 5, 7])
        message = spawner.why_queued(job(letters="qw", number=7))
        assert message.startswith(words)
        assert message.endswith("Jobs ahead of it: 2.")
        known(spawner.status.line, [7, 8])
        assert "in front" not in spawner.why_queued(job(letters="qw", number=7))

    async def test_an_item_that_another_worker_has_enough_of_is_not_shown(self) -> None:
        roomy = replace(self.FULL, host="exec2", free=1, resources={"h_vmem": 9e9})
        words = waiting.free_at_most(HAD, {"slots", "gpu"}, [self.FULL, roomy])
        assert words == " Free now on one worker that it may use: CPU cores 1 of 2."

    async def test_free_amounts_of_other_queues_are_not_shown(self) -> None:
        other = replace(self.FULL, queue="other.q", host="exec2", free=4)
        words = waiting.free_at_most(HAD, {"slots"}, [replace(self.FULL, free=1), other])
        assert words == " Free now on one worker that it may use: CPU cores 1 of 2."

    @pytest.mark.parametrize(
        ("value", "unit", "free", "words"),
        [
            (4, 2.0**30, 4 * 2.0**30 - 1, "3.9 GB of"),
            (4, 2.0**30, 2.0**29, "0.5 GB of"),
            (4096, 2.0**20, 2.0**30, "1024.0 MB of"),
        ],
    )
    async def test_free_memory_is_shown_in_the_chosen_unit_and_never_overstated(
        self, value: int, unit: float, free: float, words: str
    ) -> None:
        memory = HAD[1].model_copy(update={"value": value, "total": value * unit})
        place = replace(self.FULL, resources={"h_vmem": free})
        assert f"Memory {words}" in waiting.free_at_most([memory], {"h_vmem"}, [place])

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('exceeds limit "alice////" in rule "mine/1"', "a limit of the cluster (mine/1)"),
            ('has no permission for cluster queue "all.q"', "your account may not use any"),
            ("because it offers only hf:h_vmem=1M", "offers this: Memory (300 MB)."),
            ("something new", "Grid Engine gives a reason in its own words."),
        ],
    )
    async def test_the_schedulers_reason_is_shown_even_if_places_are_free(
        self, line: str, words: str, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, [replace(self.FULL, free=4)])
        known(spawner.status.line, [])
        known(spawner.status.details, {7: Details(7, "alice", reasons=(line,))})
        message = spawner.why_queued(job(letters="qw", number=7))
        assert message.startswith("Job 7 is waiting: ")
        assert words in message

    async def test_grid_engines_own_words_are_passed_on_unedited(
        self, hub: Hub, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        qstat.explains(details(reasons=["<b>it is full</b>"]))
        start = await starting(alice, broker)
        broker.cluster.put(broker.session, "qw")
        spawner = alice.spawners[""]
        spawner.status.details.interval = 0.01
        events = []
        async for event in spawner.progress():
            events.append(event)
            if event["raw"]:
                break
        assert events[-1]["stage"] == "waiting"
        assert events[-1]["raw"] == "<b>it is full</b>"
        assert (await spawner.view()).raw == "<b>it is full</b>"
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)

    async def test_messages_that_say_nothing_about_the_job_are_not_shown(
        self, spawner: SGESpawner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        full = 'queue instance "all.q@exec1" dropped because it is full'
        lines = (
            "There are no messages available",
            full,
            "(Collecting of scheduler job information)",
        )
        known(spawner.status.details, {7: Details(7, "alice", 9, 9e8, lines)})
        assert spawner.raw_reason() == full

    async def test_only_details_of_the_users_own_job_are_shown(
        self, spawner: SGESpawner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spawner.asked = HAD
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        known(spawner.status.places, None)
        known(spawner.status.line, [])
        full = 'queue instance "all.q@exec1" dropped because it is full'
        for number, owner, raw in ((7, "alice", full), (7, "bob", ""), (8, "alice", "")):
            known(spawner.status.details, {number: Details(number, owner, 9, 9e8, (full,))})
            assert spawner.raw_reason() == raw
            words = spawner.why_queued(job(letters="qw", number=7))
            assert ("full" in words) is bool(raw)
            found = spawner.status.of(job(number=7))
            shares = [amount.share for amount in amounts(spawner.asked, found, time.time() - 1.0)]
            assert any(shares) is bool(raw)
