# SPDX-License-Identifier: BSD-3-Clause
"""How the broker submits a job."""

from __future__ import annotations

import json
import pwd
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from asked import (
    ENVIRONMENT,
    MENU,
    PORTS,
    SESSION,
    TOKEN,
    request,
    secrets_in,
)
from folders import QSTAT
from gridhub.broker.config import Config
from gridhub.broker.home import session_rules, write_session_file
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer
from gridhub.broker.requests import start
from gridhub.session.rules import read_rules


class TestStart:
    def test_qsub_gets_exactly_these_arguments(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
    ) -> None:
        folder = noting("echo 4711")
        assert start(config, alice, request()) == Answer(ok=True, job_id=4711)
        (path,) = secrets_in(home)
        assert path.stem == SESSION
        assert (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1] == [
            "-terse",
            "-N", f"jupyterhub-{SESSION}",
            "-S", "/usr/bin/env",
            "-wd", str(home),
            "-j", "y",
            "-o", f"{home}/.jupyterhub-sessions/$JOB_ID.log",
            "-r", "n",
            "-w", "e",
            "-ac",
            f"jupyterhub_hub={socket.gethostname()},jupyterhub_user=alice,jupyterhub_server=",
            "-q", "all.q",
            "-pe", "smp", "2", "-l", "h_vmem=1048576K",
            "/usr/local/lib/gridhub/session.sh",
            SESSION,
        ]  # fmt: skip

    def test_qsub_sees_no_secret_and_a_clean_environment(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("SGE_ROOT", "/elsewhere")
        folder = noting("echo 4711")
        start(config, alice, request())
        text = (folder / "environment").read_text(encoding="utf-8")
        found = dict(line.split("=", 1) for line in text.split("\0")[:-1])
        for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(shells_own, None)
        expected = config.grid.environment() | {
            "HOME": str(home),
            "USER": "alice",
            "LOGNAME": "alice",
        }
        del expected["LC_ALL"]  # with -V in a request file, it would reach the session
        assert found == expected
        assert TOKEN not in text + (folder / "arguments").read_text(encoding="utf-8")

    def test_the_secrets_are_there_before_the_job(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
    ) -> None:
        folder = noting("echo 4711")
        start(config, alice, request())
        (path,) = secrets_in(home)
        assert (folder / "secrets").read_text(encoding="utf-8") == f"600 {path}\n"
        content = json.loads(path.read_text(encoding="utf-8"))
        rules = session_rules(config, None, {"gpu": 0})
        assert content == {
            "environment": ENVIRONMENT | {"MEM_LIMIT": str(2 * 2**30)},
            "ports": list(PORTS),
            "rules": rules,
        }

    def test_the_session_file_has_its_run_time_and_the_sites_rules(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        item = {
            "name": "run_time",
            "label": "Run time",
            "unit": "minutes",
            "choices": [90],
            "default": 90,
            "request": {"kind": "run_time", "complex": "h_rt"},
        }
        config.menu.write_text(json.dumps({"items": [*MENU, item]}), encoding="utf-8")
        config = config.model_copy(
            update={
                "run_time_warnings": (30, 2),
                "idle_timeout": 60,
                "idle_notice": 10,
                "idle_report": 300,
            }
        )
        noting("echo 4711")
        start(config, alice, request())
        (path,) = secrets_in(home)
        rules = read_rules(json.loads(path.read_text(encoding="utf-8"))["rules"])
        assert rules[:5] == (5400, (1800, 120), 3600, 600, 300)
        for name, value in (("run_time", "end"), ("idle", "minutes"), ("left", "hours")):
            assert f"{{{value}}}" in rules.words[name]

    def test_a_session_name_is_used_only_once(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        noting("echo 4711")
        start(config, alice, request())
        with pytest.raises(Refused, match="File exists"):
            start(config, alice, request())
        assert [path.stem for path in secrets_in(home)] == [SESSION]

    def test_the_job_names_the_persons_server_for_administrators(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 4711")
        start(config, alice, request(server="my.lab"))
        assert ",jupyterhub_server=my.lab\0" in (folder / "arguments").read_text(encoding="utf-8")

    def test_no_job_is_submitted_if_the_home_hangs(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = noting("echo 4711")
        go_on, gone_on = home / "go on", home / "gone on"
        write = write_session_file

        def hang(*arguments: Any) -> None:
            while not go_on.exists():
                time.sleep(0.01)
            write(*arguments)
            # Tell the test that the file has been written. From here on, the child process runs
            # only code of the broker.
            gone_on.touch()

        monkeypatch.setattr("gridhub.broker.requests.write_session_file", hang)
        monkeypatch.setattr("gridhub.broker.requests.HOME_TIMEOUT", 0.2)
        with pytest.raises(Refused, match="does not answer") as caught:
            start(config, alice, request())
        assert caught.value.kind == "home"
        assert not list(folder.iterdir())
        # The home answers only now, after the time limit. The child process nevertheless writes the
        # file, so the broker must remove the file.
        go_on.touch()
        deadline = time.monotonic() + 10
        while not gone_on.exists() or secrets_in(home):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_output_before_the_job_number_is_ignored(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        noting(f"cat {QSTAT / 'qsub_now.err.txt'} >&2; cat {QSTAT / 'qsub_jsv.txt'}")
        assert start(config, alice, request()).job_id == 23

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (f"cat {QSTAT / 'qsub_no_queue.err.txt'} >&2; exit 1", "no suitable queues"),
            (f"cat {QSTAT / 'qmaster_down.err.txt'} >&2; exit 1", "unable to send message"),
            (f"cat {QSTAT / 'qsub_now_refused.txt'}; exit 1", "refused the session: 9"),
            ("exit 1", "no reason given"),
            ("echo 12; exit 1", "refused the session"),
            (f"cat {QSTAT / 'qsub_not_terse.txt'}", "did not print a job number"),
            (f"cat {QSTAT / 'qsub_array.txt'}", "did not print a job number"),
            ("", "did not print a job number"),
            (r"printf '\377\0'", "did not print a job number"),
            ("kill -9 $$", "no reason given"),
        ],
    )
    def test_no_secret_is_left_when_qsub_fails(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        script: str,
        words: str,
    ) -> None:
        folder = noting(script)
        with pytest.raises(Refused, match=words) as caught:
            start(config, alice, request())
        assert caught.value.kind == "grid"
        assert (folder / "secrets").exists()  # there was one
        assert not secrets_in(home)

    def test_no_secret_is_left_when_qsub_hangs(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("exec sleep 1000")
        config = config.model_copy(update={"timeout": 0.5})
        with pytest.raises(Refused, match="no answer within 0.5 s") as caught:
            start(config, alice, request())
        assert caught.value.kind == "grid"
        assert (folder / "secrets").exists()
        assert not secrets_in(home)

    @pytest.mark.parametrize(
        ("site_arguments", "expected"),
        [
            ((), "h=!(exec1|exec-2.example.org)"),
            (("-l", "gpu=1,h=exec*"), "h=(exec*)&!(exec1|exec-2.example.org)"),
            (("-l", "hostname=a|b", "-l", "h_rt=60"), "h=(a|b)&!(exec1|exec-2.example.org)"),
        ],
    )
    def test_workers_without_a_port_are_excluded_in_addition_to_the_sites_requests(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        noting: Callable[[str], Path],
        site_arguments: tuple[str, ...],
        expected: str,
    ) -> None:
        folder = noting("echo 4711")
        config = config.model_copy(update={"qsub_arguments": site_arguments})
        start(config, alice, request(avoid=("exec1", "exec-2.example.org")))
        arguments = (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]
        # If several arguments request a host, qsub uses only the last of these arguments.
        assert arguments[-4:-2] == ["-l", expected]

    @pytest.mark.parametrize(
        "host",
        ["", "*", "exec1|exec2", "exec1)", "!exec1", "-q", "exec1,gpu=4", "a b", "exec1\n", "é"]
        + ["x" * 300, 7, None],
    )
    def test_an_excluded_worker_must_be_a_plain_name(self, host: object) -> None:
        with pytest.raises(ValidationError):
            request(avoid=(host,))

    def test_only_a_few_workers_can_be_excluded(self) -> None:
        with pytest.raises(ValidationError):
            request(avoid=tuple(f"exec{each}" for each in range(5)))

    def test_word_items_become_arguments_of_qsub_and_of_the_job_script(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 4711")
        choice = {"queue": "short.q", "mail": "alice@example.org", "software": "conda"}
        assert start(config, alice, request(choice=choice)) == Answer(ok=True, job_id=4711)
        arguments = (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]
        assert arguments[arguments.index("all.q") + 1 :] == [
            "-pe", "smp", "1",
            "-m", "ea", "-M", "alice@example.org",
            "-q", "short.q",
            "-l", "h_vmem=2097152K",
            "/usr/local/lib/gridhub/session.sh",
            SESSION,
            "conda",
        ]  # fmt: skip

    def test_no_secret_is_left_when_there_is_no_qsub(
        self, config: Config, alice: pwd.struct_passwd, home: Path
    ) -> None:
        with pytest.raises(Refused, match="qsub cannot be started"):
            start(config, alice, request())
        assert not secrets_in(home)
