"""Each client, person and worker gets a limited share of a resource, for a limited time."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from attackers import (
    AS_BEFORE,
    HOSTILE,
    attack,
    cost,
    costs,
    in_background,
    links_from,
    session_cost,
    wait_until_given_back,
)
from cluster import AS_HUB, host
from hub_client import wait_for
from person import IN_MEMORY, Session, session_of
from proxy_client import ECHO, Answer, main_pid, run_python


@pytest.fixture(scope="module")
def alice(passwords: dict[str, str]) -> Iterator[Session]:
    yield from session_of("alice", passwords["alice"])


#: A prefix that runs a command with the account and the capabilities of nginx. Only such a command
#: can see which files nginx has open.
AS_NGINX = (
    "setpriv --reuid=www-data --regid=www-data --clear-groups"
    " --inh-caps=+net_bind_service --ambient-caps=+net_bind_service"
)

UPGRADES = (
    "",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Connection: Upgrade\r\nUpgrade: h2c\r\n",
)
DOORS = ("/hub/login", "/hub/api/", "/nobodys", "/user/nobody/x", f"{HOSTILE}/silent", f"{ECHO}")
BODIES = {
    "the request line": ("GET {path} HTT", ""),
    "its head": ("GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}X-Half", ""),
    "what follows its head": ("GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}", "\r\n"),
    "its body, of which nothing has come": (
        "POST {path} HTTP/1.1\r\nHost: x\r\n{upgrade}",
        "Content-Length: 5\r\n\r\n",
    ),
    "its body, a GET's": (
        "GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}",
        "Content-Length: 5\r\n\r\n",
    ),
    "its body, half of which has come": (
        "PUT {path} HTTP/1.1\r\nHost: x\r\n{upgrade}",
        "Content-Length: 200000\r\n\r\n" + "x" * 100_000,
    ),
    "its body, in pieces": (
        "POST {path} HTTP/1.1\r\nHost: x\r\n{upgrade}",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ),
}


@pytest.mark.usefixtures("hostile", "routes")
@pytest.mark.attack(
    "thousands of abandoned requests: before, in or after the body, upgraded or not, closed, half "
    "closed or reset, at the hub, at sessions and elsewhere",
    outcome="nginx, the proxy and the hub free their file descriptors within 90 s.",
)
@pytest.mark.parametrize("where", BODIES)
def test_abandoned_requests_free_their_resources(where: str) -> None:
    first, rest = BODIES[where]
    sends = [
        first.format(path=path, upgrade=upgrade) + rest
        for path, upgrade in product(DOORS, UPGRADES)
    ]
    before = costs()
    came = attack(
        "qmaster",
        host="proxy",
        port=443,
        sends=sends,
        ends=["close", "half", "reset"],
        times=4,
        hold=0.2,
    )
    assert came["sent"] > 200, came
    wait_until_given_back(before)


@pytest.mark.usefixtures("hostile")
@pytest.mark.attack(
    "websockets that a session never closes, and requests that it never answers",
    outcome="Freed 10 s after the client has gone.",
)
@pytest.mark.parametrize("what", ["upgrades", "silent"])
def test_requests_that_a_session_never_ends_are_freed(what: str) -> None:
    before = costs()
    head = f"GET {HOSTILE}/{what} HTTP/1.1\r\nHost: x\r\n{UPGRADES[1]}\r\n"
    came = attack("qmaster", host="proxy", port=443, sends=[head], times=300, hold=2)
    assert came["sent"] == 300
    wait_until_given_back(before)


@pytest.mark.usefixtures("hostile")
@pytest.mark.attack(
    "large answers that the client does not read, to ordinary requests and to websocket upgrades",
    outcome="They wait at the server: the proxy and nginx hold a few hundred kB of each.",
)
@pytest.mark.parametrize("upgrade", UPGRADES[:2])
def test_unread_answers_fill_no_memory(upgrade: str) -> None:
    before = costs()
    head = f"GET {HOSTILE}/large HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n"
    spec = {
        "host": "proxy",
        "port": 443,
        "sends": [head],
        "times": 100,
        "unread": True,
        "hold": 300,
    }
    in_background("qmaster", "unread-test", **spec)
    try:
        wait_for("all are open", lambda: links_from("qmaster") == 100)
        most = {name: max(cost(name).memory for _ in range(5)) for name in before}
        for name, now in most.items():
            assert now < before[name].memory + 150, (before, most)
    finally:
        host("qmaster").run("systemctl stop unread-test")
    wait_until_given_back(before)


@pytest.mark.usefixtures("hostile")
@pytest.mark.attack(
    "a session's answer with instructions for nginx (X-Accel-*)",
    outcome="Ignored: nothing is stored on the proxy's disk, no other page is served.",
)
def test_nginx_ignores_instructions_in_answers(
    fetch: Callable[..., Answer], proxy_host: Any
) -> None:
    assert fetch(f"{HOSTILE}/orders").text == "my words"
    head = f"GET {HOSTILE}/buffered HTTP/1.1\r\nHost: x\r\n\r\n"
    spec = {"host": "proxy", "port": 443, "sends": [head], "times": 2, "unread": True, "hold": 300}
    before = costs()
    in_background("qmaster", "buffered-test", **spec)
    try:
        wait_for("both are open", lambda: links_from("qmaster") == 2)
        for _ in range(5):
            assert cost("nginx").memory < before["nginx"].memory + 50
            assert int(proxy_host.check_output("du -sm /var/lib/nginx").split()[0]) < 2
            pid = main_pid(proxy_host, "nginx.service")
            opened = proxy_host.run(
                f"for p in $(pgrep -P {pid}); do {AS_NGINX} ls -l /proc/$p/fd; done"
            ).stdout
            assert "socket:" in opened
            assert "/var/lib/nginx" not in opened, "a deleted file"
    finally:
        host("qmaster").run("systemctl stop buffered-test")


IDLE = {
    "proxy": ("qmaster", "proxy", 443, 1100),
    "plain": ("qmaster", "proxy", 80, 1100),
    "api": ("exec1", "proxy", 8001, 100),
    "hub": ("exec1", "hub", 8081, 300),
}


@pytest.mark.attack(
    "thousands of bare connections, without a request or a certificate, at each of our ports",
    outcome="One address gets 1000 at 443 and 80, 64 at CHP's API, 256 at the hub's port; they are "
    "closed after 15 s. The host's own checks and all other users get in.",
)
@pytest.mark.parametrize("door", IDLE)
def test_one_address_cannot_take_all_connections(
    door: str, proxy_host: Any, hub_host: Any, check_another_user: Callable[[], None]
) -> None:
    source, target, port, most = IDLE[door]
    before = costs()
    unit = f"idle-{door}-test"
    spec = {"host": target, "port": port, "tls": False, "together": 2 * most, "hold": 60}
    in_background(source, unit, **spec, times=100_000)
    try:
        service = "hub" if target == "hub" else "proxy" if port == 8001 else "nginx"
        wait_for(
            "many are open",
            lambda: cost(service).files > before[service].files + most // 3,
        )
        assert cost(service).files < before[service].files + most
        check_another_user()
        check_proxy = "import urllib.request as u, ssl; c = ssl._create_unverified_context()\n"
        check_proxy += (
            "print(u.urlopen('https://127.0.0.1/hub/health', context=c, timeout=10).status)"
        )
        assert run_python(proxy_host, check_proxy) == "200"
        check_hub = AS_HUB + "print(urllib.request.urlopen('https://127.0.0.1:8081/hub/health', "
        check_hub += "timeout=10, context=context).status)"
        assert run_python(hub_host, check_hub) == "200"
    finally:
        host(source).run(f"systemctl stop {unit}")
    wait_until_given_back(before)


@pytest.mark.attack(
    "bare connections at a session's port, from another account of the cluster",
    outcome="One address gets 256, for 15 s; the session goes on.",
)
def test_bare_connections_do_not_take_a_session(alice: Session) -> None:
    before = session_cost(alice.host, "alice")
    other = "exec2" if alice.host == "exec1" else "exec1"
    spec = {"host": alice.host, "port": alice.port, "tls": False, "together": 600}
    in_background(other, "session-test", **spec, times=100_000, hold=60)
    try:
        wait_for(
            "many are open", lambda: session_cost(alice.host, "alice").files > before.files + 200
        )
        assert session_cost(alice.host, "alice").files < before.files + 300
        assert alice.run("print(6 * 7)") == "42"
    finally:
        host(other).run("systemctl stop session-test")
    wait_for(
        "they are closed",
        lambda: session_cost(alice.host, "alice").files < before.files + AS_BEFORE,
    )


@pytest.mark.attack(
    "requests to the hub whose body never arrives, from a client that is not logged in",
    outcome="They reach the hub only with a whole body; nginx waits 15 s for more of it.",
)
def test_requests_without_their_body_do_not_reach_the_hub(
    check_another_user: Callable[[], None],
) -> None:
    before = costs()
    head = "POST /hub/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nusername"
    in_background(
        "qmaster",
        "bodies-test",
        host="proxy",
        port=443,
        sends=[head],
        times=280,
        hold=40,
        together=280,
    )
    try:
        wait_for("many are open", lambda: cost("nginx").files > before["nginx"].files + 100)
        for _ in range(3):
            now = costs()
            assert now["hub"].files < before["hub"].files + AS_BEFORE
            assert now["proxy"].files < before["proxy"].files + AS_BEFORE
        check_another_user()
    finally:
        host("qmaster").run("systemctl stop bodies-test")
    wait_until_given_back(before)


#: A program that sends a request without the last byte of its body, on 30 connections at once.
STRANGERS = """
import asyncio, ssl, sys
context = ssl._create_unverified_context()
async def one():
    while True:
        try:
            _, writer = await asyncio.open_connection("proxy", 443, ssl=context)
            writer.write(sys.argv[1].encode() + bytes(2**24 - 1))
            await writer.drain()
            await asyncio.sleep(20)
            writer.close()
        except OSError:
            await asyncio.sleep(1)
