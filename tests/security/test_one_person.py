"""One person floods the hub with requests from a session, or takes all of a worker's ports."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import requests
from requests.cookies import get_cookie_header

from cluster import LogIn, host
from hub_client import page_text, wait_for
from person import IN_MEMORY, Session, session_of

#: A function that sends many requests to the hub with the session's certificate, and counts the
#: answers.
FLOOD = (
    IN_MEMORY
    + """
import collections, http.client, json, os, ssl, threading, time
def flood(count, method, paths, headers, body=None, threads=8):
    context = ssl._create_unverified_context()
    context.load_cert_chain(in_memory("certificate"), in_memory("key"))
    answers, refusal, began = collections.Counter(), {}, time.time()
    def ask(number):
        link = http.client.HTTPSConnection("hub", 8081, timeout=60, context=context)
        for each in range(number):
            link.request(method, paths[each % len(paths)], body, headers)
            answer = link.getresponse()
            text = answer.read().decode()
            answers[answer.status] += 1
            if answer.status == 429:
                refusal.update(text=text, wait=answer.getheader("Retry-After"))
    senders = [threading.Thread(target=ask, args=[count // threads]) for _ in range(threads)]
    [each.start() for each in senders]
    [each.join() for each in senders]
    print(json.dumps([answers, refusal, time.time() - began]))
"""
)


class Flood(NamedTuple):
    """The answers to a flood of requests."""

    answers: dict[int, int]
    #: The text of the last refusal, and the seconds in the refusal's header Retry-After.
    text: str
    wait: int
    seconds: float

    def let_in(self) -> int:
        """Return the number of requests that no limit has refused."""
        return sum(count for status, count in self.answers.items() if status != 429)


@pytest.fixture(scope="module")
def bob(passwords: dict[str, str]) -> Iterator[Session]:
    yield from session_of("bob", passwords["bob"])


@pytest.fixture(scope="module")
def token(bob: Session) -> str:
    """A token that bob has created with all his rights."""
    made = bob.client.rest("POST", "/users/bob/tokens", {"expires_in": 3600, "note": "mine"})
    return str(made.json()["token"])


@pytest.fixture
def flood(bob: Session, token: str) -> Callable[..., Flood]:
    """Send requests to the hub from bob's session, with his token or his browser's cookies."""

    def ask(
        method: str, *paths: str, count: int = 400, cookies: bool = False, body: object = None
    ) -> Flood:
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
        if cookies:
            page = requests.Request("GET", bob.client.url("/hub/spawn")).prepare()
            headers = {"Cookie": str(get_cookie_header(bob.client.http.cookies, page))}
        text = None if body is None else json.dumps(body)
        call = f"flood({count}, {method!r}, {list(paths)!r}, {headers!r}, {text!r})"
        printed = bob.client.run(bob.kernel, f"{FLOOD}\n{call}", 300)
        answers, refusal, seconds = json.loads(printed)
        found = {int(status): number for status, number in answers.items()}
        assert sum(found.values()) == count, found
        return Flood(found, refusal.get("text", ""), int(refusal.get("wait", 0)), seconds)

    return ask


def meanwhile(login: LogIn, attack: Callable[[], Flood]) -> tuple[Flood, float]:
    """Attack while alice logs in and starts a session.

    :returns: the answers to the attack, and the seconds that alice needed.
    """
    with ThreadPoolExecutor(1) as pool:
        attacking = pool.submit(attack)
        began = time.monotonic()
        alice = login("alice")
        alice.choose(cores=1, memory=1, run_time=1)
        alice.wait_until_ready()
        assert alice.open_lab().ok
        took = time.monotonic() - began
        found = attacking.result()
        print(f"{found.answers} in {found.seconds:.1f} s; alice meanwhile: {took:.1f} s")
        return found, took


def hub_said(hub_host: Any, since: str, words: str) -> bool:
    log = hub_host.check_output(f"journalctl -q -o cat -u jupyterhub --since @{since}")
    return words in log


@pytest.mark.attack(
    "thousands of starts, from a session and past the proxy",
    outcome="30 at once, then 6 a minute, for each person (jupyterhub_person_starts): 429 with"
    " the reason. Others can start.",
)
def test_starts_of_one_person_are_limited(
    flood: Callable[..., Flood], login: LogIn, bob: Session, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s")
    try:
        found, _ = meanwhile(
            login, lambda: flood("POST", "/hub/api/users/bob/servers/second", body={"cores": 1})
        )
    finally:
        bob.client.rest("DELETE", "/users/bob/servers/second", {"remove": True})
    minutes = 1 + found.seconds / 60
    assert found.let_in() <= 30 + 6 * minutes, found
    assert "You have asked for too many sessions in a short time" in found.text
    assert json.loads(found.text)["status"] == 429 and 0 < found.wait <= 10
    started = hub_host.check_output(
        f"journalctl -q -o cat -t jupyterhub-broker --since @{since} | grep -c 'start for bob' || :"
    )
    assert int(started) <= 30 + 6 * minutes
    # The form shares this limit and shows this message.
    pages = []

    def is_refused() -> bool:
        pages.append(bob.client.choose(cores=1, memory=1, run_time=1))
        return pages[-1].status_code == 429

    wait_for("the form refuses as well", is_refused)
    assert "You have asked for too many sessions in a short time" in page_text(pages[-1])
    assert int(pages[-1].headers["Retry-After"]) <= 10
    assert hub_said(hub_host, since, "bob has reached the limit for starts")


@pytest.mark.attack(
    "thousands of forms and forecasts, each of which queries Grid Engine or the directory",
    outcome="60 at once, then one a second, for each person: 429 with the reason. Others can choose"
    " and start.",
)
def test_forms_and_forecasts_of_one_person_are_limited(
    flood: Callable[..., Flood], login: LogIn, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s")
    paths = ["/hub/spawn/bob/third"]
    paths += [f"/hub/forecast?cores=1&memory={memory}&run_time=1" for memory in (1, 2, 4)]
    found, _ = meanwhile(login, lambda: flood("GET", *paths, cookies=True))
    assert found.let_in() <= 60 + found.seconds + 5, found
    assert set(found.answers) <= {200, 429}, found
    assert "You have loaded this page too often in a short time" in found.text
    checks = hub_host.check_output(
        f"journalctl -q -o cat -t jupyterhub-broker --since @{since} | grep -c 'check for bob' || :"
    )
    assert int(checks) <= 60 + found.seconds + 5


@pytest.mark.attack(
    "thousands of new tokens, with a token",
    outcome="20 at once, then 10 a minute, and 100 in all (jupyterhub_person_tokens): refused with"
    " the reason. Logins to sessions and expired tokens do not count.",
)
def test_tokens_of_one_person_are_limited(
    flood: Callable[..., Flood], login: LogIn, bob: Session
) -> None:
    try:
        found, _ = meanwhile(
            login,
            lambda: flood(
                "POST", "/hub/api/users/bob/tokens", body={"note": "x", "expires_in": 60}
            ),
        )
        assert found.let_in() <= 20 + 10 * (1 + found.seconds / 60), found
        assert "You have requested too many tokens in a short time" in found.text
        # Logins to sessions still work.
        for _ in range(3):
            bob.client.http.cookies.clear("127.0.0.1", "/user/bob/")
            assert bob.client.open_lab().ok
    finally:
        for each in bob.client.rest("GET", "/users/bob/tokens").json()["api_tokens"]:
            if each["note"] == "x":
                bob.client.rest("DELETE", f"/users/bob/tokens/{each['id']}")


@pytest.mark.attack(
    "thousands of other requests, from a session",
    outcome="600 at once, then 10 a second, for each person: 429, one line of the log a minute."
    " Pages of others still work, and so do a session's reports and its stop.",
)
def test_requests_of_one_person_are_limited(
    flood: Callable[..., Flood], login: LogIn, bob: Session, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s")
    found, _ = meanwhile(login, lambda: flood("GET", "/hub/api/users/bob", count=2000))
    assert found.let_in() <= 600 + 10 * (found.seconds + 5), found
    if found.let_in() < 2000:  # if the hub is slow, the attack does not reach the limit
        assert "Your account has sent too many requests in a short time" in found.text
    log = hub_host.check_output(f"journalctl -q -o cat -u jupyterhub --since @{since}")
    assert log.count("429 GET /hub/api/users/bob") <= 3
    # The session can still send its reports.
    report = flood("GET", "/hub/api/user", count=8)
    assert report.answers == {200: 8}


#: A program that takes the ports of the sessions' range as they become free, and prints how many
#: it has. A connection that has ended holds its port for another minute.
TAKE = """
import socket, time
taken = {}
while True:
    for port in set(range(28000, 29000)) - taken.keys():
        for kind in (socket.AF_INET6, socket.AF_INET):
            try:
                s = socket.socket(kind)
                s.bind(("", port))
                s.listen()
                taken[port] = s
                break
            except OSError:
                pass
    print(len(taken), flush=True)
    time.sleep(1)
"""


class Taker:
    """Programs of bob's, each of which holds all of a worker's ports for sessions."""

    def __init__(self) -> None:
        self._programs: list[tuple[str, str]] = []

    def take(self, worker: str) -> None:
        """Take all of a worker's ports for sessions."""
        output = host(worker).check_output("mktemp")
        run = f"setsid runuser -u bob -- python3 -c %s > {output} 2>&1 < /dev/null & echo $!"
        self._programs.append((worker, host(worker).check_output(run, TAKE)))
        wait_for(
            "all ports are taken",
            lambda: int(host(worker).check_output(f"tail -n 1 {output}") or 0) > 990,
            seconds=90,
        )

    def let_go(self) -> None:
        """Free all ports again."""
        while self._programs:
            worker, program = self._programs.pop()
            host(worker).run(f"kill -- -{program}")


@pytest.fixture
def taker() -> Iterator[Taker]:
    taker = Taker()
    yield taker
    taker.let_go()


@pytest.fixture
def only_exec1(qmaster_host: Any) -> Iterator[Callable[[], None]]:
    """Let jobs start on exec1 only; yield a function that lets them start everywhere again."""
    qmaster_host.check_output("qmod -d 'all.q@exec2'")

    def everywhere() -> None:
        qmaster_host.run("qmod -e 'all.q@exec2'")

    yield everywhere
    everywhere()


@pytest.mark.attack(
    "all ports for sessions of a worker, taken by one person's programs",
    outcome="Other people's sessions start on another worker automatically; the hub's log names"
    " the account.",
)
def test_without_free_ports_on_a_worker_sessions_start_on_another(
    taker: Taker, only_exec1: Callable[[], None], login: LogIn, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s")
    taker.take("exec1")
    alice = login("alice")
    page = alice.choose(cores=1, memory=1, run_time=1)
    wait_for(
        "the hub's log gives the reason",
        lambda: hub_said(hub_host, since, "all ports of exec1 are taken"),
    )
    log = hub_host.check_output(f"journalctl -q -o cat -u jupyterhub --since @{since}")
    # Sessions of other tests may hold a few of the thousand ports.
    assert re.search(r"Reported holders: bob (9\d\d|1000)\b", log), log
    wait_for(
        "the waiting page gives the reason",
        lambda: (
            "taken, so the session starts on another worker"
            in page_text(alice.get("/hub/spawn-pending/alice"))
        ),
    )
    assert "bob" not in page_text(page)
    only_exec1()
    alice.wait_until_ready()
    alice.open_lab()
    where = alice.run(alice.start_kernel(), "import socket; print(socket.gethostname())")
    assert where.strip() == "exec2"


@pytest.mark.attack(
    "all ports for sessions of all workers, taken by one person's programs",
    outcome="Running sessions go on; a start fails with the reason. The hub's log names the"
    " account.",
)
def test_the_account_that_takes_all_ports_of_all_workers_is_logged(
    taker: Taker, login: LogIn, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s")
    alice = login("alice")
    taker.take("exec1")
    taker.take("exec2")
    alice.choose(cores=1, memory=1, run_time=1)
    words = "is taken, most of them by programs of another account"
    # The hub first tries three jobs, one after another.
    wait_for(
        "the page gives the reason",
        lambda: words in page_text(alice.get("/hub/spawn-pending/alice")),
        150,
    )
    assert "bob" not in page_text(alice.get("/hub/spawn-pending/alice"))
    for worker in ("exec1", "exec2"):
        assert hub_said(hub_host, since, f"all ports of {worker} are taken")
    taker.let_go()
    wait_for(
        "she starts again",
        lambda: (
            alice.choose(cores=1, memory=1, run_time=1).status_code == 200
            and alice.server() is not None
        ),
    )
    alice.wait_until_ready()
