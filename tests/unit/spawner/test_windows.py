# SPDX-License-Identifier: BSD-3-Clause
"""No session overlaps with maintenance or with the workers' maintenance window."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from gridhub.broker.protocol import Answer, Stop
from gridhub.grid.jobs import Job
from gridhub.notices import next_maintenance
from hub_menus import HAD, HOURS, MENU
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Lab, known, starting, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestWindows:
    async def test_no_session_starts_in_the_last_minutes_before_a_maintenance(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(
            "gridhub.notices.next_maintenance.refusal", lambda: "Come back at 03:46."
        )
        answer = await hub.ask("users/alice/server", token, {"cores": 4})
        assert answer.code == 400
        assert json.loads(answer.body)["message"] == "Come back at 03:46."
        assert not broker.requests
        assert (await spawner.forecast({"cores": 4})).message == "Come back at 03:46."

    @pytest.mark.parametrize(
        ("rule", "minutes", "outcome"),
        [
            ("refuse", 125, 2),
            # A session of 2 hours would have only half a minute to start, which is too short.
            ("refuse", 120.5, "Choose at most 1 hour."),
            ("refuse", 115, "Choose at most 1 hour."),
            ("cap", 115, 1),
            ("cap", 30, "no session could end before that"),
            ("refuse", -30, "no session could end before that"),
        ],
    )
    async def test_no_session_runs_into_the_workers_window(
        self,
        spawner: SGESpawner,
        menu_file: Path,
        rule: Any,
        minutes: float,
        outcome: int | str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, HOURS]}), encoding="utf-8")
        begin = datetime.now(UTC) + timedelta(minutes=minutes)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), rule)
        monkeypatch.setattr(next_maintenance.window_file, "current", lambda: window)
        if isinstance(outcome, int):
            await spawner._run_apply_user_options({})
            assert spawner.user_options["hours"] == outcome
            return
        with pytest.raises(SpawnException) as caught:
            await spawner._run_apply_user_options({})
        assert outcome in str(caught.value.message)
        assert spawner.refusal and spawner.refusal.item == "hours"

    async def test_a_shortened_run_time_is_shown_before_and_during_the_wait(
        self,
        hub: Hub,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        menu_file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, HOURS]}), encoding="utf-8")
        begin = datetime.now(UTC) + timedelta(minutes=115)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), "cap")
        monkeypatch.setattr(next_maintenance.window_file, "current", lambda: window)
        known(spawner.status.places, [])
        spawner.cluster.verdicts.kept.clear()
        broker.answers = [
            Answer(ok=True, verdict="now")
        ]  # one answer is enough: both forecasts send the broker the same choice
        words = "The run time is 1 hour, because the workers are maintained from"
        message = (await spawner.forecast({"hours": "2"})).message
        assert message.startswith(f"There is room for it now. {words}")
        assert words not in (await spawner.forecast({"hours": "1"})).message
        spawner.cluster.verdicts.kept.clear()
        start = await starting(alice, broker, hours="2")
        broker.cluster.put(broker.session, "qw")
        assert words in (await spawner.view()).message
        assert (stored(hub)[0] or {})["note"].startswith(words)
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)
        assert hub.spawner().note == ""

    @pytest.mark.parametrize(
        ("rule", "run_time", "left", "code", "ends"),
        [
            ("refuse", 3600, 3700, 204, False),
            ("refuse", 3600, 3500, 409, False),
            ("cap", 3600, 3500, 200, True),
            ("cap", 3600, 1, 200, True),
            ("cap", 3600, -1, 409, False),
            # Even under the rule "refuse", a job without a run time is ended early, because the
            # user could not choose a shorter run time.
            ("refuse", None, 3500, 200, True),
            ("refuse", None, -1, 409, False),
        ],
    )
    async def test_a_session_that_has_waited_is_checked_against_the_window_when_it_starts(
        self,
        hub: Hub,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        rule: Any,
        run_time: int | None,
        left: int,
        code: int,
        ends: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        start = await starting(alice, broker)
        spawner.asked = HAD[:-1] if run_time is None else HAD
        if run_time is not None:
            assert HAD[-1].kind == "run_time"
            spawner.asked = (*HAD[:-1], HAD[-1].model_copy(update={"total": run_time}))
        # The window was set while the session waited.
        begin = datetime.now(UTC) + timedelta(seconds=left)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), rule)
        monkeypatch.setattr(next_maintenance.window_file, "current", lambda: window)
        answer = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert answer.code == code
        if code == 409:
            with pytest.raises(SpawnException, match="waited in the queue for too long"):
                await asyncio.wait_for(start, 10)
            assert broker.stops == [Stop(user="alice", session=broker.session)]
            return
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)
        if ends:
            assert json.loads(answer.body)["end"] == begin.timestamp()
            assert "its worker is maintained" in json.loads(answer.body)["words"]
            assert (stored(hub)[0] or {})["ends"] == begin.timestamp()
            spawner.asked = HAD[:-1]
            assert (await spawner.view()).ends == begin.replace(tzinfo=None)
        # If the session announces its port again after a lost answer, the hub repeats the answer.
        again = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert (again.code, again.body) == (answer.code, answer.body)

    async def test_the_time_that_a_session_has_already_run_counts(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub was down when the session's job started."""
        spawner = alice.spawners[""]
        start = await starting(alice, broker)
        spawner.asked = (HAD[-1].model_copy(update={"total": 3600}),)
        job = Job(1, "n", "alice", "r", "127.0.0.1", 1, since=time.time() - 600)
        monkeypatch.setattr(spawner, "_job", lambda: job)
        begin = datetime.now(UTC) + timedelta(seconds=3100)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), "refuse")
        monkeypatch.setattr(next_maintenance.window_file, "current", lambda: window)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        monkeypatch.undo()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)
