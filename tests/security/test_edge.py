"""Attacks on nginx from the internet."""

from __future__ import annotations

import json
import random
import re
import shlex
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket

from cluster import AS_HUB, LogIn
from proxy_client import BOTH_PROTOCOLS, ECHO, Answer, flood, run_python
from raw_http import statuses, talk, tls_link

Fetch = Callable[..., Answer]


@pytest.mark.attack(
    "the hub's API with a stolen token, from outside",
    outcome="403 at the edge, unless the site opens it to a network (proxy_hub_api_networks).",
)
def test_a_token_is_useless_from_outside(login: LogIn, fetch: Fetch, hub_host: Any) -> None:
    alice = login("alice")
    made = alice.rest("POST", "/users/alice/tokens", {"note": "test", "expires_in": 300})
    assert made.status_code == 201
    header = f"token {made.json()['token']}"
    for path in (
        "/hub/api/user",
        "/hub/api/users/alice",
        "/hub/api/users/alice/tokens",
        "/hub/api/users/alice/server/progress",
        "/hub/api/users/alice/servers/x/progress",
    ):
        for answer in (
            fetch(path, Authorization=header),
            fetch(f"{path}?token={made.json()['token']}"),
        ):
            assert answer.status == 403, path
            assert "not open to programs" in answer.text
            assert "frame-ancestors 'none'" in (answer.header("Content-Security-Policy") or ""), (
                path
            )
    # The refusal comes from nginx: inside the cluster, the hub accepts this token.
    ask = (
        AS_HUB + "request = urllib.request.Request('https://127.0.0.1:8081/hub/api/user', "
        "headers={'Authorization': sys.argv[1]})\n"
        "print(urllib.request.urlopen(request, context=context).status)"
    )
    assert hub_host.check_output("python3 -c %s %s", ask, header) == "200"
    # The pages' own scripts still work.
    assert alice.rest("GET", "/users/alice").status_code == 200
    progress = alice.get("/hub/api/users/alice/server/progress")
    assert progress.headers["Content-Type"].startswith("text/event-stream")
    assert "No session is starting" in progress.text


@BOTH_PROTOCOLS
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            "/hub/metrics",
            marks=pytest.mark.attack("the hub's metrics, from outside", outcome="403 at the edge."),
        ),
        pytest.param(
            "/hub/api/",
            marks=pytest.mark.attack(
                "addresses of the API that no page needs",
                outcome="403 at the edge, whatever the spelling.",
            ),
        ),
        "/hub/api",
        "/hub/api/info",
        "/hub/api/proxy",
        "/hub/api/services",
        "/hub/api/oauth2/token",
        "/hub/api/sge/port",
        "/hub/api/users/alice/activity",
        "/hub//api/info",
        "/hub/%61pi/info",
        "/hub/./api/info",
        "/hub/x/../api/info",
        "/hub/x/..%2fapi/info",
        "/hub/api/users/x%2f..%2f..%2finfo",
        "/hub/api/users/x/..%2f..%2f..%2fmetrics",
        "//hub/api/info",
        "/hub/login/../metrics",
        "/hub/metrics/",
        "/hub/metrics?x=1",
        # configurable-http-proxy treats a backslash as a slash, but does not treat %2f as a slash.
        r"/hub\login",
        r"/hub\metrics",
        r"/hub\api\info",
        r"/.\hub/metrics",
        r"/\x/hub/metrics",
        "/a%2fb%2fc/../hub/metrics",
        "/a%2fb%2fc/%2E%2e/hub/api/info",
        "/a%2fb%2fc/.%2e/hub/login",
    ],
)
def test_internal_addresses_are_refused_at_the_edge(fetch: Fetch, path: str) -> None:
    for method in ("GET", "POST"):
        answer = fetch(path, method)
        assert answer.status in (400, 403), path
        # The proxy's own pages load nothing: the hub has not seen the request.
        assert "script-src" not in str(answer.header("Content-Security-Policy"))
        assert "proxy of this service" in answer.text or "not open to programs" in answer.text


