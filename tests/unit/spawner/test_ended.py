# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

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
    """Let the session be seen to have ended, and JupyterHub do what it does then."""
    spawner = alice.spawners[""]
    while await spawner.poll() is None:
        spawner.collector.hurry()  # the last question may have been on its way already
        await spawner.collector.news(0.1)
    await alice.stop()


class TestWhySessionsEnd:
    @pytest.mark.parametrize(
        ("like", "words", "short_of"),
        [
            ("t-hrt", "because its run time, 1 hour, was used up", ("run_time",)),
            ("t-mem", "used more than its memory: 418.5 MB of 286.1 MB", ("memory",)),
            ("t-qdel", "job 1, was deleted by an administrator", ()),
            ("t-exit0", "was shut down from inside the session", ()),
            ("t-exit3", "with exit status 3. Its messages are in ~/.jupyterhub-sessions/1.log", ()),
        ],
    )
    async def test_the_accounting_record_is_read_to_the_person(
        self,
        like: str,
        words: str,
        short_of: tuple[str, ...],
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
        # JupyterHub has made a new spawner of what is in the database, as after a restart.
        assert hub.spawner() is not spawner
        assert words in (await hub.spawner().view()).ended
        assert (await hub.spawner().view()).short_of == short_of
        form = await hub.spawner().get_options_form()
        assert words in form
        link = f'<a class="alert-link" href="?_more={"".join(short_of)}">Start again with more</a>'
        assert (link in form) == bool(short_of)
        # Whoever has followed it is not sent there again.
        assert "with more" not in await led(hub.spawner(), Link({}, ("memory",), more=True))

    @pytest.mark.parametrize(
        ("like", "words"),
        [("t-hrt", "because its run time, 1 hour, was used up"), ("t-mem", "ended by a limit")],
    )
    async def test_address_space_is_not_taken_for_other_memory(
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

    async def test_what_went_above_its_memory_reads_as_above_it(self) -> None:
        memory = HAD[1].model_copy(update={"total": 4 * 2.0**30, "words": "4 GB"})
        words = SessionEnd(job="1", why=Ending.MEMORY, used=4.02 * 2**30, had=(memory,)).words
        assert "more than its memory: 4.1 GB of 4.0 GB" in words

    async def test_a_record_that_is_written_late_is_found_by_who_looks_then(
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

    async def test_without_the_file_the_person_reads_what_may_have_been(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        assert (
            "its run time was over, it used too much memory" in (await hub.spawner().view()).ended
        )

    async def test_a_worker_that_did_not_report_any_more_is_named(
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

    async def test_the_reason_of_an_older_session_does_not_come_back(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine, monkeypatch: Any
    ) -> None:
        await running(alice, broker, lab)
        grid.accounting_file.parent.mkdir(parents=True)
        grid.accounting_file.touch()
        broker.cluster.remove(broker.session)
        await over(alice)
        looks, goes_on = threading.Event(), threading.Event()

        def find(*_: object) -> Record:
            looks.set()
            goes_on.wait(10)
            return Record(1, "exec1", 0, 0, 100, 137, 0)

        monkeypatch.setattr("gridhub.spawner.cluster.find_record", find)
        looking = asyncio.create_task(hub.spawner().explain_last())
        await asyncio.to_thread(looks.wait, 10)
        spawner = await running(alice, broker, lab)
        goes_on.set()
        await looking
        assert spawner.last is None
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    @pytest.mark.parametrize("fault", [RuntimeError("ours"), TimeoutError()])
    async def test_a_record_that_cannot_be_read_keeps_no_session_from_ending(
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

    async def test_an_accounting_file_that_hangs_keeps_no_session_from_ending(
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

    async def test_what_another_release_has_written_costs_no_session(
        self, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.load_state(
            spawner.get_state() | {"asked": [{"item": 1}], "last": {"new": 1, "had": []}}
        )
        assert (spawner.asked, spawner.last) == ((), None)
        assert spawner.session == broker.session
        assert await spawner.poll() is None

    async def test_what_was_seen_of_the_last_session_is_not_written_over_the_next_one(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab
    ) -> None:
        before = await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = before.last
        assert last is not None
        await running(alice, broker, lab)
        # The spawner JupyterHub has let go of still has a look under way.
        before._store_last(last, replace(last, why=Ending.DELETED))
        assert stored(hub)[0]["session"] == broker.session  # type: ignore[index]

    async def test_who_comes_the_next_morning_reads_the_reason(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, grid: GridEngine
    ) -> None:
        await running(alice, broker, lab)
        broker.cluster.remove(broker.session)
        await over(alice)
        last = hub.spawner().last
        assert last is not None
        hub.spawner().last = replace(last, ended=time.time() - 10 * 3600)
        others = b"#\n" * (accounting.LOOK_BACK // 2)  # more than the first look goes through
        grid.accounting_file.parent.mkdir(parents=True)
        line = record("t-qdel", broker.session).encode()
        grid.accounting_file.write_bytes(line + b"\n" + others)
        assert "job 1, was deleted by an administrator" in (await hub.spawner().view()).ended

    @pytest.mark.parametrize(
        ("hours", "pause", "farther"),
        [(0.0, 5, 1), (0.1, 90, 1), (10.0, 9000, 11), (1000.0, 900_000, 16)],
    )
    async def test_a_record_that_never_comes_is_looked_for_more_and_more_seldom(
        self,
        hours: float,
        pause: float,
        farther: int,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        looks: list[int] = []
        monkeypatch.setattr(
            "gridhub.spawner.cluster.find_record", lambda *told: looks.append(told[3])
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

    async def test_no_page_waits_for_an_accounting_file_that_hangs(
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
