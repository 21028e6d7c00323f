# SPDX-License-Identifier: BSD-3-Clause
"""What a person reads about a session that ended or was refused, from the real Grid Engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import OpenBrowser, check, log_in
from hub_client import page_text, wait_for
from newcomer import Newcomer

FOLDER = ".jupyterhub-sessions"


@contextmanager
def without_environment(workers: list[Any]) -> Iterator[None]:
    """Make the workers such as are in the queue, but not in the inventory."""
    path = "/opt/jupyterhub-session"
    for worker in workers:
        worker.check_output(f"mv {path}/current {path}/away")
    try:
        yield
    finally:
        for worker in workers:
            worker.check_output(f"mv {path}/away {path}/current")


def start_in_browser(page: Page, person: Newcomer) -> None:
    log_in(page, person.name, person.password, "/hub/spawn")
    page.get_by_role("button", name="Start").click()


def newest(person: Newcomer) -> str:
    return person.as_root(f"ls -t {person.home}/{FOLDER}/*.log | head -1").strip()


def test_the_page_of_a_failed_start_shows_why_and_the_last_lines(
    newcomer: Callable[..., Newcomer], window: OpenBrowser, workers: list[Any], hub_host: Any
) -> None:
    person = newcomer()
    page = window()
    with without_environment(workers):
        start_in_browser(page, person)
        words = page.get_by_role("alert")
        expect(words).to_contain_text("does not have the notebook environment", timeout=90_000)
        lines = page.locator("details.log pre")
        expect(lines).to_contain_text("cannot use the notebook environment")
        expect(page.locator("details.log")).to_have_attribute("open", "")
        check(page, "failed-with-log")
        # The card shows them too; so does the form.
        page.goto("/hub/home")
        expect(page.locator("details.log pre")).to_contain_text(
            "cannot use the notebook environment"
        )
        check(page, "home-with-log")
    assert "cannot use the notebook environment" not in hub_host.check_output(
        "journalctl -u jupyterhub -u 'jupyterhub-broker@*' --since -5min"
    )
    # Whatever the person puts in the log's place: nothing of it is shown, and no page waits for it.
    path = newest(person)
    person.log_in(person.password)
    for command, shown in (
        (f"ln -s /etc/hostname {path}", "cannot be read at the moment"),
        (f"mkfifo {path}", "cannot be read at the moment"),
        (f"touch {path}", "is empty: the job ended on exec"),
        ("true", "There is no file"),
        (f"printf 'token=%s\\n' 0123456789abcdef0123456789abcdef >{path}", "token=[hidden]"),
    ):
        person.as_root(f'rm -f {path}; runuser -u {person.name} -- sh -c "{command}"')
        hub_host.check_output("systemctl restart jupyterhub")  # so that it reads the log again

        def is_shown(words: str = shown) -> bool:
            answer = person.get("/hub/home", timeout=10)
            return answer.status_code == 200 and words in page_text(answer)

        wait_for(f"the words {shown!r}", is_shown, 60)


def test_the_card_of_a_session_that_crashed_shows_its_last_lines(
    newcomer: Callable[..., Newcomer],
) -> None:
    person = newcomer().start()
    worker = person.worker()
    worker.check_output(f"pkill -SEGV -u {person.name} -f sge_session.py")

    def words() -> str:
        text = page_text(person.get("/hub/home"))
        return text if "was ended by the signal SIGSEGV" in text else ""

    text = wait_for("the reason", words, 60)
    assert f"The last lines of ~/{FOLDER}/" in text
    assert person.log().strip().splitlines()[-1].split()[-1] in text


@contextmanager
def configured(qmaster_host: Any, name: str, value: str) -> Iterator[None]:
    """Change a line of Grid Engine's global configuration for a while."""
    qmaster_host.check_output(
        "rm -rf /tmp/old /tmp/new; mkdir /tmp/old /tmp/new; qconf -sconf >/tmp/old/global; "
        f"sed 's/^{name} .*/{name} {value}/' /tmp/old/global >/tmp/new/global; "
        "qconf -Mconf /tmp/new/global"
    )
    try:
        yield
    finally:
        qmaster_host.check_output("qconf -Mconf /tmp/old/global")


@pytest.mark.parametrize(
    ("name", "value", "words", "original"),
    [
        ("enforce_project", "true", "it needs a project.", "no project assigned to job"),
        ("xuser_lists", "deadlineusers", "may not run jobs here.", "not allowed to submit jobs"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(
    newcomer: Callable[..., Newcomer],
    qmaster_host: Any,
    hub_host: Any,
    name: str,
    value: str,
    words: str,
    original: str,
) -> None:
    person = newcomer()
    qmaster_host.check_output(f"qconf -au {person.name} deadlineusers")
    try:
        with configured(qmaster_host, name, value):
            text = page_text(person.request())
            assert words in text
            assert "no worker has all of this" not in text
            assert original in hub_host.check_output("journalctl -u jupyterhub --since -2min")
    finally:
        qmaster_host.check_output(f"qconf -du {person.name} deadlineusers")
