# SPDX-License-Identifier: BSD-3-Clause
"""Times agree in whatever zones worker, hub and browser are; links lead where they point."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import SHOTS, WIDE, card, changed, choose, log_in
from cluster import AS_HUB, BASE_URL, LogIn, hub_host, login, passwords, qmaster_host
from cluster import host as host_called
from hub_client import wait_for

# The scenario's conftest.py may have the same fixtures.
__all__ = ["hub_host", "login", "passwords", "qmaster_host"]

#: Without summer time, so that the test means the same in every season.
HUB, WORKER, BROWSER, PERSON = (
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Africa/Lagos",
    "Asia/Tokyo",
)
FORM = re.compile(r"/hub/spawn/alice\?")
WAITING = re.compile(r"/hub/spawn-pending/alice")


def restart_hub(hub: Any) -> None:
    hub.check_output("systemctl restart jupyterhub")
    url = "https://127.0.0.1:8081/hub/health"
    health = f"{AS_HUB}urllib.request.urlopen({url!r}, context=context)"
    wait_for("the hub is back", lambda: hub.run("python3 -c %s", health).rc == 0)


@contextmanager
def in_zone(host: Any, zone: str) -> Iterator[None]:
    """Put a host into a time zone; afterwards restore its own."""
    own = host.check_output("readlink /etc/localtime")
    host.check_output(f"ln -sfn /usr/share/zoneinfo/{zone} /etc/localtime")
    try:
        yield
    finally:
        host.check_output(f"ln -sfn {own} /etc/localtime")


@pytest.fixture
def four_zones(hub_host: Any) -> Iterator[None]:
    """Put the hub, the workers and alice's jobs into different time zones."""
    workers = [host_called(name) for name in ("exec1", "exec2")]
    own = "/home/alice/.sge_request"
    with in_zone(hub_host, HUB), in_zone(workers[0], WORKER), in_zone(workers[1], WORKER):
        hub_host.check_output(f"runuser -u alice -- sh -c 'echo \"-v TZ={PERSON}\" >{own}'")
        restart_hub(hub_host)
        yield
        hub_host.check_output(f"rm -f {own}")
    restart_hub(hub_host)


