# SPDX-License-Identifier: BSD-3-Clause
"""Where a person is going is kept on every way back to the form, and is never a foreign site."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from jupyterhub.handlers.base import BaseHandler
from tornado.httpclient import HTTPResponse

from fake_grid import until
from gridhub.contract import Ending
from gridhub.hub.targets import simplest
from gridhub.spawner.ended import SessionEnd
from hub_menus import HAD
from whole_hub import Broker, Hub, Lab, Visit, page_says, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What a course links to: a notebook, with arguments, escaped characters and a value without text.
COURSE = "/user/alice/lab/tree/week%201/a%23b.ipynb?y=z&urlpath=lab%2Ftree%2Fx&reset"
FOREIGN = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "https:evil.example",
    "http:///evil.example",
    "javascript:alert(1)",
    "evil.example",
    "https://127.0.0.1@evil.example/",
    "https://127.0.0.1.evil.example/",
]


def target_of(url: str) -> str:
    """Return the target in an address; there must be exactly one."""
    values = parse_qs(urlsplit(url).query).get("next", [])
    assert len(values) <= 1, url
    return values[0] if values else ""


def links(answer: HTTPResponse) -> dict[str, str]:
    """Return the addresses of a page's links and forms, by id."""
    tags = re.findall(r"<(?:a|form)\b[^>]*>", answer.body.decode())
    found = {}
    for tag in tags:
        name, url = re.search(r' id="([^"]*)"', tag), re.search(r' (?:href|action)="([^"]*)"', tag)
        if name and url:
            found[name[1]] = unescape(url[1])
    return found