@pytest.mark.attack(
    "a page that frames, scripts or sniffs the hub's pages",
    outcome="A policy without foreign or inline scripts, no frames; HSTS, nosniff, no referrer.",
)
def test_pages_have_the_security_headers(login: LogIn) -> None:
    alice = login("alice")
    for path in ("/hub/login", "/hub/home", "/hub/spawn", "/hub/nothing-here", "/hub/token"):
        answer = alice.get(path, allow_redirects=False)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.count("default-src 'none'") == 1, path
        assert "report-uri" not in policy, "JupyterHub's own policy, besides ours"
        for rule in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            assert rule in policy, path
        script = re.search(r"script-src ([^;]*)", policy)
        assert script and ("'unsafe-inline'" in script[1]) == (path == "/hub/token")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "max-age=" in answer.headers["Strict-Transport-Security"]
    # A session has its own content policy, but its other security headers are those of the hub.
    session = alice.get("/user/alice/lab", allow_redirects=False)
    assert session.headers["X-Content-Type-Options"] == "nosniff"
    assert "max-age=" in session.headers["Strict-Transport-Security"]


#: A configuration for the real nginx. Only its map is from our own configuration. Unlike our
#: configuration, it believes any address that a client claims to have.
LIMITS = """
user www-data;
pid /tmp/limits-test.pid;
error_log /dev/null;
events {}
http {
    access_log off;
    %s
    server {
        listen 127.0.0.1:8099;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Address;
        return 200 $limited_from;
    }
}
"""