async def main():
    await asyncio.gather(*(one() for _ in range(30)))
asyncio.run(main())
"""


@pytest.mark.attack(
    "large bodies for a session, from people who are not logged in there",
    outcome="It holds at most 128 MB of them; the rest get 429. Its person can work on.",
)
def test_strangers_do_not_fill_a_sessions_memory(alice: Session) -> None:
    before = session_cost(alice.host, "alice")
    head = (
        f"POST {alice.client.prefix}/api/contents HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: token made-up\r\nContent-Length: {2**24}\r\n\r\n"
    )
    host("qmaster").check_output(
        "systemd-run --quiet --collect --unit=strangers-test python3 -c %s %s", STRANGERS, head
    )
    try:
        wait_for(
            "some have arrived",
            lambda: session_cost(alice.host, "alice").memory > before.memory + 60,
            seconds=150,
        )
        for _ in range(10):
            assert session_cost(alice.host, "alice").memory < before.memory + 250
            assert alice.run("print(6 * 7)") == "42"
    finally:
        host("qmaster").run("systemctl stop strangers-test")


@pytest.mark.attack(
    "connections to the hub that a session opens with its certificate and keeps",
    outcome="At most 32 for each session.",
)
def test_a_session_has_few_connections_to_the_hub(alice: Session) -> None:
    before = cost("hub")
    alice.run(
        IN_MEMORY + "import http.client, ssl\n"
        "context = ssl._create_unverified_context()\n"
        "context.load_cert_chain(in_memory('certificate'), in_memory('key'))\n"
        "held = []\n"
        "refused = 0\n"
        "for _ in range(100):\n"
        "    link = http.client.HTTPSConnection('hub', 8081, timeout=10, context=context)\n"
        "    try:\n"
        "        link.request('GET', '/hub/api/')\n"
        "        link.getresponse().read()\n"
        "        held.append(link)\n"
        "    except OSError: refused += 1"
    )
    held, refused = map(int, alice.run("print(len(held), refused)").split())
    assert held + refused == 100
    # The session's own server holds a few of the 32 connections.
    assert 20 < held <= 32
    now = cost("hub")
    assert now.files <= before.files + 32 + AS_BEFORE
    alice.run("for each in held: each.close()")


@pytest.mark.attack(
    "a person who pauses while a large file is downloaded, and uploads one in pieces",
    outcome="Both arrive whole: the limits are for clients that do not log in or do not read.",
)
def test_large_files_can_be_downloaded_and_uploaded(alice: Session) -> None:
    size = 300 * 2**20
    made = alice.run(
        "import hashlib, random\n"
        f"data = random.Random(1).randbytes(2**20) * {size // 2**20}\n"
        "open('large.bin', 'wb').write(data)\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    seen = hashlib.sha256()
    with alice.client.get(f"{alice.client.prefix}/files/large.bin", stream=True) as answer:
        answer.raise_for_status()
        pieces = answer.iter_content(2**20)
        seen.update(next(pieces))
        # By the end of this pause, all buffers between server and client are full.
        time.sleep(5)
        for piece in pieces:
            seen.update(piece)
    assert seen.hexdigest() == made
    body = {"type": "file", "format": "base64", "content": base64.b64encode(bytes(2**20)).decode()}
    for chunk in (*range(1, 10), -1):
        sent = alice.client.http.put(
            alice.client.url(f"{alice.client.prefix}/api/contents/pieces.bin"),
            json={**body, "chunk": chunk},
            headers={
                "X-XSRFToken": alice.client.session_xsrf(),
                "Referer": alice.client.url(f"{alice.client.prefix}/lab"),
            },
            timeout=30,
        )
        sent.raise_for_status()
    printed = alice.run("import os; print(os.path.getsize('pieces.bin'))")
    assert printed == str(10 * 2**20)
    alice.run("os.remove('pieces.bin'); os.remove('large.bin')")


@pytest.mark.attack(
    "a service that needs more memory than it may have",
    outcome="systemd restarts it; no session ends.",
)
def test_services_are_limited_and_started_again(
    alice: Session, proxy_host: Any, hub_host: Any
) -> None:
    alice.run("kept = 42")
    for machine, unit in (
        (proxy_host, "nginx.service"),
        (proxy_host, "jupyterhub-proxy.service"),
        (hub_host, "jupyterhub.service"),
    ):
        limit = machine.check_output(f"systemctl show --property=MemoryMax --value {unit}")
        assert limit.isdecimal() and int(limit) <= 4 * 2**30, unit
        # If a unit reaches its memory limit, the kernel kills the unit's largest process. Imitate
        # this: kill the main process.
        pid = main_pid(machine, unit)
        machine.check_output(f"kill -KILL {pid}")
        wait_for(
            "another process",
            lambda machine=machine, unit=unit, pid=pid: main_pid(machine, unit) not in ("", pid),
        )
    # Wait for the hub and for the session. The session can be reached while the hub still starts.
    for door in ("/hub/health", f"{alice.client.prefix}/api"):
        wait_for(
            f"{door} is reached again",
            lambda door=door: alice.client.get(door).status_code == 200,
        )
    assert alice.run("print(kept)") == "42"
