"""Grid Engine announces a limit or the end of a session: the person is told, and pages save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from browsing import log_in
from hub_client import page_text, wait_for
from newcomer import Newcomer

Make = Callable[..., Newcomer]


def test_the_soft_limit_of_the_run_time_is_announced_and_ends_nothing(newcomer: Make) -> None:
    person = newcomer()
    person.write(".sge_request", "-l s_rt=0:0:15\n")
    person.start()
    assert "limit of its run time is near" in person.wait_for_notice("Save your work", 90)
    assert person.cell("6 * 7; print('here')") == "here"


def test_a_notified_session_ends_once_its_page_has_saved(
    newcomer: Make, window: Callable[..., Page], hub_host: Any
) -> None:
    person = newcomer()
    person.write(".sge_request", "-notify\n")
    person.start()
    page = window()
    log_in(page, person.name, person.password, goal=f"{person.prefix}/lab?reset")
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click(timeout=120_000)
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=120_000)
    page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text("# not saved yet")
    saved = f"grep -q 'not saved yet' {person.home}/Untitled.ipynb"
    assert hub_host.run(saved).rc == 1
    job = person.cell("import os; print(os.environ['JOB_ID'])")
    hub_host.check_output("qdel %s", job)
    expect(page.locator(".Toastify")).to_contain_text("ends this session in a moment")
    wait_for("the page has saved", lambda: hub_host.run(saved).rc == 0, 30)
    # Without an end of its own, the session would live until the queue's `notify` is over, 60 s.
    wait_for("the session is over", lambda: person.server() is None, 50)
    words = f"job {job}, was deleted by an administrator or with qdel"
    wait_for("the reason is known", lambda: words in page_text(person.get("/hub/home")), 60)


def test_a_notified_session_is_stopped_in_time(newcomer: Make) -> None:
    person = newcomer()
    person.write(".sge_request", "-notify\n")
    person.start()
    person.stop()
    assert person.server() is None
    assert "is being stopped" not in page_text(person.get("/hub/home"))
