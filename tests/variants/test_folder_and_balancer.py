"""The hub below a folder of a host name, and behind a load balancer (a real haproxy)."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import BASE_URL, host, read_passwords
from host_names import NAME, PORT
from hub_client import HubClient, page_text, wait_for
from playbooks import output, playbook
from proxy_client import API_CALL, ECHO_PORT, ECHO_SERVER, Answer, run_python

FOLDER = "/jupyter"
HUB = f"https://{NAME}:{PORT}{FOLDER}"
#: The balancer runs on the proxy's host, and connects to nginx from this address.
BALANCER = "127.0.0.5"
ON = {"jupyterhub_public_url": f"{HUB}/", "proxy_trusted_networks": [BALANCER, "127.0.1.0/24"]}
ECHO = f"{FOLDER}/user/balancer-test-echo"

#: Ports of the balancer: with TLS to nginx, without TLS, and with PROXY protocol.
HTTPS, PLAIN, PROXY = 9443, 9444, 9445
PROXY_PROTOCOL_PORT = 8444
HAPROXY = f"""
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option forwardfor
listen https
    bind 127.0.0.1:{HTTPS} ssl crt /tmp/balancer-test.pem
    source {BALANCER}
    http-request set-header X-Forwarded-Proto https
    option httpchk
    http-check send meth GET uri {FOLDER}/hub/health ver HTTP/1.1 hdr Host 192.0.2.1
    server nginx 127.0.0.1:443 ssl verify none check inter 500ms
listen plain
    bind 127.0.0.1:{PLAIN} ssl crt /tmp/balancer-test.pem
    source {BALANCER}
    http-request set-header X-Forwarded-Proto https
    server nginx 127.0.0.1:80
listen proxy
    mode tcp
    bind 127.0.0.1:{PROXY}
    source {BALANCER}
    server nginx 127.0.0.1:{PROXY_PROTOCOL_PORT} send-proxy-v2
"""

#: A program for the proxy's host: requests from one address each. For each, it prints the status
#: and the body. The arguments are PORT HOST, and a list of [SOURCE, METHOD, PATH, HEADERS].
ASK = """
import http.client, json, ssl, sys
port, host, wanted = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
context = ssl._create_unverified_context()
answers = []
for source, method, path, headers in wanted:
    link = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=20, context=context, source_address=(source, 0)
    )
    body = b"username=nobody&password=wrong" if method == "POST" else None
    link.request(method, path, body, {"Host": host} | headers)
    answer = link.getresponse()
    answers.append([answer.status, answer.read().decode()])
    link.close()
print(json.dumps(answers))
"""

Wanted = tuple[str, str, str, dict[str, str]]


def ask(port: int, *wanted: Wanted) -> list[tuple[int, str]]:
    text = run_python(host("proxy"), ASK, str(port), f"{NAME}:{PORT}", json.dumps(wanted))
    return [(status, body) for status, body in json.loads(text)]


def seen_from(port: int, source: str, **headers: str) -> str:
    """Return the client's address that a session sees."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    ((status, body),) = ask(port, (source, "GET", ECHO, named))
    assert status == 200, body
    seen = dict(json.loads(body)["headers"])
    assert seen["x-forwarded-proto"] == "https"
    assert seen["host"] == f"{NAME}:{PORT}"
    assert seen["x-real-ip"] == seen["x-forwarded-for"]
    return str(seen["x-real-ip"])


def deploy(*arguments: str, **variables: object) -> None:
    run = playbook("site.yml", "--limit", "hub,proxy,localhost", *arguments, **variables)
    assert run.returncode == 0, output(run)[-3000:]


def person(name: str, base_url: str = HUB) -> HubClient:
    client = HubClient(base_url, name)
    client.log_in(read_passwords()[name])
    return client


def fetch(path: str, **headers: str) -> Answer:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=20, context=context)
    try:
        link.request("GET", path, headers={"Host": f"{NAME}:{PORT}"} | headers)
        return Answer(link.getresponse())
    finally:
        link.close()


@pytest.fixture(scope="module", autouse=True)
def moved(names: None) -> Iterator[str]:
    """Move the service below a folder; it refuses while a session is running (the message)."""
    alice = person("alice", BASE_URL)
    alice.stop()
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    refused = playbook("site.yml", "--limit", "hub,proxy,localhost", **ON)
    assert refused.returncode != 0
    alice.open_lab()  # still at its address
    alice.stop()
    try:
        deploy(**ON)
        yield output(refused)
        person("alice").stop()
    finally:
        deploy()


@pytest.mark.attack(
    "a deployment that moves the hub below a folder while people have sessions",
    outcome="Refused, with their names; the sessions go on.",
)
def test_a_running_session_keeps_the_service_where_it_is(moved: str) -> None:
    assert "moves the service from the folder '/' to '/jupyter/'" in moved
    assert "(alice)" in moved


