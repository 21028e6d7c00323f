"""The pages in a browser: choosing, waiting, working, stopping, and errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from browsing import (
    NARROW,
    Enter,
    OpenBrowser,
    card,
    check,
    choose,
    log_in,
    run_a_cell,
    wait_until_no_job_is_left,
)
from cluster import LogIn
from hub_client import HubClient, page_text, wait_for

LAB = re.compile(r"/user/alice/lab")
WAITING = re.compile(r"/hub/spawn-pending/")
HOME = re.compile(r"/hub/home$")


def test_a_person_chooses_waits_runs_a_cell_and_stops(enter: Enter, hub_host: Any) -> None:
    page = enter("alice")
    expect(card(page)).to_contain_text("Not running")
    check(page, "home-nothing")
    # The link says "Start again" unless alice stopped her last session herself.
    card(page).get_by_role("link", name=re.compile("^Start")).click()
    expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    expect(page.locator("#forecast")).to_contain_text("There is room for it now.")
    check(page, "form")
    choose(page, cores=2, memory=4, run_time=1)

    page.wait_for_url(LAB, timeout=60_000)
    # Remove the notebooks that earlier runs of the test left.
    hub_host.check_output("rm -f /home/alice/Untitled*.ipynb")
    run_a_cell(page, "/user/alice/lab", "print(6 * 7)", "42")
    # The server tells JupyterLab that this kernel has no debugger (docs/security.md).
    expect(page.locator(".jp-DebuggerBugButton")).to_have_attribute("aria-disabled", "true")

    page.goto("/hub/home")
    running = card(page)
    expect(running).to_contain_text("Running")
    expect(running).to_contain_text(re.compile(r"exec[12]"))
    # Every few seconds, the worker reports how much the session uses.
    expect(running).to_contain_text(re.compile(r"\d\.\d of 2 in use on average"), timeout=90_000)
    expect(running).to_contain_text(re.compile(r"\d\.\d GB of 4 GB"))
    check(page, "home-running")
    running.get_by_role("button", name="Stop").click()
    expect(card(page)).to_contain_text("Not running")
    wait_until_no_job_is_left(hub_host, "alice")


@pytest.mark.usefixtures("closed_queue")
def test_the_waiting_page_gives_the_reason_and_offers_to_ask_for_less(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("bob", goal="/hub/spawn")
    choose(page, cores=2, memory=8, run_time=2)
    page.wait_for_url(WAITING)
    expect(page.locator("#wait-message")).to_contain_text(
        re.compile(r"^Job \d+ is waiting: the queue takes no jobs at the moment")
    )
    page.get_by_text("What Grid Engine says").click()
    expect(page.locator("#wait-raw pre")).to_contain_text("dropped because it is disabled")
    now = page.locator('.stages [aria-current="step"]')
    expect(now).to_have_attribute("data-stage", "waiting")
    expect(now).to_contain_text("Now:")
    check(page, "waiting")
    page.get_by_role("button", name="Ask for less").click()

    expect(page.get_by_role("heading", name="Start a session")).to_be_visible(timeout=60_000)
    expect(page.locator("#menu-memory")).to_have_value("8")
    expect(page.locator("#menu-cores")).to_have_value("2")
    wait_until_no_job_is_left(hub_host, "bob")


def test_asking_for_less_fills_in_the_free_amount_and_says_so(
    enter: Enter, qmaster_host: Any, hub_host: Any, login: LogIn
) -> None:
    qmaster_host.check_output("qmod -d all.q@exec1")
    try:
        bob = login("bob")
        bob.choose(cores=3, memory=1)
        bob.wait_until_ready()
        page = enter("carol", goal="/hub/spawn")
        choose(page, cores=4, memory=1)
        page.wait_for_url(WAITING)
        expect(page.locator("#wait-message")).to_contain_text("free: CPU cores (4)")
        page.get_by_role("button", name="Ask for less").click()
        cores = page.locator("#menu-cores")
        expect(cores).to_have_value("1", timeout=60_000)
        expect(cores).to_be_focused()
        expect(cores).to_have_accessible_description(
            re.compile("^CPU cores: 1 instead of 4, because no worker that it may use has 4 free")
        )
        check(page, "form-less")
    finally:
        qmaster_host.check_output("qmod -e all.q@exec1")
    wait_until_no_job_is_left(hub_host, "carol")
    # When a session has run out of memory, the session's card links to this form. The form asks for
    # more memory and keeps carol's other choices.
    page.goto("/hub/spawn/carol?_more=memory")
    expect(page.locator("#menu-memory")).to_have_value("2")
    expect(page.locator("#menu-memory")).to_be_focused()
    expect(page.locator("#menu-cores")).to_have_value("4")


def test_a_link_fills_in_the_form_and_starts_nothing(
    window: OpenBrowser, passwords: dict[str, str], login: LogIn
) -> None:
    bob = login("bob")
    page = window()
    log_in(page, "bob", passwords["bob"], "/hub/spawn?cores=2&memory=8&gpus=1&colour=%3Cb%3E")
    expect(page.locator("#menu-cores")).to_have_value("2")
    expect(page.locator("#menu-memory")).to_have_value("8")
    status = page.get_by_role("status")
    expect(status.first).to_have_text("The link has filled in this form. Nothing is started yet.")
    expect(page.locator("main")).to_contain_text("only members of gpu may")
    expect(page.locator("main")).to_contain_text("“colour” is not on the menu")
    check(page, "form-link")
    assert bob.server() is None
    # The menu forbids 8 GB for one core. The hub refuses the choice, and the form keeps the values.
    page.locator("#menu-cores").fill("1")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("At most 4 GB for each CPU core.")
    expect(page.locator("#menu-memory")).to_have_value("8")
    expect(page.locator("#menu-cores")).to_have_value("1")


def test_a_preset_fills_in_its_fields_and_they_can_be_changed(enter: Enter, login: LogIn) -> None:
    bob = login("bob")
    page = enter("bob", goal="/hub/spawn?cores=3&run_time=1")
    preset = page.get_by_label("Preset")
    preset.select_option("teaching")
    expect(page.locator("#menu-cores")).to_have_value("1")
    expect(page.locator("#menu-run_time")).to_have_value("2")
    # After a change by hand, no preset is selected, but the other fields keep the preset's values.
    expect(preset).to_have_value("teaching")
    page.locator("#menu-memory").select_option("4")
    expect(preset).to_have_value("")
    expect(page.locator("#menu-run_time")).to_have_value("2")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"/hub/spawn-pending/|/user/bob/lab"))
    server = bob.server()
    assert server
    assert server["user_options"] == {"cores": 1, "memory": 4, "run_time": 2}


@pytest.mark.usefixtures("closed_queue")
def test_a_wait_can_be_cancelled(enter: Enter, hub_host: Any) -> None:
    page = enter("bob", goal="/hub/spawn")
    choose(page, memory=1)
    page.wait_for_url(WAITING)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(HOME, timeout=60_000)
    expect(card(page)).to_contain_text("Not running")
    wait_until_no_job_is_left(hub_host, "bob")


def test_the_browser_notifies_on_request(enter: Enter, qmaster_host: Any) -> None:
    notifications: list[str] = []

    def record(text: str) -> None:
        notifications.append(text)

    qmaster_host.check_output("qmod -d all.q")
    try:
        page = enter("alice", goal="/hub/spawn")
        choose(page, memory=1)
        page.wait_for_url(WAITING)
        notify = page.get_by_role("button", name="Notify me when it is ready")
        expect(page.locator("#wait-message")).to_contain_text("is waiting")
        notify.click()  # the browser denies permission, since nobody grants it
        denied = "Your browser does not let this page notify you."
        expect(page.locator("#notify-on")).to_have_text(denied)
        page.reload()
        expect(page.locator("#wait-message")).to_contain_text("is waiting")
        expect(notify).to_be_hidden()  # another click would be useless

        page.context.grant_permissions(["notifications"])
        page.expose_function("record", record)
        page.add_init_script(
            "window.Notification = class extends Notification {"
            "  constructor(title, options) { super(title, options); record(options.body); } };"
        )
        page.reload()
        notify.click()
        expect(page.locator("#notify-on")).to_have_text(
            "You will be notified while this page is open."
        )
        expect(notify).to_be_hidden()
        assert notifications == []
    finally:
        qmaster_host.check_output("qmod -e all.q")
    page.wait_for_url(LAB, timeout=60_000)
    assert notifications == ["Your session is ready."]


def test_without_notifications_the_button_is_hidden_and_the_session_still_opens(
    enter: Enter, qmaster_host: Any
) -> None:
    # On Android, browsers have a class Notification whose constructor fails. Imitate this class.
    unable = (
        "window.Notification = class {"
        "  static permission = '%s';"
        "  static requestPermission = async () => 'granted';"
        "  constructor() { throw new TypeError('Illegal constructor.'); } };"
    )
    qmaster_host.check_output("qmod -d all.q")
    try:
        page = enter("alice", goal="/hub/spawn")
        choose(page, memory=1)
        page.wait_for_url(WAITING)
        notify = page.get_by_role("button", name="Notify me when it is ready")
        expect(notify).to_be_visible()
        page.add_init_script(unable % "default")
        page.reload()
        expect(page.locator("#wait-message")).to_contain_text("is waiting")
        expect(notify).to_be_hidden()
        # If the page already has permission, it does not test the constructor, because such a test
        # would show a notification. The page shows the button, and the constructor fails later.
        page.add_init_script(unable % "granted")
        page.reload()
        notify.click()
        expect(notify).to_be_hidden()
    finally:
        qmaster_host.check_output("qmod -e all.q")
    page.wait_for_url(LAB, timeout=60_000)


def test_a_stopping_session_is_shown_as_stopping(
    enter: Enter, qmaster_host: Any, hub_host: Any
) -> None:
    page = enter("alice", goal="/hub/spawn")
    choose(page, memory=1)
    page.wait_for_url(LAB, timeout=60_000)
    page.goto("/hub/home")
    qmaster_host.check_output("pkill -STOP sge_qmaster")
    try:
        # Do not wait for the next page: the hub does not answer until Grid Engine answers.
        card(page).get_by_role("button", name="Stop").click(no_wait_after=True)
        other = page.context.new_page()
        other.goto("/hub/spawn-pending/alice")
        expect(other.get_by_role("heading", name="Your session is stopping")).to_be_visible()
        check(other, "stopping")
    finally:
        qmaster_host.check_output("pkill -CONT sge_qmaster")
    # When the session has stopped, the waiting page opens the home page by itself.
    other.wait_for_url(HOME, timeout=60_000)
    expect(card(other)).to_contain_text("Not running", timeout=60_000)
    wait_until_no_job_is_left(hub_host, "alice")


def test_the_waiting_page_opens_the_session_when_it_starts(enter: Enter, qmaster_host: Any) -> None:
    qmaster_host.check_output("qmod -d all.q")
    try:
        page = enter("alice", goal="/hub/spawn")
        choose(page, memory=1)
        page.wait_for_url(WAITING)
        expect(page.locator("#wait-message")).to_contain_text("is waiting")
    finally:
        qmaster_host.check_output("qmod -e all.q")
    page.wait_for_url(LAB, timeout=60_000)


@pytest.mark.usefixtures("closed_queue")
def test_a_failed_start_shows_the_reason_and_leads_back_to_the_form(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("bob", goal="/hub/spawn")
    choose(page, memory=4)
    page.wait_for_url(WAITING)
    expect(page.locator("#wait-message")).to_contain_text("is waiting")
    hub_host.check_output("qdel -u bob")
    expect(page.get_by_role("heading", name="Your session could not start")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("was deleted before JupyterLab was up")
    check(page, "failed")
    page.get_by_role("link", name="Try again").click()
    expect(page.locator("#menu-memory")).to_have_value("4")


def test_the_home_page_shows_that_a_session_was_ended_with_qdel(
    enter: Enter, hub_host: Any
) -> None:
    page = enter("alice", goal="/hub/spawn")
    choose(page, memory=1)
    page.wait_for_url(LAB, timeout=60_000)
    page.goto("/hub/home")
    expect(card(page)).to_contain_text("Running")
    hub_host.check_output("qdel -u alice")
    # The page updates itself.
    again = card(page).get_by_role("link", name="Start again", exact=True)
    expect(again).to_be_visible(timeout=120_000)
    expect(card(page)).to_contain_text("was deleted by an administrator or with qdel")
    check(page, "home-ended")
    again.click()
    expect(page.locator("#menu-memory")).to_have_value("1")


@pytest.mark.usefixtures("closed_queue")
def test_the_home_page_keeps_itself_up_to_date(enter: Enter, login: LogIn) -> None:
    page = enter("bob")
    page.evaluate("window.same = true")
    login("bob").choose(memory=1)
    expect(card(page)).to_contain_text("Waiting", timeout=60_000)
    assert page.evaluate("window.same"), "the page was reloaded"
    check(page, "home-waiting")


def test_the_home_page_shows_the_login_after_a_logout_in_another_window(enter: Enter) -> None:
    page = enter("bob")
    other = page.context.new_page()
    other.goto("/hub/logout")
    page.bring_to_front()
    expect(page.get_by_label("User name")).to_be_visible(timeout=60_000)


def test_the_form_shows_free_resources_and_a_forecast_for_the_choice(
    enter: Enter, qmaster_host: Any, login: LogIn
) -> None:
    page = enter("carol", goal="/hub/spawn?cores=1")  # not her last choice
    forecast = page.locator("#forecast")
    expect(forecast).to_contain_text("There is room for it now.", timeout=30_000)
    expect(forecast).to_contain_text("GPUs: 2, at most 2 on one worker")
    expect(forecast).to_contain_text(re.compile(r"Memory: \d+ GB, at most \d GB on one worker"))
    expect(forecast).to_contain_text(re.compile(r"as of \d+ s ago"))
    # Another person takes all cores of the worker with the GPUs.
    qmaster_host.check_output("qmod -d all.q@exec1")
    try:
        bob = login("bob")
        bob.choose(cores=4, memory=1)
        bob.wait_until_ready()
        page.locator("#menu-gpus").fill("1")
        expect(forecast).to_contain_text(
            "It would have to wait until one worker has all of this free: CPU cores (1).",
            timeout=60_000,
        )
        check(page, "form-forecast")
    finally:
        qmaster_host.check_output("qmod -e all.q@exec1")
    cores = page.locator("#menu-cores")
    cores.fill("9")
    expect(forecast).to_contain_text("“9” is not possible; choose from 1 to 4.")
    expect(cores).to_have_accessible_description(re.compile("^CPU cores: “9” is not possible"))
    # The menu states the rule about memory and cores in the memory's item. A choice that breaks the
    # rule is therefore explained only at the memory's field.
    cores.fill("1")
    page.locator("#menu-memory").select_option("8")
    memory = page.get_by_label("Memory")
    expect(memory).to_have_attribute("aria-invalid", "true")
    expect(memory).to_have_accessible_description(re.compile("^At most 4 GB for each CPU core"))
    expect(page.locator("#error-menu-memory")).to_be_visible()
    expect(cores).not_to_have_attribute("aria-invalid", "true")
    check(page, "form-rule")
    cores.fill("2")
    expect(memory).not_to_have_attribute("aria-invalid", "true")
    expect(page.locator("#error-menu-memory")).to_be_hidden()
    expect(cores).to_be_focused()


def test_only_people_who_may_have_gpus_see_them(enter: Enter) -> None:
    assert enter("bob", goal="/hub/spawn").get_by_label("GPUs").count() == 0
    expect(enter("carol", goal="/hub/spawn").get_by_label("GPUs")).to_be_visible()


def test_a_refused_choice_is_explained_on_the_form(enter: Enter) -> None:
    page = enter("bob", goal="/hub/spawn")
    # Make the form send a value that it does not offer.
    page.locator("#menu-memory option").first.evaluate("each => each.value = 3")
    choose(page, memory=3)
    expect(page.get_by_role("alert")).to_contain_text("is not possible; choose 1, 2, 4 or 8 GB.")
    check(page, "form-refused")


def test_a_wrong_password_is_shown_on_the_form(
    window: OpenBrowser, passwords: dict[str, str]
) -> None:
    page = window()
    page.goto("/hub/login")
    check(page, "login")
    log_in(page, "alice", "not-her-password")
    expect(page.get_by_role("alert")).to_contain_text("Invalid username or password")
    expect(page.get_by_label("User name")).to_have_value("alice")
    expect(page.get_by_label("Password")).to_be_focused()
    check(page, "login-refused")


def test_an_account_that_may_not_use_the_hub_gets_the_reason(
    window: OpenBrowser, passwords: dict[str, str]
) -> None:
    page = window()
    log_in(page, "dave", passwords["dave"])
    expect(page.locator("main")).to_contain_text("the account dave may not use this service")
    check(page, "login-not-allowed")


def test_a_missing_page_leads_home(enter: Enter) -> None:
    page = enter("bob")
    page.goto("/hub/nowhere")
    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
    check(page, "error-404")
    page.get_by_role("link", name="My sessions").last.click()
    page.wait_for_url(HOME)


def test_an_error_is_shown_in_plain_words(enter: Enter) -> None:
    page = enter("bob", goal="/hub/new-session?name=%3Cb%3E")
    expect(page.locator("main")).to_contain_text("A session name has 1 to 30 lowercase letters")
    assert "Traceback" not in page.content()
    check(page, "error-400")
    page.goto("/hub/error/503")
    expect(page.locator("main")).to_contain_text("The session does not answer.")
    check(page, "error-503")


def test_named_sessions_can_be_started_stopped_and_removed(enter: Enter, hub_host: Any) -> None:
    page = enter("bob")
    page.get_by_label("Session name").fill("second")
    page.get_by_role("button", name="Choose").click()
    choose(page, memory=1)
    page.wait_for_url(re.compile(r"/user/bob/second/lab"), timeout=60_000)
    page.goto("/hub/home")
    second = card(page, "Session “second”")
    expect(second).to_contain_text("Running")
    expect(card(page)).to_contain_text("Not running")
    check(page, "home-named")
    second.get_by_role("button", name="Stop").click()
    expect(second).to_contain_text("Not running")
    second.get_by_role("button", name="Remove").click()
    expect(second).to_have_count(0)
    wait_until_no_job_is_left(hub_host, "bob")


def test_the_pages_work_without_javascript(enter: Enter, qmaster_host: Any, hub_host: Any) -> None:
    qmaster_host.check_output("qmod -d all.q")
    try:
        page = enter("alice", javascript=False, goal="/hub/spawn")
        page.set_viewport_size({"width": NARROW, "height": 740})
        choose(page, memory=1)
        page.wait_for_url(WAITING)
        expect(page.locator("#wait-message")).to_contain_text("is waiting")
    finally:
        qmaster_host.check_output("qmod -e all.q")
    # Without JavaScript, the page reloads itself every few seconds.
    page.wait_for_url(LAB, timeout=60_000)
    page.goto("/hub/home")
    expect(card(page)).to_contain_text("Running")
    card(page).get_by_role("button", name="Stop").click()
    page.wait_for_url(HOME, timeout=60_000)
    expect(card(page)).to_contain_text("Not running")
    wait_until_no_job_is_left(hub_host, "alice")


def test_only_its_person_can_stop_a_session_and_only_from_our_pages(
    login: LogIn,
) -> None:
    alice, bob = login("alice"), login("bob")
    alice.choose(memory=1)
    alice.wait_until_ready()

    def stop(client: HubClient, **data: str) -> int:
        return int(
            client.http.post(client.url("/hub/stop/alice"), data=data, timeout=30).status_code
        )

    assert stop(bob, _xsrf=bob._xsrf()) in (403, 404)
    assert stop(alice) == 403
    server = alice.server()
    assert server and server["ready"], "the session has ended"
    page = alice.http.post(alice.url("/hub/stop/alice"), data={"_xsrf": alice._xsrf()}, timeout=60)
    assert page.url.endswith("/hub/home")
    wait_for("alice's session is gone", lambda: alice.server() is None)


def test_pages_of_jupyterhub_itself_have_the_same_frame(enter: Enter) -> None:
    page = enter("admin", goal="/hub/token")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.wait_for_load_state("networkidle")  # the page loads its scripts one after the other
    page.get_by_role("button", name="Request new API token").click()
    expect(page.locator("#token-result")).to_be_visible()
    page.goto("/hub/admin?name_filter=alice")
    expect(page.get_by_text("alice").first).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    assert errors == []


def test_a_broken_announcement_file_breaks_no_page(hub_host: Any, base_url: str) -> None:
    path = "/etc/jupyterhub/announcement.json"
    visitor = HubClient(base_url, "nobody")
    hub_host.check_output("echo '{' > %s", path)
    try:
        mark = "announcement is not JSON"
        wait_for(
            "the hub has seen the broken file",
            lambda: (
                visitor.get("/hub/login").status_code == 200
                and mark
                in hub_host.check_output("journalctl -u jupyterhub -n 200 -o cat --no-pager")
            ),
        )
        assert "Log in to" in page_text(visitor.get("/hub/login"))
    finally:
        hub_host.check_output("rm -f %s", path)
