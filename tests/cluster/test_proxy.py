"""nginx and configurable-http-proxy on the proxy's host.

Requests pass through both programs to an echo server. Its answers show what the hub would receive.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub_client import wait_for
from proxy_client import (
    API_CALL,
    BOTH_PROTOCOLS,
    ECHO,
    NO_SERVER,
    UNIT,
    Answer,
    flood,
    main_pid,
    run_python,
)
from raw_http import tls_link

TOKEN_FILE = "/etc/jupyterhub-proxy/token.env"
CERTIFICATE = "/etc/jupyterhub-proxy/self-signed.crt"
KEY = "/etc/jupyterhub-proxy/self-signed.key"

# A program that runs in place of the proxy, with the settings of the proxy's unit.
PROBE = """
import ctypes, json, os, socket

def outcome(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return "done"

def trace_me():
    # Any user may do this, but it is not in @system-service.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

print(json.dumps(dict(
    write_etc=outcome(lambda: open("/etc/proxy-probe", "w")),
    write_opt=outcome(lambda: open("/opt/jupyterhub-proxy/proxy-probe", "w")),
    read_token=outcome(lambda: open("/etc/jupyterhub-proxy/token.env")),
    token_in_environment="CONFIGPROXY_AUTH_TOKEN" in os.environ,
    home=outcome(lambda: os.listdir("/home")),
    tmp=os.listdir("/tmp"),
    devices=os.listdir("/dev"),
    netlink=outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    ptrace=outcome(trace_me),
    processes=sorted(name for name in os.listdir("/proc") if name.isdigit()),
)))
"""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_versions_work(base_url: str, version: ssl.TLSVersion) -> None:
    with tls_link(base_url, version) as link:
        assert link.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_server_refuses_old_tls_versions(base_url: str, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError) as refused, tls_link(base_url, version):
        pass
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_browsers_can_choose_http2(base_url: str, protocol: str) -> None:
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3, protocol) as link:
        assert link.selected_alpn_protocol() == protocol


def test_no_session_tickets_are_given(base_url: str) -> None:
    with tls_link(base_url, ssl.TLSVersion.TLSv1_2) as link:
        assert link.session is not None
        assert not link.session.has_ticket


def test_certificate_is_valid_for_the_names_people_use(base_url: str) -> None:
    address = urlsplit(base_url)
    context = ssl.create_default_context(cadata=served_certificate(base_url))
    for name in ("proxy", "localhost", "127.0.0.1"):
        with (
            socket.create_connection((address.hostname, address.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as link,
        ):
            assert link.getpeercert()


def test_plain_http_redirects_to_https(proxy_host: Any) -> None:
    answer = run_python(
        proxy_host,
        "import http.client\n"
        "link = http.client.HTTPConnection('127.0.0.1', 80, timeout=5)\n"
        "link.request('GET', '/hub/login?next=x', headers={'Host': 'hub.example.org'})\n"
        "answer = link.getresponse()\n"
        "print(answer.status, answer.getheader('Location'))",
    )
    assert answer == "301 https://hub.example.org/hub/login?next=x"


def test_answers_have_hsts(fetch: Callable[..., Answer]) -> None:
    value = fetch("/hub/login").header("Strict-Transport-Security") or ""
    assert int(re.fullmatch(r"max-age=(\d+)", value).group(1)) >= 31_536_000  # type: ignore[union-attr]


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize("path", [ECHO, "/hub/health", NO_SERVER])
def test_no_version_is_shown(fetch: Callable[..., Answer], path: str) -> None:
    answer = fetch(path)
    assert answer.header("Server") == "nginx"
    assert answer.header("X-JupyterHub-Version") is None
    assert not re.search(r"nginx/\d", answer.text)


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
def test_client_cannot_forge_its_address(fetch: Callable[..., Answer], base_url: str) -> None:
    forged = fetch(
        ECHO,
        X_Forwarded_For="192.0.2.66",
        X_Forwarded_Proto="http",
        X_Forwarded_Host="evil.example.org",
        X_Forwarded_Port="66",
        X_Real_IP="192.0.2.66",
        X_Scheme="http",
        Forwarded="for=192.0.2.66",
    )
    seen: list[tuple[str, str]] = [
        (name, value) for name, value in json.loads(forged.text)["headers"]
    ]
    values = dict(seen)
    assert len(values) == len(seen), "a header arrived twice"
    assert values["host"] == values["x-forwarded-host"] == urlsplit(base_url).netloc
    assert values["x-forwarded-proto"] == values["x-scheme"] == "https"
    assert values["x-real-ip"] == values["x-forwarded-for"]
    assert "192.0.2.66" not in forged.text
    assert "x-forwarded-port" not in values
    assert "forwarded" not in values


@contextmanager
def open_websocket(base_url: str) -> Iterator[None]:
    """Keep a websocket open; check at the end that it still carries data both ways."""
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3) as link:
        host = urlsplit(base_url).netloc
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade"
        link.sendall(f"GET {ECHO} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += link.recv(4096) or pytest.fail(f"closed after {received!r}")
        assert received.startswith(b"HTTP/1.1 101 ")
        yield
        link.sendall(b"ping")
        while not received.endswith(b"\r\n\r\nping"):
            received += link.recv(4096) or pytest.fail(f"closed after {received!r}")


@pytest.mark.usefixtures("routes")
def test_websocket_passes(base_url: str) -> None:
    with open_websocket(base_url):
        pass


def served_certificate(base_url: str) -> str:
    address = urlsplit(base_url)
    assert address.hostname
    assert address.port
    return ssl.get_server_certificate((address.hostname, address.port))


@pytest.fixture
def own_certificate(proxy_host: Any) -> Iterator[None]:
    """Let the test change the files of the certificate and its key; restore them afterwards."""
    kept = "/root/proxy-test-certificate"
    proxy_host.check_output(f"mkdir -m 700 {kept} && cp -a {CERTIFICATE} {KEY} {kept}")
    yield
    proxy_host.check_output(
        f"cp -a {kept}/* /etc/jupyterhub-proxy && rm -r {kept} && systemctl reload nginx"
    )


@pytest.mark.usefixtures("routes", "own_certificate")
def test_renewed_certificate_is_served_after_a_reload(proxy_host: Any, base_url: str) -> None:
    before = served_certificate(base_url)
    with open_websocket(base_url):
        proxy_host.check_output(
            "umask 077; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
            f" -subj /CN=renewed -keyout {KEY} -out {CERTIFICATE} && systemctl reload nginx"
        )
        # Until the reload is done, nginx's old workers may still show the old certificate.
        renewed = proxy_host.file(CERTIFICATE).content_string
        wait_for("the renewed certificate", lambda: served_certificate(base_url) == renewed, 20)
    assert renewed != before


@pytest.mark.usefixtures("routes", "own_certificate")
@pytest.mark.parametrize("damage", [f"rm {KEY}", f"rm {CERTIFICATE}", f"cp {CERTIFICATE} {KEY}"])
def test_nginx_goes_on_when_its_certificate_cannot_be_read(
    proxy_host: Any, base_url: str, damage: str
) -> None:
    before = served_certificate(base_url)
    with open_websocket(base_url):
        proxy_host.check_output(damage)
        assert proxy_host.run("systemctl reload nginx").rc != 0, "the reload did not fail"
        assert served_certificate(base_url) == before


@pytest.mark.usefixtures("routes")
def test_nginx_of_a_newer_package_takes_over(proxy_host: Any, base_url: str) -> None:
    """Upgrade nginx as Debian's package does: a new master starts, then the old master ends."""
    before = main_pid(proxy_host, "nginx.service")
    with open_websocket(base_url):
        proxy_host.check_output("invoke-rc.d nginx upgrade")
        assert served_certificate(base_url)
    wait_for("the new master", lambda: main_pid(proxy_host, "nginx.service") not in ("", before))
    assert proxy_host.service("nginx.service").is_running


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
def test_upload_passes_whole(fetch: Callable[..., Answer]) -> None:
    size = 5_000_000
    assert json.loads(fetch(ECHO, "POST", bytes(size)).text)["read"] == size


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
def test_answers_of_applications_pass_unchanged(fetch: Callable[..., Answer]) -> None:
    """If an application answers 503, nginx must pass the answer on, not send nginx's own page."""
    answer = fetch(f"{ECHO}/503")
    assert answer.status == 503
    assert "headers" in json.loads(answer.text)


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("/hub/login", "127.0.0.9", "<h1>Too many requests</h1>"),
        ("/hub/api/users/nobody/tokens", "127.0.0.10", '"message": "There were more requests'),
    ],
)
def test_flood_of_passwords_is_stopped(proxy_host: Any, path: str, source: str, words: str) -> None:
    answers = flood(proxy_host, source, "POST", path, 400)
    status, retry_after, page = answers[-1]
    assert status == 429, f"{len(answers)} passwords from one address in a row"
    assert len(answers) > 60, "a class of 60 behind one address could not log in"
    assert retry_after is not None
    assert int(retry_after) > 0
    assert words in page
    # The refused address can still fetch pages, and other addresses can still log in.
    assert flood(proxy_host, source, "GET", "/hub/login", 3)[-1][0] == 200
    assert flood(proxy_host, "127.0.0.11", "POST", path, 1)[0][0] != 429