@pytest.mark.attack(
    "a person at work, below a folder",
    outcome="Pages, sessions and cookies stay below it, also after restarts of hub and proxy.",
)
def test_people_work_below_the_folder(hub_host: Any, proxy_host: Any) -> None:
    alice = person("alice")
    page = alice.get("/hub/home")
    assert page.url == f"{HUB}/hub/home"
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    assert f'href="{FOLDER}/user/alice/"' in alice.get("/hub/home").text
    lab = alice.open_lab()
    assert lab.url.startswith(f"{HUB}/user/alice/lab")
    kernel = alice.start_kernel()
    assert alice.run(kernel, "x = 6 * 7; print(x)").strip() == "42"
    assert {cookie.path.startswith(f"{FOLDER}/") for cookie in alice.http.cookies} == {True}
    # The hub knows the session by its address after a restart, and so does the maintenance.
    proxy_host.check_output("systemctl restart jupyterhub-proxy.service")
    hub_host.check_output("systemctl restart jupyterhub.service")
    path = f"/user/alice/api/kernels/{kernel}"
    wait_for("the route is back", lambda: alice.get(path, allow_redirects=False).status_code == 200)
    assert alice.run(kernel, "print(x)").strip() == "42"
    wait_for("the hub is back", lambda: alice.get("/hub/home").status_code == 200)
    alice.stop()
    gone = alice.get("/user/alice/lab")
    assert gone.url.startswith(f"{HUB}/hub/user/alice/lab")
    assert "is not running" in page_text(gone) or "Nothing is running here." in page_text(gone)


@pytest.mark.attack(
    "the host name without the folder",
    outcome="Redirected to the folder.",
)
@pytest.mark.parametrize("path", ["/", FOLDER, f"{FOLDER}?x=1", f"{FOLDER}/", f"{FOLDER}/hub"])
def test_the_ways_to_the_folder_lead_to_the_hub(path: str) -> None:
    alice = person("alice")
    page = alice.http.get(f"https://{NAME}:{PORT}{path}", timeout=20)
    assert page.status_code == 200
    assert page.url.startswith(f"{HUB}/hub/")


@pytest.mark.attack(
    "the hub's paths outside the folder",
    outcome="404 at the edge.",
)
@pytest.mark.parametrize(
    "path", ["/hub/login", "/user/alice/lab", "/services/x", "/jupyters", "/x/jupyter/hub/login"]
)
def test_other_paths_of_the_host_are_not_the_hubs(path: str) -> None:
    answer = fetch(path)
    assert answer.status == 404
    assert "<h1>Page not found</h1>" in answer.text
    assert answer.header("Set-Cookie") is None


@pytest.mark.attack(
    "the hub's API and metrics from outside, below a folder", outcome="403, as without a folder."
)
@pytest.mark.parametrize(
    "path", ["/hub/api/info", "/hub/metrics", "/hub//api/info", "/hub/x/..%2fapi/info"]
)
def test_the_api_is_closed_below_the_folder(path: str) -> None:
    assert fetch(FOLDER + path, Authorization="token x").status in (400, 403)


@pytest.mark.attack(
    "the maintenance's checks, below a folder",
    outcome="They find hub and login page.",
)
def test_the_maintenance_finds_the_service_below_the_folder(hub_host: Any) -> None:
    settings = json.loads(hub_host.file("/etc/gridhub/maintenance.json").content_string)
    program = (
        "import sys; sys.path.insert(0, '/usr/local/lib/gridhub')\n"
        "from gridhub.maintenance import probes, settings\n"
        "values = settings.read_settings()\n"
        "print([probes.url_problem(values, url) for url in values.urls])"
    )
    assert len(settings["urls"]) == 2
    assert run_python(hub_host, program).strip() == "['', '']"


# -- the balancer ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def balancer(moved: str) -> Iterator[None]:
    """Run haproxy, and an echo server as a session, on the proxy's host."""
    proxy = host("proxy")
    install = (
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq &&"
        " apt-get install -y -qq --no-install-recommends haproxy >/dev/null 2>&1 &&"
        " systemctl disable --quiet --now haproxy"
    )
    proxy.check_output(f"command -v haproxy || {{ {install}; }}")
    proxy.check_output(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=balancer"
        " -keyout /tmp/balancer-test.key -out /tmp/balancer-test.crt 2>/dev/null;"
        " cat /tmp/balancer-test.crt /tmp/balancer-test.key > /tmp/balancer-test.pem"
    )
    proxy.check_output("echo %s > /tmp/balancer-test.cfg", HAPROXY)
    proxy.check_output(
        "systemd-run --quiet --collect --unit=balancer-test haproxy -f /tmp/balancer-test.cfg"
    )
    proxy.check_output(
        "systemd-run --quiet --collect --unit=balancer-test-echo python3 -c %s", ECHO_SERVER
    )
    target = json.dumps({"target": f"http://127.0.0.1:{ECHO_PORT}"})
    assert run_python(host("hub"), API_CALL, "POST", ECHO, target) == "201"
    wait_for("the balancer", lambda: ask(HTTPS, ("127.0.0.1", "GET", ECHO, {}))[0][0] == 200)
    yield
    run_python(host("hub"), API_CALL, "DELETE", ECHO, "")
    proxy.run("systemctl stop balancer-test balancer-test-echo; rm -f /tmp/balancer-test.*")


