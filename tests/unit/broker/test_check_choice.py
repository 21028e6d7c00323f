# SPDX-License-Identifier: BSD-3-Clause
"""How the broker checks a choice without submitting a job."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from asked import secrets_in
from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer, Check
from gridhub.broker.requests import check, decide


class TestCheck:
    @pytest.fixture
    def verify(
        self, fake: Callable[[str, str], Path], tmp_path: Path
    ) -> Callable[[str, str], Path]:
        """Make a fake qsub that runs one script for ``-w v`` and another one for ``-w p``.

        The result is the file in which the fake qsub records its calls.
        """

        def make(on_empty: str, now: str) -> Path:
            script = (
                'while [ "$1" != -w ]; do shift; done\n'
                f'if [ "$2" = v ]; then {on_empty}; else {now}; fi'
            )
            fake("qsub", f'echo "$@" >> {tmp_path}/calls\n{script}')
            return tmp_path / "calls"

        return make

    FITS = "echo 'verification: found suitable queue(s)'"
    NO_FIT = "echo 'Unable to run job: only offers 0 slots' >&2; exit 1"

    @pytest.mark.parametrize(
        ("on_empty", "now", "answer"),
        [
            (FITS, FITS, Answer(ok=True, verdict="now")),
            (
                FITS,
                NO_FIT,
                Answer(ok=True, verdict="later", words="Unable to run job: only offers 0 slots"),
            ),
        ],
    )
    def test_grid_engine_is_queried_about_an_empty_cluster_and_about_now(
        self,
        on_empty: str,
        now: str,
        answer: Answer,
        config: Config,
        alice: pwd.struct_passwd,
        verify: Callable[[str, str], Path],
        home: Path,
    ) -> None:
        calls = verify(on_empty, now)
        assert check(config, alice, Check(user="alice", choice={"cores": 2})) == answer
        lines = calls.read_text("utf-8").splitlines()
        assert [line.split("-w ")[1][0] for line in lines] == ["v", "p"]
        assert all("-pe smp 2" in line and "-terse" not in line for line in lines)
        assert secrets_in(home) == []

    @pytest.mark.parametrize(
        ("gpus", "reason"), [(True, "offers only hc:gpu=2"), (False, "0 slots")]
    )
    def test_an_impossible_choice_is_queried_again_without_the_parallel_environment(
        self,
        gpus: bool,
        reason: str,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Callable[[str, str], Path],
        tmp_path: Path,
    ) -> None:
        without_environment = "echo 'it offers only hc:gpu=2' >&2; exit 1" if gpus else self.FITS
        fake(
            "qsub",
            f'echo "$@" >> {tmp_path}/calls; case "$*" in *"-pe smp 2"*) {self.NO_FIT};; esac\n'
            + without_environment,
        )
        answer = check(config, alice, Check(user="alice", choice={"cores": 2}))
        assert answer.verdict == "never"
        assert reason in answer.words
        lines = (tmp_path / "calls").read_text("utf-8").splitlines()
        assert lines[1] == lines[0].replace(" -pe smp 2", "")
        assert len(lines) == 2

    def test_grid_engine_is_not_queried_about_a_choice_off_the_menu(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        calls = verify(self.FITS, self.FITS)
        with pytest.raises(Refused) as refused:
            check(config, alice, Check(user="alice", choice={"cores": 64}))
        assert refused.value.kind == "choice"
        assert not calls.exists()

    def test_people_who_may_not_have_sessions_may_not_check_a_choice(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        calls = verify(self.FITS, self.FITS)
        closed = config.model_copy(
            update={"allowed_users": frozenset(), "allowed_groups": frozenset()}
        )
        with pytest.raises(Refused, match="may not have sessions"):
            check(closed, alice, Check(user="alice", choice={}))
        assert not calls.exists()

    def test_there_is_no_verdict_while_the_qmaster_is_down(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        verify("echo 'error: unable to send message to qmaster' >&2; exit 1", self.FITS)
        with pytest.raises(Refused, match="Grid Engine does not answer"):
            check(config, alice, Check(user="alice", choice={}))

    def test_a_check_is_logged_with_its_verdict(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        verify: Callable[[str, str], Path],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        verify(self.FITS, self.FITS)
        assert decide(config, Check(user="alice", choice={})).verdict == "now"
        assert capsys.readouterr().err == "check for alice: now\n"
