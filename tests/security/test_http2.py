"""Attacks over HTTP/2, where one connection carries many requests."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from attackers import HOSTILE, attack, costs, in_background, links_from, wait_until_given_back
from cluster import host
from hub_client import wait_for
from proxy_client import ECHO, Answer
from raw_http import tls_link
from raw_http2 import Head, ask, connection, head

Fetch = Callable[..., Answer]

#: These attacks last for minutes.
lasting = pytest.mark.skipif(not os.environ.get("ALL"), reason="only make test-all has the time")

#: nginx, as the attacking host reaches it.
NGINX = {"host": "proxy", "port": 443, "protocol": "h2"}
#: The most requests that nginx lets one connection have open.
STREAMS = 32
#: The most requests that nginx lets one address have open.
OPEN_REQUESTS = 1000


#: What a client sends first.
HELLO = bytes(connection().data_to_send())


def requests(
    number: int, head: Head, body: bytes | None = None, reset: bool = False, window: int = 65535
) -> bytes:
    """Return what a client sends on one connection: requests, without the end of their bodies.

    :param body: the beginning of each request's body; None if the requests have none.
    :param reset: whether the client takes each request back at once.
    :param window: how many bytes of each answer the client takes, until it asks for more.
    """
    begun = connection()
    begun.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    for stream in range(1, 2 * number, 2):
        begun.send_headers(stream, head, end_stream=body is None)
        if body:
            begun.send_data(stream, body)
        if reset:
            begun.reset_stream(stream)
    return bytes(begun.data_to_send())


@pytest.mark.usefixtures("hostile")
@lasting
@pytest.mark.attack(
    "requests over HTTP/2 that never end, many on each connection",
    outcome="32 on one connection, 1000 from one address; the others are refused. They are freed "
    "when the client is gone.",
)
def test_a_flood_of_streams_is_limited(check_another_user: Callable[[], None]) -> None:
    before = costs()
    waiting = head("proxy", f"{HOSTILE}/waits")
    came = attack("qmaster", **NGINX, sends=[requests(1000, waiting)], times=10, hold=20)
    assert came.get("cut off") == 10, came
    sends = [requests(STREAMS, waiting)]
    for connections, most in ((1, STREAMS), (40, OPEN_REQUESTS)):
        spec = {**NGINX, "sends": sends, "times": connections, "hold": 60}
        in_background("qmaster", "streams-test", **spec)
        try:
            # CHP has two connections for each request.
            wait_for(
                "many are open",
                lambda most=most: costs()["proxy"].files > before["proxy"].files + most,
            )
            for _ in range(3):
                assert costs()["proxy"].files <= before["proxy"].files + 2 * most + 30
            check_another_user()
        finally:
            host("qmaster").run("systemctl stop streams-test")
        wait_until_given_back(before)


@pytest.mark.usefixtures("routes")
@lasting
@pytest.mark.attack(
    "requests over HTTP/2 that are taken back at once, by the thousand (rapid reset)",
    outcome="Each counts as a request. A connection is closed after 1000; other users can work.",
)
@pytest.mark.parametrize("path", ["/hub/login", ECHO])
def test_rapid_resets_are_limited(path: str, check_another_user: Callable[[], None]) -> None:
    before = costs()
    sends = [requests(2000, head("proxy", path), reset=True)]
    came = attack("qmaster", **NGINX, sends=sends, times=20, hold=10)
    assert came.get("cut off") == 20, came
    spec = {**NGINX, "sends": sends, "times": 100_000, "together": 20, "hold": 10}
    in_background("qmaster", "resets-test", **spec)
    try:
        check_another_user()
    finally:
        host("qmaster").run("systemctl stop resets-test")
    wait_until_given_back(before)


def endless_head(size: int) -> bytes:
    """Return a request whose head has ``size`` bytes and does not end."""
    encoder = Encoder()
    frames = [HeadersFrame(1, encoder.encode(head("proxy", "/hub/login")))]
    line = encoder.encode([("x-long", "a" * 4000)], huffman=False)
    frames += [ContinuationFrame(1, line) for _ in range(size // 4000)]
    return HELLO + b"".join(frame.serialize() for frame in frames)


FLOODS = {
    "a head without an end": endless_head(10_000_000),
    "empty parts of a head": HELLO
    + HeadersFrame(1, b"").serialize()
    + ContinuationFrame(1, b"").serialize() * 1_000_000,
    "pings": HELLO + PingFrame(0, b"12345678").serialize() * 500_000,
    "settings": HELLO
    + SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 65535}).serialize() * 500_000,
}


@pytest.mark.attack(
    "floods of HTTP/2 frames: heads without an end (CONTINUATION), pings, settings",
    outcome="The connection is closed; the memory of nginx hardly grows.",
)
@pytest.mark.parametrize("frames", FLOODS)
def test_floods_of_frames_are_cut_off(frames: str) -> None:
    before = costs()
    came = attack("qmaster", **NGINX, sends=[FLOODS[frames]], times=10, hold=20)
    assert came.get("cut off") == 10, came
    assert costs()["nginx"].memory < before["nginx"].memory + 50
    wait_until_given_back(before)


@lasting
@pytest.mark.attack(
    "a head that never ends, over HTTP/2",
    outcome="The request ends after 15 s, and its connection 75 s later.",
)
def test_a_head_that_never_ends_is_cut_off(base_url: str) -> None:
    end = RstStreamFrame(1, error_code=ErrorCodes.PROTOCOL_ERROR).serialize()
    received = b""
    began = time.monotonic()
    with tls_link(base_url, ssl.TLSVersion.TLSv1_3, "h2") as link:
        link.settimeout(60)
        link.sendall(endless_head(4000))
        while end not in received:
            received += link.recv(65536) or pytest.fail(f"closed after {received!r}")
    assert time.monotonic() - began < 45


@pytest.mark.usefixtures("hostile")
@lasting
@pytest.mark.attack(
    "request bodies that never arrive, many on one HTTP/2 connection",
    outcome="The hub does not see them. As over HTTP/1.1, they end after 15 s for the hub, after "
    "30 s for a session.",
)
@pytest.mark.parametrize("path", ["/hub/login", f"{HOSTILE}/waits"])
def test_bodies_that_never_arrive_end(path: str, check_another_user: Callable[[], None]) -> None:
    before = costs()
    sends = [requests(STREAMS, head("proxy", path, "POST", content_length="1000"), b"username")]
    in_background("qmaster", "bodies-test", **NGINX, sends=sends, times=16, hold=100)
    try:
        wait_for("all are open", lambda: links_from("qmaster") == 16)
        for _ in range(3):
            assert costs()["hub"].files < before["hub"].files + 30
        check_another_user()
        # The connections may still be open, with nothing in them.
        wait_until_given_back(before)
    finally:
        host("qmaster").run("systemctl stop bodies-test")


@pytest.mark.usefixtures("hostile")
@lasting
@pytest.mark.attack(
    "large answers that an HTTP/2 client does not read, or for which it leaves no room",
    outcome="They wait at the server, at most 60 s without progress.",
)
@pytest.mark.parametrize("window", [0, 65535])
def test_unread_answers_fill_no_memory(window: int) -> None:
    before = costs()
    sends = [requests(STREAMS, head("proxy", f"{HOSTILE}/large"), window=window)]
    spec = {**NGINX, "sends": sends, "times": 4, "unread": True, "hold": 300}
    in_background("qmaster", "unread-test", **spec)
    try:
        wait_for("all are open", lambda: links_from("qmaster") == 4)
        most = {name: max(costs()[name].memory for _ in range(5)) for name in before}
        for name, now in most.items():
            assert now < before[name].memory + 150, (before, most)
        wait_until_given_back(before)
    finally:
        host("qmaster").run("systemctl stop unread-test")


@pytest.mark.usefixtures("routes")
@pytest.mark.attack(
    "a request over HTTP/2 that asks for a websocket",
    outcome="Refused, or passed on as an ordinary request: only HTTP/1.1 has websockets here.",
)
def test_no_request_over_http2_is_upgraded(base_url: str) -> None:
    address = urlsplit(base_url).netloc
    plain = head(address, ECHO, upgrade="websocket", connection="upgrade")
    extended = [*head(address, ECHO, "CONNECT"), (":protocol", "websocket")]
    for sent in (plain, extended):
        answer = ask(base_url, sent, seconds=5)
        if answer.status == 200:
            names = {name for name, _ in json.loads(answer.body)["headers"]}
            assert not names & {"upgrade", ":protocol"}
        else:
            assert answer.status in (0, 400, 405)


SMUGGLED = f"GET {ECHO}/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
STRANGE: dict[str, Head] = {
    "an encoding": [("transfer-encoding", "chunked")],
    "a wrong length": [("content-length", "3")],
    "a length of nothing": [("content-length", "0")],
    "two lengths": [("content-length", "0"), ("content-length", str(len(SMUGGLED)))],
    "a line break in a value": [("x", f"a\r\n\r\n{SMUGGLED}")],
    "a line break in a name": [("x: a\r\ntransfer-encoding", "chunked")],
    "a colon in a name": [("transfer-encoding: chunked\r\nx", "a")],
    "capitals": [("Transfer-Encoding", "chunked")],
    "a zero byte": [("x", "a\x00b")],
    "another host": [("host", "evil.example.org")],
    "a second path": [(":path", f"{ECHO}/smuggled")],
    "a line break in the path": [(":path", f"{ECHO} HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}")],
    "a second method": [(":method", f"GET {ECHO} HTTP/1.1\r\n\r\n{SMUGGLED}")],
}


@pytest.mark.usefixtures("routes")
@pytest.mark.attack(
    "two requests in one, over HTTP/2 (smuggling)",
    outcome="Refused, or passed on as one request without what is forged.",
)
@pytest.mark.parametrize("what", STRANGE)
def test_requests_cannot_be_smuggled(what: str, base_url: str, fetch: Fetch) -> None:
    sent = head(urlsplit(base_url).netloc, ECHO, "POST") + STRANGE[what]
    answer = ask(base_url, sent, SMUGGLED.encode(), 10)
    if answer.status == 200:
        assert json.loads(answer.body)["read"] == len(SMUGGLED)
        assert b"evil" not in answer.body
    else:
        assert answer.status in (0, 400, 501), answer
    # Whatever was left on the connections behind nginx has become a request by now.
    for _ in range(5):
        assert not any("smuggled" in path for path in json.loads(fetch(ECHO).text)["seen"])
