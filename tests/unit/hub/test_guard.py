"""Limits for each user in a real hub.

They cover every entry point and do not affect other users. A refusal shows a message.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from jupyterhub import apihandlers, handlers, orm
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.utils import utcnow
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from fake_grid import until
from gridhub.broker.protocol import Answer
from gridhub.hub import guard, pages
from gridhub.hub.guard import COUNTED, SETTING, counted
from gridhub.hub.rate_limits import Limits, Rate, rates
from gridhub.hub.starter import SessionHandler
from gridhub.words import text
from whole_hub import SERVICE_TOKEN, Broker, Hub, Visit, page_says

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Limits that allow at most three requests of each kind at once, and one log line.
TIGHT = dict.fromkeys(rates(), Rate(3, 0.5)) | {"lines": Rate(1, 1)}


@pytest.fixture
def tight(hub: Hub) -> Limits:
    """Set low limits in the hub."""
    limits = Limits(TIGHT, tokens=3)
    hub.tornado_application.settings[SETTING] = limits
    return limits


def message(answer: HTTPResponse) -> str:
    return str(json.loads(answer.body)["message"])


class TestWhatIsCounted:
    async def test_every_way_to_start_a_session_counts_as_a_start(self) -> None:
        served = (*handlers.default_handlers, *apihandlers.default_handlers)
        classes = {base for _, each, *_ in served for base in each.__mro__[:-1]}
        ways = {each for each in classes if "spawn_single_user(" in inspect.getsource(each)}
        assert ways == {BaseHandler, SpawnHandler, pages.FormHandler, UserServerAPIHandler}
        for way in (SpawnHandler, pages.FormHandler, UserServerAPIHandler):
            assert counted(way, "POST").kind == "starts"
        # Without a form, JupyterHub would start a session from a link (GET). This hub never does.
        assert counted(pages.FormHandler, "GET").kind == "looks"

    @pytest.mark.parametrize(
        ("handler", "method"),
        [
            (SessionHandler, "POST"),
            (pages.StopHandler, "POST"),
            *[each for each in COUNTED if each[1] == "DELETE"],
        ],
    )
    async def test_stops_and_reports_have_their_own_bucket(
        self, handler: type, method: str
    ) -> None:
        assert counted(handler, method).kind == "reports"

    async def test_everything_else_counts_as_a_request(self) -> None:
        assert counted(handlers.pages.HomeHandler, "GET").kind == "requests"
        assert counted(BaseHandler, "PATCH").kind == "requests"


class TestLimits:
    async def test_too_many_starts_through_the_api_are_refused_with_a_message(
        self, hub: Hub, tight: Limits, broker: Broker, token: str
    ) -> None:
        broker.letters = ""
        for _ in range(3):
            assert (await hub.ask("users/alice/server", token, {"cores": "7"})).code == 400
        answer = await hub.ask("users/alice/server", token, {"cores": 1})
        assert answer.code == 429
        assert 110 < int(answer.headers["Retry-After"]) <= 120
        assert message(answer) == text("limit.starts", wait="2 minutes")
        assert answer.headers["Content-Type"].startswith("application/json")
        assert broker.requests == []

    async def test_too_many_starts_through_the_form_are_refused_with_a_page(
        self, hub: Hub, tight: Limits, broker: Broker, visit: Visit
    ) -> None:
        for _ in range(3):
            await visit("spawn", "cores=7")
        answer = await visit("spawn", "cores=1")
        assert answer.code == 429 and "Retry-After" in answer.headers
        assert page_says(answer, "limit.starts", wait="2 minutes")
        assert page_says(answer, "error.heading_429")
        assert broker.requests == []

    async def test_form_and_api_share_a_bucket(
        self, hub: Hub, tight: Limits, token: str, visit: Visit
    ) -> None:
        for _ in range(3):
            await visit("spawn", "cores=7")
        assert (await hub.ask("users/alice/server", token, {})).code == 429

    async def test_too_many_forms_and_forecasts_are_refused_with_a_message(
        self, hub: Hub, tight: Limits, broker: Broker
    ) -> None:
        broker.answers = [Answer(ok=True, verdict="now")]
        for path in ("spawn", "forecast?cores=1", "spawn"):
            assert (await hub.visit(path)).code == 200
        for path in ("spawn", "forecast?cores=1"):
            answer = await hub.visit(path)
            assert answer.code == 429, path
            assert page_says(answer, "limit.looks", wait="2 minutes")

    async def test_other_users_are_not_affected(self, hub: Hub, tight: Limits) -> None:
        for _ in range(10):
            last = await hub.visit("home")
        assert last.code == 429
        assert (await hub.visit("home", "bob")).code == 200

    async def test_a_flood_of_requests_does_not_block_stops_and_reports(
        self, hub: Hub, tight: Limits, token: str
    ) -> None:
        for _ in range(10):
            last = await hub.ask("users/alice", token, method="GET")
        assert last.code == 429 and message(last) == text("limit.requests", wait="2 minutes")
        assert (await hub.ask("user", token, method="GET")).code == 200
        assert (await hub.ask("users/alice/server", token, method="DELETE")).code == 204

    async def test_services_are_not_counted(self, hub: Hub, tight: Limits, alice: Any) -> None:
        for _ in range(10):
            answer = await hub.ask("users/alice", SERVICE_TOKEN, method="GET")
            assert answer.code == 200

    async def test_an_administrators_stops_are_not_counted(
        self, hub: Hub, tight: Limits, alice: Any
    ) -> None:
        admin = hub.person("admin")
        admin.orm_user.roles.append(orm.Role.find(hub.db, "admin"))
        hub.db.commit()
        token = admin.new_api_token()
        for _ in range(10):
            answer = await hub.ask("users/alice/server", token, method="DELETE")
            assert answer.code == 204
        for _ in range(10):
            answer = await hub.ask("users/alice", token, method="GET")
        assert answer.code == 429

    async def test_refused_requests_do_not_fill_the_log(
        self, hub: Hub, tight: Limits, token: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub.tornado_application.settings["log_function"] = guard.log_request
        with caplog.at_level(logging.DEBUG):
            for _ in range(50):
                await hub.ask("users/alice", token, method="GET")
        lines = [each.getMessage() for each in caplog.records if "users/alice" in each.getMessage()]
        assert len([each for each in lines if each.startswith("429")]) == 1
        assert "alice has reached the limit for requests" in caplog.text
        assert len(caplog.records) < 20

    async def test_requests_with_invented_tokens_use_no_memory(
        self, hub: Hub, tight: Limits
    ) -> None:
        for each in range(20):
            await hub.ask("users/alice", f"invented{each}", method="GET")
        assert len(tight) == 0

    async def test_a_session_without_a_valid_token_is_counted_by_its_certificate(
        self, hub: Hub, tight: Limits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.hub.guard.session_of", lambda socket: "a" * 32)
        for each in range(10):
            last = await hub.ask("users/alice", f"invented{each}", method="GET")
        assert last.code == 429
        assert len(tight) == 2, "one session's requests, and one line of the log"

    async def test_a_long_body_is_not_stored(self, hub: Hub, token: str, alice: Any) -> None:
        long = {"user_options": {"x": "y" * guard.MAX_BODY}}
        answer = await hub.ask("users/alice/server", token, long, method="PATCH")
        assert answer.code == 413
        assert message(answer) == text("most.body", most=64)


class TestTokens:
    async def test_the_number_of_tokens_is_limited(
        self, hub: Hub, tight: Limits, token: str
    ) -> None:
        hub.tornado_application.settings[SETTING] = Limits(rates(), tokens=3)
        made = [await hub.ask("users/alice/tokens", token, {}) for _ in range(3)]
        # The token that the fixture made counts too.
        assert [each.code for each in made] == [201, 201, 409]
        assert message(made[-1]) == text("most.tokens", number=3)
        first = json.loads(made[0].body)["id"]
        gone = await hub.ask(f"users/alice/tokens/{first}", token, method="DELETE")
        assert gone.code == 204
        assert (await hub.ask("users/alice/tokens", token, {})).code == 201

    async def test_the_rate_of_new_tokens_is_limited(
        self, hub: Hub, tight: Limits, token: str
    ) -> None:
        hub.tornado_application.settings[SETTING] = Limits(
            rates() | {"tokens": Rate(2, 1)}, tokens=100
        )
        made = [await hub.ask("users/alice/tokens", token, {}) for _ in range(3)]
        assert [each.code for each in made] == [201, 201, 429]
        assert message(made[-1]) == text("limit.tokens", wait="60 seconds")

    async def test_the_rate_also_applies_to_tokens_by_password(
        self, hub: Hub, tight: Limits, alice: Any
    ) -> None:
        hub.tornado_application.settings[SETTING] = Limits(
            rates() | {"tokens": Rate(2, 1)}, tokens=100
        )
        body = {"auth": {"username": "alice", "password": "x"}}
        made = [await hub.ask("users/alice/tokens", None, body) for _ in range(3)]
        assert [each.code for each in made] == [201, 201, 429]

    @pytest.mark.parametrize("kind", ["expired", "login", "session"])
    async def test_expired_login_and_session_tokens_do_not_count(
        self, hub: Hub, tight: Limits, alice: Any, spawner: Any, token: str, kind: str
    ) -> None:
        hub.tornado_application.settings[SETTING] = Limits(rates(), tokens=2)
        client = orm.OAuthClient(identifier="jupyterhub-user-alice", redirect_uri="/x")
        hub.db.add(client)
        try:
            for _ in range(5):
                made = alice.new_api_token(
                    note="Server at /user/alice/",
                    **({"oauth_client": client} if kind == "login" else {}),
                )
                row = orm.APIToken.find(hub.db, made)
                if kind == "expired":
                    row.expires_at = utcnow(with_tz=False) - timedelta(seconds=1)
                    hub.db.commit()
                if kind == "session":
                    spawner.token_hash = row.hashed
                    break
            assert (await hub.ask("users/alice/tokens", token, {})).code == 201
            assert (await hub.ask("users/alice/tokens", token, {})).code == 409
        finally:
            spawner.token_hash = ""
            hub.db.delete(client)
            hub.db.commit()

    async def test_a_note_does_not_turn_a_token_into_a_session_token(
        self, hub: Hub, token: str
    ) -> None:
        hub.tornado_application.settings[SETTING] = Limits(rates(), tokens=2)
        body = {"note": "Server at /user/alice/"}
        made = [await hub.ask("users/alice/tokens", token, body) for _ in range(2)]
        assert [each.code for each in made] == [201, 409]

    @pytest.mark.parametrize("note", ["x" * 256, 7, ["x"]])
    async def test_a_note_must_be_short_text(self, hub: Hub, token: str, note: object) -> None:
        answer = await hub.ask("users/alice/tokens", token, {"note": note})
        assert answer.code == 400
        assert message(answer) == text("most.note", most=255)

    async def test_only_the_newest_logins_are_kept(
        self, hub: Hub, alice: Any, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        monkeypatch.setattr("gridhub.hub.guard.MAX_LOGINS", 3)
        client = orm.OAuthClient(identifier="jupyterhub-user-alice", redirect_uri="/x")
        hub.db.add(client)
        try:
            made = [alice.new_api_token(oauth_client=client) for _ in range(5)]
            assert guard.forget_old_logins(hub.db, alice) == 2
            kept = [orm.APIToken.find(hub.db, each) is not None for each in made]
            assert kept == [False, False, True, True, True]
            assert orm.APIToken.find(hub.db, token), "it is not a login"
        finally:
            hub.db.delete(client)
            hub.db.commit()


class TestStreams:
    async def test_a_users_open_streams_are_limited(
        self, hub: Hub, broker: Broker, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.hub.guard.MAX_STREAMS", 2)
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        parts: list[bytes] = []

        def stream() -> asyncio.Task[HTTPResponse]:
            return asyncio.ensure_future(
                AsyncHTTPClient(force_instance=True).fetch(
                    f"{hub.base}/hub/api/users/alice/server/progress",
                    headers={"Authorization": f"token {token}"},
                    streaming_callback=parts.append,
                    request_timeout=30,
                    raise_error=False,
                )
            )

        streams = [stream(), stream()]
        await until(lambda: guard.open_streams["alice"] == 2)
        answer = await hub.ask("users/alice/server/progress", token, method="GET")
        assert answer.code == 429
        assert message(answer) == text("limit.streams", wait="10 seconds")
        await hub.ask("users/alice/server", token, method="DELETE")
        for each in streams:
            assert (await asyncio.wait_for(each, 10)).code == 200
        await asyncio.wait_for(asking, 10)
        assert not guard.open_streams

    async def test_closing_a_page_ends_its_stream_at_once(
        self, hub: Hub, broker: Broker, token: str
    ) -> None:
        asking = asyncio.create_task(hub.ask("users/alice/server", token, {}))
        await until(lambda: broker.starts)
        address = hub.base.removeprefix("http://").split(":")
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(
                b"GET /hub/api/users/alice/server/progress HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: token %s\r\n\r\n" % token.encode()
            )
            await asyncio.wait_for(reader.readuntil(b"data:"), 10)
            writer.close()
        await until(lambda: not guard.open_streams)
        await until(lambda: not streaming())
        assert hub.spawner()._start_pending, "the start goes on"
        await hub.ask("users/alice/server", token, method="DELETE")
        await asyncio.wait_for(asking, 10)


def streaming() -> list[asyncio.Task[Any]]:
    """Return the tasks that stream the progress of a start."""
    return [
        task
        for task in asyncio.all_tasks()
        if "SpawnProgressAPIHandler.get" in repr(task.get_coro())
    ]
