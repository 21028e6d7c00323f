"""People whose accounts and groups are in LDAP (slapd), through SSSD and PAM, seen in a browser."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import card, check, choose, log_in, run_a_cell
from cluster import BASE_URL, host
from hub_client import HubClient, page_text, wait_for
from site_accounts import ASKED_AFTER, CACHED, PASSWORDS, Directory, as_root

#: How long the directory is away, in seconds. SSSD's caches and the hub's checks are over several
#: times meanwhile, because their times are shorter than usual. Ten minutes: 600.
OUTAGE = float(os.environ.get("GRIDHUB_OUTAGE_SECONDS", "60"))

Window = Callable[..., Page]


def attempt(name: str, password: str = "") -> tuple[int, str]:
    """Log in as another browser does; return the status and the text of the page that follows.

    SSSD may need half a minute to find out that its directory does not answer.
    """
    client = HubClient(BASE_URL, name)
    client.get("/hub/login")
    page = client.http.post(
        client.url("/hub/login?next=/hub/home"),
        data={
            "username": name,
            "password": password or PASSWORDS[name],
            "_xsrf": client._xsrf(),
        },
        timeout=60,
    )
    return page.status_code, page_text(page)


#: Makes SSSD on the hub's host forget everything.
FORGET = "systemctl stop sssd; rm -f /var/lib/sss/db/* /var/lib/sss/mc/*; systemctl start sssd"


@pytest.fixture
def unseen() -> None:
    """SSSD on the hub's host knows all accounts, and has seen nobody's password."""
    as_root("hub", FORGET)
    for name in PASSWORDS:
        wait_for(f"SSSD knows {name}", lambda name=name: host("hub").run("id %s", name).rc == 0)


@pytest.fixture
def ann() -> Iterator[HubClient]:
    client = HubClient(BASE_URL, "ann")
    client.log_in(PASSWORDS["ann"])
    client.stop()
    yield client
    client.stop()


def test_a_person_of_the_directory_uses_a_session(window: Window, ann: HubClient) -> None:
    page = window()
    log_in(page, "ann", PASSWORDS["ann"])
    expect(page.get_by_role("heading", name="My sessions")).to_be_visible()
    page.goto("/hub/spawn")
    choose(page, cores=1, memory=1)
    page.wait_for_url(re.compile("/user/ann/lab"), timeout=90_000)
    run_a_cell(page, "/user/ann/lab", "import os; print(os.getuid(), os.getgid())", "50001 50001")


def test_an_account_of_the_host_itself_logs_in_as_well() -> None:
    assert attempt("alice")[0] == 200


def test_a_wrong_password_is_called_so(window: Window) -> None:
    page = window()
    log_in(page, "ann", "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Invalid username or password")
    log_in(page, "nobody-here", "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Invalid username or password")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("carl", "Your password is correct, but: The account carl cannot be used at the moment"),
        ("dora", "Your password is correct, but the account dora may not use this service"),
    ],
)
def test_people_read_why_their_account_may_not_log_in(
    window: Window, name: str, words: str
) -> None:
    page = window()
    log_in(page, name, PASSWORDS[name])
    expect(page.get_by_role("alert")).to_contain_text(words)
    # With a wrong password, nobody learns that.
    assert "Invalid username or password" in attempt(name, "wrong")[1]


def test_a_group_that_is_taken_away_logs_a_person_out(window: Window, directory: Directory) -> None:
    page = window()
    log_in(page, "eve", PASSWORDS["eve"])
    expect(page.get_by_role("heading", name="My sessions")).to_be_visible()
    directory.leave("eve", "hpc")
    try:

        def is_out() -> bool:
            page.goto("/hub/home")
            return page.get_by_label("Password").count() > 0

        wait_for("eve is logged out", is_out, CACHED + ASKED_AFTER + 30)
        log_in(page, "eve", PASSWORDS["eve"])
        expect(page.get_by_role("alert")).to_contain_text("eve may not use this service")
    finally:
        directory.join("eve", "hpc")


def test_nobody_notices_while_the_directory_is_away(
    window: Window, directory: Directory, unseen: None, ann: HubClient
) -> None:
    """Nobody is logged out, and sessions go on; people whom SSSD knows can even log in."""
    page = window()
    log_in(page, "ann", PASSWORDS["ann"])
    ann.choose(cores=1, memory=1, run_time=1)
    ann.wait_until_ready(90)
    ann.open_lab()
    kernel = ann.start_kernel()
    assert ann.run(kernel, "x = 41; print(x)").strip() == "41"
    with directory.away():
        end = time.monotonic() + OUTAGE
        longest = 0.0
        rounds = 0
        while time.monotonic() < end:
            began = time.monotonic()
            page.goto("/hub/home")
            expect(page.get_by_role("heading", name="My sessions")).to_be_visible()
            expect(card(page)).to_contain_text("Running")
            longest = max(longest, time.monotonic() - began)
            rounds += 1
            assert ann.run(kernel, "x += 1; print(x)").strip() == str(41 + rounds)
            time.sleep(1)  # the time that is measured here passes by itself
        assert longest < 20, longest
        # SSSD has kept a digest of ann's password, and knows nothing about that of ben.
        assert attempt("ann")[0] == 200
        assert "Invalid username or password" in attempt("ann", "wrong")[1]
        assert attempt("alice")[0] == 200
        other = window()
        log_in(other, "ben", PASSWORDS["ben"])
        words = "Your password cannot be checked at the moment"
        expect(other.get_by_role("alert")).to_contain_text(words)
        check(other, "directory-away")
    wait_for("ben is let in", lambda: attempt("ben")[0] == 200)
    assert ann.run(kernel, "print(x)").strip() == str(41 + rounds)


def test_nobody_is_logged_out_while_the_directory_takes_connections_and_says_nothing(
    directory: Directory, unseen: None, ann: HubClient
) -> None:
    ann.choose(cores=1, memory=1, run_time=1)
    ann.wait_until_ready(90)
    ann.open_lab()
    kernel = ann.start_kernel()
    with directory.away("systemctl kill -s STOP directory"):
        end = time.monotonic() + min(OUTAGE, 60.0)
        while time.monotonic() < end:
            assert "My sessions" in page_text(ann.get("/hub/home"))
            assert ann.run(kernel, "print(6 * 7)").strip() == "42"
            time.sleep(1)  # the time that is measured here passes by itself
        # SSSD finds out again and again; meanwhile, nobody is told that a right password is wrong.
        for name in ("ann", "fay"):
            status, words = attempt(name)
            assert status in (200, 503), words
            assert "Invalid username or password" not in words
    wait_for("fay is let in", lambda: attempt("fay")[0] == 200)


def test_a_session_starts_while_the_directory_is_away(directory: Directory, ann: HubClient) -> None:
    with directory.away():
        ann.choose(cores=1, memory=1, run_time=1)
        ann.wait_until_ready(90)
        ann.open_lab()
        assert ann.run(ann.start_kernel(), "print(6 * 7)").strip() == "42"


def test_a_hub_that_restarts_while_the_directory_is_away_logs_nobody_out(
    directory: Directory, ann: HubClient
) -> None:
    ann.choose(cores=1, memory=1, run_time=1)
    ann.wait_until_ready(90)
    with directory.away():
        host("hub").check_output("systemctl restart jupyterhub")
        wait_for("the hub answers", lambda: ann.get("/hub/health").ok)
        assert "My sessions" in page_text(ann.get("/hub/home"))
        ann.wait_until_ready(90)


def test_a_person_whom_sssd_has_never_seen_is_unknown_while_the_directory_is_away(
    directory: Directory,
) -> None:
    with directory.away():
        as_root("hub", FORGET)
        assert "Invalid username or password" in attempt("gus")[1]
    wait_for("gus is let in", lambda: attempt("gus")[0] == 200)


def test_the_distributions_own_pam_file_would_call_it_a_wrong_password(
    directory: Directory, unseen: None
) -> None:
    """So the role writes lines of its own (``jupyterhub_pam_sssd``)."""
    file = "/etc/pam.d/jupyterhub"
    as_root("hub", f"cp -a {file} /root/pam; printf '@include common-%s\\n' auth account >{file}")
    try:
        with directory.away():
            status, page = attempt("hal")
    finally:
        as_root("hub", f"mv /root/pam {file}")
    assert (status, "Invalid username or password" in page) == (403, True), page


def test_validate_finds_that_sssd_does_not_answer(hub_host: Any) -> None:
    from playbooks import output, playbook

    hub_host.check_output("systemctl stop sssd")
    try:
        run = playbook("validate.yml")
    finally:
        hub_host.check_output("systemctl start sssd")
    assert run.returncode != 0
    assert "SSSD does not run on the hub's host with the service pam" in output(run)
