"""A session attacks the hub or another session, on a site where each person has a host name."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect, sync_playwright
from requests.cookies import get_cookie_header

from browsing import CHROMIUM, FLAGS, card, choose, log_in, run_a_cell
from cluster import BASE_URL, host, read_passwords
from host_names import NAME, PORT
from hub_client import HubClient, page_text, wait_for
from playbooks import output, playbook
from proxy_client import API_CALL, ECHO_PORT, ECHO_SERVER, Answer, run_python
from raw_http import statuses, talk

HUB = f"https://{NAME}:{PORT}"
ALICE, BOB = (f"https://{name}.{NAME}:{PORT}" for name in ("alice", "bob"))
LOGIN, OWN = "__Host-jupyterhub-hub-login", "__Host-jupyterhub-user-alice"
#: JupyterHub's cookie that identifies a browser. All host names share this cookie, which gives no
#: access.
MARK = "jupyterhub-session-id"
ECHO = "/subdomain-test-echo"
ON = {
    "jupyterhub_user_subdomains": True,
    "jupyterhub_public_url": f"{HUB}/",
    # Only the proxy's own host may use the API. The tests' requests through the published port
    # come from other addresses, so the proxy refuses them.
    "proxy_hub_api_networks": ["127.0.0.0/8"],
}


class Person(HubClient):
    """One person's browser, which finds the session at the person's own host name."""

    def __init__(self, name: str) -> None:
        super().__init__(HUB, name)
        self.home = {"alice": ALICE, "bob": BOB}[name]
        # As in browsers, a cookie without a domain goes only to the host that has set the cookie.
        strict = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain)
        self.http.cookies.set_policy(strict)
        self.log_in(read_passwords()[name])

    def url(self, path: str) -> str:
        return f"{self.home}{path}" if path.startswith(f"{self.prefix}/") else super().url(path)

    def cookies_for(self, url: str) -> set[str]:
        """Return the names of the cookies that this client sends to an address."""
        request = requests.Request("GET", url).prepare()
        sent = get_cookie_header(self.http.cookies, request) or ""
        return {cookie.partition("=")[0].strip() for cookie in sent.split(";")} - {""}


def deploy(**variables: object) -> str:
    # ``--limit`` includes localhost, because the playbook checks the inventory on localhost.
    run = playbook("site.yml", "--limit", "hub,proxy,localhost", **variables)
    assert run.returncode == 0, output(run)
    return run.stdout


def job_of_alice() -> str:
    lines = host("hub").check_output("qstat -u alice").splitlines()[2:]
    (line,) = lines
    return str(line.split()[0])


@pytest.fixture(scope="module", autouse=True)
def job(names: None) -> Iterator[str]:
    """Give people host names while alice has a session; take the names away at the end."""
    alice = HubClient(BASE_URL, "alice")
    alice.log_in(read_passwords()["alice"])
    alice.stop()
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    job = job_of_alice()
    try:
        deploy(**ON)
        yield job
        Person("alice").stop()
    finally:
        deploy()


@pytest.fixture
def alice(job: str) -> Iterator[Person]:
    """Log alice in; stop her session before and after the test."""
    alice = Person("alice")
    alice.stop()
    yield alice
    alice.stop()


def ask(authority: str, path: str, method: str = "GET", **headers: str) -> Answer:
    """Send a request to the proxy with ``authority`` in the header Host."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=20, context=context)
    try:
        link.request(method, path, headers={"Host": authority} | headers)
        return Answer(link.getresponse())
    finally:
        link.close()


@pytest.mark.attack(
    "a deployment of host names while people have sessions",
    outcome="No session ends; each is at its new address, and the old address leads there.",
)
def test_an_older_session_goes_on_at_its_persons_host(job: str) -> None:
    alice = Person("alice")
    assert job_of_alice() == job
    lab = alice.http.get(f"{HUB}/user/alice/lab", timeout=30)
    assert lab.status_code == 200
    assert lab.url.startswith(f"{ALICE}/user/alice/lab")
    kernel = alice.start_kernel()
    assert alice.run(kernel, "print(6 * 7)").strip() == "42"


