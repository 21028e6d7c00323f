"""Sessions in a browser, from start to end, and how the menu and the site's rules affect them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from browsing import (
    SHOTS,
    Enter,
    card,
    changed,
    check,
    choose,
    run_a_cell,
    wait_until_no_job_is_left,
)
from cluster import ROOT, LogIn, host
from hub_client import wait_for
from playbooks import menu, output, playbook

#: Code that starts two programs. Together they need more memory than the session's 1 GB.
HOGS = (
    "import subprocess, sys; hog = 'import time; x = bytearray(700 * 2**20); time.sleep(60)'; "
    "hogs = [subprocess.Popen([sys.executable, '-c', hog]) for _ in range(2)]; print('begun')"
)


def start(page: Page, person: str, **amounts: object) -> None:
    page.goto("/hub/spawn")
    choose(page, **amounts)
    page.wait_for_url(re.compile(rf"/user/{person}/lab"), timeout=60_000)


def test_a_session_that_used_too_much_memory_can_be_started_with_more(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("bob")
    start(page, "bob", cores=1, memory=1)
    hub_host.check_output("rm -f /home/bob/Untitled*.ipynb")
    run_a_cell(page, "/user/bob/lab", HOGS, "begun")
    # Grid Engine ends the session. After that, a page at the session's address shows the reason.
    wait_for("the job is gone", lambda: not hub_host.check_output("qstat -u bob").strip(), 150)
    page.goto("/hub/home")
    expect(card(page)).to_contain_text("Not running", timeout=90_000)
    page.goto("/user/bob/lab")
    reason = re.compile(r"used more than its memory: [1-9]\.\d GB of 1\.0 GB")
    expect(page.get_by_role("heading", name="This session is not running")).to_be_visible()
    expect(page.locator("main")).to_contain_text(reason)
    check(page, "not-running-ended")
    page.get_by_role("link", name="Start again", exact=True).click()
    # The form also shows the reason, and it offers more memory.
    expect(page.get_by_role("status").first).to_contain_text(reason)
    check(page, "form-ended")
    page.get_by_role("link", name="Start again with more").click()
    expect(page.locator("#menu-memory")).to_have_value("2")
    expect(page.locator("#menu-memory")).to_be_focused()


def test_the_name_of_a_session_can_be_copied_for_those_who_help(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("alice")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    start(page, "alice", cores=1, memory=1)
    page.goto("/hub/home")
    name = card(page).locator("code").inner_text()
    assert f"jupyterhub-{name}" in hub_host.check_output("qstat -u alice -xml")
    card(page).get_by_role("button", name="Copy").click()
    expect(card(page).get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == name
    check(page, "home-copied")


def test_the_run_time_counts_down_and_its_end_is_announced_and_explained(
    enter: Enter, hub_host: Any
) -> None:
    def two_minutes(parts: Any) -> None:
        item = next(each for each in parts["items"] if each["name"] == "run_time")
        item.update(unit="minutes", choices=[2, 4], default=2)
        parts["presets"] = []

    def one_minute_before(rules: Any) -> None:
        rules["run_time_warnings"] = [1]

    page = enter("alice")
    with (
        changed(hub_host, "menu.json", two_minutes),
        changed(hub_host, "broker.json", one_minute_before),
        changed(
            hub_host,
            "words.json",
            lambda words: words.update({"status.left_minutes": "Noch {minutes} min"}),
        ),
    ):
        start(page, "alice", cores=1, memory=1, run_time=2)
        notebook = page.context.new_page()
        notebook.goto("/user/alice/tree")
        timers = [each.get_by_role("timer") for each in (page, notebook)]
        for timer in timers:
            expect(timer).to_have_text(re.compile(r"^Noch [01] min$"), timeout=60_000)
        expect(page.locator("#jp-bottom-panel")).to_contain_text(
            re.compile(r"Memory: [\d.]+ of 1 GBCPU cores: [\d.]+ of 1Noch")
        )
        for each, name in ((page, "lab"), (notebook, "notebook")):
            words = re.compile(r"This session ends at \d\d:\d\d [A-Z]+, in about 1 min")
            notice = each.get_by_text(words)
            expect(notice.first).to_be_visible(timeout=90_000)
            each.screenshot(path=SHOTS / f"{name}-notice.png")
        for timer in timers:
            expect(timer).to_have_text("Noch 0 min", timeout=60_000)
            expect(timer).to_have_css("font-weight", "700")
        wait_for("the job is gone", lambda: not hub_host.check_output("qstat -u alice"), 120)
        page.goto("/hub/home")
        expect(card(page)).to_contain_text("Not running", timeout=90_000)
        page.goto("/user/alice/lab")
        expect(page.locator("main")).to_contain_text("because its run time, 2 minutes, was used up")
        page.get_by_role("link", name="Start again with more").click()
        expect(page.locator("#menu-run_time")).to_have_value("4")


CLOSED = """
sed='s/^qname.*/qname closed.q/; s/^user_lists.*/user_lists closed/'
qconf -sq all.q | sed "$sed" > /tmp/closed.q
qconf -au root closed && qconf -Aq /tmp/closed.q
"""


@pytest.fixture
def closed_user_queue(qmaster_host: Any) -> Iterator[None]:
    """Add a queue that the hub's users may not use; Grid Engine names it in all answers."""
    qmaster_host.check_output(CLOSED)
    yield
    qmaster_host.check_output("qconf -dq closed.q && qconf -dul closed")


