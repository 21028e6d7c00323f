"""The pages' templates are complete, escape all values, and take their words from words.toml."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined, meta

from gridhub.hub.pages import PAGES, ago, left, span, template_vars
from gridhub.spawner.session_log import SessionLog
from gridhub.spawner.view import Amount, View
from gridhub.words import placeholders, read_own

STOCK = Path(sys.prefix) / "share/jupyterhub/templates"
TEMPLATES = sorted(path.name for path in PAGES.glob("*.html"))
HOSTILE = "<script>alert('x')</script>"
BLOCK = re.compile(r"{%-?\s*block\s+(\w+)")
TEXT = re.compile(r"\btext\('([\w.]+)'(?:, ([^()]*(?:\([^()]*\)[^()]*)*))?\)")


def text_of(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def test_jupyterhubs_own_pages_find_every_block_they_fill() -> None:
    ours = {*BLOCK.findall(text_of("frame.html")), *BLOCK.findall(text_of("page.html"))}
    for page in ("token.html", "admin.html", "oauth.html", "accept-share.html"):
        filled = set(BLOCK.findall((STOCK / page).read_text(encoding="utf-8")))
        own = {name for name in filled if f"block {name} " in (STOCK / "page.html").read_text()}
        assert own <= ours, page


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_sentence_of_a_template_is_in_the_words(name: str) -> None:
    words = read_own()
    source = text_of(name)
    sentences = TEXT.findall(source)
    computed = re.findall(r"\btext\('[\w.]+' (?:~|if )", source)
    assert len(sentences) + len(computed) == len(re.findall(r"\btext\(", source))
    for sentence, arguments in sentences:
        given = set(re.findall(r"(\w+)=", arguments))
        assert placeholders(words[sentence]) == given, sentence


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_no_inline_handlers_and_loads_nothing_from_other_sites(
    name: str,
) -> None:
    assert not re.search(r"\son\w+\s*=", text_of(name))
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text_of(name))


def render(name: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        enable_async=True,  # as JupyterHub does
    )
    user = SimpleNamespace(
        name=HOSTILE,
        escaped_name="%3Cscript%3E",
        json_escaped_name="x",
        server_url=lambda name="": f"/user/x/{name}",
    )
    names = {
        key: value(user) if callable(value) else value
        for key, value in template_vars(HOSTILE, HOSTILE, 2, 90).items()
    }
    given = {
        "base_url": "/hub/",
        "prefix": "/",
        "user": user,
        "login_url": "/hub/login",
        "logout_url": "/hub/logout",
        "logo_url": "",
        "static_url": lambda path, include_version=True: f"/hub/static/{path}",
        "services": [],
        "parsed_scopes": {},
        "xsrf": "x",
        "xsrf_token": "x",
    }
    return environment.get_template(name).render(**(names | given | values))


VIEW = View(
    name="second",
    state="running",
    message=HOSTILE,
    raw=HOSTILE,
    job=42,
    host=HOSTILE,
    since=datetime(2026, 1, 1),
    ends=datetime(2026, 1, 2),
    amounts=(Amount(HOSTILE, HOSTILE, 0.95), Amount("GPUs", "1")),
)
ENDED = View(
    name="",
    state="none",
    ended=HOSTILE,
    exceeded=("memory",),
    log=SessionLog(HOSTILE, HOSTILE),
)


def test_the_home_page_escapes_everything_about_a_session() -> None:
    page = render("home.html", sessions=lambda user: [ENDED, VIEW], allow_named_servers=True)
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") >= 10
    assert 'style="width: 95%"' in page
    assert 'href="/hub/spawn/%3Cscript%3E?_more=memory"' in page
    assert 'action="/hub/stop/%3Cscript%3E/second"' in page


@pytest.mark.parametrize(
    ("view", "stage"),
    [
        (View(name="", state="waiting", message="x"), "submitted"),
        (View(name="", state="waiting", message="x", job=42), "waiting"),
        (
            View(name="", state="waiting", message=HOSTILE, raw=HOSTILE, job=42, host="w"),
            "starting",
        ),
    ],
)
def test_the_waiting_page_shows_the_progress_of_a_start_even_without_javascript(
    view: View, stage: str
) -> None:
    spawner = SimpleNamespace(name="", view=lambda: view)
    page = render("spawn_pending.html", spawner=spawner, progress_url="/hub/p?a=1&b=2")
    assert HOSTILE not in page
    assert re.search(rf'data-stage="{stage}" data-state="now" aria-current="step"', page)
    assert page.count('aria-current="step"') == 1
    assert '<noscript><meta http-equiv="refresh"' in page


@pytest.mark.parametrize("message", [HOSTILE, ""])
def test_the_messages_of_a_failed_start_and_an_error_are_escaped(message: str) -> None:
    failed = render(
        "not_running.html",
        failed=True,
        failed_message=message,
        exception=RuntimeError(),
        spawn_url="/hub/spawn/x",
        server_name="",
        sessions=lambda user: [ENDED],
    )
    assert failed.count("&lt;script&gt;") >= 2
    error = render("error.html", status_code=500, message=message)
    assert HOSTILE not in failed + error
    assert "Status 500" in error
    assert (read_own()["failed.unknown"] in failed) == (not message)


@pytest.mark.parametrize("spawn_url", ["/hub/spawn/x", "/hub/spawn/x?next=%2Fuser%2Fx%2Flab"])
def test_the_page_of_an_ended_session_shows_why_and_offers_more(spawn_url: str) -> None:
    values = {"failed": False, "spawn_url": spawn_url, "sessions": lambda user: [ENDED, VIEW]}
    page = render("not_running.html", server_name="", **values)
    assert "&lt;script&gt;" in page
    assert f'href="{spawn_url}">Start again</a>' in page
    mark = "&amp;" if "?" in spawn_url else "?"
    assert f'href="{spawn_url}{mark}_more=memory">Start again with more</a>' in page
    assert "again" not in render("not_running.html", server_name="second", **values)


def test_everything_focusable_on_a_card_has_its_own_id() -> None:
    views = [
        ENDED,
        VIEW,
        View(name="x", state="none"),
        View(name="y", state="waiting", raw="why"),
    ]
    page = render("home.html", sessions=lambda user: views, allow_named_servers=True)
    cards = page[page.index('id="sessions"') : page.index('id="another"')]
    focusable = re.findall(r"<(?:a|button|summary)\b[^>]*>", cards)
    ids = [found[1] for each in focusable if (found := re.search(r' id="([^"]+)"', each))]
    assert len(focusable) == len(ids) == len(set(ids)) >= 9


@pytest.mark.parametrize(
    ("help_at", "shown"),
    [
        ("https://example.org/help", '<a href="https://example.org/help">'),
        ("help@example.org", '<a href="mailto:help@example.org">'),
        ("Room 5, ask at the desk", "Room 5, ask at the desk"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_help_is_a_link_if_it_is_an_address(help_at: str, shown: str) -> None:
    page = render("logout.html", help_at=help_at)
    assert shown in page
    assert 'href="javascript' not in page


def test_every_picture_of_the_docs_is_made_by_a_program_and_shown() -> None:
    """The tests take screenshots, and ``make bench`` draws plots."""
    root = PAGES.parents[1]
    tests = "".join(path.read_text(encoding="utf-8") for path in root.glob("tests/browser/*.py"))
    docs = "".join(path.read_text(encoding="utf-8") for path in root.glob("docs/**/*.md"))
    images = list((root / "docs/images").iterdir())
    assert images
    for image in images:
        if image.suffix == ".svg":
            assert image.stem.startswith("performance-"), image
        # The tests of the monitoring draw the dashboards.
        elif image.stem not in ("dashboard-administrator", "dashboard-manager"):
            assert re.search(rf'\bcheck\(\w+, "{image.stem}"\)', tests), image
        assert f"images/{image.name})" in docs, image


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_can_be_parsed(name: str) -> None:
    meta.find_undeclared_variables(Environment().parse(text_of(name)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a minute"),
        (59, "less than a minute"),
        (60, "1 min"),
        (3 * 3600 + 61, "3 h 1 min"),
        (26 * 3600, "1 d 2 h"),
    ],
)
def test_a_duration_is_shown_in_everyday_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_times_are_relative_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 1, 1, 12)
    monkeypatch.setattr("gridhub.hub.pages.utc_now", lambda: now)
    assert ago(now - timedelta(minutes=5)) == "5 min"
    assert left(now + timedelta(minutes=5)) == "5 min"


def test_the_form_shows_the_rule_for_idle_sessions_if_there_is_one() -> None:
    values = {
        "spawner_options_form": "",
        "url": "/hub/spawn",
        "for_user": None,
        "error_message": "",
    }
    assert "when it has been idle for 90 min" in render("spawn.html", **values)
    assert "has been idle" not in render("spawn.html", **values, idle_minutes=0)
