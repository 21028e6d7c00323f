# SPDX-License-Identifier: BSD-3-Clause
"""How the broker writes a session's file to a person's home, or reports why it cannot."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from asked import ENVIRONMENT, PORTS, TOKEN, as_root, secrets_in
from gridhub.broker.home import home_trouble, within, write_session_file
from gridhub.broker.person import Refused
from gridhub.contract import SESSION_FOLDER

RULES = {"run_time": 3600, "warnings": [600]}


class TestSessionFile:
    @pytest.fixture
    def path(self, home: Path) -> Path:
        return home / SESSION_FOLDER / "a1.json"

    def test_only_its_owner_can_read_it(self, path: Path, home: Path) -> None:
        umask = os.umask(0)
        try:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert json.loads(path.read_text(encoding="utf-8")) == {
            "environment": ENVIRONMENT,
            "ports": list(PORTS),
            "rules": RULES,
        }

    def test_files_left_unread_for_a_week_are_removed(self, path: Path, home: Path) -> None:
        write_session_file(path, ENVIRONMENT, PORTS, RULES)
        day = 24 * 3600
        ages = {"old.json": 8 * day, "waits.json": 6 * day, "7.log": 300 * day}
        for name, age in ages.items():
            (path.parent / name).touch()
            os.utime(path.parent / name, (time.time() - age,) * 2)
        write_session_file(path.with_name("a2.json"), ENVIRONMENT, PORTS, RULES)
        left = {found.name for found in path.parent.iterdir()}
        assert left == {"a1.json", "a2.json", "waits.json", "7.log"}

    def test_a_folder_that_is_open_to_others_is_closed(self, path: Path, home: Path) -> None:
        folder = home / SESSION_FOLDER
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_link_in_place_of_the_folder_is_refused(
        self, path: Path, home: Path, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o755)
        before = elsewhere.stat().st_mode
        (home / SESSION_FOLDER).symlink_to(elsewhere)
        with pytest.raises(Refused, match="must be a folder of your own") as caught:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert caught.value.kind == "home"
        assert not list(elsewhere.iterdir())
        assert elsewhere.stat().st_mode == before

    def test_a_link_to_nowhere_in_place_of_the_folder_is_refused(
        self, path: Path, home: Path, tmp_path: Path
    ) -> None:
        (home / SESSION_FOLDER).symlink_to(tmp_path / "nowhere")
        with pytest.raises(Refused):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert not (tmp_path / "nowhere").exists()

    @as_root
    def test_another_users_folder_is_refused(self, path: Path, home: Path) -> None:
        folder = home / SESSION_FOLDER
        folder.mkdir()
        os.chown(folder, 4711, 4711)
        with pytest.raises(Refused, match="must be a folder of your own"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert not list(folder.iterdir())

    def test_a_file_in_place_of_the_folder_is_refused(self, path: Path, home: Path) -> None:
        (home / SESSION_FOLDER).write_text("mine", encoding="utf-8")
        with pytest.raises(Refused, match="mv ~/.jupyterhub-sessions ~/.jupyterhub-sessions.old"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert (home / SESSION_FOLDER).read_text(encoding="utf-8") == "mine"

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_link_in_place_of_the_file_is_not_followed(
        self, path: Path, home: Path, tmp_path: Path, exists: bool
    ) -> None:
        target = tmp_path / "target"
        if exists:
            target.write_text("untouched", encoding="utf-8")
        (home / SESSION_FOLDER).mkdir(mode=0o700)
        (home / SESSION_FOLDER / "a1.json").symlink_to(target)
        with pytest.raises(Refused, match="File exists"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert target.exists() is exists
        if exists:
            assert target.read_text(encoding="utf-8") == "untouched"

    def test_an_existing_file_is_neither_overwritten_nor_removed(
        self, path: Path, home: Path
    ) -> None:
        write_session_file(path, {"JUPYTERHUB_USER": "first"}, PORTS, RULES)
        with pytest.raises(Refused):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert "first" in path.read_text(encoding="utf-8")

    def test_a_missing_home_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=f"No such file or directory: {tmp_path}/gone"):
            write_session_file(
                tmp_path / "gone" / SESSION_FOLDER / "a1.json", ENVIRONMENT, PORTS, RULES
            )

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_a_full_home_is_reported_and_no_secret_is_left(
        self, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Refused, match=os.strerror(number)) as caught:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert caught.value.kind == "home"
        assert TOKEN not in str(caught.value)
        assert not secrets_in(home)

    @as_root
    def test_a_really_full_disk_is_reported_and_no_secret_is_left(
        self, path: Path, home: Path
    ) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(home)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            with contextlib.suppress(OSError), (home / "filling").open("wb", 0) as file:
                while True:
                    file.write(b"x" * 1024)
            with pytest.raises(Refused, match="No space left"):
                write_session_file(path, ENVIRONMENT, PORTS, RULES)
            assert not secrets_in(home)
        finally:
            subprocess.run(["umount", str(home)], check=True)


class TestTrouble:
    """The sentence about a home that cannot be used says what its owner can do."""

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.ENOSPC, r"is full \(No space left.*du -xk ~/ \| sort -n \| tail -n 20$"),
            (errno.EDQUOT, r"over its quota \(Disk quota.*du -xk ~/ \| sort -n \| tail -n 20$"),
            (errno.EROFS, "cannot be written at the moment .*Tell the administrators"),
            (errno.EACCES, r"cannot be written \(Permission.*chmod u\+rwx ~$"),
            (errno.ENOENT, "is missing"),
            (errno.EIO, "cannot be used"),
        ],
    )
    def test_each_error_has_its_advice(self, home: Path, number: int, words: str) -> None:
        error = OSError(number, os.strerror(number), "/home/x/y")
        found = home_trouble(error, home)
        assert re.search(words, found), found
        assert "/home/x/y" in found

    def test_a_home_without_free_inodes_lists_folders_by_files(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        system = os.statvfs_result((4096, 4096, 100, 50, 50, 10, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: system)
        found = home_trouble(OSError(errno.ENOSPC, "No space left on device"), home)
        assert found.endswith("du -x --inodes ~/ | sort -n | tail -n 20")

    @as_root
    def test_the_owner_of_a_foreign_home_is_named(self, home: Path) -> None:
        os.chown(home, 1, 1)
        found = home_trouble(OSError(errno.EACCES, "Permission denied"), home)
        assert f"{home}, belongs to the account daemon" in found


class TestWithin:
    """Work on the person's home runs in a separate process, with a time limit."""

    def test_the_task_runs(self, tmp_path: Path) -> None:
        within(10, (tmp_path / "done").touch)
        assert (tmp_path / "done").exists()

    def test_a_refusal_arrives_unchanged(self) -> None:
        def refuse() -> None:
            raise Refused("home", "Your home folder is \u00e9 <full>.")

        with pytest.raises(Refused, match="^Your home folder is \u00e9 <full>.$") as caught:
            within(10, refuse)
        assert caught.value.kind == "home"

    @pytest.mark.parametrize("fault", [OSError("no"), RuntimeError("no"), SystemExit("no")])
    def test_an_unexpected_exception_is_a_fault_of_the_broker(self, fault: BaseException) -> None:
        def fail() -> None:
            raise fault

        with pytest.raises(Refused, match="no") as caught:
            within(10, fail)
        assert caught.value.kind == "broker"

    def test_a_task_that_dies_is_a_fault_of_the_broker(self) -> None:
        with pytest.raises(Refused, match="died") as caught:
            within(10, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert caught.value.kind == "broker"

    def test_waiting_for_a_home_that_hangs_times_out(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        began = time.monotonic()
        with pytest.raises(Refused, match=r"does not answer \(no reply within 0\.2 s\)") as caught:
            within(0.2, pipe.read_text)
        assert time.monotonic() - began < 5
        assert caught.value.kind == "home"
        with pipe.open("w"):
            pass  # closing the pipe lets the child process end

    def test_no_file_descriptor_is_left_open(self) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            within(10, lambda: None)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