@pytest.mark.attack(
    "a person at work, when people have host names",
    outcome="The pages lead to the person's host and back, also after restarts of hub and proxy.",
)
def test_people_work_at_their_own_host(alice: Person, hub_host: Any, proxy_host: Any) -> None:
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    page = alice.get("/hub/home")
    assert f'href="{ALICE}/user/alice/"' in page.text
    lab = alice.open_lab()
    assert lab.url.startswith(f"{ALICE}/user/alice/lab")
    assert HUB in lab.text, "JupyterLab's link back to the hub"
    assert alice.cookies_for(f"{HUB}/hub/home") == {LOGIN, MARK, "_xsrf"}
    assert alice.cookies_for(f"{ALICE}/user/alice/lab") == {OWN, MARK, "_xsrf"}
    for cookie in alice.http.cookies:
        if cookie.name.startswith("__Host-"):
            assert (cookie.secure, cookie.path, cookie.domain_specified) == (True, "/", False)
    kernel = alice.start_kernel()
    assert alice.run(kernel, "x = 6 * 7; print(x)").strip() == "42"
    # The restarts delete the proxy's routes and the hub's state in memory. The session must remain
    # usable.
    proxy_host.check_output("systemctl restart jupyterhub-proxy.service")
    hub_host.check_output("systemctl restart jupyterhub.service")
    path = f"/user/alice/api/kernels/{kernel}"
    wait_for("the route is back", lambda: alice.get(path, allow_redirects=False).status_code == 200)
    assert alice.run(kernel, "print(x)").strip() == "42"
    wait_for("the hub is back", lambda: alice.get("/hub/home").status_code == 200)
    alice.stop()
    gone = alice.get("/user/alice/lab")
    assert gone.url.startswith(f"{HUB}/hub/user/alice/lab")
    assert "Nothing is running here." in page_text(gone) or "is not running" in page_text(gone)


@pytest.fixture
def echoes(hub_host: Any, proxy_host: Any) -> Iterator[None]:
    """Run a server at alice's and at bob's host name; its answers show the requests."""
    proxy_host.run("systemctl stop subdomain-test-echo.service")
    proxy_host.check_output(
        "systemd-run --quiet --collect --unit=subdomain-test-echo python3 -c %s", ECHO_SERVER
    )
    target = json.dumps({"target": f"http://127.0.0.1:{ECHO_PORT}"})
    paths = [f"/{urlsplit(url).hostname}{ECHO}" for url in (ALICE, BOB)]
    for path in paths:
        assert run_python(hub_host, API_CALL, "POST", path, target) == "201"
    wait_for("the echo server", lambda: ask(f"bob.{NAME}", ECHO).status == 200)
    yield
    for path in paths:
        run_python(hub_host, API_CALL, "DELETE", path, "")
    proxy_host.check_output("systemctl stop subdomain-test-echo.service")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            "/hub/login",
            marks=pytest.mark.attack(
                "the hub's pages and API at a person's host",
                outcome="Redirected to the hub's host at the edge, whatever the spelling.",
            ),
        ),
        "/hub",
        "/hub/",
        "/hub/home?x=1",
        "/hub/api/users",
        "/hub/metrics",
        "/hub/static/js/home.js",
        "/hub/user/alice/",
        "//hub/login",
        "/%68ub/login",
        "/user/alice/../../hub/login",
        "/user/alice/..%2f..%2fhub/login",
        r"/hub\login",
        r"/.\hub/login",
        r"/\x/hub/login",
        "/a%2fb%2fc/../hub/login",
        "/a%2fb%2fc/%2e%2e/hub/login",
    ],
)
def test_the_hubs_pages_are_only_at_the_hubs_host(path: str) -> None:
    for method in ("GET", "POST"):
        answer = ask(f"alice.{NAME}:{PORT}", path, method, Authorization="token x")
        if answer.status == 400:
            continue  # nginx refuses a path that the hub would read differently
        assert answer.status == 302, path
        assert answer.header("Location") == f"{HUB}{path}"
        assert answer.header("Set-Cookie") is None
    # At the hub's own host name, the API stays closed.
    assert ask(f"{NAME}:{PORT}", "/hub/api/users", Authorization="token x").status == 403


