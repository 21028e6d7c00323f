# SPDX-License-Identifier: BSD-3-Clause
"""Requests that the broker accepts or refuses."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asked import ENVIRONMENT, SESSION, START, TOKEN, request, send
from gridhub.broker.connection import receive
from gridhub.broker.person import Refused
from gridhub.broker.protocol import SESSION_VARIABLES, Request, Start, Stop
from gridhub.contract import MAX_MESSAGE

STOP = {"action": "stop", "user": "alice", "session": SESSION}


def received(pair: tuple[socket.socket, socket.socket], data: bytes) -> Request:
    ours, theirs = pair
    sender = threading.Thread(target=send, args=(theirs, data))
    sender.start()
    try:
        return receive(ours)
    finally:
        ours.close()
        sender.join(10)
        assert not sender.is_alive()


class TestRequests:
    def test_a_start_request_is_parsed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        assert received(pair, json.dumps(START).encode()) == Start(
            user="alice", session=SESSION, choice={"cores": 2}, environment=ENVIRONMENT
        )

    def test_a_stop_request_is_parsed(self, pair: tuple[socket.socket, socket.socket]) -> None:
        assert received(pair, json.dumps(STOP).encode()) == Stop(user="alice", session=SESSION)

    def test_the_broker_reads_exactly_what_the_hub_sends(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        whole = Start(
            user="alice",
            session=SESSION,
            server="a.b-c_d~E" * 28,
            choice={f"item{n}": n if n % 2 else "é\n\"\\'x" * 33 for n in range(50)},
            environment=dict.fromkeys(sorted(SESSION_VARIABLES), "é\n\"\\'x" * 100)
            | {"JUPYTERHUB_DEFAULT_URL": "/tree"},
        )
        assert received(pair, whole.model_dump_json().encode()) == whole

    BAD: dict[str, Any] = {
        "unknown field": START | {"queue": "root.q"},
        "unknown field of a stop": STOP | {"force": True},
        "no user": {k: v for k, v in START.items() if k != "user"},
        "no environment": {k: v for k, v in START.items() if k != "environment"},
        "no action": {k: v for k, v in START.items() if k != "action"},
        "unknown action": START | {"action": "run"},
        "fields of the other action": STOP | {"environment": {}},
        "user with a slash": START | {"user": "../alice"},
        "user with a newline": START | {"user": "alice\n"},
        "user that is empty": START | {"user": ""},
        "user with a colon": START | {"user": "alice:bob"},
        "user with a NUL": START | {"user": "alice\0"},
        "user that is long": START | {"user": "a" * 257},
        "user that is a number": START | {"user": 0},
        "user that is a list": START | {"user": ["alice"]},
        "values that are long": START | {"choice": {"cores": "2" * 201}},
        "values as nothing": START | {"choice": {"cores": None}},
        "values as booleans": START | {"choice": {"cores": True}},
        "values with fractions": START | {"choice": {"cores": 2.0}},
        "values as a list": START | {"choice": [["cores", 2]]},
        "too many values": START | {"choice": {f"item{n}": 1 for n in range(51)}},
        "a way to run code: LD_PRELOAD": START | {"environment": {"LD_PRELOAD": "/tmp/x.so"}},
        "another site to open": START
        | {"environment": {"JUPYTERHUB_DEFAULT_URL": "//example.org/lab"}},
        "a way to run code: BASH_ENV": START | {"environment": {"BASH_ENV": "/tmp/x"}},
        "a way to run code: PATH": START | {"environment": {"PATH": "/tmp"}},
        "a name that resembles a known one": START
        | {"environment": {"JUPYTERHUB_API_TOKEN ": "x"}},
        "a name in small letters": START | {"environment": {"jupyterhub_api_token": "x"}},
        "a name with the value in it": START | {"environment": {"JUPYTERHUB_USER=x": "x"}},
        "a value with NUL": START | {"environment": {"JUPYTERHUB_USER": "alice\0"}},
        "a value that is long": START | {"environment": {"JUPYTERHUB_USER": "x" * 8193}},
        "a value that is a number": START | {"environment": {"JUPYTERHUB_USER": 5}},
        "a value that is null": START | {"environment": {"JUPYTERHUB_USER": None}},
        "no session": {k: v for k, v in START.items() if k != "session"},
        "no session of a stop": {k: v for k, v in STOP.items() if k != "session"},
        "session that is a path": STOP | {"session": "../" + SESSION[3:]},
        "session that is a pattern": STOP | {"session": "*"},
        "session that is a number": STOP | {"session": int("1" * 32)},
        "session in capitals": STOP | {"session": SESSION.upper()},
        "session that is short": STOP | {"session": SESSION[1:]},
        "session that is long": STOP | {"session": SESSION + "0"},
        "session with a newline": START | {"session": SESSION + "\n"},
        "session that is empty": START | {"session": ""},
        "session that is null": START | {"session": None},
        "job number in place of a session": {"action": "stop", "user": "alice", "job_id": 1},
        "server with a comma": START | {"server": "a,jupyterhub_user=bob"},
        "server with an equals sign": START | {"server": "a=b"},
        "server with a space": START | {"server": "a b"},
        "server with a newline": START | {"server": "a\n"},
        "server that is long": START | {"server": "a" * 256},
        "server that is null": START | {"server": None},
        "null": None,
        "list": [START],
        "text": "start",
        "number": 1,
    }  # fmt: skip

    @pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
    def test_an_invalid_request_is_refused(
        self, pair: tuple[socket.socket, socket.socket], wrong: Any
    ) -> None:
        with pytest.raises(Refused, match="not a request") as caught:
            received(pair, json.dumps(wrong).encode())
        assert caught.value.kind == "request"
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0",
            b"\xff\xfe",
            b"start alice",
            json.dumps(START).encode()[:-1],
            json.dumps(START).encode() * 2,
            json.dumps(START).encode() + b"\0",
            json.dumps(START).encode("utf-16"),
            b"[" * 60_000,
            json.dumps(START).replace("alice", "\\ud800").encode(),
        ],
    )  # fmt: skip
    def test_anything_but_one_json_object_is_refused(
        self, pair: tuple[socket.socket, socket.socket], data: bytes
    ) -> None:
        with pytest.raises(Refused, match="not a request"):
            received(pair, data)

    def test_lone_surrogates_in_a_value_are_refused(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        # Lone surrogates can neither be written to the session's file nor logged.
        data = json.dumps(START | {"environment": {"JUPYTERHUB_USER": "\ud800"}}).encode()
        with pytest.raises(Refused, match="not a request"):
            received(pair, data)

    def test_a_request_that_is_too_long_is_refused(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused, match=f"longer than {MAX_MESSAGE} bytes"):
            received(pair, json.dumps(START).encode() + b" " * MAX_MESSAGE)

    def test_a_request_of_the_maximum_length_is_read(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        assert received(pair, json.dumps(START).encode().ljust(MAX_MESSAGE)) == request()

    def test_a_caller_that_never_finishes_times_out(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.broker.connection.RECEIVE_TIMEOUT", 0.05)
        pair[1].sendall(json.dumps(START).encode())
        with pytest.raises(Refused, match="no whole request within 0.05 s"):
            receive(pair[0])

    def test_a_caller_that_sends_byte_by_byte_times_out_too(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.broker.connection.RECEIVE_TIMEOUT", 0.3)
        ours, theirs = pair
        ended = threading.Event()

        def drip() -> None:
            deadline = time.monotonic() + 5
            with contextlib.suppress(OSError):
                while not ended.wait(0.02) and time.monotonic() < deadline:
                    theirs.sendall(b" ")
                theirs.shutdown(socket.SHUT_WR)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with pytest.raises(Refused, match="no whole request within 0.3 s"):
                receive(ours)
        finally:
            ended.set()
            dripping.join()

    @given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_arbitrary_bytes_raise_only_a_refusal(self, data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(Refused):
            send(theirs, data)
            receive(ours)

    @given(
        user=st.text(max_size=80) | st.from_regex(r"\A-?[a-z./ \n$;`]{1,20}\Z"),
        session=st.text(max_size=40) | st.from_regex(r"\A[0-9a-f]{32}.?\Z"),
        server=st.text(max_size=40),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_accepted_names_are_plain_names(self, user: str, session: str, server: str) -> None:
        """No accepted name can act as an option, path, shell word, job directive or second line.

        The exception is the user's name: the broker only looks it up in the directory, and goes on
        with the account's own name.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(Refused):
            send(
                theirs,
                json.dumps(START | {"user": user, "session": session, "server": server}).encode(),
            )
            accepted = receive(ours)
            assert isinstance(accepted, Start)
            assert re.fullmatch(r"[^:/\x00-\x1f\x7f]{1,256}", accepted.user)
            assert re.fullmatch(r"[0-9a-f]{32}", accepted.session)
            assert re.fullmatch(r"[A-Za-z0-9_.~-]*", accepted.server)

    @pytest.mark.parametrize(
        "wrong",
        [
            START | {"environment": {"JUPYTERHUB_API_TOKEN": f"{TOKEN}\0"}},
            START | {"environment": {"JUPYTERHUB_API_TOKEN": [TOKEN]}},
            START | {"environment": {"JUPYTERHUB_API_TOKEN": TOKEN * 1000}},
            START | {"environment": {"API_TOKEN": TOKEN}},
            START | {"environment": TOKEN},
            START | {"user": TOKEN * 8},
            START | {"extra": TOKEN},
        ],
    )
    def test_a_refusal_never_repeats_a_value(
        self, pair: tuple[socket.socket, socket.socket], wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(Refused) as caught:
            received(pair, json.dumps(wrong).encode())
        assert TOKEN not in str(caught.value)

    def test_a_refusal_never_repeats_a_piece_of_broken_json(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused) as caught:
            received(pair, json.dumps(START).encode()[:-5])
        assert TOKEN not in str(caught.value)
