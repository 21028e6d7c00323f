# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from fake_grid import until
from gridhub.contract import Ending
from gridhub.grid import accounting
from gridhub.grid.accounting import Record
from gridhub.grid.engine import GridEngine
from gridhub.grid.jobs import Job
from gridhub.spawner.ended import SessionEnd
from gridhub.spawner.form import Link
from hub_menus import HAD, WITH_RMEM
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Lab, led, record, running, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def over(alice: Any) -> None:
    """Wait until the session has ended, then call ``stop`` as JupyterHub does."""
    spawner = alice.spawners[""]
    while await spawner.poll() is None:
        spawner.collector.hurry()  # again, because an earlier query may still be running
        await spawner.collector.news(0.1)
    await alice.stop()


class TestWhySessionsEnd:
    @pytest.mark.parametrize(
        ("like", "words", "exceeded"),
        [
            ("t-hrt", "because its run time, 1 hour, was used up", ("run_time",)),
            ("t-mem", "used more than its memory: 418.5 MB of 286.1 MB", ("memory",)),
            ("t-qdel", "job 1, was deleted by an administrator", ()),
            ("t-exit0", "was shut down from inside the session", ()),
            ("t-exit3", "with an error, exit status 3. Its messages are in ~/.jupyterhub-", ()),
        ],
    )
    async def test_the_user_sees_the_reason_from_the_accounting_record(
        self,
        like: str,
        words: str,
        exceeded: tuple[str, ...],
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.write_text(record(like, broker.session), encoding="utf-8")
        broker.cluster.remove(broker.session)
        await over(alice)
        # JupyterHub has made a new spawner from the database, as after a restart.
        assert hub.spawner() is not spawner
        assert words in (await hub.spawner().view()).ended
        assert (await hub.spawner().view()).exceeded == exceeded
        form = await hub.spawner().get_options_form()
        assert words in form
        link = f'<a class="alert-link" href="?_more={"".join(exceeded)}">Start again with more</a>'
        assert (link in form) == bool(exceeded)
        # A form that this link has opened does not offer the link again.
        assert "with more" not in await led(hub.spawner(), Link({}, ("memory",), more=True))

    @pytest.mark.parametrize(
        ("like", "words"),
        [("t-hrt", "because its run time, 1 hour, was used up"), ("t-mem", "ended by a limit")],
    )
    async def test_address_space_is_not_mistaken_for_other_memory(
        self,
        like: str,
        words: str,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.asked = WITH_RMEM
        grid.accounting_file.parent.mkdir(parents=True)
        line = record(like, broker.session).replace(":1830912.", ":30172000000.")
        grid.accounting_file.write_text(line, encoding="utf-8")
        broker.cluster.remove(broker.session)
        await over(alice)
        assert words in (await hub.spawner().view()).ended

    @pytest.mark.parametrize(
        ("maxvmem", "maxrss", "why"),
        [
            (9e9, 3e8, Ending.MEMORY),
            (9e9, 1e8, Ending.DELETED),
            (9e9, 0.0, Ending.DELETED),
        ],
    )
    async def test_of_resident_memory_the_address_space_does_not_count(
        self, maxvmem: float, maxrss: float, why: Ending
    ) -> None:
        had = tuple(
            each.model_copy(update={"complex": "h_rss"}) if each.kind == "memory" else each
            for each in HAD
        )
        end = SessionEnd(job="1", why=Ending.UNKNOWN, had=had)
        found = end.explained(Record(1, "exec1", 1e9, 1e9 + 5, 100, 137, maxvmem, maxrss))
        assert found.why is why
        assert found.used == maxrss

    async def test_use_just_above_the_memory_limit_is_shown_as_above_it(self) -> None:
        memory = HAD[1].model_copy(update={"total": 4 * 2.0**30, "words": "4 GB"})
        words = SessionEnd(job="1", why=Ending.MEMORY, used=4.02 * 2**30, had=(memory,)).words
        assert "more than its memory: 4.1 GB of 4.0 GB" in words

    async def test_a_worker_without_the_environment_is_named_with_its_folder(
        self, spawner: SGESpawner
    ) -> None:
        spawner.session_path = "/shared/jupyter"
        end = replace(spawner._own_end(), job="1", why=Ending.ENVIRONMENT, host="exec1")
        assert SessionEnd.load(end.dump()) == end
        words = "its worker, exec1, does not have the notebook environment /shared/jupyter"
        assert words in end.words

    async def test_the_log_has_each_event_with_the_sessions_name_and_the_end_with_its_reason(
        self,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The record comes late, as in a Grid Engine: the end is logged when it is there."""
        caplog.set_level("INFO", "traitlets")
        monkeypatch.setattr("gridhub.spawner.endings.EXPLAIN_END_AFTER", (0.1,) * 100)
        ends = "gridhub_session_endings_total"
        before = REGISTRY.get_sample_value(ends, {"reason": "memory"}) or 0.0
        spawner = await running(alice, broker, lab)
        spawner.asked = HAD
        session = broker.session
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(session)
        await over(alice)
        assert REGISTRY.get_sample_value(ends, {"reason": "memory"}) == before
        grid.accounting_file.write_text(record("t-mem", session), encoding="utf-8")
        await until(lambda: REGISTRY.get_sample_value(ends, {"reason": "memory"}) == before + 1)
        events = [
            each.getMessage()
            for each in caplog.records
            if each.getMessage().startswith(f"Session of alice ({session})")
        ]
        told = " ".join(events)
        for event in ("is requested", "is job 1", "has reported port", "answers at"):
            assert event in told
        assert events[-1] == f"Session of alice ({session}) has ended: memory, job 1 on 127.0.0.1"

    async def test_a_session_that_its_person_stops_has_this_reason(
        self, alice: Any, broker: Broker, lab: Lab, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "traitlets")
        ends = "gridhub_session_endings_total"
        before = REGISTRY.get_sample_value(ends, {"reason": "person"}) or 0.0
        await running(alice, broker, lab)
        session = broker.session
        await alice.stop()
        await until(lambda: f"({session}) has ended: person, job 1" in caplog.text)
        assert REGISTRY.get_sample_value(ends, {"reason": "person"}) == before + 1

    async def test_a_record_that_is_written_late_is_found_by_a_later_look(
        self,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        grid: GridEngine,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await over(alice)
        assert "it used too much memory" in await hub.spawner().get_options_form()
        grid.accounting_file.write_text(record("t-qdel", broker.session), encoding="utf-8")
        assert "it used too much memory" in await hub.spawner().get_options_form(), "not at once"
        monkeypatch.setattr(hub.spawner(), "_explain_due", 0.0)
        assert "job 1, was deleted by an administrator" in await hub.spawner().get_options_form()
        assert stored(hub)[0]["last"]["why"] == "deleted"  # type: ignore[index]

    async def test_without_the_file_the_user_sees_possible_reasons(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert (
            "its run time was over, it used too much memory" in (await hub.spawner().view()).ended
        )

    async def test_a_job_removed_by_force_from_a_lost_worker_has_not_ended_by_itself(self) -> None:
        """Grid Engine 8.1.9 writes the same record for both (qdel -f)."""
        by_itself = Record(1, "exec1", 1.0, 2.0, failed=0, status=0, maxvmem=0.0)
        lost = SessionEnd(job="1", why=Ending.WORKER, host="exec1")
        assert lost.explained(by_itself).why is Ending.WORKER
        assert replace(lost, why=Ending.UNKNOWN).explained(by_itself).why is Ending.ITSELF

    async def test_a_worker_that_stopped_reporting_is_named(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        broker.cluster.put(broker.session, reports=False)
        await until(lambda: isinstance(seen := spawner._job(), Job) and not seen.reports)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert (
            "was lost because its worker, 127.0.0.1, failed" in (await hub.spawner().view()).ended
        )

    @pytest.mark.parametrize("letters", ["Rq", "Rr"])
    async def test_a_session_that_grid_engine_has_rescheduled_says_so(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine, letters: str
    ) -> None:
        spawner = await running(alice, broker, lab)
        # As recorded with 8.1.9 (qmod -f -rj): one record for each start of the job.
        first = record("t-exit0", broker.session).split(":")
        first[11] = "25"
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.write_text(
            "\n".join((":".join(first), record("t-exit3", broker.session))), encoding="utf-8"
        )
        broker.cluster.put(broker.session, letters)
        await until(lambda: isinstance(seen := spawner._job(), Job) and seen.is_rescheduled)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert "Grid Engine moved it back into the queue" in (await hub.spawner().view()).ended

    async def test_the_reason_of_an_older_session_does_not_come_back(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine, monkeypatch: Any
    ) -> None:
        await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await over(alice)
        reading, proceed = threading.Event(), threading.Event()

        def find(*_: object) -> Record:
            reading.set()
            proceed.wait(10)
            return Record(1, "exec1", 0, 0, 100, 137, 0)

        monkeypatch.setattr("gridhub.spawner.cluster.find_record", find)
        looking = asyncio.create_task(hub.spawner().explain_last())
        await asyncio.to_thread(reading.wait, 10)
        spawner = await running(alice, broker, lab)
        proceed.set()
        await looking
        assert spawner.last is None
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    @pytest.mark.parametrize("fault", [RuntimeError("ours"), TimeoutError()])
    async def test_a_session_ends_even_if_its_record_cannot_be_read(
        self,
        fault: Exception,
        hub: Hub,
        alice: Any,
        broker: Broker,
        lab: Lab,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def find(*_: object) -> None:
            raise fault

        monkeypatch.setattr("gridhub.spawner.cluster.find_record", find)
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert not hub.spawner().active
        assert "it used too much memory" in (await hub.spawner().view()).ended

    async def test_a_session_ends_even_if_the_accounting_file_hangs(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        back = threading.Event()
        monkeypatch.setattr("gridhub.spawner.cluster.find_record", lambda *_: back.wait(60))
        monkeypatch.setattr("gridhub.spawner.ended.READ_WITHIN", 0.05)
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await asyncio.wait_for(over(alice), 10)
        assert not hub.spawner().active
        back.set()

    async def test_state_written_by_another_release_loses_no_session(
        self, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.load_state(
            spawner.get_state() | {"asked": [{"item": 1}], "last": {"new": 1, "had": []}}
        )
        assert (spawner.asked, spawner.last) == ((), None)
        assert spawner.session == broker.session
        assert await spawner.poll() is None

    async def test_the_last_sessions_reason_does_not_overwrite_the_next_session(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        before = await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = before.last
        assert last is not None
        await running(alice, broker, lab)
        # The old spawner, which JupyterHub has dropped, finds the reason only now.
        before._store_last(last, replace(last, why=Ending.DELETED))
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    async def test_a_user_who_returns_the_next_morning_sees_the_reason(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = hub.spawner().last
        assert last is not None
        hub.spawner().last = replace(last, ended=time.time() - 10 * 3600)
        others = b"#\n" * (accounting.LOOK_BACK // 2)  # more than the first search reads
        grid.accounting_file.parent.mkdir(parents=True)
        line = record("t-qdel", broker.session).encode()
        grid.accounting_file.write_bytes(line + b"\n" + others)
        assert "job 1, was deleted by an administrator" in (await hub.spawner().view()).ended

    @pytest.mark.parametrize(
        ("hours", "pause", "farther"),
        [(0.0, 5, 1), (0.1, 90, 1), (10.0, 9000, 11), (1000.0, 900_000, 16)],
    )
    async def test_a_record_that_never_comes_is_looked_for_less_and_less_often(
        self,
        hours: float,
        pause: float,
        farther: int,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        looks: list[int] = []
        monkeypatch.setattr(
            "gridhub.spawner.cluster.find_record", lambda *arguments: looks.append(arguments[3])
        )
        spawner.last = SessionEnd(
            job="1", why=Ending.UNKNOWN, name="x", ended=time.time() - hours * 3600
        )
        for _ in range(5):
            await spawner.view()
        assert looks == [farther * accounting.LOOK_BACK]
        assert spawner._explain_due == pytest.approx(time.time() + pause, abs=5)
        spawner._explain_due = time.time()
        await spawner.view()
        assert len(looks) == 2

    async def test_no_page_waits_for_a_hanging_accounting_file(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        back = threading.Event()
        monkeypatch.setattr(
            "gridhub.spawner.cluster.find_record", lambda *_: back.wait(60) and None
        )
        monkeypatch.setattr("gridhub.spawner.pages.GLIMPSE", 0.05)
        view = await asyncio.wait_for(hub.spawner().view(), 3)
        assert "it used too much memory" in view.ended
        back.set()
