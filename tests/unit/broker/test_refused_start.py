# SPDX-License-Identifier: BSD-3-Clause
"""Refused starts: the broker submits no job and changes nothing."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from asked import (
    MENU,
    SESSION,
    as_root,
    request,
    secrets_in,
)
from folders import FILES
from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Stop
from gridhub.broker.requests import start, stop


class TestRefusedStart:
    @pytest.mark.parametrize(
        ("choice", "words"),
        [
            ({"cores": 3}, "choose 1, 2 or 4"),
            ({"cores": 0}, "choose 1, 2 or 4"),
            ({"gpus": 1}, "members of no-such-group"),
            ({"cores": 10**30}, "choose 1, 2 or 4"),
            ({"project": "root"}, "not on the menu"),
            ({"preset": "small"}, "leave it empty"),
            ({"queue": "gpu.q"}, "members of no-such-group"),
            ({"queue": "root.q"}, "choose “” .Any. or “short.q”"),
            ({"queue": "short.q,gpu.q"}, "choose “” .Any. or “short.q”"),
            ({"queue": 1}, "choose “” .Any. or “short.q”"),
            ({"software": "conda; id"}, "choose “” .None. or “conda”"),
            ({"software": "module load anaconda"}, "choose “” .None. or “conda”"),
            ({"mail": "alice@example.org,bob@example.org"}, "like “alice@example.org”"),
            ({"mail": "a@b -l h_rt=1"}, "like “alice@example.org”"),
            ({"mail": "-help"}, "like “alice@example.org”"),
            ({"mail": "a@b\n"}, "like “alice@example.org”"),
        ],
    )
    def test_the_broker_checks_the_choice_again_before_anything_else(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        choice: dict[str, int | str],
        words: str,
    ) -> None:
        folder = noting("echo 1")
        with pytest.raises(Refused, match=words) as caught:
            start(config, alice, request(choice=choice))
        assert caught.value.kind == "choice"
        assert not list(folder.iterdir())
        assert not list(home.iterdir())

    def test_a_start_for_an_account_without_permission_changes_nothing(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 1")
        config = config.model_copy(update={"allowed_users": frozenset({"bob"})})
        with pytest.raises(Refused, match="may not have sessions"):
            start(config, alice, request())
        assert not list(folder.iterdir())
        assert not list(home.iterdir())

    def test_a_broken_menu_is_a_fault_of_the_broker(
        self, config: Config, alice: pwd.struct_passwd, home: Path
    ) -> None:
        config.menu.write_text("{}", encoding="utf-8")
        with pytest.raises(Refused, match="is wrong") as caught:
            start(config, alice, request())
        assert caught.value.kind == "broker"
        assert not list(home.iterdir())

    def test_the_broker_becomes_the_person_before_it_touches_their_home(
        self, config: Config, alice: pwd.struct_passwd, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(user: pwd.struct_passwd) -> None:
            assert user == alice
            raise RuntimeError("could not give up root")

        monkeypatch.setattr("gridhub.broker.requests.become", refuse)
        with pytest.raises(RuntimeError):
            start(config, alice, request())
        with pytest.raises(RuntimeError):
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert not list(home.iterdir())

    @as_root
    def test_a_session_is_submitted_as_the_person_and_never_as_root(self, config: Config) -> None:
        daemon = pwd.getpwnam("daemon")
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o755)
            home, bin_dir, menu = folder / "home", folder / "bin", folder / "menu.json"
            home.mkdir()
            bin_dir.mkdir()
            os.chown(home, daemon.pw_uid, daemon.pw_gid)
            menu.write_text(json.dumps({"items": MENU}), encoding="utf-8")
            qsub = bin_dir / "qsub"
            qsub.write_text(
                '#!/bin/sh\nid -u >&2; id -G >&2; pwd >&2; stat -c "%u %a" ~/.jupy*/* >&2; exit 1',
                encoding="utf-8",
            )
            qsub.chmod(0o755)
            config = config.model_copy(
                update={
                    "menu": menu,
                    "sge_bin_dir": bin_dir,
                    "minimum_uid": 1,
                    "allowed_users": frozenset({"daemon"}),
                }
            )
            path = folder / "broker.json"
            path.write_text(config.model_dump_json(), encoding="utf-8")
            script = (
                "import pwd, sys\n"
                "from pathlib import Path\n"
                "sys.path.insert(0, sys.argv[1])\n"
                "from gridhub.broker import config, protocol, requests\n"
                "config = config.Config.model_validate_json(Path(sys.argv[2]).read_bytes())\n"
                "daemon = list(pwd.getpwnam('daemon'))\n"
                "daemon[5] = sys.argv[3]\n"
                "pwd.getpwuid = pwd.getpwnam = lambda _: pwd.struct_passwd(daemon)\n"
                "request = protocol.Start(\n"
                "    user='daemon', session='a' * 32, choice={}, environment={})\n"
                "print(requests.decide(config, request).error)\n"
            )
            files = FILES
            found = subprocess.run(
                [sys.executable, "-c", script, str(files), str(path), str(home)],
                capture_output=True,
                text=True,
                check=False,
            )
            uid, groups = str(daemon.pw_uid), os.getgrouplist("daemon", daemon.pw_gid)
            shown = found.stdout.removeprefix("Grid Engine refused the session: ").splitlines()
            assert shown == [uid, " ".join(map(str, groups)), "/", f"{uid} 600"], found
            assert not secrets_in(home)
        finally:
            shutil.rmtree(folder)