@pytest.mark.attack(
    "another person's session at one's own host",
    outcome="Redirected to the hub, which checks who the user is.",
)
def test_addresses_outside_a_persons_session_lead_to_the_hub() -> None:
    for at, path, goal in (
        ("alice", "/", "/hub/"),
        ("nobody", "/", "/hub/"),
        ("bob", "/user/alice/lab?x=1", "/hub/user/alice/lab?x=1"),
    ):
        answer = ask(f"{at}.{NAME}:{PORT}", path)
        assert (answer.status, answer.header("Location")) == (302, f"{HUB}{goal}")
        assert answer.header("Set-Cookie") is None


@pytest.mark.usefixtures("echoes")
@pytest.mark.attack(
    "a host name that is not the site's",
    outcome="421, also at port 80, if the site has set its name (jupyterhub_public_url).",
)
def test_other_hosts_are_refused(proxy_host: Any) -> None:
    for foreign in ("evil.example.org", "127.0.0.1", f"{NAME}.evil.example.org", f"evil{NAME}"):
        for path in ("/hub/login", "/user/alice/", ECHO):
            answer = ask(foreign, path)
            assert answer.status == 421, foreign
            assert f"Its address is {HUB}" in answer.text
            assert "default-src 'none'" in (answer.header("Content-Security-Policy") or "")
    http10 = talk(BASE_URL, b"GET /hub/login HTTP/1.0\r\n\r\n")
    assert statuses(http10) == [421]
    # nginx uses the host name in the request line and does not pass on the header Host.
    line = f"GET https://alice.{NAME}{ECHO} HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
    for header in ("evil.example.org", f"alice.{NAME}:1", f"ALICE.{NAME}"):
        answer = talk(BASE_URL, (line % header).encode())
        assert statuses(answer) == [200], header
        headers = dict(json.loads(answer.partition(b"\r\n\r\n")[2])["headers"])
        assert headers["host"] == headers["x-forwarded-host"] == f"alice.{NAME}:{PORT}"
    strange = ask(f"alice.{NAME}:1", ECHO)
    assert ["host", f"alice.{NAME}:{PORT}"] in json.loads(strange.text)["headers"]
    plain = (
        "import http.client, sys\n"
        "for host in sys.argv[1:]:\n"
        "    link = http.client.HTTPConnection('127.0.0.1', 80, timeout=5)\n"
        "    link.request('GET', '/hub/login', headers={'Host': host})\n"
        "    answer = link.getresponse()\n"
        "    print(answer.status, answer.getheader('Location'))"
    )
    answers = run_python(proxy_host, plain, "evil.example.org", NAME, f"alice.{NAME}").splitlines()
    assert answers == ["421 None", f"301 {HUB}/hub/login", f"301 {ALICE}/hub/login"]


#: A program for the proxy's host. It requests pages of a host name with a token. For each page, it
#: prints the status, and whether the answer refuses programs.
ASK_WITH_TOKEN = """
import http.client, ssl, sys
host, token, *paths = sys.argv[1:]
for path in paths:
    link = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context())
    link.request("GET", path, headers={"Host": host, "Authorization": f"token {token}"})
    answer = link.getresponse()
    print(answer.status, "not open to programs" in answer.read().decode())
"""


@pytest.mark.attack(
    "a token from a network to which the site has opened the API (proxy_hub_api_networks)",
    outcome="Valid from there; 403 from elsewhere.",
)
def test_the_api_is_open_only_to_the_networks_of_the_site(alice: Person, proxy_host: Any) -> None:
    made = alice.rest("POST", "/users/alice/tokens", {"note": "test", "expires_in": 300})
    token = made.json()["token"]
    paths = ("/hub/api/user", "/hub/metrics")
    answers = run_python(proxy_host, ASK_WITH_TOKEN, NAME, token, *paths).splitlines()
    # The hub, not the proxy, refuses the metrics: alice's token has no right to read them.
    assert answers == ["200 False", "403 False"]
    for path in paths:
        assert ask(NAME, path, Authorization=f"token {token}").status == 403
        assert "not open to programs" in ask(NAME, path, Authorization=f"token {token}").text


