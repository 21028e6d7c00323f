# SPDX-License-Identifier: BSD-3-Clause
"""How users learn why their session did not start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.spawner import SpawnException
from tornado.httpclient import AsyncHTTPClient

from fake_grid import Qstat, details, until
from gridhub.broker.protocol import Answer, Stop
from gridhub.contract import SESSION_FOLDER
from gridhub.grid.details import Details
from gridhub.grid.engine import GridEngine, GridEngineError
from hub_menus import HAD
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, answers, record, starting, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestFailedStart:
    @pytest.mark.parametrize("letters", ["", "r"])
    async def test_a_job_that_dies_is_reported_at_once_with_its_log(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat, letters: str
    ) -> None:
        broker.letters = letters
        start = await starting(alice, broker)
        if letters:
            await answers(qstat, spawner)
            broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{SESSION_FOLDER}/1\.log"):
            await asyncio.wait_for(start, 10)
        # No accounting record exists yet. A later search would find the record.
        assert spawner.last
        assert spawner.last.why == "unknown"
        assert "Job 1 ended before JupyterLab was up" in spawner.last.words

    async def test_a_job_that_leaves_the_queue_counts_as_deleted(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)
        # The job has not read its session's file, so the hub asks the broker to remove the file.
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_a_user_who_was_not_looking_sees_the_reason_later(
        self, hub: Hub, alice: Any, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: hub.spawner().job_id)
        await hub.ask("sge/failure", broker.token, {"reason": "no <b>space</b>"})
        await asking
        words = "Your last session could not start. JupyterLab could not start in job 1: no "
        assert (await hub.spawner().view()).ended == words + "<b>space</b>"
        # The form has a new spawner, as after a restart of the hub.
        assert words + "&lt;b&gt;" in await hub.page("spawn")
        assert (await hub.spawner().view()).ended == words + "<b>space</b>"
        assert (stored(hub)[0] or {})["last"]["why"] == "start"
        # The next session clears the reason.
        start = await starting(alice, broker)
        assert hub.spawner().last is None
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)

    async def test_a_failure_that_the_user_watches_is_shown_once(
        self, hub: Hub, broker: Broker, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SpawnHandler, "_accept_token_auth", True)
        monkeypatch.setattr(SpawnHandler, "check_xsrf_cookie", lambda self: None)
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await AsyncHTTPClient().fetch(
            f"{hub.base}/hub/spawn",
            method="POST",
            headers={"Authorization": f"token {token}"},
            body="cores=1",
            raise_error=False,
        )
        assert answer.body.decode().count("no more today") == 1
        assert "could not start. no more today" in (await hub.spawner().view()).ended
        assert "could not start. no more today" in await hub.page("spawn")

    @pytest.mark.parametrize(
        ("like", "words", "why"),
        [
            ("t-mem", "together used more than its memory", "memory"),
            ("t-qdel", "job 1, was deleted by an administrator", "deleted"),
            ("t-exit3", "Its messages are in", "start"),
        ],
    )
    async def test_the_record_gives_the_reason_why_a_job_ended_before_it_was_up(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        grid: GridEngine,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        like: str,
        words: str,
        why: str,
    ) -> None:
        monkeypatch.setattr("sge_spawner.EXPLAIN_START_FOR", 10.0)
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.asked = HAD
        await answers(qstat, spawner)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await until(lambda: "Looking for the reason" in spawner.progress_message()[1])
        # Grid Engine writes the accounting record late.
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{words}"):
            await asyncio.wait_for(start, 10)
        assert spawner.last
        assert spawner.last.why == why
        assert words in spawner.last.words

    async def test_an_error_state_is_reported_in_grid_engines_words(
        self, alice: Any, broker: Broker, qstat: Qstat, recorded: Callable[[str], str]
    ) -> None:
        broker.letters = "Eqw"
        qstat.explains(recorded("job_error.xml").replace(">20<", ">1<"))
        start = await starting(alice, broker)
        with pytest.raises(
            SpawnException,
            match=r"could not start job 1 \(state Eqw\): can't chdir to /no/such/folder: No such",
        ):
            await asyncio.wait_for(start, 10)
        assert "-xml -j 1" in qstat.calls
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_an_error_about_a_full_home_says_what_to_type(
        self, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        broker.letters = "Eqw"
        log = f"/home/alice/{SESSION_FOLDER}/1.log"
        error = f'can\'t open output file "{log}": No space left on device'
        qstat.explains(details(errors=[error]))
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"No space left .*: du -xk ~/ \| sort -n"):
            await asyncio.wait_for(start, 10)

    async def test_an_error_of_another_users_job_is_not_shown(
        self, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        broker.letters = "Eqw"
        qstat.explains(details(owner="bob", errors=["words of bob"]))
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_an_error_state_without_a_reason_is_reported_too(
        self, alice: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*arguments: object) -> dict[int, Details]:
            raise GridEngineError("qmaster is down")

        monkeypatch.setattr("sge_spawner.ask_details", fail)
        broker.letters = "Eqw"
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_a_deleted_job_is_reported_at_once(
        self, alice: Any, broker: Broker, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.put(broker.session, "dr")
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)

    async def test_the_starters_reason_is_escaped_on_the_users_page(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        reason = "no <script>alert()</script>"
        assert (await hub.ask("sge/failure", broker.token, {"reason": reason})).code == 204
        answer = await asking
        words = "JupyterLab could not start in job 1: no <script>alert()</script>"
        assert words in json.loads(answer.body)["message"]
        page = await hub.page("spawn-pending/alice")
        assert "JupyterLab could not start in job 1: no &lt;script&gt;alert()" in page
        assert "<script>alert" not in page
        # Administrators find the start in the logs with the session's name.
        assert f'<code class="session-name" id="name-">{broker.session}</code>' in page
        progress = await hub.ask("users/alice/server/progress", token, method="GET")
        assert b"JupyterLab could not start in job 1" in progress.body