@pytest.fixture
def visit(hub: Hub, alice: Any, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Use any page as alice, with her login cookie but without XSRF cookies."""
    monkeypatch.setattr(BaseHandler, "check_xsrf_cookie", lambda self: None)

    async def visit(path: str, body: str | None = None) -> HTTPResponse:
        return await hub.visit(path, body=body)

    return visit


def simple(url: str, own: str = "alice") -> str:
    return simplest(url, lambda each: each, "/", own)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        (COURSE, COURSE),
        ("", ""),
        ("/hub/home", "/hub/home"),
        ("/hub/user/alice/lab?redirects=1", "/user/alice/lab"),
        ("/user/alice/lab?redirects=3&x=redirects=1", "/user/alice/lab?x=redirects=1"),
        ("/user/alice/lab?a&redirects=3&b=%2F#c", "/user/alice/lab?a&b=%2F#c"),
        ("/hub/x?redirects=1", "/hub/x?redirects=1"),
        ("/hub/spawn", ""),
        ("/hub/spawn/alice", ""),
        ("/hub/spawn?next=" + quote(COURSE), COURSE),
        ("/hub/spawn/alice?memory=4&next=" + quote(COURSE), COURSE),
        ("/hub/spawn-pending/alice?next=" + quote(COURSE), COURSE),
        ("/hub/login?next=" + quote("/hub/spawn?next=" + quote(COURSE)), COURSE),
        # The form of another session is a target like any other.
        ("/hub/spawn/alice/gpu", "/hub/spawn/alice/gpu"),
    ],
)
async def test_a_target_is_as_simple_as_possible(url: str, same: str) -> None:
    assert simple(url) == same
    assert simple(simple(url)) == same


async def test_the_form_of_a_named_session_is_no_target_of_its_own() -> None:
    assert simple("/hub/spawn/alice/gpu?next=/user/alice/gpu/lab", "alice/gpu") == (
        "/user/alice/gpu/lab"
    )
    assert simple("/hub/spawn/alice", "alice/gpu") == "/hub/spawn/alice"
    assert simple("/hub/spawn", "alice/gpu") == "/hub/spawn"


async def test_a_target_that_is_nested_without_end_is_dropped() -> None:
    url = COURSE
    for _ in range(20):
        url = "/hub/spawn?" + urlencode({"next": url})
    assert simple(url) == ""


async def test_a_foreign_address_within_a_target_is_refused() -> None:
    def validate(url: str) -> str:
        return "" if "evil" in urlsplit(url).netloc else url

    assert simplest("/hub/spawn?next=//evil.example/", validate, "/", "alice") == ""


class TestWays:
    async def test_ten_rounds_through_the_form_change_nothing(self, hub: Hub, visit: Visit) -> None:
        url = "spawn/alice?" + urlencode({"next": COURSE, "cores": 2})
        lengths = []
        for number in range(10):
            form = await visit(url)
            action = links(form)["spawn_form"]
            assert target_of(action) == COURSE
            assert action.count("_xsrf=") == 1 and "cores" not in action
            # Refused: the form is shown again. The next round starts at the address that the
            # browser shows then.
            refused = await visit(action.removeprefix("/hub/"), "cores=3")
            again = links(refused)["spawn_form"]
            assert target_of(again) == COURSE
            lengths.append(len(re.sub("_xsrf=[^&]*", "", again)))
            url = again.removeprefix("/hub/") + (f"&opt-cores={number}" if number % 2 else "")
        assert len(set(lengths)) == 1, lengths

    @pytest.mark.parametrize("foreign", FOREIGN)
    async def test_a_foreign_target_is_dropped(
        self, foreign: str, alice: Any, broker: Broker, lab: Lab, visit: Visit
    ) -> None:
        query = urlencode({"next": foreign})
        assert target_of(links(await visit(f"spawn/alice?{query}"))["spawn_form"]) == ""
        await running(alice, broker, lab)
        for way in ("spawn/alice", "spawn-pending/alice"):
            answer = await visit(f"{way}?{query}")
            assert (answer.code, answer.headers["Location"]) == (302, "/user/alice/")

    async def test_the_start_leads_to_the_target(
        self, alice: Any, broker: Broker, lab: Lab, visit: Visit
    ) -> None:
        query = urlencode({"next": COURSE, "_xsrf": "x"})
        broker.letters = "qw"
        sent = await visit(f"spawn/alice?{query}", "cores=1")
        pending = sent.headers["Location"]
        assert pending == "/hub/spawn-pending/alice?" + urlencode({"next": COURSE})
        page = await visit(pending.removeprefix("/hub/"))
        hidden = re.search('name="next" value="([^"]*)"', page.body.decode())
        assert hidden and unescape(hidden[1]) == COURSE
        broker.cluster.put(broker.session)
        alice.spawners[""].announce(lab.port)
        await until(lambda: alice.spawners[""].ready)
        for way in (pending, f"/hub/spawn/alice?{query}&cores=2"):
            answer = await visit(way.removeprefix("/hub/"))
            assert answer.headers["Location"] == COURSE
        # A link's values are not for the session's server.
        answer = await visit("spawn/alice?cores=2")
        assert answer.headers["Location"] == "/user/alice/"

    @pytest.mark.parametrize("name", ["", "gpu"])
    async def test_asking_for_less_keeps_the_target(
        self,
        name: str,
        hub: Hub,
        alice: Any,
        broker: Broker,
        visit: Visit,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(hub.tornado_application.settings, "allow_named_servers", True)
        session = f"alice/{name}".strip("/")
        start = asyncio.create_task(alice.spawn(name, options={}))
        await until(lambda: broker.starts)
        for _ in range(2):
            body = urlencode(
                {"then": "choose", "next": f"/hub/spawn/{session}?next={quote(COURSE)}"}
            )
            answer = await visit(f"stop/{session}", body)
            form = answer.headers["Location"]
            assert urlsplit(form).path == f"/hub/spawn/{session}"
            assert target_of(form) == COURSE
        answer = await visit(f"stop/{session}", urlencode({"then": "choose", "next": FOREIGN[0]}))
        assert target_of(answer.headers["Location"]) == ""
        start.cancel()
        await asyncio.wait([start], timeout=10)

    async def test_a_failed_start_leads_back_with_the_target(
        self, alice: Any, broker: Broker, visit: Visit
    ) -> None:
        broker.letters = "r"
        assert (await visit("spawn/alice", "cores=1")).code == 302
        alice.spawners[""].give_up("no")
        await until(lambda: not alice.spawners[""].active)
        failed = await visit("spawn-pending/alice?" + urlencode({"next": COURSE}))
        assert page_says(failed, "failed.heading")
        assert links(failed)["start"] == "/hub/spawn/alice?" + urlencode({"next": COURSE})

    async def test_the_page_of_a_session_that_is_not_running_leads_back_to_it(
        self, alice: Any, visit: Visit
    ) -> None:
        page = await visit(COURSE.removeprefix("/") + "&redirects=3")
        assert page.code == 424
        form = await visit(links(page)["start"].removeprefix("/hub/"))
        assert target_of(links(form)["spawn_form"]) == COURSE

    async def test_starting_again_with_more_keeps_the_target(self, hub: Hub, visit: Visit) -> None:
        spawner = hub.spawner()
        spawner.last = SessionEnd(job="1", why=Ending.MEMORY, name="x", had=HAD)
        query = urlencode({"next": COURSE})
        form = (await visit(f"spawn/alice?{query}")).body.decode()
        (more,) = re.findall(r'class="alert-link" href="([^"]*)"', form)
        assert target_of(unescape(more)) == COURSE
        assert "_more=memory" in unescape(more)
        (more,) = re.findall(
            r'class="alert-link" href="([^"]*)"', (await visit("spawn/alice")).body.decode()
        )
        assert more == "?_more=memory"

    async def test_a_form_that_cannot_be_used_leads_to_a_new_one(self, hub: Hub) -> None:
        stale = await hub.visit("spawn?" + urlencode({"next": COURSE}), body="_xsrf=old")
        assert stale.code == 403
        assert links(stale)["again"] == "/hub/spawn/alice?" + urlencode({"next": COURSE})

    @pytest.mark.parametrize(
        "link",
        [
            "lab/tree/x.ipynb?y=z",
            "git-pull?repo=https%3A%2F%2Fgit.example%2Fa&urlpath=lab%2Ftree%2Fa%2Fx.ipynb%3Fq%3D1",
            "lab/tree/week%201/a%23b.ipynb?reset",
            "lab/tree/%C3%BC.ipynb",
            "/evil.example",
            "",
        ],
    )
    async def test_a_course_link_arrives_as_it_is(
        self, link: str, hub: Hub, alice: Any, broker: Broker, lab: Lab, visit: Visit
    ) -> None:
        answer = await visit(f"user-redirect/{link}")
        form = answer.headers["Location"]
        assert urlsplit(form).path == "/hub/spawn/alice"
        expected = f"/user/alice/{link.lstrip('/')}"
        assert target_of(form) == expected
        action = links(await visit(form.removeprefix("/hub/")))["spawn_form"]
        assert target_of(action) == expected
        await running(alice, broker, lab)
        answer = await visit(form.removeprefix("/hub/"))
        assert answer.headers["Location"] == expected