@pytest.mark.usefixtures("closed_user_queue")
def test_the_form_shows_that_no_worker_has_the_requested_gpus_before_and_after_it_is_sent(
    enter: Enter, hub_host: Any
) -> None:
    def nine(parts: Any) -> None:
        item = next(each for each in parts["items"] if each["name"] == "gpus")
        item["range"]["maximum"] = 9

    never = "It can never start. No worker offers GPUs (9); the most that one has is 2."
    with changed(hub_host, "menu.json", nine):
        page = enter("carol", goal="/hub/spawn?cores=2&memory=1&gpus=9")
        expect(page.locator("#forecast")).to_contain_text(never, timeout=30_000)
        check(page, "form-never")
        choose(page)
        # Either the form shows the reason or, if the dry run is slow, the waiting page does.
        expect(page.get_by_role("alert")).to_contain_text(never, timeout=60_000)


def test_sessions_run_side_by_side_with_their_own_choices_up_to_the_limit(
    enter: Enter, login: LogIn, hub_host: Any
) -> None:
    page = enter("bob")
    start(page, "bob", cores=2, memory=1)
    page.goto("/hub/spawn/bob/big")
    # After a refusal, the form of session “big” shows the reason and keeps the choice.
    page.locator("#menu-cores").fill("1")
    choose(page, memory=8)
    expect(page.get_by_role("alert")).to_contain_text("At most 4 GB for each CPU core.")
    expect(page.locator("#menu-memory")).to_have_value("8")
    assert "/hub/spawn/bob/big" in page.url
    choose(page, cores=1, memory=2)
    page.wait_for_url(re.compile(r"/user/bob/big/lab"), timeout=60_000)
    page.goto("/hub/home")
    for name, cores, memory in (("Session", 2, 1), ("Session “big”", 1, 2)):
        session = card(page, name)
        expect(session).to_contain_text("Running")
        amounts = session.locator(".amounts li")
        expect(amounts.filter(has_text="CPU cores")).to_contain_text(re.compile(rf"\b{cores}\b"))
        expect(amounts.filter(has_text="Memory")).to_contain_text(f"{memory} GB")
    page.goto("/hub/spawn/bob/last")
    page.goto("/hub/home")
    expect(page.locator("main")).to_contain_text("You have all 2 additional sessions")
    check(page, "home-no-room")
    page.goto("/hub/spawn/bob/another")
    expect(page.locator("main")).to_contain_text(
        "You have as many additional sessions as you may have"
    )
    check(page, "error-no-room")
    page.goto("/hub/home")
    for name in ("Session “big”", "Session “last”"):
        if card(page, name).get_by_role("button", name="Stop").count():
            card(page, name).get_by_role("button", name="Stop").click()
            expect(card(page, name)).to_contain_text("Not running")
        card(page, name).get_by_role("button", name="Remove").click()
        expect(card(page, name)).to_have_count(0)
    expect(card(page)).to_contain_text("Running")
    login("bob")
    wait_until_no_job_is_left(hub_host, "bob")


@pytest.mark.usefixtures("closed_queue")
def test_the_keyboard_focus_stays_on_its_card_when_the_home_page_is_updated(
    enter: Enter, login: LogIn
) -> None:
    page = enter("bob")
    card(page).get_by_role("link", name=re.compile("^Start")).focus()
    login("bob").choose(memory=1)
    expect(card(page)).to_contain_text("Waiting", timeout=60_000)
    # The link that had the focus is gone, so the focus moves to the heading of the card.
    expect(page.get_by_role("heading", name="Session", exact=True)).to_be_focused()
    raw = card(page).get_by_text("What Grid Engine says")
    raw.focus()
    # A change of the card makes the page redraw the whole card, with the focused element.
    page.evaluate("document.querySelector('#sessions dl').append('old')")
    old = card(page).get_by_text("old")
    expect(old).to_have_count(0, timeout=60_000)
    expect(raw).to_be_focused()
    watch = card(page).get_by_role("link", name="Show progress")
    watch.focus()
    page.evaluate("document.querySelector('#sessions dl').append('old')")
    expect(old).to_have_count(0, timeout=60_000)
    expect(watch).to_be_focused()


def rich(parts: Any) -> None:
    """Replace the demo's menu with the menu of example_rich, which has items of each kind."""
    path = ROOT / "inventories/example_rich/group_vars/all/menu.yml"
    for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        part = name.removeprefix("jupyterhub_resource_").replace("menu", "items")
        assert part in parts, part
        parts[part] = value


