# SPDX-License-Identifier: BSD-3-Clause
"""How the broker decides on a request, and how it logs the decision."""

from __future__ import annotations

import pwd
import time
from pathlib import Path

import pytest

from asked import SESSION, TOKEN, Fake, request
from fake_directory import FakeDirectory
from gridhub.broker.config import Config
from gridhub.broker.protocol import Answer, Check, Look, Start, Stop
from gridhub.broker.requests import decide


class TestDecide:
    def test_an_account_that_does_not_exist_is_refused(self, config: Config) -> None:
        answer = decide(config, request(user="no-such-account"))
        assert (answer.ok, answer.kind) == (False, "refused")
        assert "no account no-such-account" in answer.error

    def test_root_is_refused_even_when_named(self, config: Config) -> None:
        config = config.model_copy(update={"allowed_users": frozenset({"root"})})
        for wanted in (request(user="root"), Stop(user="root", session=SESSION)):
            answer = decide(config, wanted)
            assert (answer.ok, answer.kind) == (False, "refused")

    def test_a_start_under_another_name_is_refused_since_its_job_would_be_a_stray(
        self, config: Config, alice: pwd.struct_passwd, directory: FakeDirectory
    ) -> None:
        directory.add("ann.smith", "alice")
        answer = decide(config, request())
        assert (answer.ok, answer.kind) == (False, "refused")
        assert "called ann.smith, not alice" in answer.error

    def test_a_stop_under_another_name_is_carried_out(
        self, config: Config, alice: pwd.struct_passwd, directory: FakeDirectory, fake: Fake
    ) -> None:
        directory.add("ann.smith", "alice")
        fake("qdel", "exit 0")
        assert decide(config, Stop(user="alice", session=SESSION)).ok

    def test_an_account_in_roots_group_is_refused(
        self, config: Config, directory: FakeDirectory
    ) -> None:
        rooted = pwd.struct_passwd(("alice", "x", 4711, 0, "", "/home/alice", "/bin/sh"))
        directory.accounts["alice"] = directory.own[4711] = rooted
        assert "root's account" in decide(config, request()).error

    def test_a_look_says_whether_an_account_can_have_sessions(
        self, config: Config, alice: pwd.struct_passwd, directory: FakeDirectory
    ) -> None:
        assert decide(config, Look(user="alice")) == Answer(ok=True)
        directory.add("ann@example.org", uid=4712)
        answer = decide(config, Look(user="ann@example.org"))
        assert (answer.ok, answer.kind) == (False, "refused")
        assert "because its name has “@”" in answer.error

    @pytest.mark.parametrize("home", ["/no/such/folder", "/etc/passwd", "/"])
    def test_a_look_finds_out_that_there_is_no_home(
        self, config: Config, alice: pwd.struct_passwd, directory: FakeDirectory, home: str
    ) -> None:
        directory.add("alice", home=home)
        answer = decide(config, Look(user="alice"))
        assert (answer.ok, answer.kind) == (False, "no_home")
        assert f"no home folder on the hub's host ({home})" in answer.error

    def test_a_home_that_does_not_answer_keeps_nobody_out(
        self, config: Config, alice: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.broker.requests.HOME_TIMEOUT", 0.2)
        monkeypatch.setattr(Path, "is_dir", lambda self: time.sleep(5))
        assert decide(config, Look(user="alice")) == Answer(ok=True)

    @pytest.mark.parametrize(
        "wanted",
        [
            request(),
            Stop(user="alice", session=SESSION),
            Check(user="alice", choice={}),
            Look(user="alice"),
        ],
    )
    def test_the_broker_never_becomes_a_system_account(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        directory: FakeDirectory,
        monkeypatch: pytest.MonkeyPatch,
        wanted: Start | Stop | Check | Look,
    ) -> None:
        directory.add("alice", uid=999)
        become: list[object] = []
        monkeypatch.setattr("gridhub.broker.requests.become", become.append)
        answer = decide(config, wanted)
        assert (answer.kind, become) == ("refused", [])
        assert "alice is a system account" in answer.error

    def test_a_start_is_logged_in_one_line_without_the_secret(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake("qsub", "echo 4711")
        assert decide(config, request()) == Answer(ok=True, job_id=4711)
        assert capsys.readouterr().err == f"start for alice, session {SESSION}: job 4711\n"

    def test_text_of_other_programs_cannot_forge_a_log_line(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake(
            "qsub",
            r"printf 'no\nstart for bob: job 1\r\033[31m\177\302\205\302\233x\0y\t' >&2; exit 1",
        )
        answer = decide(config, request())
        assert not answer.ok
        logged = capsys.readouterr()
        assert logged.out == ""
        assert logged.err.startswith(f"start for alice, session {SESSION}: refused (grid): ")
        assert logged.err.count("\n") == 1
        assert logged.err.endswith("\n")
        assert logged.err[:-1].isprintable()
        assert TOKEN not in logged.err

    def test_long_messages_of_grid_engine_do_not_flood_the_log(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake("qsub", "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
        assert len(decide(config, request()).error) < 3000
        assert len(capsys.readouterr().err) < 3000
