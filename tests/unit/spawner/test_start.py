# SPDX-License-Identifier: BSD-3-Clause
"""A session starts, or says why it does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batchspawner.api import BatchSpawnerAPIHandler
from jupyterhub.apihandlers import default_handlers
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.spawner import SpawnException
from tornado.httpclient import AsyncHTTPClient

from fake_grid import Qstat, details, until
from gridhub import contract
from gridhub.broker.protocol import SESSION_VARIABLES, Answer, Stop, job_name
from gridhub.contract import NO_PORT, SESSION_FOLDER
from gridhub.grid.details import Details
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.hub.starter import SessionHandler
from gridhub.spawner.cluster import hub_mark
from gridhub.spawner.failures import Holders, read_no_port
from gridhub.words import text
from sge_spawner import SGESpawner
from whole_hub import (
    HAD,
    SECRET,
    Broker,
    Cluster,
    Hub,
    Lab,
    answers,
    readonly,
    record,
    starting,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestHandlers:
    async def test_the_handler_that_sets_any_attribute_is_gone(self) -> None:
        assert not [entry for entry in default_handlers if entry[1] is BatchSpawnerAPIHandler]
        assert [entry for entry in default_handlers if "batchspawner" in entry[0]] == []
        assert default_handlers.count((r"/api/sge/(port|failure)", SessionHandler)) == 1

    async def test_the_hub_does_not_answer_it(self, hub: Hub, spawner: SGESpawner) -> None:
        token = spawner.user.new_api_token()
        for body in ({"port": 40001}, {"job_id": "1"}):
            assert (await hub.ask("batchspawner", token, body)).code == 404


class TestStart:
    async def test_a_session_starts_and_ends_through_the_api(
        self, hub: Hub, broker: Broker, lab: Lab, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await until(lambda: broker.starts)
        broker.cluster.put(broker.session)
        told = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert told.code == 204
        answer = await asking
        assert answer.code == 201, answer.body
        spawner = hub.spawner()
        assert spawner.ready
        assert spawner.server.url == f"http://127.0.0.1:{lab.port}/user/alice/"
        (token_row,) = [
            found for found in spawner.orm_spawner.user.api_tokens if found.match(broker.token)
        ]
        assert stored(hub) == [
            {
                "job_id": "1",
                "session": broker.session,
                "token_hash": token_row.hashed,
                "host": "127.0.0.1",
                "port": lab.port,
                "stopping": False,
                "ends": 0.0,
                "note": "",
                "asked": [
                    {
                        "item": "cores",
                        "label": "CPU cores",
                        "value": 2,
                        "words": "2",
                        "kind": "slots",
                        "complex": "",
                        "total": 2.0,
                    }
                ],
            }
        ]
        assert hub.proxy.routes["/user/alice/"]["target"] == f"http://127.0.0.1:{lab.port}"
        # And it ends through the API.
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops == [Stop(user="alice", session=broker.session)]
        assert "/user/alice/" not in hub.proxy.routes
        assert stored(hub) == [{}]

    async def test_the_session_carries_the_mark_of_this_hub(
        self, alice: Any, broker: Broker
    ) -> None:
        await starting(alice, broker)
        assert re.fullmatch("[0-9a-f]{32}", broker.session)
        assert broker.session.startswith(hub_mark(SECRET))
        assert hub_mark(SECRET) != hub_mark(b"y" * 32)
        assert re.fullmatch("[0-9a-f]{8}", hub_mark(SECRET))

    async def test_what_the_broker_cannot_take_is_told_without_values(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret = "s3cret" * 2000
        monkeypatch.setattr(SGESpawner, "get_env", lambda self: {"JUPYTERHUB_API_TOKEN": secret})
        with pytest.raises(SpawnException) as caught:
            await alice.spawn("", options={})
        assert "takes no such environment" in caught.value.jupyterhub_message
        assert secret not in str(caught.value)
        assert broker.requests == []
        assert not alice.spawners[""].session

    async def test_the_port_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)

    async def test_the_host_alone_is_not_enough(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        broker.letters = "r"
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_does_not_answer_is_not_up(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await answers(qstat, spawner)
        assert not start.done()
        lab.answer()
        await asyncio.wait_for(start, 10)

    async def test_a_server_that_cannot_be_reached_is_told_with_its_address(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        spawner.http_timeout = 1
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        with pytest.raises(SpawnException, match=f"on 127.0.0.1 in job 1.* at port {lab.port}"):
            await asyncio.wait_for(start, 10)

    async def test_a_server_that_never_answered_and_whose_job_ends_is_told(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab
    ) -> None:
        await lab.fall_silent()
        broker.letters = "r"
        start = await starting(alice, broker)
        spawner.announce(lab.port)
        await until(lambda: spawner.host)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Your last session, job 1, has ended"):
            await asyncio.wait_for(start, 10)

    async def test_not_knowing_does_not_end_a_start(
        self, alice: Any, spawner: SGESpawner, broker: Broker, lab: Lab, qstat: Qstat
    ) -> None:
        qstat.fails()
        start = await starting(alice, broker)
        await until(lambda: len(qstat.calls) > 3)
        assert not start.done()
        broker.cluster.put(broker.session)
        qstat.recovers()
        spawner.announce(lab.port)
        await asyncio.wait_for(start, 10)

    @pytest.mark.parametrize("letters", ["", "r"])
    async def test_a_job_that_dies_is_told_at_once_with_its_log(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat, letters: str
    ) -> None:
        broker.letters = letters
        start = await starting(alice, broker)
        if letters:
            await answers(qstat, spawner)
            broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{SESSION_FOLDER}/1\.log"):
            await asyncio.wait_for(start, 10)
        # The record may come later: whoever looks then finds it.
        assert spawner.last
        assert spawner.last.why == "unknown"
        assert "Job 1 ended before JupyterLab was up" in spawner.last.words

    async def test_a_job_that_leaves_the_queue_was_deleted(
        self, alice: Any, spawner: SGESpawner, broker: Broker, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.remove(broker.session)
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)
        # Its file, which nobody has read, is removed by the broker.
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    async def test_why_nothing_came_up_is_told_to_who_was_not_looking(
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
        # The next session makes it old news.
        start = await starting(alice, broker)
        assert hub.spawner().last is None
        start.cancel()
        await alice.stop()
        await asyncio.gather(start, return_exceptions=True)

    async def test_a_start_that_fails_before_the_persons_eyes_is_told_once(
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
            ("t-mem", "together went above its memory", "memory"),
            ("t-qdel", "job 1, was deleted from outside", "deleted"),
            ("t-exit3", "Its messages are in", "start"),
        ],
    )
    async def test_why_a_job_ended_before_it_was_up_is_read_in_its_record(
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
        await until(lambda: "Looking for the reason" in spawner._progress()[1])
        # Grid Engine writes it late.
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        with pytest.raises(SpawnException, match=rf"Job 1 ended before .*{words}"):
            await asyncio.wait_for(start, 10)
        assert spawner.last
        assert spawner.last.why == why
        assert words in spawner.last.words

    async def test_an_error_state_is_told_in_grid_engines_words(
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

    async def test_an_error_of_another_persons_job_explains_nothing(
        self, alice: Any, broker: Broker, qstat: Qstat
    ) -> None:
        broker.letters = "Eqw"
        qstat.explains(details(owner="bob", errors=["words of bob"]))
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_an_error_state_nobody_can_explain_is_told_too(
        self, alice: Any, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*arguments: object) -> dict[int, Details]:
            raise GridEngineError("qmaster is down")

        monkeypatch.setattr("sge_spawner.ask_details", fail)
        broker.letters = "Eqw"
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=r"\(state Eqw\): it gives no reason"):
            await asyncio.wait_for(start, 10)

    async def test_a_job_that_somebody_deletes_is_told_at_once(
        self, alice: Any, broker: Broker, spawner: SGESpawner, qstat: Qstat
    ) -> None:
        start = await starting(alice, broker)
        await answers(qstat, spawner)
        broker.cluster.put(broker.session, "dr")
        with pytest.raises(SpawnException, match="Job 1 was deleted before JupyterLab was up"):
            await asyncio.wait_for(start, 10)

    async def test_why_the_starter_gave_up_reaches_the_persons_page_as_text(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        told = await hub.ask("sge/failure", broker.token, {"reason": "no <script>alert()</script>"})
        assert told.code == 204
        answer = await asking
        words = "JupyterLab could not start in job 1: no <script>alert()</script>"
        assert words in json.loads(answer.body)["message"]
        page = await hub.page("spawn-pending/alice")
        assert "JupyterLab could not start in job 1: no &lt;script&gt;alert()" in page
        assert "<script>alert" not in page
        progress = await hub.ask("users/alice/server/progress", token, method="GET")
        assert b"JupyterLab could not start in job 1" in progress.body

    async def test_that_every_port_is_taken_is_said_by_the_hub(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        # Grid Engine has not said yet that it runs, nor where.
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        await hub.ask("sge/failure", broker.token, {"reason": contract.NO_PORT})
        message = json.loads((await asking).body)["message"]
        # The one who says it may be an older release's, and says no more.
        assert "every port from 40000 to 40999 " in message

    @staticmethod
    async def full(hub: Hub, broker: Broker, place: int, words: str) -> None:
        """Have the session of a start, the first or a later one, find no port."""
        await until(lambda: len(broker.starts) == place)
        told = await hub.ask("sge/failure", broker.token, {"reason": f"{NO_PORT} {words}"})
        assert told.code == 204

    async def test_where_every_port_is_taken_the_session_starts_elsewhere(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        token: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Another account's programs hold all ports of a worker; this person meets it first."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {"cores": 2}))
        await self.full(hub, broker, 1, "exec1 bob=998,alice=1")
        await until(lambda: len(broker.starts) == 2)
        first, second = broker.starts
        assert (first.avoid, second.avoid) == ((), ("exec1",))
        assert first.session != second.session and first.choice == second.choice
        spawner = hub.spawner()
        words = spawner._progress()[1]
        assert words.endswith(text("start.no_port_elsewhere", host="exec1"))
        assert "bob" not in words
        assert "40000 to 40999 of exec1 is taken. It says by whom: bob 998, alice 1" in caplog.text
        # The job that could not is let go of, and the other one is the session.
        await until(lambda: not spawner.collector.watches(job_name(first.session)))
        broker.cluster.put(second.session)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        assert (await asking).code == 201
        assert spawner.ready and spawner.session == second.session
        assert stored(hub)[0]["session"] == second.session

    async def test_the_worker_is_the_one_grid_engine_names(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        broker.letters = "r"
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts and isinstance(hub.spawner()._job(), Job))
        await self.full(hub, broker, 1, "another-name")
        await until(lambda: len(broker.starts) == 2)
        assert broker.starts[1].avoid == ("127.0.0.1",)
        await hub.ask("users/alice/server", token, method="DELETE")
        await asking

    async def test_after_three_workers_the_person_is_told(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2, 3):
            await self.full(hub, broker, place, f"exec{place} bob=1000")
        answer = await asking
        told = {"first": 40000, "last": 40999, "host": "exec3"}
        assert json.loads(answer.body)["message"] == text("start.no_port_other", **told)
        assert [each.avoid for each in broker.starts] == [(), ("exec1",), ("exec1", "exec2")]
        assert "bob" not in answer.body.decode()

    async def test_a_worker_that_was_left_out_is_not_tried_for_ever(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        """A site's own request for a host may win."""
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        for place in (1, 2):
            await self.full(hub, broker, place, "exec1 alice=1000")
        answer = await asking
        told = {"first": 40000, "last": 40999, "host": "exec1"}
        assert json.loads(answer.body)["message"] == text("start.no_port_own", **told)

    @pytest.mark.parametrize(
        ("kind", "also"), [("grid", ""), ("home", " Your home folder is full")]
    )
    async def test_where_no_other_worker_takes_it_this_is_said_and_what_else_there_is(
        self, hub: Hub, broker: Broker, token: str, kind: str, also: str
    ) -> None:
        refused = also.strip() or "Grid Engine refused the session: no suitable queues"
        broker.answers = [
            Answer(ok=True, job_id=1),
            Answer(ok=False, kind=kind, error=refused),
            Answer(ok=True, verdict="now"),
        ]
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await self.full(hub, broker, 1, "exec1 bob=1000")
        told = {"first": 40000, "last": 40999, "host": "exec1"}
        words = text("start.no_port_other", **told) + also
        assert json.loads((await asking).body)["message"] == words

    @pytest.mark.parametrize(
        ("reason", "found"),
        [
            ("no_port", Holders("", {})),
            ("no_port exec1", Holders("exec1", {})),
            ("no_port exec1.x a=1,DOM\\b=22", Holders("exec1.x", {"a": 1, "DOM\\b": 22})),
            ("no_port exec1 a=x,=3,b", Holders("exec1", {})),
            ("no_port exec1|exec2", None),
            ("no_port exec1 a=1 b=2", None),
            ("no_port exec1\n", None),
            ("no_ports", None),
        ],
    )
    async def test_of_what_a_starter_says_only_that_is_read(
        self, reason: str, found: Holders | None
    ) -> None:
        assert read_no_port(reason) == found

    @pytest.mark.parametrize(
        ("letters", "words"),
        [
            ("qw", "no place for it has become free. What was known last: Job 1 waits"),
            ("hqw", "it is still held"),
            ("r", "JupyterLab has not come up on 127.0.0.1"),
            ("t", "JupyterLab has not come up on 127.0.0.1"),
        ],
    )
    async def test_a_session_whose_time_is_over_is_told_what_it_was_waiting_for(
        self, alice: Any, spawner: SGESpawner, broker: Broker, letters: str, words: str
    ) -> None:
        spawner.wait_limit = 0.2
        broker.letters = letters
        start = await starting(alice, broker)
        with pytest.raises(SpawnException, match=f"Job 1 was given up after 0.2 seconds: {words}"):
            await asyncio.wait_for(start, 10)
        assert broker.stops == [Stop(user="alice", session=broker.session)]

    @pytest.mark.parametrize("why", ["old answer", "suspended", "host does not report"])
    async def test_no_time_is_over_while_something_else_may_be_the_reason(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        qstat: Qstat,
        monkeypatch: pytest.MonkeyPatch,
        why: str,
    ) -> None:
        spawner.wait_limit = 0.1
        broker.letters = "s" if why == "suspended" else "r"
        if why == "old answer":
            monkeypatch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
        before = Cluster.put
        if why == "host does not report":
            monkeypatch.setattr(
                Cluster,
                "put",
                lambda self, session, letters="r", **more: before(
                    self, session, letters, **{"reports": False} | more
                ),
            )
        start = await starting(alice, broker)
        await asyncio.wait([start], timeout=0.5)
        await answers(qstat, spawner)
        assert not start.done()
        spawner.announce(lab.port)
        broker.cluster.put(broker.session, reports=True)
        await asyncio.wait_for(start, 10)

    async def test_a_refusal_of_the_broker_reaches_the_person(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, subtests: pytest.Subtests
    ) -> None:
        kinds = {"choice": 400, "home": 400, "grid": 400, "refused": 400}
        for kind, status in (kinds | {"request": 500, "broker": 500}).items():
            with subtests.test(kind=kind):
                broker.answers = [Answer(ok=False, kind=kind, error="cannot run: no <b>host</b>")]
                answer = await hub.ask("users/alice/server", token, {})
                assert "cannot run: no <b>host</b>" in json.loads(answer.body)["message"]
                assert not broker.stops  # it says that there is no job
                assert answer.code == status
                assert not hub.spawner().active

    @pytest.mark.parametrize("fault", ["absent", "silent", "hanging"])
    async def test_a_broker_that_does_not_answer_is_told_without_details(
        self,
        hub: Hub,
        spawner: SGESpawner,
        broker: Broker,
        token: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: str,
    ) -> None:
        if fault == "absent":
            (tmp_path / "broker.sock").unlink()
        elif fault == "silent":
            monkeypatch.setattr(Answer, "model_dump_json", lambda self: "")
        else:
            spawner.broker_timeout = 0.1
            broker.open.clear()
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 503
        assert b"submission service does not answer" in answer.body
        assert str(tmp_path).encode() not in answer.body
        if fault == "hanging":
            # What the broker does after all is undone.
            broker.open.set()
            await until(lambda: len(broker.stops) > 0 and not broker.cluster.jobs)

    async def test_the_session_gets_its_variables_and_no_others(
        self, alice: Any, spawner: SGESpawner, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
        monkeypatch.setenv("LD_PRELOAD", "")
        spawner.environment = {"PYTHONPATH": "/tmp", "JUPYTERHUB_DEBUG": "1"}
        broker.answers = [Answer(ok=False, kind="grid", error="not now")]
        with pytest.raises(SpawnException):
            await alice.spawn(options={})
        environment = broker.starts[0].environment
        assert set(environment) <= SESSION_VARIABLES
        assert environment["JUPYTERHUB_USER"] == "alice"
        assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/alice/"
        assert {"JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN"} <= set(environment)

    async def test_the_name_is_stored_before_the_job_is_asked_for(
        self, hub: Hub, alice: Any, broker: Broker
    ) -> None:
        broker.open.clear()
        start = asyncio.create_task(alice.spawn(options={}))
        await until(lambda: broker.starts)
        (state,) = stored(hub)
        assert state
        assert state["session"] == broker.session
        assert not state.get("job_id")
        broker.open.set()
        await until(lambda: (stored(hub)[0] or {}).get("job_id") == "1")
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    async def test_without_a_database_no_job_is_asked_for(
        self, hub: Hub, broker: Broker, alice: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit = SGESpawner.submit_batch_script

        async def submit_without(self: SGESpawner) -> str:
            # No longer than that: JupyterHub has writes of its own, before and after.
            with readonly(hub.db):
                return await submit(self)

        monkeypatch.setattr(SGESpawner, "submit_batch_script", submit_without)
        with pytest.raises(SpawnException, match="cannot write to its database"):
            await alice.spawn(options={})
        assert not hub.spawner().active
        assert not broker.requests

    async def test_a_start_given_up_while_the_broker_is_at_work_leaves_no_job(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str
    ) -> None:
        spawner.stop_timeout = 0.1
        spawner.broker_timeout = 0.2
        broker.open.clear()
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        answer = await hub.ask("users/alice/server", token, method="DELETE")
        assert answer.code == 204
        assert broker.stops
        broker.deaf = True
        broker.open.set()  # the broker submits only now, after all there was to delete
        await until(lambda: broker.cluster.jobs)
        broker.deaf = False
        await until(lambda: not broker.cluster.jobs)
        await asking

    async def test_all_sessions_share_one_collector(self, hub: Hub) -> None:
        alice, bob = (hub.person(name).spawners[""] for name in ("alice", "bob"))
        assert alice.collector is bob.collector

    async def test_the_person_reads_what_the_job_does(
        self,
        alice: Any,
        spawner: SGESpawner,
        broker: Broker,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        messages: list[str] = []

        async def read() -> None:
            async for said in spawner.progress():
                messages.append(said["message"])

        await lab.fall_silent()
        start = await starting(alice, broker)
        reading = asyncio.create_task(read())
        for letters, reports, words in (
            ("qw", True, "Job 1 waits for a free place"),
            ("hqw", True, "Job 1 is held"),
            ("t", True, "Job 1 is being started on 127.0.0.1"),
            ("r", True, "Job 1 runs on 127.0.0.1"),
            ("r", False, "127.0.0.1, where job 1 runs, does not report"),
            ("s", True, "Job 1 is suspended on 127.0.0.1"),
        ):
            broker.cluster.put(broker.session, letters, reports=reports)
            await until(lambda words=words: messages and words in messages[-1])
        with monkeypatch.context() as patch:
            patch.setattr("gridhub.spawner.waiting.OLD_ANSWER", -1.0)
            await until(lambda: "Grid Engine does not answer" in messages[-1])
        spawner.announce(lab.port)
        broker.cluster.put(broker.session)
        await until(lambda: "waiting for it to answer" in messages[-1])
        lab.answer()
        await asyncio.wait_for(start, 10)
        await asyncio.wait_for(reading, 10)
