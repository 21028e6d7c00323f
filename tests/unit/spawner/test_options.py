# SPDX-License-Identifier: BSD-3-Clause
"""A choice is checked, and then starts a session or is refused with a message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from fake_grid import Qstat
from gridhub.broker.protocol import Answer, Check
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestOptions:
    async def test_the_broker_gets_the_checked_choice(
        self, alice: Any, spawner: SGESpawner, broker: Broker
    ) -> None:
        await starting(alice, broker, cores="2")
        assert spawner.user_options == {"cores": 2}
        assert broker.starts[0].choice == {"cores": 2}
        assert broker.starts[0].user == "alice"

    async def test_the_api_refuses_a_choice_off_the_menu_with_a_message(
        self, hub: Hub, broker: Broker, token: str, subtests: pytest.Subtests
    ) -> None:
        wrong: list[tuple[dict[str, object], str]] = [
            ({"cores": 3}, "choose 1, 2 or 4"),
            ({"cores": [1, 2]}, "choose 1, 2 or 4"),
            ({"cores": None}, "choose 1, 2 or 4"),
            ({"cores": True}, "choose 1, 2 or 4"),
            ({"gpus": 1}, "members of no-such-group"),
            ({"queue": "root.q"}, "not on the menu"),
            ({"job_id": "1"}, "not on the menu"),
            ({"-l": "h_rt=1"}, "not on the menu"),
        ]
        for options, words in wrong:
            with subtests.test(options=options):
                answer = await hub.ask("users/alice/server", token, options)
                assert answer.code == 400
                assert words in json.loads(answer.body)["message"]
        assert not broker.requests

    async def test_a_refused_choice_is_not_used_for_the_next_start(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        assert hub.spawner().orm_spawner.user_options == {}
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await hub.ask("users/alice/server", token, None)
        assert "no more today" in json.loads(answer.body)["message"]
        assert broker.starts[0].choice == {"cores": 1}

    async def test_a_session_that_can_never_start_is_refused_in_our_own_words(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        words = "Unable to run job: error: no suitable queues"
        refused = Answer(ok=False, kind="grid", error=words, words=words)
        barred = 'Job 1 has no permission for cluster queue "all.q"'
        never = Answer(ok=True, verdict="never", words=barred)
        for verdict, message in (
            (never, "It can never start: your account may not use any worker or queue"),
            (Answer(ok=True, verdict="now"), "no suitable queues"),
        ):
            spawner.cluster.verdicts.kept.clear()
            broker.answers = [refused, verdict]
            answer = await hub.ask("users/alice/server", token, {"cores": 4})
            assert answer.code == 400
            assert message in json.loads(answer.body)["message"]
            assert broker.requests[-1] == Check(user="alice", choice={"cores": 4})
        spawner.cluster.verdicts.kept.clear()

    async def test_a_refusal_is_told_as_what_it_is_and_logged_in_grid_engines_words(
        self, hub: Hub, broker: Broker, token: str, qstat: Qstat, caplog: pytest.LogCaptureFixture
    ) -> None:
        words = (
            'Unable to run job: job rejected: the requested project "x" does not exist\nExiting.'
        )
        note = "The reason may be “-P x” in line 1 of /home/alice/.sge_request."
        broker.answers = [Answer(ok=False, kind="grid", error=words, words=words, note=note)]
        answer = await hub.ask("users/alice/server", token, {"cores": 4})
        assert json.loads(answer.body)["message"] == (
            "Grid Engine refused the session: there is no project x. Ask the administrators which "
            f"one you may use. {note}"
        )
        assert "Grid Engine refused the job: Unable to run job: job rejected: the" in caplog.text
        # A sentence of the site's own, or of another release, is shown as it is.
        broker.answers = [Answer(ok=False, kind="grid", error="own words", words="own words")]
        answer = await hub.ask("users/alice/server", token, {"cores": 4})
        assert json.loads(answer.body)["message"] == "own words"

    async def test_an_accepted_choice_is_the_next_default(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        await hub.ask("users/alice/server", token, None)
        assert [start.choice for start in broker.starts] == [{"cores": 4}] * 2

    async def test_after_a_refusal_the_next_form_shows_the_last_accepted_choice(
        self, hub: Hub, alice: Any, broker: Broker, token: str
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        for cores in (3, 99):
            assert (await hub.ask("users/alice/server", token, {"cores": cores})).code == 400
        assert '<option value="4" selected>' in await hub.page("spawn")
        alice.spawners[""] = alice._new_spawner("")  # as after a restart of the hub
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        await hub.ask("users/alice/server", token, None)
        assert [start.choice for start in broker.starts] == [{"cores": 4}] * 2

    async def test_nothing_of_an_earlier_choice_survives_a_refusal(
        self, spawner: SGESpawner
    ) -> None:
        await spawner._run_apply_user_options({"cores": 4})
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert spawner.choice is None
