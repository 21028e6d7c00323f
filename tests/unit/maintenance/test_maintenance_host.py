"""Commands, files and disks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError


def test_a_command_that_fails_or_is_too_slow_is_named() -> None:
    with pytest.raises(MaintenanceError, match="(?s)sh -c .*: exit status 3\nno such thing"):
        host.run(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(MaintenanceError, match="sleep 60: not done within 0.1 s"):
        host.run(["sleep", "60"], seconds=0.1)
    with pytest.raises(MaintenanceError, match="/no/such/program: "):
        host.run(["/no/such/program"])


def test_a_files_mode_does_not_depend_on_roots_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        host.write(tmp_path / "notice", "words", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "notice").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["notice"]


def test_space_that_is_not_there_is_not_set_aside(tmp_path: Path) -> None:
    host.allocate(tmp_path / "some", 1 << 20)
    assert (tmp_path / "some").stat().st_blocks * 512 >= 1 << 20
    with pytest.raises(OSError, match=r"space|large"):
        host.allocate(tmp_path / "some", 1 << 60)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        host.write(tmp_path / "folder", "words", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("folder", ["/", "/usr", "/var/log", "/var/lib/dpkg"])
def test_a_full_file_system_is_named(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=(5 if str(path) == folder else 10_000) << 20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(MaintenanceError, match=f"^{folder} has 5 MB free; maintenance_free_mb"):
        host.check_disk(1000, "")