@pytest.mark.usefixtures("balancer")
@pytest.mark.attack(
    "a forged X-Forwarded-For, with a load balancer in front",
    outcome="Only the balancer's own entry counts; from anywhere else, the header has no effect.",
)
def test_the_address_is_the_persons() -> None:
    assert seen_from(HTTPS, "127.0.0.21") == "127.0.0.21"
    assert seen_from(HTTPS, "127.0.0.21", X_Forwarded_For="203.0.113.9") == "127.0.0.21"
    # Past the balancer.
    assert seen_from(443, "127.0.0.21", X_Forwarded_For="203.0.113.9") == "127.0.0.21"
    # Further hops, which the site trusts, and IPv6.
    for header, address in (
        ("203.0.113.9, 127.0.1.7", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 127.0.1.7, 127.0.1.8", "203.0.113.9"),
        ("198.51.100.1, 2001:db8::9", "2001:db8::9"),
        ("203.0.113.9, not an address", BALANCER),
    ):
        assert seen_from(443, BALANCER, X_Forwarded_For=header) == address


@pytest.mark.attack(
    "130 people log in at once through a load balancer, and then one floods it",
    outcome="The 130 are let in; only the one gets 429. The logs have their addresses.",
)
@pytest.mark.usefixtures("balancer")
def test_limits_and_logs_are_about_people(hub_host: Any, proxy_host: Any) -> None:
    """130 people log in at once through the balancer; before, 28 of them got 429."""
    login = f"{FOLDER}/hub/login"
    answers = ask(HTTPS, *((f"127.0.2.{n}", "POST", login, {}) for n in range(1, 131)))
    assert 429 not in {status for status, _ in answers}
    flood = ask(HTTPS, *(("127.0.3.1", "POST", login, {}) for _ in range(130)))
    assert flood[-1][0] == 429
    assert ask(HTTPS, ("127.0.3.2", "POST", login, {}))[0][0] != 429
    assert "127.0.2.130 - " in proxy_host.file("/var/log/nginx/access.log").content_string
    assert "127.0.2.130" in hub_host.check_output("journalctl -u jupyterhub --since -10min -o cat")


@pytest.mark.attack(
    "a load balancer's own checks, hundreds in a row",
    outcome="Not limited; 503 while the hub is down.",
)
@pytest.mark.usefixtures("balancer")
def test_the_balancers_own_checks_are_not_limited(hub_host: Any) -> None:
    check = f"{FOLDER}/hub/health"
    statuses = {s for s, _ in ask(443, *((BALANCER, "GET", check, {"Host": "x"}),) * 1500)}
    assert statuses == {200}
    hub_host.check_output("systemctl stop jupyterhub.service")
    try:
        wait_for("503", lambda: ask(443, (BALANCER, "GET", check, {}))[0][0] == 503)
        # haproxy has noticed it too, and sends an error of its own.
        wait_for(
            "haproxy",
            lambda: (
                "<h1>503 Service Unavailable</h1>"
                in ask(HTTPS, ("127.0.0.21", "GET", check, {}))[0][1]
            ),
        )
    finally:
        hub_host.check_output("systemctl start jupyterhub.service")
    wait_for("the check", lambda: ask(HTTPS, ("127.0.0.1", "GET", check, {}))[0][0] == 200)


@pytest.mark.attack(
    "a load balancer that does not encrypt",
    outcome="502 with a page that says what to change; no password gets to the hub.",
)
@pytest.mark.usefixtures("balancer")
def test_a_balancer_without_tls_is_told_so() -> None:
    ((status, page),) = ask(PLAIN, ("127.0.0.21", "GET", f"{FOLDER}/hub/login", {}))
    assert status == 502
    assert "It must use https, at port 443" in page


@pytest.mark.attack(
    "forged addresses, with PROXY protocol",
    outcome="X-Forwarded-For has no effect.",
)
@pytest.mark.usefixtures("balancer")
def test_proxy_protocol() -> None:
    """The last test of the balancer: it deploys the other way of stating addresses."""
    deploy("--tags", "proxy", **ON, proxy_protocol_port=PROXY_PROTOCOL_PORT)
    assert seen_from(PROXY, "127.0.0.21") == "127.0.0.21"
    assert seen_from(PROXY, "127.0.0.21", X_Forwarded_For="203.0.113.9") == "127.0.0.21"
    assert seen_from(443, BALANCER, X_Forwarded_For="203.0.113.9") == BALANCER
