# SPDX-License-Identifier: BSD-3-Clause
"""What people ask for, in the form, by a link and through the REST API."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future
from tornado.httpclient import HTTPResponse

from fake_grid import Qstat, job, until
from gridhub.broker.protocol import Answer, Check, Stop
from gridhub.grid.details import Details
from gridhub.grid.jobs import Job
from gridhub.grid.places import QueueInstance
from gridhub.menu.file import load_menu
from gridhub.menu.job import Requested
from gridhub.notices import next_maintenance
from gridhub.spawner.form import Link
from gridhub.words import text
from sge_spawner import SGESpawner
from whole_hub import (
    HAD,
    HOSTILE,
    MEMORY,
    MENU,
    Broker,
    Hub,
    Lab,
    Visit,
    known,
    led,
    page_says,
    starting,
    stored,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


HOURS = {
    "name": "hours",
    "label": "Run time",
    "unit": "hours",
    "choices": [1, 2],
    "default": 2,
    "request": {"kind": "run_time", "complex": "h_rt"},
}


INTERFACE = {
    "name": "interface",
    "label": "Opens in",
    "options": [
        {"value": "lab", "label": "JupyterLab"},
        {"value": "notebook", "label": "Jupyter Notebook"},
    ],
    "default": "lab",
    "request": {"kind": "interface"},
}


MAIL = {
    "name": "mail",
    "label": "Mail to",
    "text": {"pattern": "[a-z.]+@example[.]org", "example": "j@example.org"},
    "default": "",
    "request": {"kind": "mail"},
}


QUEUE = {
    "name": "queue",
    "label": "Queue",
    "options": [{"value": "", "label": "Any"}, {"value": "big.q", "label": "Big"}],
    "default": "",
    "request": {"kind": "queue"},
}


FUZZED = [*MENU, INTERFACE, MAIL]


PRESETS = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]


SENT = st.dictionaries(
    st.sampled_from(["cores", "gpus", "interface", "mail", "preset", "queue", "_more"])
    | st.text(max_size=8),
    st.lists(
        st.sampled_from(
            ["1", "2", "3", "4", "0", "04", "٤", "", "lab", "large", "a@example.org"]
        ).map(str.encode)
        | st.sampled_from([HOSTILE.encode(), b"a@example.org\n", b"\xff", b"\x00", b"-l h_rt=1"])
        | st.binary(max_size=12)
        | st.text(max_size=300).map(str.encode),
        min_size=1,
        max_size=2,
    ),
    max_size=4,
)


class TestChoice:
    async def test_a_checked_choice_is_what_the_broker_is_asked_for(
        self, alice: Any, spawner: SGESpawner, broker: Broker
    ) -> None:
        await starting(alice, broker, cores="2")
        assert spawner.user_options == {"cores": 2}
        assert broker.starts[0].choice == {"cores": 2}
        assert broker.starts[0].user == "alice"

    async def test_a_choice_off_the_menu_is_refused_on_the_api_in_words(
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

    async def test_a_refused_choice_is_not_taken_for_the_next_start(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        assert hub.spawner().orm_spawner.user_options == {}
        broker.answers = [Answer(ok=False, kind="grid", error="no more today")]
        answer = await hub.ask("users/alice/server", token, None)
        assert "no more today" in json.loads(answer.body)["message"]
        assert broker.starts[0].choice == {"cores": 1}

    async def test_what_grid_engine_can_never_start_is_refused_in_words_of_ours(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        refused = Answer(
            ok=False, kind="grid", error="Unable to run job: error: no suitable queues"
        )
        barred = 'Job 1 has no permission for cluster queue "all.q"'
        never = Answer(ok=True, verdict="never", words=barred)
        for verdict, told in (
            (never, "It can never start: your account may not use any worker or queue"),
            (Answer(ok=True, verdict="now"), "no suitable queues"),
        ):
            spawner.cluster.verdicts.kept.clear()
            broker.answers = [refused, verdict]
            answer = await hub.ask("users/alice/server", token, {"cores": 4})
            assert answer.code == 400
            assert told in json.loads(answer.body)["message"]
            assert broker.requests[-1] == Check(user="alice", choice={"cores": 4})
        spawner.cluster.verdicts.kept.clear()

    async def test_an_accepted_choice_is_the_next_ones_default(
        self, hub: Hub, spawner: SGESpawner, broker: Broker, token: str, qstat: Qstat
    ) -> None:
        broker.answers = [Answer(ok=False, kind="grid", error="not now")] * 2
        await hub.ask("users/alice/server", token, {"cores": "4"})
        await hub.ask("users/alice/server", token, None)
        assert [start.choice for start in broker.starts] == [{"cores": 4}] * 2

    async def test_a_refused_choice_leaves_the_last_accepted_one_for_the_next_form(
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
            ("refuse", 120.5, "Choose at most 1 hour."),  # it would cross it once it has started
            ("refuse", 115, "Choose at most 1 hour."),
            ("cap", 115, 1),
            ("cap", 30, "no session would be over before"),
            ("refuse", -30, "no session would be over before"),
        ],
    )
    async def test_no_session_runs_into_the_window_of_the_workers(
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
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        if isinstance(outcome, int):
            await spawner._run_apply_user_options({})
            assert spawner.user_options["hours"] == outcome
            return
        with pytest.raises(SpawnException) as caught:
            await spawner._run_apply_user_options({})
        assert outcome in str(caught.value.message)
        assert spawner.refusal and spawner.refusal.item == "hours"

    async def test_a_run_time_that_is_cut_is_told_before_and_while_it_waits(
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
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        known(spawner.status.places, [])
        spawner.cluster.verdicts.kept.clear()
        broker.answers = [Answer(ok=True, verdict="now")]  # both are the same to the broker
        words = "The run time is 1 hour, because the workers are maintained from"
        message = (await spawner.forecast({"hours": "2"})).message
        assert message.startswith(f"It can start now. {words}")
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
            # Without a run time there is nothing that the person could choose less of.
            ("refuse", None, 3500, 200, True),
            ("refuse", None, -1, 409, False),
        ],
    )
    async def test_a_session_that_has_waited_is_held_against_the_window_when_it_starts(
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
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
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
        # Told again, when the answer was lost, it is the same one.
        again = await hub.ask("sge/port", broker.token, {"port": lab.port})
        assert (again.code, again.body) == (answer.code, answer.body)

    async def test_how_long_a_session_ran_already_counts_against_the_window(
        self, hub: Hub, alice: Any, broker: Broker, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The hub was away when it started."""
        spawner = alice.spawners[""]
        start = await starting(alice, broker)
        spawner.asked = (HAD[-1].model_copy(update={"total": 3600}),)
        job = Job(1, "n", "alice", "r", "127.0.0.1", 1, since=time.time() - 600)
        monkeypatch.setattr(spawner, "_job", lambda: job)
        begin = datetime.now(UTC) + timedelta(seconds=3100)
        window = next_maintenance.Window(begin, begin + timedelta(hours=2), "refuse")
        monkeypatch.setattr(next_maintenance.windows, "current", lambda: window)
        assert (await hub.ask("sge/port", broker.token, {"port": lab.port})).code == 204
        monkeypatch.undo()
        broker.cluster.put(broker.session)
        await asyncio.wait_for(start, 10)

    async def test_a_form_is_read_without_its_meaning(self, spawner: SGESpawner) -> None:
        fields = {"cores": ["2"], "gpus": ["0", "1"], "_xsrf": ["abc"], "empty": []}
        assert await maybe_future(spawner.run_options_from_form(fields)) == {
            "cores": "2",
            "gpus": ["0", "1"],
            "empty": [],
        }

    async def test_the_form_shows_what_the_person_may_use(self, spawner: SGESpawner) -> None:
        spawner.user_options = {"cores": 4}
        form = await spawner.get_options_form()
        assert 'name="cores"' in form
        assert '<option value="4" selected>' in form
        assert "gpus" not in form

    async def test_a_refused_form_says_why_at_the_field_and_once(
        self, hub: Hub, visit: Visit, token: str
    ) -> None:
        async def page(path: str = "spawn", body: str | None = None) -> str:
            return (await visit(path, body)).body.decode()

        told = 'id="error-menu-cores">CPU cores: “3” is not possible; choose 1, 2 or 4.</div>'
        assert told in await page(body="cores=3")
        assert "is-invalid" not in await page()
        # JupyterHub's own page starts what a link says; ours fills it in.
        for link in ("spawn?cores=2", "spawn/alice?opt-cores=2&next=%2Fhub%2Fhome"):
            form = await page(link)
            assert '<option value="2" selected>' in form
            assert "The link has filled in this form. Nothing is started yet." in form
            assert re.search(r'action="/hub/spawn(/alice)?\?[^"]*_xsrf=', form)
            assert "cores=" not in form, "the form does not send the link on"
        assert not hub.spawner().active
        left_out = "Not taken from the link: CPU cores: “3” is not possible; choose 1, 2 or 4."
        assert left_out in await page("spawn?cores=3")
        assert "the link" not in (await page()).lower()
        # A refusal of what was sent afterwards is what the person sees, and what they sent.
        form = await page("spawn?cores=2", body="cores=4&nothing=1")
        assert "The link" not in form
        assert '<option value="4" selected>' in form
        # What a program was refused is no answer to a person.
        assert (await hub.ask("users/alice/server", token, {"cores": 3})).code == 400
        assert "is-invalid" not in await page()

    @pytest.mark.parametrize(
        ("path", "body", "code", "words"),
        [
            ("spawn", b"cores=%FF", 400, "error.not_text"),
            ("spawn?cores=%FF", None, 400, "error.not_text"),
            ("spawn?next=%FF", None, 400, "error.not_text"),
            ("spawn/alice/%3Cb%3E", b"cores=1", 400, "error.bad_name"),
            ("spawn/alice/b", b"cores=1", 400, "error.no_room"),
            ("spawn/nobody", None, 404, "error.text_404"),
        ],
    )
    async def test_what_cannot_be_done_is_said_in_words_of_ours(
        self,
        path: str,
        body: bytes | None,
        code: int,
        words: str,
        hub: Hub,
        visit: Visit,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settings = hub.tornado_application.settings
        monkeypatch.setitem(settings, "allow_named_servers", True)
        monkeypatch.setitem(settings, "named_server_limit_per_user", 1 + ("room" not in words))
        hub.spawner().user.get_or_create_spawner("a", "a")
        answer = await visit(path, body)
        assert answer.code == code
        assert page_says(answer, words, name="next" if "next" in path else "cores")

    async def test_a_form_without_named_sessions_says_so(self, visit: Visit) -> None:
        assert page_says(await visit("spawn/alice/b", b"cores=1"), "error.not_named")

    @pytest.mark.parametrize(
        ("limit", "name", "words"),
        [
            (1, "b", "error.no_room"),
            (2, "%3Cb%3E", "error.bad_name"),
            (None, "b", "error.not_named"),
        ],
    )
    async def test_the_rest_api_refuses_what_the_page_refuses_in_the_same_words(
        self, limit: int | None, name: str, words: str, hub: Hub, token: str, monkeypatch: Any
    ) -> None:
        settings = hub.tornado_application.settings
        monkeypatch.setitem(settings, "allow_named_servers", limit is not None)
        monkeypatch.setitem(settings, "named_server_limit_per_user", limit)
        hub.spawner().user.get_or_create_spawner("a", "a")
        answer = await hub.ask(f"users/alice/servers/{name}", token, {"cores": 1})
        assert answer.code == 400
        assert json.loads(answer.body)["message"] == text(words)

    @pytest.mark.parametrize("body", [None, b"cores=1"])
    async def test_a_fault_of_our_own_is_told_without_its_details(
        self, body: bytes | None, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object, **__: object) -> str:
            raise RuntimeError("secret")

        monkeypatch.setattr(SGESpawner, "get_options_form", fail)
        monkeypatch.setattr(SGESpawner, "options_from_form", fail)
        answer = await visit("spawn", body)
        assert answer.code == 500
        assert page_says(answer, "error.text_other")
        assert not {"secret", "Traceback"} & set(re.findall(r"\w+", answer.body.decode()))

    async def test_a_second_press_of_start_is_told_that_it_starts_and_that_it_runs(
        self, alice: Any, broker: Broker, lab: Lab, visit: Visit
    ) -> None:
        start = await starting(alice, broker)
        answer = await visit("spawn", b"cores=1")
        assert answer.code == 400
        assert page_says(answer, "error.active")
        broker.cluster.put(broker.session)
        alice.spawners[""].announce(lab.port)
        await asyncio.wait_for(start, 10)
        assert page_says(await visit("spawn", b"cores=1"), "error.active")
        assert len(broker.starts) == 1

    async def test_a_full_hub_says_so_on_the_form(
        self, hub: Hub, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bob = hub.person("bob")
        start = asyncio.create_task(bob.spawn())
        await until(lambda: bob.spawners[""].job_id)
        monkeypatch.setitem(hub.tornado_application.settings, "active_server_limit", 1)
        answer = await visit("spawn", b"cores=2")
        assert answer.code == 429
        assert page_says(answer, "error.text_429")
        assert 'name="cores"' in answer.body.decode(), "the form"
        start.cancel()

    @hypothesis_settings(
        max_examples=40,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(sent=SENT)
    @example(sent={"cores": [b"2"], "interface": [b"notebook"], "mail": [b"a@example.org"]})
    @example(sent={"preset": [b"large"]})
    @example(sent={"cores": [b"\xff"]})
    async def test_whatever_is_sent_form_link_and_api_agree_and_only_the_menu_is_started(
        self,
        sent: dict[str, list[bytes]],
        hub: Hub,
        broker: Broker,
        visit: Visit,
        token: str,
        menu_file: Path,
    ) -> None:
        menu_file.write_text(json.dumps({"items": FUZZED, "presets": PRESETS}), encoding="utf-8")
        menu = load_menu(menu_file)
        body = urlencode(sent, doseq=True)
        verdicts = []

        def judged(answer: HTTPResponse) -> None:
            assert answer.code in (400, 403), answer.body
            if answer.headers["Content-Type"] != "application/json":
                assert HOSTILE not in answer.body.decode()
            choices = [start.choice for start in broker.starts]
            broker.requests.clear()
            for choice in choices:
                assert menu.choose(choice, ()).values == choice
            verdicts.append(choices)

        broker.answers = [Answer(ok=False, kind="grid", error=HOSTILE)]
        judged(await visit("spawn", body.encode()))
        try:
            fields = {name: [value.decode() for value in values] for name, values in sent.items()}
        except UnicodeDecodeError:
            assert verdicts == [[]]
            fields = {}
        else:
            options = {
                name: values[0] if len(values) == 1 else values
                for name, values in fields.items()
                if not name.startswith("_")
            }
            hub.spawner().orm_spawner.user_options = {}
            broker.answers = [Answer(ok=False, kind="grid", error=HOSTILE)]
            judged(await hub.ask("users/alice/server", token, options))
            assert verdicts[0] == verdicts[1]
        # A link starts nothing, and its form offers what the menu has.
        link = await visit(f"spawn?{body}")
        assert link.code in (200, 400)
        assert not broker.requests
        assert HOSTILE not in link.body.decode()
        # No more does what is no JSON at all.
        broken = await hub.ask("users/alice/server", token, body.encode() + b"\xff")
        assert broken.code == 400
        assert not broker.requests

    async def test_an_old_form_is_told_to_be_old(self, hub: Hub) -> None:
        for path in ("spawn", "stop/alice", "login"):
            answer = await hub.visit(path, body="_xsrf=old")
            assert answer.code == 403
            assert page_says(answer, "error.stale_form")

    async def test_more_and_less_are_filled_in_and_said_at_the_field(
        self, spawner: SGESpawner
    ) -> None:
        async def form(*, more: bool, places: list[QueueInstance] | None = None) -> str:
            known(spawner.status.places, places)
            spawner.user_options = {"cores": "2", "preset": ""}  # as a form sends it
            html = await led(spawner, Link({}, ("cores", "gpus", "?"), more=more))
            assert html.count(" autofocus") == 1
            assert "gpus" not in html, "for members only"
            return html

        more = await form(more=True)
        assert '<option value="4" selected>' in more
        assert "CPU cores: 4 instead of 2, the next larger amount" in more
        less = await form(more=False)
        assert '<option value="1" selected>' in less
        assert "CPU cores: 1 instead of 2, the next smaller amount" in less
        room = QueueInstance("all.q", "exec1", 4, 1, True)
        assert "because no worker that it may use has 2 free now" in await form(
            more=False, places=[room]
        )
        full = await form(more=False, places=[replace(room, free=0)])
        assert '<option value="2" selected>' in full
        assert "CPU cores: less than 2 does not help now" in full
        spawner.user_options = {"cores": 4}
        assert "you may not have more than 4" in await led(spawner, Link({}, ("cores",), more=True))
        assert "changed" not in await spawner.get_options_form(), "of this link alone"

    async def test_of_two_links_opened_at_once_each_fills_in_its_own_form(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = asyncio.Barrier(2)
        groups = SGESpawner._groups

        async def wait_for_both(spawner: SGESpawner) -> frozenset[str]:
            await both.wait()
            return await groups(spawner)

        monkeypatch.setattr(SGESpawner, "_groups", wait_for_both)
        links = [visit(f"spawn?cores={cores}") for cores in (2, 4)]
        first, second = await asyncio.wait_for(asyncio.gather(*links), 10)
        assert '<option value="2" selected>' in first.body.decode()
        assert '<option value="4" selected>' in second.body.decode()

    async def test_what_a_waiting_session_lacks_is_named_by_its_items(
        self, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 9e9})])
        assert spawner.missing == ("cores", "gpus")
        known(spawner.status.places, None)
        assert spawner.missing == ()

    @pytest.mark.parametrize(
        ("cores", "said", "items"),
        [
            (
                2,
                'queue "exec2" because it offers only hc:h_vmem=1.000G\nonly offers 0 slots',
                "memory",
            ),
            (2, 'queue instance "all.q@exec1" dropped because it is full', "cores"),
            (2, "because it only offers 0 slots", "cores"),
            (2, 'exceeds limit "alice/////" in rule "mine/1"\nonly offers 0 slots', ""),
            (2, "because it offers only hc:h_vmem=1.000G due to a reservation", ""),
            (2, "", ""),
            # One slot is on one host, whatever the parallel environment is.
            (1, "", "gpus"),
        ],
    )
    async def test_where_a_parallel_environment_may_spread_it_the_scheduler_says_what_it_lacks(
        self,
        cores: int,
        said: str,
        items: str,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        chosen = HAD[0].model_copy(update={"value": cores, "total": cores})
        spawner.asked = (chosen, *HAD[1:], PARALLEL)
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 9e9})])
        known(spawner.status.details, {7: Details(7, "alice", reasons=tuple(said.splitlines()))})
        assert spawner.missing == tuple(items.split())

    async def test_less_is_what_the_chosen_queue_has(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [MENU[0], QUEUE]}), encoding="utf-8")
        known(
            spawner.status.places,
            [
                QueueInstance("all.q", "exec1", 4, 4, True),
                QueueInstance("big.q", "exec2", 4, 1, True),
            ],
        )
        for queue, cores in (("big.q", 1), ("", 2)):
            spawner.user_options = {"cores": 4, "queue": queue}
            form = await led(spawner, Link({}, ("cores",)))
            assert f"CPU cores: {cores} instead of 4" in form

    async def test_less_of_one_thing_may_take_less_of_another_first(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "memory <= 4 * cores", "item": "memory", "message": "Less."}
        menu_file.write_text(
            json.dumps({"items": [MENU[0], MEMORY], "limits": [limit]}), encoding="utf-8"
        )
        room = QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 5 * 2.0**30})
        known(spawner.status.places, [room])
        spawner.user_options = {"cores": 2, "memory": 8}
        form = await led(spawner, Link({}, ("cores", "memory")))
        assert "CPU cores: 1 instead of 2, because" in form
        assert "Memory: 4 GB instead of 8 GB, because" in form
        assert re.search(r'autofocus="" id="menu-cores"', form), "the first on the form"

    async def test_a_link_that_breaks_a_rule_is_filled_in_and_marked(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "cores < 4", "item": "cores", "message": "Fewer."}
        menu_file.write_text(json.dumps({"items": MENU, "limits": [limit]}), encoding="utf-8")
        form = await led(spawner, Link({"cores": "4"}))
        assert '<option value="4" selected>' in form
        assert 'id="error-menu-cores">Fewer.' in form

    async def test_a_refusal_is_gone_once_a_form_has_said_it(self, spawner: SGESpawner) -> None:
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert "is-invalid" in await spawner.get_options_form()
        assert "is-invalid" not in await spawner.get_options_form()
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        await spawner._run_apply_user_options({"cores": 2})
        assert "is-invalid" not in await spawner.get_options_form()

    async def test_a_preset_is_accepted_and_its_values_are_remembered(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        presets = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]
        menu_file.write_text(json.dumps({"items": MENU, "presets": presets}), encoding="utf-8")
        await spawner._run_apply_user_options({"preset": "large", "cores": "1"})
        assert spawner.user_options == {"cores": 4}

    async def test_the_interface_says_where_the_session_opens(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, INTERFACE]}), encoding="utf-8")
        for interface, url in (("notebook", "/tree"), ("lab", "/lab")):
            await spawner._run_apply_user_options({"interface": interface})
            assert spawner.get_env()["JUPYTERHUB_DEFAULT_URL"] == url
        menu_file.write_text(json.dumps({"items": MENU}), encoding="utf-8")
        await spawner._run_apply_user_options({})
        assert "JUPYTERHUB_DEFAULT_URL" not in spawner.get_env()

    async def test_a_new_menu_needs_no_restart(self, spawner: SGESpawner, menu_file: Path) -> None:
        menu_file.write_text(
            json.dumps({"items": [MENU[0] | {"choices": [1, 64]}]}), encoding="utf-8"
        )
        await spawner._run_apply_user_options({"cores": 64})
        assert spawner.user_options == {"cores": 64}

    async def test_a_broken_menu_is_told_without_details(
        self, hub: Hub, spawner: SGESpawner, menu_file: Path, token: str, broker: Broker
    ) -> None:
        menu_file.write_text("secret words", encoding="utf-8")
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 500
        assert b"cannot be read" in answer.body
        assert b"secret" not in answer.body
        assert str(menu_file).encode() not in answer.body
        assert not broker.requests

    async def test_a_person_without_an_account_is_told_so(self, hub: Hub, broker: Broker) -> None:
        nobody = hub.person("no-such-account")
        with pytest.raises(SpawnException, match="no account no-such-account"):
            await nobody.spawners[""]._run_apply_user_options({})


PARALLEL = Requested(
    item="where", label="Cores are", value="mpi", words="anywhere", kind="parallel_environment"
)