def test_every_other_page_is_accessible(enter: Enter, hub_host: Any, proxy_host: Any) -> None:
    page = enter("bob")
    page.goto("/user/bob/lab")
    expect(page.get_by_role("heading", name="This session is not running")).to_be_visible()
    check(page, "not-running")
    with changed(hub_host, "menu.json", rich):
        page.goto("/hub/spawn")
        expect(page.get_by_label("Mail to")).to_be_visible()
        check(page, "form-rich")
    page.goto("/hub/token")
    page.wait_for_load_state("networkidle")
    check(page, "tokens")
    # nginx has two pages of its own: one for the time when configurable-http-proxy is down, and one
    # for too many requests. The test reads the second page from nginx's configuration instead of
    # sending too many requests.
    proxy_host.check_output("systemctl stop jupyterhub-proxy")
    try:
        page.goto("/hub/login")
        expect(page.get_by_role("heading", name="JupyterHub will be back soon")).to_be_visible()
        # Allow meta refresh, because this page has no scripts, and its text announces the reload.
        check(page, "proxy-away", {"rules": {"meta-refresh": {"enabled": False}}})
    finally:
        proxy_host.check_output("systemctl start jupyterhub-proxy")
        wait_for("the hub is reached again", lambda: page.goto("/hub/login").ok)
    whole = proxy_host.check_output("cat /etc/nginx/nginx.conf")
    page.set_content(whole.split("return 429 '")[1].split("';")[0])
    expect(page.get_by_role("heading", name="Too many requests")).to_be_visible()
    check(page, "proxy-too-many")


MORE_ITEMS = [
    {
        "name": "software",
        "label": "Software",
        "options": [
            {"value": "", "label": "None"},
            {"value": "course", "label": "Course", "prologue": "export JUPYTER_PATH=/tmp/course\n"},
        ],
        "default": "",
        "request": {"kind": "environment"},
    },
    {
        "name": "interface",
        "label": "Opens in",
        "options": [
            {"value": "lab", "label": "JupyterLab"},
            {"value": "notebook", "label": "Jupyter Notebook"},
        ],
        "default": "lab",
        "request": {"kind": "interface"},
    },
    {
        "name": "mail",
        "label": "E-mail",
        "text": {"pattern": r"[a-z.]+@example\.org", "example": "j.smith@example.org"},
        "default": "",
        "request": {"kind": "mail"},
    },
]


def deploy_menu(*items: dict[str, Any]) -> None:
    """Deploy the demo's menu with additional items."""
    run = playbook("site.yml", "--tags", "menu", jupyterhub_resource_menu=[*menu(), *items])
    assert run.returncode == 0, output(run)


KERNEL = {
    "argv": ["python3", "-m", "ipykernel_launcher"],
    "display_name": "Course",
    "language": "x",
}


@pytest.fixture
def course_kernel() -> Iterator[None]:
    """Install a kernel that only sessions with the choice “Course” offer."""
    folder = "/tmp/course/kernels/course"
    for worker in ("exec1", "exec2"):
        host(worker).check_output(
            f"mkdir -p {folder} && printf %%s %s > {folder}/kernel.json", json.dumps(KERNEL)
        )
    yield
    for worker in ("exec1", "exec2"):
        host(worker).check_output("rm -r /tmp/course")


@pytest.mark.usefixtures("course_kernel")
def test_a_session_has_the_chosen_notebook_software_and_mail(enter: Enter, hub_host: Any) -> None:
    deploy_menu(*MORE_ITEMS)
    try:
        page = enter("alice", goal="/hub/spawn")
        page.clock.install()
        address = "alice.a@example.org"
        choose(
            page,
            cores=1,
            memory=1,
            run_time=1,
            software="course",
            interface="notebook",
            mail=address,
        )
        page.wait_for_url(re.compile(r"/user/alice/tree"), timeout=60_000)
        expect(page.get_by_role("tab", name="Files")).to_be_visible(timeout=60_000)
        offered = page.request.get("/user/alice/api/kernelspecs").json()["kernelspecs"]
        assert offered["course"]["spec"]["display_name"] == "Course"
        job = hub_host.check_output("qstat -u alice").splitlines()[-1].split()[0]
        details = hub_host.check_output("qstat -j %s", job)
        assert re.search(rf"^mail_list: +{address}$", details, re.MULTILINE), details
        assert re.search(r"^mail_options: +ae$", details, re.MULTILINE), details
        timer = page.get_by_role("timer")
        expect(timer).to_have_text(re.compile(r"^Time left: 5\d min$"))
        expect(timer).to_have_css("font-weight", "400")
        # If the clock jumps, for example when a computer wakes up, the countdown must jump too,
        # even before the session answers again. (This session's own clock does not jump.)
        with page.expect_event("requestfailed"):
            page.route(re.compile(r"/gridhub/status\?"), lambda route: route.abort())
        page.clock.fast_forward("40:00")
        expect(timer).to_have_text(re.compile(r"^Time left: 1\d min$"))
        expect(timer).to_have_css("font-weight", "700")
    finally:
        deploy_menu()