def check_back_soon_page(answer: Answer) -> None:
    assert "<h1>JupyterHub will be back soon</h1>" in answer.text
    assert '<html lang="en">' in answer.text
    assert '<meta http-equiv="refresh"' in answer.text
    assert not re.search(r"""(src=|href=["'][^"'])|url\(|@import|<script""", answer.text), (
        "not self-contained"
    )


@BOTH_PROTOCOLS
@pytest.mark.usefixtures("routes")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_back_soon_page_while_the_hub_is_down(fetch: Callable[..., Answer], method: str) -> None:
    answer = fetch(NO_SERVER, method)
    assert answer.status == 503
    check_back_soon_page(answer)


def test_back_soon_page_while_the_proxy_is_down(
    proxy_host: Any, fetch: Callable[..., Answer]
) -> None:
    assert fetch("/hub/health").status == 200
    proxy_host.check_output("systemctl stop jupyterhub-proxy.service")
    try:
        for method in ("GET", "POST"):
            answer = fetch("/hub/health", method)
            assert answer.status == 502
            assert answer.header("Cache-Control") == "no-store"
            assert answer.header("Retry-After")
            assert answer.header("Strict-Transport-Security")
            check_back_soon_page(answer)
    finally:
        proxy_host.check_output("systemctl start jupyterhub-proxy.service")
    wait_for("the hub behind the proxy", lambda: fetch("/hub/health").status == 200)


