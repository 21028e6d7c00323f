# SPDX-License-Identifier: BSD-3-Clause
"""How the broker reads the last lines of a session's log, whatever its person has put there."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asked import TOKEN, as_root
from gridhub.broker import requests
from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer, Log
from gridhub.broker.requests import decide, log
from gridhub.broker.session_log import MAX_LINE, MAX_LINES, MAX_READ, read_log, readable_lines
from gridhub.contract import SESSION_FOLDER

ASKED = Log(user="alice", job=7)


@pytest.fixture
def folder(home: Path) -> Path:
    folder = home / SESSION_FOLDER
    folder.mkdir()
    return folder


class TestReading:
    def test_the_last_lines_are_read(
        self, config: Config, alice: pwd.struct_passwd, folder: Path
    ) -> None:
        (folder / "7.log").write_text("first\nTraceback\n  <b>last</b>\n", encoding="utf-8")
        (folder / "8.log").write_text("of another job\n", encoding="utf-8")
        answer = log(config, alice, ASKED)
        assert answer == Answer(ok=True, log="first\nTraceback\n  <b>last</b>")

    def test_an_empty_log_and_no_log_differ(
        self, config: Config, alice: pwd.struct_passwd, home: Path
    ) -> None:
        assert log(config, alice, ASKED).log is None
        (home / SESSION_FOLDER).mkdir()
        assert log(config, alice, ASKED).log is None
        (home / SESSION_FOLDER / "7.log").touch()
        assert log(config, alice, ASKED).log == ""

    def test_only_a_small_piece_of_a_huge_log_is_read(
        self, config: Config, alice: pwd.struct_passwd, folder: Path
    ) -> None:
        with (folder / "7.log").open("wb") as file:
            file.truncate(2**40)  # a sparse file
            file.seek(0, os.SEEK_END)
            file.write(b"\nthe end\n" + b"x" * 1000)
        answer = log(config, alice, ASKED)
        assert answer.log
        assert answer.log.split("\n")[0] == "the end"
        assert len(answer.model_dump_json()) < 2 * MAX_LINES * MAX_LINE

    @pytest.mark.parametrize("what", ["link", "fifo", "folder", "device", "linked folder"])
    def test_something_else_in_place_of_the_log_is_not_read(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        folder: Path,
        tmp_path: Path,
        what: str,
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text("of somebody else", encoding="utf-8")
        path = folder / "7.log"
        match what:
            case "link":
                path.symlink_to(secret)
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "device":
                path.symlink_to("/dev/zero")
            case "linked folder":
                folder.rmdir()
                folder.symlink_to(tmp_path)
                (tmp_path / "7.log").write_text("of somebody else", encoding="utf-8")
        before = time.monotonic()
        with pytest.raises(Refused) as caught:
            log(config, alice, ASKED)
        assert caught.value.kind == "home"
        assert "somebody" not in str(caught.value)
        assert time.monotonic() - before < 3

    @as_root
    def test_a_file_of_another_account_is_not_read(self, folder: Path) -> None:
        path = folder / "7.log"
        path.write_text("of somebody else", encoding="utf-8")
        path.chmod(0o644)
        os.chown(path, 4711, 4711)
        with pytest.raises(OSError, match="not a plain file"):
            read_log(folder, 7)

    def test_a_home_that_hangs_costs_only_the_time_limit(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(requests, "LOG_TIMEOUT", 0.2)
        monkeypatch.setattr(requests, "read_log", lambda folder, job: time.sleep(3))
        with pytest.raises(Refused, match="does not answer"):
            log(config, alice, ASKED)

    def test_only_who_may_have_sessions_may_ask(
        self, config: Config, alice: pwd.struct_passwd, folder: Path
    ) -> None:
        (folder / "7.log").write_text("lines\n", encoding="utf-8")
        others = config.model_copy(update={"allowed_users": frozenset({"bob"})})
        with pytest.raises(Refused, match="may not have sessions"):
            log(others, alice, ASKED)

    def test_the_brokers_own_log_has_no_lines_of_it(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (folder / "7.log").write_text("private words\n", encoding="utf-8")
        assert decide(config, ASKED).log == "private words"
        assert capsys.readouterr().err == "log for alice, job 7: done\n"


class TestSecrets:
    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            (f"JUPYTERHUB_API_TOKEN={TOKEN}", "JUPYTERHUB_API_TOKEN=[hidden]"),
            (f"the token {TOKEN} is wrong", "the token [hidden] is wrong"),
            ("GET /lab?token=short HTTP", "GET /lab?token=[hidden] HTTP"),
            ("GET /lab?a=1&_xsrf=2|ab&b=2", "GET /lab?a=1&_xsrf=[hidden]&b=2"),
            ("Authorization: token abc def", "Authorization: [hidden]"),
            ("'Cookie': 'a=b; c=d'", "'Cookie': [hidden]"),
            ("{'password': 'pass word'}", "{'password': '[hidden] word'}"),
            ("https://alice:geheim@example.org/x", "https://[hidden]@example.org/x"),
            ("eyJhbGciOi.eyJzdWIi.c2ln", "[hidden]"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nend", "[hidden]\nend"),
            ("A" * 64, "[hidden]"),
            # Ordinary lines stay as they are.
            ("No module named 'jupyterlab'", "No module named 'jupyterlab'"),
            ("/opt/x/lib/python3.11/site-packages/jupyter_server/serverapp.py",) * 2,
        ],
    )
    def test_secrets_are_hidden(self, line: str, shown: str) -> None:
        assert readable_lines(line.encode(), is_cut=False) == shown

    def test_a_secret_that_the_beginning_cuts_is_hidden(self, folder: Path) -> None:
        (folder / "7.log").write_text(TOKEN + "a" * (MAX_READ - 20) + " end", encoding="utf-8")
        assert read_log(folder, 7) == "end"
        (folder / "7.log").write_text(TOKEN + "\n" + "b " * (MAX_READ // 2 - 10), encoding="utf-8")
        assert TOKEN[-8:] not in (read_log(folder, 7) or "")

    @pytest.mark.parametrize(
        ("data", "shown"),
        [
            (b"\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07x", "red x"),
            ("right \u202eto left\u200b".encode(), "right to left"),
            (b"bad \xff byte\r\nprogress 1\rprogress 2", "bad \ufffd byte\nprogress 1\nprogress 2"),
            (b"\0\0\n\n \n", ""),
        ],
    )
    def test_control_characters_are_removed(self, data: bytes, shown: str) -> None:
        assert readable_lines(data, is_cut=False) == shown

    @given(st.binary(max_size=3000), st.booleans())
    def test_any_bytes_become_a_few_readable_lines(self, data: bytes, is_cut: bool) -> None:
        lines = readable_lines(data, is_cut=is_cut).split("\n")
        assert len(lines) <= MAX_LINES
        assert all(len(line) <= MAX_LINE + 1 for line in lines)

    @pytest.mark.parametrize(
        "piece", ["a", "-", "token", "eyJ-", "eyJ.", "-----BEGIN ", " \n", "://a", "Cookie", "A0"]
    )
    def test_no_text_takes_long(self, piece: str) -> None:
        data = (piece * MAX_READ)[:MAX_READ].encode()
        before = time.process_time()
        readable_lines(data, is_cut=True)
        assert time.process_time() - before < 1.0
