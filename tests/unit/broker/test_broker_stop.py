# SPDX-License-Identifier: BSD-3-Clause
"""How the broker deletes a job."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from asked import SESSION, Fake
from folders import QSTAT
from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer, Stop
from gridhub.broker.requests import stop
from gridhub.contract import SESSION_FOLDER


class TestStop:
    @pytest.fixture
    def commands(self, fake: Fake, tmp_path: Path) -> Callable[..., Path]:
        """Make a fake qdel that records its arguments, and a fake qstat that must not be called."""
        deleted = tmp_path / "deleted"

        def make(qdel: str = "") -> Path:
            fake("qstat", f"touch {tmp_path}/asked; exit 1")
            fake("qdel", f'echo "$@" > {deleted}\n{qdel}')
            return deleted

        return make

    def test_a_session_is_deleted_by_its_name(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        tmp_path: Path,
    ) -> None:
        deleted = commands(f"cat {QSTAT / 'qdel.txt'}")
        assert stop(config, alice, Stop(user="alice", session=SESSION)) == Answer(ok=True)
        assert deleted.read_text(encoding="utf-8") == f"jupyterhub-{SESSION}\n"
        assert not (tmp_path / "asked").exists()

    def test_the_file_of_a_session_that_never_started_is_removed_before_its_job(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        # If the job reaches Grid Engine only after this stop, the job finds no session file and
        # ends itself.
        folder = Path(alice.pw_dir) / SESSION_FOLDER
        folder.mkdir()
        for name in (f"{SESSION}.json", "7.log", f"{'a' * 32}.json"):
            (folder / name).touch()
        deleted = commands(f"ls {folder} >> {alice.pw_dir}/left; exit 1")
        with pytest.raises(Refused):
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert deleted.exists()
        left = (Path(alice.pw_dir) / "left").read_text(encoding="utf-8").split()
        assert left == ["7.log", f"{'a' * 32}.json"]

    def test_the_job_is_deleted_even_if_the_home_hangs(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def hang(seconds: float, task: Callable[[], object]) -> None:
            raise Refused("home", "Your home folder does not answer.")

        monkeypatch.setattr("gridhub.broker.requests.within", hang)
        deleted = commands(f"cat {QSTAT / 'qdel.txt'}")
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok
        assert deleted.exists()

    @pytest.mark.parametrize(
        "qdel",
        [
            f"cat {QSTAT / 'qdel_unknown.txt'}; exit 1",
            f"cat {QSTAT / 'qdel_of_other.txt'}; exit 1",
            f"cat {QSTAT / 'qdel_unknown.txt'} >&2; exit 1",
            f"echo warning >&2; cat {QSTAT / 'qdel_unknown.txt'}; exit 1",
            f"cat {QSTAT / 'qdel_again.txt'}",
        ],
        ids=["gone", "somebody else's", "on the other stream", "with a warning", "in deletion"],
    )
    def test_a_job_that_is_already_gone_is_a_success(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        qdel: str,
    ) -> None:
        commands(qdel)
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok

    def test_a_qmaster_that_is_down_is_a_failure(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands(f"cat {QSTAT / 'qdel_down.txt'}; cat {QSTAT / 'qdel_down.err.txt'} >&2; exit 1")
        with pytest.raises(Refused, match="did not delete the job: .*commlib error") as caught:
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert caught.value.kind == "grid"

    def test_a_qdel_that_hangs_is_a_failure(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands("exec sleep 1000")
        config = config.model_copy(update={"timeout": 0.3})
        with pytest.raises(Refused, match=r"no answer within 0\.3 s"):
            stop(config, alice, Stop(user="alice", session=SESSION))

    def test_a_person_who_may_no_longer_have_sessions_can_still_end_theirs(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands()
        config = config.model_copy(update={"allowed_users": frozenset()})
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok
