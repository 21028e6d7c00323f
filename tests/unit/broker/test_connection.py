# SPDX-License-Identifier: BSD-3-Clause
"""How the broker checks which account has connected to it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asked import SESSION, START, as_root, send
from folders import FILES
from gridhub.broker.config import Config
from gridhub.broker.connection import check_caller
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer


class TestCaller:
    def test_the_hub_may_call(
        self, config: Config, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        check_caller(pair[0], config.hub_user)

    def test_another_user_may_not_call(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.getuid())
        with pytest.raises(Refused, match=f"only {other} may use the broker") as caught:
            check_caller(pair[0], other)
        assert caught.value.kind == "refused"

    @as_root
    def test_not_even_root_may_call_in_place_of_the_hub(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused):
            check_caller(pair[0], "nobody")

    def broker(self, config: Config, tmp_path: Path, data: bytes) -> tuple[str, str]:
        """Run the broker as systemd does, with the connection as its standard input."""
        path = tmp_path / "broker.json"
        path.write_text(config.model_dump_json(), encoding="utf-8")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, str(FILES / "sge_broker.py"), str(path)],
                    stdin=theirs,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            ours.settimeout(20)
            send(ours, data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := ours.recv(8192):
                    answer += chunk
        _, logged = process.communicate(timeout=20)
        assert process.returncode == 0
        return answer.decode(), logged

    def test_the_broker_answers_on_its_connection(self, config: Config, tmp_path: Path) -> None:
        data = json.dumps(START | {"user": "no-such-account"}).encode()
        answer, logged = self.broker(config, tmp_path, data)
        assert Answer.model_validate_json(answer).kind == "refused"
        assert logged == (
            f"start for no-such-account, session {SESSION}: refused (refused): "
            "there is no account no-such-account\n"
        )

    def test_the_broker_answers_a_bad_request_too(self, config: Config, tmp_path: Path) -> None:
        answer, logged = self.broker(config, tmp_path, b"{\n")
        assert Answer.model_validate_json(answer).kind == "request"
        assert logged.startswith("refused (request): not a request")
        assert logged.count("\n") == 1

    def test_the_broker_refuses_another_caller_before_reading(
        self, config: Config, tmp_path: Path
    ) -> None:
        other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.getuid())
        config = config.model_copy(update={"hub_user": other})
        answer, logged = self.broker(config, tmp_path, json.dumps(START).encode())
        assert Answer.model_validate_json(answer).kind == "refused"
        assert "may use the broker" in logged