def test_files_of_the_proxy_cannot_be_fetched(fetch: Callable[..., Answer]) -> None:
    """nginx's page for a stopped proxy is a file in the same folder as the key and the token."""
    for name in ("", "/503.html", "/token.env", "/self-signed.key"):
        answer = fetch(f"/.jupyterhub-proxy{name}")
        assert "PRIVATE KEY" not in answer.text
        assert "CONFIGPROXY" not in answer.text
        assert "back soon" not in answer.text


def test_killed_proxy_comes_back(proxy_host: Any, fetch: Callable[..., Answer]) -> None:
    before = main_pid(proxy_host)
    assert before
    proxy_host.check_output("kill -KILL %s", before)
    wait_for("another process", lambda: main_pid(proxy_host) not in ("", before))
    wait_for("the hub behind the proxy", lambda: fetch("/hub/health").status == 200)


@pytest.mark.parametrize("unit", ["jupyterhub-proxy.service", "nginx.service"])
def test_unit_runs_and_starts_at_boot(proxy_host: Any, unit: str) -> None:
    assert proxy_host.service(unit).is_running
    assert proxy_host.service(unit).is_enabled


def test_only_nginx_can_connect_to_the_proxy_behind_it(proxy_host: Any) -> None:
    socket = proxy_host.file("/run/jupyterhub-proxy/chp.sock")
    assert (socket.user, socket.group, socket.mode) == ("jupyterhub-proxy", "www-data", 0o770)
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({socket.path!r})"
    for user, rc in (("www-data", 0), ("nobody", 1), ("bob", 1)):
        assert proxy_host.run("runuser -u %s -- python3 -c %s", user, code).rc == rc, user
    assert not proxy_host.socket("tcp://127.0.0.1:8000").is_listening


def test_only_root_and_the_proxy_can_read_the_token(proxy_host: Any) -> None:
    file = proxy_host.file(TOKEN_FILE)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    token = file.content_string.strip().removeprefix("CONFIGPROXY_AUTH_TOKEN=")
    assert re.fullmatch(r"[0-9a-f]{32,}", token)
    assert token not in proxy_host.check_output("ps axww -o args")
    assert token not in proxy_host.check_output(
        "systemctl show jupyterhub-proxy.service nginx.service"
    )
    assert token not in proxy_host.check_output(
        "journalctl --quiet --no-pager --unit jupyterhub-proxy.service"
    )
    for user in ("jupyterhub-proxy", "www-data", "nobody"):
        assert proxy_host.run(f"runuser -u {user} -- cat {TOKEN_FILE}").rc != 0
        readable = proxy_host.run(
            f"runuser -u {user} -- grep -rlsF %s /etc /opt/jupyterhub-proxy /var/log", token
        )
        assert readable.stdout == ""


