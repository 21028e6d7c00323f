# SPDX-License-Identifier: BSD-3-Clause
"""Choices that are sent with the form, or through the REST API."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from jupyterhub.utils import maybe_future
from tornado.httpclient import HTTPResponse

from fake_grid import until
from gridhub.broker.protocol import Answer
from gridhub.menu.file import load_menu
from gridhub.words import text
from hub_menus import FUZZED, HOSTILE, PRESETS, SENT
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Lab, Visit, page_says, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestForm:
    async def test_the_fields_of_a_form_are_read_but_not_interpreted(
        self, spawner: SGESpawner
    ) -> None:
        fields = {"cores": ["2"], "gpus": ["0", "1"], "_xsrf": ["abc"], "empty": []}
        assert await maybe_future(spawner.run_options_from_form(fields)) == {
            "cores": "2",
            "gpus": ["0", "1"],
            "empty": [],
        }

    async def test_the_form_shows_what_the_user_may_use(self, spawner: SGESpawner) -> None:
        spawner.user_options = {"cores": 4}
        form = await spawner.get_options_form()
        assert 'name="cores"' in form
        assert '<option value="4" selected>' in form
        assert "gpus" not in form

    async def test_a_refused_form_shows_the_reason_once_and_at_the_field(
        self, hub: Hub, visit: Visit, token: str
    ) -> None:
        async def page(path: str = "spawn", body: str | None = None) -> str:
            return (await visit(path, body)).body.decode()

        error = 'id="error-menu-cores">CPU cores: “3” is not possible; choose 1, 2 or 4.</div>'
        assert error in await page(body="cores=3")
        assert "is-invalid" not in await page()
        # Plain JupyterHub would start a session for these links. GridHub only fills in the form.
        for link in ("spawn?cores=2", "spawn/alice?opt-cores=2&next=%2Fhub%2Fhome"):
            form = await page(link)
            assert '<option value="2" selected>' in form
            assert "The link has filled in this form. Nothing is started yet." in form
            assert re.search(r'action="/hub/spawn(/alice)?\?[^"]*_xsrf=', form)
            assert "cores=" not in form, "the form does not send the link on"
        assert not hub.spawner().active
        left_out = "Ignored in the link: CPU cores: “3” is not possible; choose 1, 2 or 4."
        assert left_out in await page("spawn?cores=3")
        assert "the link" not in (await page()).lower()
        # A refused form shows the values that the user sent, not the link's values.
        form = await page("spawn?cores=2", body="cores=4&nothing=1")
        assert "The link" not in form
        assert '<option value="4" selected>' in form
        # The form does not show the refusal of a program's request.
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
    async def test_impossible_requests_are_refused_in_our_own_words(
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

    async def test_a_form_for_a_named_session_is_refused_where_there_are_none(
        self, visit: Visit
    ) -> None:
        assert page_says(await visit("spawn/alice/b", b"cores=1"), "error.not_named")

    @pytest.mark.parametrize(
        ("limit", "name", "words"),
        [
            (1, "b", "error.no_room"),
            (2, "%3Cb%3E", "error.bad_name"),
            (None, "b", "error.not_named"),
        ],
    )
    async def test_the_rest_api_and_the_page_refuse_in_the_same_words(
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
    async def test_an_internal_error_is_reported_without_details(
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

    async def test_a_second_press_of_start_is_refused_because_the_session_is_active(
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

    async def test_the_form_shows_that_the_hub_is_full(
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
    async def test_form_link_and_api_agree_on_any_input_and_start_only_the_menus_choices(
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
        # A link starts nothing, and its form offers only what is on the menu.
        link = await visit(f"spawn?{body}")
        assert link.code in (200, 400)
        assert not broker.requests
        assert HOSTILE not in link.body.decode()
        # Invalid JSON starts nothing either.
        broken = await hub.ask("users/alice/server", token, body.encode() + b"\xff")
        assert broken.code == 400
        assert not broker.requests