@pytest.fixture
def open_page(browser: Browser, login: LogIn, passwords: dict[str, str]) -> Iterator[Any]:
    """Log alice in, in a browser of another time zone; stop her sessions before and after."""
    contexts = []

    def enter(goal: str) -> Page:
        login("alice")
        context = browser.new_context(
            base_url=BASE_URL,
            ignore_https_errors=True,
            locale="en-GB",
            timezone_id=BROWSER,
            viewport={"width": WIDE, "height": 900},
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        log_in(page, "alice", passwords["alice"], goal)
        return page

    yield enter
    for context in contexts:
        context.close()


def moments(shown: str) -> tuple[datetime, datetime]:
    """Return the times of hub and browser that a page shows, as times of today in their zones."""
    found = re.search(
        r"(\d\d:\d\d) UTC-03:00 \((?:\d{4}-\d\d-\d\d )?(\d\d:\d\d) your time\)", shown
    )
    assert found, shown
    first, second = (datetime.strptime(each, "%H:%M") for each in found.groups())
    return first, second


@pytest.mark.usefixtures("four_zones")
def test_page_and_notice_show_the_same_time_in_the_hubs_zone(
    open_page: Any, hub_host: Any, login: LogIn
) -> None:
    def four_minutes(parts: Any) -> None:
        item = next(each for each in parts["items"] if each["name"] == "run_time")
        item.update(unit="minutes", choices=[4], default=4)
        parts["presets"] = []

    page = open_page("/hub/spawn")
    with (
        changed(hub_host, "menu.json", four_minutes),
        changed(hub_host, "broker.json", lambda rules: rules.update(run_time_warnings=[3])),
    ):
        page.goto("/hub/spawn")
        choose(page, cores=1, memory=1, run_time=4)
        page.wait_for_url(re.compile("/user/alice/lab"), timeout=120_000)
        # JupyterHub's own counter of redirects does not stay in the address.
        assert "redirects" not in page.url
        notice = page.get_by_text(re.compile("This session ends at")).first
        expect(notice).to_be_visible(timeout=120_000)
        words = notice.inner_text()
        home = page.context.new_page()
        home.goto("/hub/home")
        time = card(home).locator("time.clock")
        expect(time).to_contain_text("your time")
        shown = time.inner_text()
        SHOTS.mkdir(parents=True, exist_ok=True)
        home.screenshot(path=SHOTS / "zones-home.png")
        page.screenshot(path=SHOTS / "zones-notice.png")
    in_hub, in_browser = moments(shown)
    # São Paulo is 3 hours behind UTC, Lagos 1 hour ahead.
    assert (in_browser - in_hub) % timedelta(days=1) == timedelta(hours=4)
    said = re.search(
        r"ends at (?:\d{4}-\d\d-\d\d )?(\d\d:\d\d) UTC-03:00, in about [23] min", words
    )
    assert said, words
    later = abs(datetime.strptime(said[1], "%H:%M") - in_hub)
    assert later <= timedelta(minutes=1), (words, shown)
    now = datetime.now(ZoneInfo(HUB))
    ahead = (in_hub.replace(year=now.year, month=now.month, day=now.day, tzinfo=now.tzinfo)) - now
    assert timedelta(0) < ahead % timedelta(days=1) < timedelta(minutes=4)


def test_a_course_link_survives_login_refusal_less_and_start(
    open_page: Any, hub_host: Any, qmaster_host: Any
) -> None:
    link = "lab/tree/week%201.ipynb?y=z&urlpath=a%2Fb"
    target = f"/user/alice/{link}"
    notebook = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    path = "/home/alice/week 1.ipynb"
    hub_host.check_output("runuser -u alice -- sh -c %s", f"echo '{notebook}' >'{path}'")

    def going() -> str:
        query = parse_qs(urlsplit(page.url).query)
        assert set(query) <= {"next", "_xsrf", "_less"}, page.url
        (found,) = query["next"]
        return found

    qmaster_host.check_output("qmod -d all.q")
    try:
        page = open_page(f"/hub/user-redirect/{link}")
        page.wait_for_url(FORM)
        lengths = []
        for _ in range(3):
            assert going() == target
            choose(page, cores=1, memory=8)  # the menu forbids 8 GB for one core
            expect(page.locator(".is-invalid").first).to_be_visible()
            choose(page, cores=1, memory=1)
            page.wait_for_url(WAITING)
            assert going() == target
            lengths.append(len(page.url))
            page.get_by_role("button", name="Ask for less").click()
            page.wait_for_url(FORM, timeout=60_000)
        assert len(set(lengths)) == 1
        assert going() == target
    finally:
        qmaster_host.check_output("qmod -e all.q")
    choose(page, cores=1, memory=1)
    page.wait_for_url(re.compile(r"/user/alice/lab/tree/week%201\.ipynb"), timeout=120_000)
    tab = page.get_by_role("tab", name=re.compile("week 1.ipynb"))
    expect(tab.first).to_be_visible(timeout=60_000)
    # Stopped: the address of the session itself leads back to the same place.
    home = page.context.new_page()
    home.goto("/hub/home")
    card(home).get_by_role("button", name="Stop").click()
    expect(card(home)).to_contain_text("Not running", timeout=60_000)
    home.goto(target)
    home.get_by_role("link", name="Start a session").click()
    home.wait_for_url(FORM)
    assert parse_qs(urlsplit(home.url).query)["next"][0].endswith(f"/user/alice/{link}")
    hub_host.check_output("rm -f %s", path)


@pytest.mark.parametrize(
    "foreign", ["https://evil.example/", "//evil.example/", "/\\evil.example/", "/\t/evil.example/"]
)
def test_no_page_leads_to_a_foreign_site(foreign: str, login: LogIn) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1)
    alice.wait_until_ready()
    query = urlencode({"next": foreign})
    for way in ("login", "spawn", "spawn/alice", "spawn-pending/alice"):
        answer = alice.get(f"/hub/{way}?{query}", allow_redirects=False)
        for _ in range(5):
            if answer.status_code not in (302, 303):
                break
            place = urlsplit(answer.headers["Location"])
            assert place.netloc in ("", urlsplit(BASE_URL).netloc), (
                way,
                answer.headers["Location"],
            )
            assert "\\" not in answer.headers["Location"]
            answer = alice.get(place._replace(scheme="", netloc="").geturl(), allow_redirects=False)
    alice.stop()
