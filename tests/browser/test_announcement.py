"""Notices on every page: the administrators' announcement and the dates of maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import Enter, OpenBrowser, changed, check, choose
from hub_client import wait_for
from playbooks import output, playbook

HOSTILE = "Maintenance on <b>Tuesday</b> & <script>document.title='taken'</script>"


def shown(page: Page) -> str:
    page.reload()
    return page.locator("#announcement").inner_text()


def test_an_announcement_appears_as_text_and_disappears_without_a_restart(
    window: OpenBrowser, enter: Enter, hub_host: Any
) -> None:
    started = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    outside, inside = window(), enter("bob")
    outside.goto("/hub/login")
    try:
        run = playbook("announce.yml", announce_text=HOSTILE, announce_level="warning")
        assert run.returncode == 0, output(run)
        for page in (outside, inside):
            wait_for("the announcement is shown", lambda page=page: "Tuesday" in shown(page))
            expect(page.locator("#announcement")).to_contain_text("<b>Tuesday</b> &")
            assert page.title() != "taken"
            assert page.locator("#announcement b").count() == 0
        check(outside, "login-announcement")
    finally:
        assert playbook("announce.yml").returncode == 0
    wait_for("the announcement is gone", lambda: shown(inside) == "")
    again = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    assert again == started


def test_a_wrong_announcement_is_refused_and_changes_nothing(hub_host: Any) -> None:
    for check_only in ((), ("--check",)):
        run = playbook("announce.yml", *check_only, announce_text="x", announce_level="loud")
        assert run.returncode != 0
        assert "value of announce_level must be one of: info, warning, got: loud" in output(run)
    assert not hub_host.file("/etc/jupyterhub/announcement.json").exists


@pytest.fixture
def no_other_notice(hub_host: Any) -> Iterator[None]:
    """Stop the timer that, every five minutes, writes the notice of the next maintenance."""
    hub_host.check_output("systemctl stop jupyterhub-maintenance-notice.timer")
    yield
    hub_host.check_output("systemctl start jupyterhub-maintenance-notice.timer")


@pytest.mark.usefixtures("no_other_notice")
def test_the_maintenance_is_announced_and_no_session_starts_just_before_it(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("bob")
    now = datetime.now(UTC)
    hour = timedelta(hours=1)

    def stage(day: timedelta, refuse: timedelta) -> Any:
        moments = {"show": -hour, "day": day, "refuse": refuse, "end": 2 * hour}
        values = {name: (now + distance).isoformat() for name, distance in moments.items()}
        return changed(hub_host, "maintenance.json", lambda parts: parts.update(values))

    for day, refuse, words in (
        (hour, hour, "Maintenance on "),
        (-hour, hour, "Maintenance today, "),
        (-hour, -hour, "Maintenance, until about "),
    ):
        with stage(day, refuse):
            wait_for(f"the page says {words!r}", lambda words=words: words in shown(page))
            if refuse > timedelta():
                continue
            page.goto("/hub/spawn")
            refused = "No session can start now, because the hub is under maintenance. Come back at"
            expect(page.locator("#forecast")).to_contain_text(refused, timeout=30_000)
            choose(page, cores=1, memory=1)
            expect(page.get_by_role("alert")).to_contain_text(refused)
            check(page, "form-maintenance")
            page.goto("/hub/home")
    wait_for("the notice has gone", lambda: "Maintenance, until" not in shown(page))


def test_the_form_shows_that_the_run_time_is_cut_before_maintenance_of_the_workers(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("bob", goal="/hub/spawn?cores=1&memory=1&run_time=2")
    begin = hub_host.check_output("date -d '90 minutes' '+%Y-%m-%d %H:%M'")
    end = hub_host.check_output("date -d '4 hours' '+%Y-%m-%d %H:%M'")
    try:
        run = playbook("worker_window.yml", window_begin=begin, window_end=end, window_rule="cap")
        assert run.returncode == 0, output(run)
        wait_for("the page shows the window", lambda: f"maintained from {begin}" in shown(page))
        cut = f"The run time is 1 hour, because the workers are maintained from {begin}"
        expect(page.locator("#forecast")).to_contain_text(cut, timeout=30_000)
        check(page, "form-cut")
        choose(page)
        page.wait_for_url("**/user/bob/lab**", timeout=60_000)
        page.goto("/hub/home")
        expect(page.locator("main")).to_contain_text("1 hour")
    finally:
        assert playbook("worker_window.yml").returncode == 0
    wait_for("the notice has gone", lambda: "The workers are" not in shown(page))
