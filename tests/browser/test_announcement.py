"""The administrators' word on every page: put there and taken away with a playbook."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from playwright.sync_api import Page, expect

from browsing import Enter, OpenBrowser, check
from cluster import ROOT
from hub_client import wait_for

HOSTILE = "Maintenance on <b>Tuesday</b> & <script>document.title='taken'</script>"


def announce(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("ansible-playbook", "--inventory", "inventories/demo", "playbooks/announce.yml"),
            *("--extra-vars", json.dumps(variables)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def shown(page: Page) -> str:
    page.reload()
    return page.locator("#announcement").inner_text()


def test_an_announcement_appears_everywhere_as_text_and_goes_again_without_a_restart(
    window: OpenBrowser, enter: Enter, hub_host: Any
) -> None:
    started = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    outside, inside = window(), enter("bob")
    outside.goto("/hub/login")
    try:
        run = announce(announce_text=HOSTILE, announce_level="warning")
        assert run.returncode == 0, run.stdout + run.stderr
        for page in (outside, inside):
            wait_for("the announcement is shown", lambda page=page: "Tuesday" in shown(page))
            expect(page.locator("#announcement")).to_contain_text("<b>Tuesday</b> &")
            assert page.title() != "taken"
            assert page.locator("#announcement b").count() == 0
        check(outside, "login-announcement")
    finally:
        assert announce().returncode == 0
    wait_for("the announcement is gone", lambda: shown(inside) == "")
    again = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    assert again == started


def test_a_wrong_announcement_is_refused_in_words_and_replaces_nothing(hub_host: Any) -> None:
    run = announce(announce_text="x", announce_level="loud")
    assert run.returncode != 0
    assert "level must be info or warning, not 'loud'" in " ".join(run.stdout.split())
    assert not hub_host.file("/etc/jupyterhub/announcement.json").exists