#: A program whose arguments are client addresses. It prints nginx's answer for each address.
ASK_FROM = """
import sys, urllib.request
for address in sys.argv[1:]:
    request = urllib.request.Request("http://127.0.0.1:8099/", headers={"X-Address": address})
    print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


@pytest.mark.attack(
    "a flood of logins or starts from many addresses of one IPv6 network",
    outcome="Counted as one address: limits apply to a /64.",
)
def test_limits_apply_to_an_ipv6_network(proxy_host: Any) -> None:
    configuration = proxy_host.file("/etc/nginx/nginx.conf").content_string
    limited = re.search(
        r"map \$counted_address \$limited_from \{.*?\n    \}\n", configuration, re.DOTALL
    )
    assert limited
    # Only the check of a load balancer has no address that is counted.
    by_address = limited[0].replace("$counted_address", "$remote_addr")
    assert configuration.count(" $limited_from;") == 6
    assert "$binary_remote_addr" not in configuration

    dice = random.Random(1)
    groups = [0, 0, 0, 1, 0x2001, 0xFFFF]
    networks = [(0x2001, 0xDB8, 1, 2), (0x2001, 0xDB8, 0, 0), (0x2001, 0, 0, 3), (0x2001, 0, 0, 0)]
    networks += [(0x2001, *dice.choices(groups, k=3)) for _ in range(10)]
    addresses = {"192.0.2.1": "a", "192.0.2.2": "b", "::ffff:192.0.2.1": "c"} | {
        ":".join(f"{group:x}" for group in (*network, *dice.choices(groups, k=4))): network
        for network in networks
        for _ in range(20)
    }
    file = "/tmp/limits-test.conf"
    proxy_host.check_output("printf %s %s > %s", "%s", LIMITS % by_address, file)
    proxy_host.check_output("nginx -c %s", file)
    try:
        keys = run_python(proxy_host, ASK_FROM, *addresses).splitlines()
    finally:
        proxy_host.check_output("nginx -c %s -s stop && rm %s", file, file)
    seen: dict[object, set[str]] = {}
    for network, key in zip(addresses.values(), keys, strict=True):
        seen.setdefault(network, set()).add(key)
    # One network may have up to three keys, but two networks never share a key.
    assert all(len(found) <= 3 for found in seen.values()), seen
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())), seen
    assert seen["a"] == {"192.0.2.1"}


@pytest.mark.attack(
    "a flood of starts", outcome="429 and a page that says to wait; other users are not delayed."
)
def test_a_flood_of_starts_is_stopped(proxy_host: Any) -> None:
    for source, path, words in (
        ("127.0.0.12", "/hub/spawn", "<h1>Too many requests</h1>"),
        ("127.0.0.13", "/hub/api/users/a/server", '"message": "There were more requests'),
    ):
        answers = flood(proxy_host, source, "POST", path, 400)
        status, retry_after, page = answers[-1]
        assert status == 429, f"{len(answers)} starts from one address in a row"
        assert len(answers) > 60, "a class of 60 behind one address could not start"
        assert int(retry_after or 0) > 0
        assert words in page
    assert flood(proxy_host, "127.0.0.14", "POST", "/hub/spawn", 1)[0][0] != 429


@pytest.mark.attack(
    "an oversized body or header",
    outcome="413 or 400 at the edge; for the hub, above 256 kB. For a session that does not run, "
    "the hub takes 64 kB.",
)
def test_bodies_and_headers_have_limits(fetch: Fetch, base_url: str) -> None:
    for path in ("/hub/login", "/nobodys"):
        assert fetch(path, "POST", bytes(300_000)).status == 413
    # The hub sends one of these statuses, or it hangs up and then CHP or nginx sends the status.
    assert fetch("/user/nobody/x", "POST", bytes(2 * 2**20)).status in (502, 503)
    host = urlsplit(base_url).netloc.encode()
    upload = b"POST /user/alice/api/contents HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n"
    assert statuses(talk(base_url, upload % (host, 513 * 2**20))) == [413]
    long = b"GET /hub/login HTTP/1.1\r\nHost: " + host + b"\r\nX-Long: " + b"a" * 20_000
    assert statuses(talk(base_url, long + b"\r\n\r\n")) == [400]
    many = b"".join(b"X-%d: %s\r\n" % (n, b"b" * 4000) for n in range(40))
    head = b"GET /hub/login HTTP/1.1\r\nHost: " + host + b"\r\n" + many
    assert statuses(talk(base_url, head + b"\r\n")) == [400]


@pytest.mark.attack("a head that never ends", outcome="The connection is closed after 15 s.")
def test_a_head_that_never_ends_is_cut_off(base_url: str) -> None:
    began = time.monotonic()
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3) as link:
        link.settimeout(60)
        link.sendall(b"GET /hub/login HTTP/1.1\r\nX-Slow: ")
        assert link.recv(65536) == b"", "an answer to half a request"
    assert time.monotonic() - began < 45


SMUGGLED = f"GET {ECHO}/smuggled HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.usefixtures("routes")
@pytest.mark.attack(
    "two requests in one (smuggling)",
    outcome="Refused; a request that nginx passes on is one request for the hub too.",
)
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(SMUGGLED),
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED),
        b"Content-Length: +0\r\n",
        b"Content-Length: 0,%d\r\n" % len(SMUGGLED),
        b"Content-Length: 0\r\n Folded: x\r\n",
        b"X: \x00\r\n",
    ],
)
def test_requests_cannot_be_smuggled(base_url: str, head: bytes) -> None:
    """A second answer would mean that a server took part of a body for a second request."""
    host = urlsplit(base_url).netloc.encode()
    first = b"POST " + ECHO.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + head + b"\r\n"
    codes = statuses(talk(base_url, first + b"0\r\n\r\n" + SMUGGLED, 10))
    assert codes[:1] in ([400], [411], [501]), codes
    assert len(codes) == 1, "the connection stayed open though its framing is in doubt"


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
@pytest.mark.attack(
    "forged X-Forwarded headers",
    outcome="Replaced with nginx's own values; names with underscores are dropped.",
)
def test_forged_headers_do_not_pass(fetch: Fetch) -> None:
    forged = {
        "X_Forwarded_For": "192.0.2.66, 192.0.2.67",
        "X_Real_IP": "192.0.2.66",
        "X_Forwarded_Proto": "http",
    }
    seen = json.loads(fetch(ECHO, **forged).text)["headers"]
    assert "192.0.2.6" not in json.dumps(seen)
    assert [value for name, value in seen if name == "x-forwarded-proto"] == ["https"]


@pytest.mark.attack(
    "a foreign page that opens a websocket to a session",
    outcome="403, even with the person's cookies.",
)
def test_websockets_of_other_origins_are_refused(login: LogIn) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    kernel = alice.start_kernel()
    assert alice.run(kernel, "print(1)").strip() == "1"
    target = urlsplit(alice.url(f"{alice.prefix}/api/kernels/{kernel}/channels"))
    cookies = "; ".join(
        f"{cookie.name}={cookie.value}"
        for cookie in alice.http.cookies
        if f"{alice.prefix}/".startswith(cookie.path)
    )
    origins = ("https://evil.example.org", "null", f"http://{target.netloc}.evil.example.org")
    for origin in origins:
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(
                f"wss://{target.netloc}{target.path}",
                sslopt={"ca_certs": alice.certificate},
                cookie=cookies,
                origin=origin,
                timeout=20,
            )
        assert refused.value.status_code == 403, origin


@pytest.mark.attack("plain HTTP", outcome="Redirected to HTTPS; nothing else is served.")
def test_plain_http_only_redirects(proxy_host: Any) -> None:
    code = (
        "import http.client\n"
        "for method, path in (('GET', '/hub/login'), ('POST', '/hub/x'), ('GET', '/user/x/')):\n"
        "    link = http.client.HTTPConnection('127.0.0.1', 80, timeout=5)\n"
        "    link.request(method, path, body=b'x' if method == 'POST' else None)\n"
        "    answer = link.getresponse()\n"
        "    print(answer.status, answer.getheader('Set-Cookie'))"
    )
    assert set(proxy_host.check_output("python3 -c %s", code).splitlines()) == {"301 None"}


@pytest.mark.attack(
    "the services behind nginx",
    outcome="CHP's socket is for nginx only; its API needs a certificate of the hub and the token.",
)
def test_the_services_behind_nginx_are_closed(proxy_host: Any) -> None:
    knock = (
        "import socket\n"
        "try: socket.socket(socket.AF_UNIX).connect('/run/jupyterhub-proxy/chp.sock')\n"
        "except PermissionError: print('kept out')"
    )
    assert proxy_host.check_output("runuser -u bob -- python3 -c %s", knock) == "kept out"
    api = (
        "import ssl, urllib.request as u, urllib.error as e\n"
        "anybody = ssl._create_unverified_context()\n"
        "try: u.urlopen('https://127.0.0.1:8001/api/routes', timeout=5, context=anybody)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "except OSError as error: print('no certificate, no answer')"
    )
    assert proxy_host.check_output("python3 -c %s", api) == "no certificate, no answer"


@pytest.mark.attack(
    "the certificate's key, from a compromised nginx or another account of its host",
    outcome="nginx is not root; its only right is ports below 1024. It reads a copy that no other"
    " account can read, and cannot replace it.",
)
def test_nginx_is_not_root_and_only_it_can_read_the_key(proxy_host: Any) -> None:
    pids = proxy_host.check_output("pgrep --full '^nginx: '").split()
    assert len(pids) >= 2, "a master and its workers"
    for pid in pids:
        lines = proxy_host.file(f"/proc/{pid}/status").content_string.splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert proxy_host.check_output("ps -o user:32= -p %s", pid) == "www-data"
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 1 << 10, "CAP_NET_BIND_SERVICE"
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")

    named = proxy_host.check_output(
        "awk '$1 == \"ssl_certificate_key\" {print $2}' /etc/nginx/nginx.conf"
    )
    copy = shlex.quote(named.rstrip(";"))
    assert proxy_host.run(f"runuser -u www-data -- cat {copy} >/dev/null").rc == 0
    # Other users are refused, even a user in nginx's group.
    for other in ("-u jupyterhub-proxy --", "-u nobody --", "-u nobody -g www-data --"):
        for path in (copy, "/run/nginx/nginx.pid", "/etc/jupyterhub-proxy/self-signed.key"):
            refused = proxy_host.run(f"runuser {other} cat {path} >/dev/null")
            assert "Permission denied" in refused.stderr, (other, path)
    for attempt in (f"rm -f {copy}", f"mv {copy} {copy}.old", f"ln -sf /etc/passwd {copy}"):
        refused = proxy_host.run(f"runuser -u www-data -- {attempt}")
        assert "Permission denied" in refused.stderr, attempt


@pytest.mark.attack("two honest requests on one connection", outcome="Two answers.")
def test_the_smuggling_tests_would_see_two_answers(base_url: str) -> None:
    """Control: unless two answers can be seen, the smuggling tests prove nothing."""
    host = urlsplit(base_url).netloc
    one = f"GET /hub/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert statuses(talk(base_url, one + one)) == [200, 200]