def test_api_requires_the_token(hub_host: Any) -> None:
    assert run_python(hub_host, API_CALL, "GET", "", "", "without") == "403"
    assert run_python(hub_host, API_CALL, "GET", "", "") == "200"


def test_only_root_can_read_the_key_of_the_certificate(proxy_host: Any) -> None:
    key = proxy_host.file(KEY)
    assert key.user == "root"
    assert key.mode & 0o077 == 0


def test_nginx_continues_in_a_new_log(proxy_host: Any, fetch: Callable[..., Answer]) -> None:
    """Rotate the log as Debian's logrotate does."""
    log = "/var/log/nginx/access.log"
    rotate = "invoke-rc.d nginx rotate"
    assert rotate in proxy_host.file("/etc/logrotate.d/nginx").content_string
    proxy_host.check_output(
        f"mv {log} {log}.test && install -m 0640 -o www-data -g adm /dev/null {log} && {rotate}"
    )
    try:
        wait_for(
            "a line in the new log",
            lambda: fetch("/hub/health") and proxy_host.file(log).size > 0,
        )
    finally:
        proxy_host.check_output(f"cat {log} >> {log}.test && mv {log}.test {log} && {rotate}")
    assert proxy_host.check_output("find /var/lib/nginx ! -user www-data") == ""


def test_query_strings_are_not_logged(proxy_host: Any, fetch: Callable[..., Answer]) -> None:
    def request() -> int:
        referer = "https://127.0.0.1/?token=referer-secret"
        return fetch("/hub/login?token=query-secret", Referer=referer).status

    assert request() == 200
    # The logs must not contain the secrets even when nginx logs an error.
    proxy_host.check_output("systemctl stop jupyterhub-proxy")
    try:
        assert request() == 502
    finally:
        proxy_host.check_output("systemctl start jupyterhub-proxy")
    wait_for("the hub behind the proxy", lambda: fetch("/hub/health").status == 200)
    log = proxy_host.check_output("tail -n 50 /var/log/nginx/access.log")
    assert re.search(r'"GET /hub/login HTTP/1.1" 5\d\d ', log)
    assert "secret" not in proxy_host.check_output("tail -n 50 /var/log/nginx/*.log")


def test_running_proxy_has_no_privileges(proxy_host: Any) -> None:
    pid = main_pid(proxy_host)
    lines = proxy_host.file(f"/proc/{pid}/status").content_string.splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert proxy_host.check_output("ps -o user:32= -p %s", pid) == "jupyterhub-proxy"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Umask"] == "0007"


def test_sandbox_of_the_proxy_is_effective(proxy_host: Any) -> None:
    """If systemd cannot set up the sandbox, it starts the unit unprotected, without an error."""
    proxy_host.check_output("touch /tmp/proxy-test-shared-tmp")
    text = proxy_host.file(UNIT).content_string.replace("\\\n", "")
    # Leave out RuntimeDirectory too, or systemd would remove the proxy's folder after the probe.
    left_out = r"^(ExecStart|Restart|RestartSec|RuntimeDirectory|Type)=.*\n"
    text = re.sub(left_out, "", text, flags=re.MULTILINE)
    text = text.replace(
        "[Service]\n",
        "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /usr/local/share/proxy-test-probe.py\n"
        "StandardOutput=file:/run/proxy-test-probe.json\n",
    )
    write = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    run_python(proxy_host, write, "/usr/local/share/proxy-test-probe.py", PROBE)
    run_python(proxy_host, write, "/run/systemd/system/proxy-test-probe.service", text)
    try:
        proxy_host.check_output("systemctl daemon-reload")
        proxy_host.check_output("systemctl start proxy-test-probe.service")
        seen = json.loads(proxy_host.file("/run/proxy-test-probe.json").content_string)
    finally:
        proxy_host.run(
            "rm -f /usr/local/share/proxy-test-probe.py /run/proxy-test-probe.json"
            " /run/systemd/system/proxy-test-probe.service /tmp/proxy-test-shared-tmp;"
            " systemctl daemon-reload"
        )
    assert seen["write_etc"] == seen["write_opt"] == "Read-only file system"
    assert seen["read_token"] == "Permission denied"
    assert seen["token_in_environment"] is True, "the probe did not run as the unit does"
    assert seen["home"] == "Permission denied"
    assert seen["tmp"] == []
    assert not {"console", "kmsg", "mem", "fuse", "initctl", "core"} & set(seen["devices"])
    assert seen["netlink"] == "Address family not supported by protocol"
    assert seen["ptrace"] == "Operation not permitted"
    assert len(seen["processes"]) <= 2, "sees other people's processes"
