"""People log in at an OpenID Connect provider (oidc-provider), seen in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from browsing import card, check, choose, run_a_cell
from cluster import BASE_URL, host
from hub_client import HubClient, page_text, wait_for
from playbooks import output, playbook
from site_accounts import (
    ASKED_AFTER,
    CACHED,
    HUB,
    ISSUER,
    PASSWORDS,
    SECRET,
    SERVICE,
    Directory,
    LoginService,
    OpenIDClient,
    as_root,
)

Window = Callable[..., Page]

ON = {"jupyterhub_openid_issuer": ISSUER, "jupyterhub_public_url": f"{HUB}/"}


def deploy(*arguments: str, **variables: object) -> str:
    """Deploy hub and proxy; return Ansible's output."""
    run = playbook("site.yml", "--limit", "hub,proxy,localhost", *arguments, **variables)
    assert run.returncode == 0, output(run)[-3000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[str]:
    """Let people log in at the provider; afterwards, with a password again."""
    yield deploy("--diff", **ON)
    deploy()
    assert HubClient(BASE_URL, "ann").log_in(PASSWORDS["ann"]).ok


@pytest.fixture(autouse=True)
def people(service: LoginService, deployed: str) -> None:
    """The people of the login service. Not all of them may use the hub."""
    service.know("ann")
    service.know("eve")
    service.know("carl")
    service.know("dora")
    service.know("nora")
    service.know("guest", preferred_username="ann@elsewhere.example")
    service.know("nameless", preferred_username=None)
    service.know("ben", groups=["students"])


@pytest.fixture
def ann(people: None) -> Iterator[OpenIDClient]:
    client = OpenIDClient("ann")
    client.log_in()
    client.stop()
    yield client
    client.stop()


def to_service(page: Page, goal: str = "/hub/home") -> None:
    """Open a page of the hub, and follow the link of the login page."""
    page.goto(goal)
    page.get_by_role("link", name="Log in with Example ID").click()
    page.wait_for_url(re.compile(SERVICE))


def enter(page: Page, name: str, secret: str = "") -> None:
    """Fill in the form of the login service."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Secret").fill(secret or f"{name}-at-login")
    page.get_by_role("button", name="Sign in").click()


def expect_person(page: Page, name: str) -> None:
    """Wait for a page of the hub with the name of the person who is logged in."""
    expect(page.get_by_role("link", name="Log out")).to_be_visible()
    expect(page.locator(".site-person")).to_contain_text(name)


def log_in(page: Page, name: str, goal: str = "/hub/home") -> None:
    to_service(page, goal)
    enter(page, name)


def test_a_person_logs_in_at_the_provider_and_uses_a_session(
    window: Window, ann: OpenIDClient
) -> None:
    page = window(HUB)
    page.goto("/hub/home")
    expect(page.get_by_role("link", name="Log in with Example ID")).to_be_visible()
    expect(page.get_by_label("Password")).to_have_count(0)
    check(page, "openid-login")
    log_in(page, "ann", "/hub/spawn?memory=4")
    expect(page.locator("#menu-memory")).to_have_value("4")  # the link has been followed
    choose(page, cores=1, memory=1)
    page.wait_for_url(re.compile("/user/ann/lab"), timeout=90_000)
    run_a_cell(page, "/user/ann/lab", "import os; print(os.getuid())", "50001")


def test_only_the_provider_says_that_a_secret_is_wrong(window: Window) -> None:
    page = window(HUB)
    to_service(page)
    enter(page, "ann", "wrong")
    expect(page.get_by_text("Wrong name or secret")).to_be_visible()
    page.goto("/hub/home")
    expect(page.get_by_role("link", name="Log in with Example ID")).to_be_visible()


def test_a_person_who_cancels_can_try_again(window: Window) -> None:
    page = window(HUB)
    to_service(page)
    page.get_by_role("button", name="Cancel").click()
    main = page.locator("main")
    expect(main).to_contain_text("Example ID has not let you in, or the login was cancelled")
    expect(main).not_to_contain_text("The person has cancelled")
    check(page, "openid-cancelled")
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("link", name="Log in with Example ID").click()
    enter(page, "ann")
    expect_person(page, "ann")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("carl", "Example ID knows you, but: The account carl cannot be used at the moment"),
        ("dora", "Example ID knows you, but the account dora may not use this service"),
        ("nora", "Example ID knows you, but: There is no account nora on the hub's host"),
        ("guest", "Example ID knows you as “ann@elsewhere.example”, which belongs to no account"),
        ("nameless", "Example ID has not sent your name (“preferred_username”)"),
        ("ben", "you are in none of the groups that may use this service"),
    ],
)
def test_people_read_why_they_may_not_log_in(window: Window, name: str, words: str) -> None:
    page = window(HUB)
    log_in(page, name)
    expect(page.locator("main")).to_contain_text(words)
    check(page, f"openid-refused-{name}")
    # The provider still knows the person, so another account needs a logout there.
    page.get_by_role("link", name="Log in with another account").click()
    page.get_by_role("button", name=re.compile("Yes")).click()
    page.wait_for_url(re.compile("/hub/login"))
    page.get_by_role("link", name="Log in with Example ID").click()
    enter(page, "ann")
    expect_person(page, "ann")


def test_a_password_opens_nothing_here() -> None:
    client = HubClient(HUB, "ann")
    page = client.log_in(PASSWORDS["ann"])
    assert page.status_code == 403
    assert "My sessions" not in page_text(client.get("/hub/home"))
    body = {"auth": {"username": "ann", "password": PASSWORDS["ann"]}}
    assert client.rest("POST", "/users/ann/tokens", body).status_code == 403


def callback_of(client: OpenIDClient) -> str:
    """Log in at the service; return the address to which it sends the browser back."""
    page = client.to_service()
    data = {"name": client.name, "password": f"{client.name}-at-login", "do": "enter"}
    answer = client.http.post(page.url, data=data, allow_redirects=False, timeout=30)
    while urlsplit(answer.headers["Location"]).hostname == SERVICE:
        answer = client.http.get(answer.headers["Location"], allow_redirects=False, timeout=30)
    return str(answer.headers["Location"])


def test_nobody_is_logged_in_by_a_login_of_another_browser(people: None) -> None:
    mallory = OpenIDClient("eve")
    url = callback_of(mallory)
    victim = OpenIDClient("ann")
    victim.to_service()  # even in the middle of an own login
    page = victim.http.get(url, timeout=30)
    assert (page.status_code, "no longer valid" in page_text(page)) == (400, True)
    assert not victim.is_logged_in()
    # The code is still good, but for no other page of the hub.
    path = f"/hub/login?{urlsplit(url).query}"
    mallory.get("/hub/login")
    data = {"username": "eve", "password": "", "_xsrf": mallory._xsrf()}
    assert mallory.http.post(mallory.url(path), data=data, timeout=30).status_code == 403
    assert not mallory.is_logged_in()


def test_a_page_that_is_loaded_again_after_a_login_leads_home(people: None) -> None:
    client = OpenIDClient("ann")
    url = callback_of(client)
    assert "My sessions" in page_text(client.http.get(url, timeout=30))
    again = client.http.get(url, timeout=30)
    assert (again.status_code, urlsplit(again.url).path) == (200, "/hub/home")
    # Without the login, the same address says what to do.
    client.http.cookies.clear()
    page = client.http.get(url, timeout=30)
    assert (page.status_code, "Log in again" in page_text(page)) == (400, True)


def test_sessions_do_not_receive_the_cookie_of_a_login(people: None) -> None:
    client = OpenIDClient("ann")
    client.to_service()
    (cookie,) = [each for each in client.http.cookies if each.name == "oauthenticator-state"]
    assert (cookie.path, cookie.secure) == ("/hub/", True)
    assert cookie.has_nonstandard_attr("HttpOnly")


def test_a_person_logs_out_at_the_provider_too(window: Window, ann: OpenIDClient) -> None:
    page = window(HUB)
    log_in(page, "ann")
    page.get_by_role("link", name="Log out").click()
    page.wait_for_url(re.compile(f"{SERVICE}.*/session/end"))
    page.get_by_role("button", name=re.compile("Yes")).click()
    page.wait_for_url(f"{HUB}/hub/login*")
    page.goto("/hub/home")
    page.get_by_role("link", name="Log in with Example ID").click()
    expect(page.get_by_label("Secret")).to_be_visible()


def test_nobody_is_logged_out_while_the_provider_is_away(
    window: Window, service: LoginService, ann: OpenIDClient
) -> None:
    ann.choose(cores=1, memory=1, run_time=1)
    ann.wait_until_ready(90)
    ann.open_lab()
    kernel = ann.start_kernel()
    page = window(HUB)
    with service.away():
        host("hub").check_output("systemctl restart jupyterhub")
        wait_for("the hub answers", lambda: ann.get("/hub/health").ok)
        assert ann.is_logged_in()
        assert ann.run(kernel, "print(6 * 7)").strip() == "42"
        page.goto("/hub/home")
        page.get_by_role("link", name="Log in with Example ID").click()
        words = "Example ID, where you log in, does not answer at the moment"
        expect(page.locator("main")).to_contain_text(words)
        check(page, "openid-away")
    page.goto("/hub/home")
    page.get_by_role("link", name="Log in with Example ID").click()
    enter(page, "ann")
    expect(card(page)).to_contain_text("Running")


def test_people_read_that_the_provider_went_away_in_the_middle(
    service: LoginService, people: None
) -> None:
    client = OpenIDClient("ann")
    url = callback_of(client)
    with service.away("systemctl kill -s STOP login"):
        page = client.http.get(url, timeout=60)
        assert (page.status_code, "does not answer at the moment" in page_text(page)) == (503, True)


def test_a_logout_while_the_provider_is_away_says_what_is_left(
    window: Window, service: LoginService
) -> None:
    page = window(HUB)
    log_in(page, "eve")
    with service.away():
        host("hub").check_output("systemctl restart jupyterhub")
        wait_for("the hub answers", lambda: HubClient(HUB, "eve").get("/hub/login").ok)
        page.goto("/hub/home")
        page.get_by_role("link", name="Log out").click()
        expect(page.get_by_role("alert")).to_contain_text("You are still logged in at Example ID")
        check(page, "openid-logout")
        page.goto("/hub/home")
        expect(page.get_by_role("link", name="Log in with Example ID")).to_be_visible()


def test_a_unix_group_that_is_taken_away_logs_a_person_out(
    window: Window, directory: Directory
) -> None:
    page = window(HUB)
    log_in(page, "eve")
    expect(page.get_by_role("heading", name="My sessions")).to_be_visible()
    directory.leave("eve", "hpc")
    try:

        def is_out() -> bool:
            page.goto("/hub/home")
            return page.get_by_role("link", name="Log in with Example ID").count() > 0

        wait_for("eve is logged out", is_out, CACHED + ASKED_AFTER + 30)
        page.get_by_role("link", name="Log in with Example ID").click()
        expect(page.locator("main")).to_contain_text("eve may not use this service")
    finally:
        directory.join("eve", "hpc")


def test_a_group_that_the_provider_takes_away_ends_the_next_login(service: LoginService) -> None:
    client = OpenIDClient("eve")
    assert "My sessions" in page_text(client.log_in())
    service.know("eve", groups=[])
    again = client.get("/hub/oauth_login")  # the provider knows the person, and asks nothing
    assert (again.status_code, "in none of the groups" in page_text(again)) == (403, True)


def files_with_secret(name: str) -> list[str]:
    """Return where a host's files, processes and log have the client's secret."""
    search = f"""
secret=$(mktemp -p /dev/shm)
trap 'rm $secret' EXIT
cat >$secret <<'END'
{SECRET}
END
places="/etc /home /opt /root /run /srv /tmp /var /dev/shm"
grep -rslF -D skip --exclude=$(basename $secret) -f $secret $places || true
for each in /proc/[0-9]*; do grep -slF -f $secret $each/environ $each/cmdline || true; done
journalctl --no-pager -o cat | grep -qF -f $secret && echo journal || true
"""
    return as_root(name, search).splitlines()


def test_the_secret_is_in_one_file_that_only_the_hub_reads(
    deployed: str, ann: OpenIDClient, hub_host: Any
) -> None:
    file = hub_host.file("/etc/jupyterhub/openid_client_secret")
    assert (file.user, file.group, oct(file.mode)) == ("root", "jupyterhub", "0o640")
    assert files_with_secret("hub") == [file.path]
    assert files_with_secret("proxy") == files_with_secret("exec1") == []
    assert SECRET not in deployed
    run = playbook("site.yml", "--limit", "hub,proxy,localhost", "--check", "--diff", **ON)
    assert run.returncode == 0, output(run)[-2000:]
    assert SECRET not in run.stdout + run.stderr
    assert "changed=0" in re.search(r"^hub .*", run.stdout, re.MULTILINE)[0]  # type: ignore[index]


def test_no_token_of_the_provider_is_kept(ann: OpenIDClient, hub_host: Any) -> None:
    database = "/var/lib/jupyterhub/jupyterhub.sqlite"
    query = (
        "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())"
    )
    rows = "select count(*) from users where encrypted_auth_state is not null"
    assert hub_host.check_output("python3 -c %s %s %s", query, database, rows) == "[(0,)]"


def test_logins_at_the_provider_are_limited_for_each_client(people: None) -> None:
    client = OpenIDClient("ann")
    client.to_service()
    statuses = {client.get("/hub/oauth_callback?code=x&state=y").status_code for _ in range(150)}
    assert 429 in statuses


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"jupyterhub_openid_issuer": f"{ISSUER}/"}, "both must be exactly the same"),
        ({"jupyterhub_openid_ca": ""}, "certificate verify failed"),
        ({"jupyterhub_openid_issuer": f"https://{SERVICE}:9444"}, "Connection refused"),
        ({"jupyterhub_public_url": ""}, "jupyterhub_public_url is empty"),
        ({"jupyterhub_openid_pattern": ".*"}, "jupyterhub_openid_pattern is '.*' with 0 groups"),
    ],
)
def test_validate_finds_why_nobody_could_log_in(variables: dict[str, str], words: str) -> None:
    run = playbook("validate.yml", **(ON | variables))
    assert run.returncode != 0
    assert words in output(run)
    assert SECRET not in run.stdout + run.stderr


def test_claims_can_come_from_the_token_and_the_hub_can_be_below_a_folder(
    window: Window, people: None
) -> None:
    folder = f"{HUB}/jupyter"
    deploy(
        jupyterhub_openid_issuer=ISSUER,
        jupyterhub_public_url=f"{folder}/",
        jupyterhub_openid_claims_from="id_token",
    )
    page = window(HUB)
    to_service(page, "/jupyter/hub/spawn?memory=4")
    enter(page, "ann")
    expect(page.locator("#menu-memory")).to_have_value("4")
    assert urlsplit(page.url).path == "/jupyter/hub/spawn"
    client = OpenIDClient("ann", folder)
    assert "My sessions" in page_text(client.log_in())
    page.get_by_role("link", name="Log out").click()
    page.get_by_role("button", name=re.compile("Yes")).click()
    page.wait_for_url(f"{folder}/hub/login*")