@pytest.fixture(scope="module")
def page(names: None) -> Iterator[Page]:
    with sync_playwright() as playwright:
        rules = f"--host-resolver-rules=MAP *.{NAME} 127.0.0.1, MAP {NAME} 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rules])
        context = browser.new_context(base_url=HUB, ignore_https_errors=True, locale="en-GB")
        context.set_default_timeout(30_000)
        yield context.new_page()
        browser.close()


#: A script in a session that tries to read the hub's pages and to set the hub's cookie.
TRY = """async ([hub, login]) => {
  document.cookie = `${login}=forged; domain=${new URL(hub).hostname}; path=/; secure`;
  document.cookie = `${login}=forged; path=/; secure`;
  const tried = {};
  for (const path of ["/hub/home", "/hub/api/user"]) {
    try {
      tried[path] = (await fetch(hub + path, { credentials: "include" })).status;
    } catch (error) {
      tried[path] = error.name;
    }
  }
  return tried;
}"""


@pytest.mark.usefixtures("alice", "echoes")
@pytest.mark.attack(
    "a session that collects cookies of the hub or of other people's sessions",
    outcome="It gets none: a browser sends a cookie only to the host that has set it.",
)
@pytest.mark.attack(
    "a script in a session, against the hub's pages and its cookie",
    outcome="The browser blocks it: another origin, and a cookie that only the hub's host can set.",
)
def test_a_browser_separates_a_session_from_the_hub(page: Page, hub_host: Any) -> None:
    # The form redirects to the session's host name, which the form's content policy must allow.
    hub_host.check_output("rm -f /home/alice/Untitled*.ipynb")
    log_in(page, "alice", read_passwords()["alice"])
    card(page).get_by_role("link", name=re.compile("^Start")).click()
    choose(page, cores=1, memory=1, run_time=1)
    page.wait_for_url(re.compile(re.escape(f"{ALICE}/user/alice/lab")), timeout=60_000)
    run_a_cell(page, f"{ALICE}/user/alice/lab", "print(6 * 7)", "42")

    # At alice's and at bob's host name, a server receives only the cookies below.
    for url, cookies in ((ALICE, {OWN, MARK}), (BOB, {MARK})):
        page.goto(f"{url}{ECHO}")
        headers = dict(json.loads(page.inner_text("body"))["headers"])
        assert {each.partition("=")[0] for each in headers["cookie"].split("; ")} == cookies
    page.goto(f"{ALICE}/user/alice/lab")
    assert page.evaluate(TRY, [HUB, LOGIN]) == {
        "/hub/home": "TypeError",
        "/hub/api/user": "TypeError",
    }
    kept = [cookie for cookie in page.context.cookies() if cookie["name"] == LOGIN]
    at_hub = [cookie for cookie in kept if cookie["domain"] == NAME]
    assert len(at_hub) == 1
    assert "forged" not in at_hub[0]["value"]
    # After a logout, the login form leads straight to the requested session.
    page.context.clear_cookies()
    page.goto(f"{ALICE}/user/alice/lab")
    page.wait_for_url(re.compile(re.escape(f"{HUB}/hub/login")))
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill(read_passwords()["alice"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(re.escape(f"{ALICE}/user/alice/lab")), timeout=60_000)
    page.goto("/hub/home")
    expect(card(page).get_by_role("link", name="Open")).to_have_attribute(
        "href", f"{ALICE}/user/alice/"
    )
    card(page).get_by_role("button", name="Stop").click()
    expect(card(page)).to_contain_text("Not running")


@pytest.mark.attack(
    "host names for people when the hub has no host name",
    outcome="Refused with the reason; nothing is changed.",
)
def test_host_names_for_people_need_a_host_name_of_the_hub() -> None:
    run = playbook(
        "site.yml", jupyterhub_user_subdomains=True, jupyterhub_public_url="https://192.0.2.1/"
    )
    assert run.returncode != 0
    assert "jupyterhub_public_url is 'https://192.0.2.1/'. Users' host names are made" in output(
        run
    )
    assert "changed=0" in run.stdout
