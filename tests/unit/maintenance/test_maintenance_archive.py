# SPDX-License-Identifier: BSD-3-Clause
"""The file of a backup: what is refused, what is encrypted, and which backups are deleted."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from datetime import datetime
from pathlib import Path

import pytest

from gridhub.maintenance import archive
from gridhub.maintenance.errors import MaintenanceError


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (one := tmp_path / "one").write_bytes(b"1" * 5000)
    (two := tmp_path / "two").write_bytes(b"2" * 5000)
    path = tmp_path / "2026-12-01T000000.tar"
    archive.write(path, {"database.sqlite": one, "files.tar.gz": two}, {"host": "hub"})
    return path


def test_a_backup_is_read_as_it_was_written(backup: Path, tmp_path: Path) -> None:
    (into := tmp_path / "into").mkdir()
    assert archive.check(backup, into)["host"] == "hub"
    assert (into / "database.sqlite").read_bytes() == b"1" * 5000
    assert {each.stat().st_mode & 0o777 for each in (*into.iterdir(), backup)} == {0o600}


def test_every_changed_byte_of_a_member_is_noticed(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[content.index(b"2" * 100) + 50] ^= 1
    backup.write_bytes(content)
    with pytest.raises(MaintenanceError, match=r"is damaged: files\.tar\.gz"):
        archive.check(backup)


@pytest.mark.parametrize("length", [0, 100, 700, 4000, 9000])
def test_a_backup_that_was_cut_off_is_refused(backup: Path, length: int) -> None:
    backup.write_bytes(backup.read_bytes()[:length])
    with pytest.raises(MaintenanceError):
        archive.check(backup)


def rewritten(backup: Path, **members: bytes) -> Path:
    """Write a tar with other members; the manifest keeps its place."""
    target = backup.with_name("other.tar")
    with tarfile.open(backup) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = members.pop(member.name.partition(".")[0], None)
            source = old.extractfile(member)
            assert source is not None
            content = source.read() if content is None else content
            member.size = len(content)
            if content:
                new.addfile(member, io.BytesIO(content))
        for name, content in members.items():
            extra = tarfile.TarInfo(name)
            extra.size = len(content)
            new.addfile(extra, io.BytesIO(content))
    return target


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"files": b""}, "is incomplete: files.tar.gz is missing"),
        ({"extra": b"x"}, "extra is not in its manifest.json"),
        ({"manifest": b"[]"}, "its manifest.json cannot be read"),
        ({"manifest": json.dumps({"form": 9, "files": {}}).encode()}, "has the form 9"),
        ({"manifest": b""}, "is not a backup of GridHub"),
    ],
)
def test_another_content_is_refused(backup: Path, members: dict[str, bytes], words: str) -> None:
    with pytest.raises(MaintenanceError, match=words):
        archive.check(rewritten(backup, **members))


def test_a_member_outside_the_folder_is_refused(backup: Path, tmp_path: Path) -> None:
    manifest = {"form": 1, "files": {"../out": {"sha256": "0", "bytes": 1}}}
    other = rewritten(backup, manifest=json.dumps(manifest).encode(), files=b"", database=b"")
    with tarfile.open(other, "a") as pack:
        extra = tarfile.TarInfo("../out")
        extra.size = 1
        pack.addfile(extra, io.BytesIO(b"x"))
    (into := tmp_path / "into").mkdir()
    with pytest.raises(MaintenanceError, match="is not in its manifest"):
        archive.check(other, into)
    assert not (tmp_path / "out").exists()


NAMES = [f"2026-12-{day:02}T000000.tar" for day in range(1, 11)]


@pytest.mark.parametrize(
    ("keep", "days", "kept"),
    [
        (3, 0, NAMES[7:]),
        (100, 4, NAMES[6:]),
        (2, 4, NAMES[8:]),
        (1, 0, NAMES[9:]),
        (5, 1, NAMES[9:]),
    ],
)
def test_backups_are_deleted_by_number_and_age(keep: int, days: int, kept: list[str]) -> None:
    old = archive.outdated(NAMES, keep, days, datetime(2026, 12, 11))
    assert sorted(set(NAMES) - set(old)) == kept


def test_the_newest_backup_stays_however_old_it_is() -> None:
    assert archive.outdated(NAMES[:1], 1, 1, datetime(2030, 1, 1)) == []


def test_other_files_are_not_backups() -> None:
    names = ["notes.txt", "2026-12-01.tar", "2026-12-01T000000.tar.gz", ".unfinished"]
    assert archive.outdated(names, 1, 1, datetime(2030, 1, 1)) == []


def test_an_encrypted_backup_without_a_key_says_what_to_set(tmp_path: Path) -> None:
    (source := tmp_path / "x.tar.age").write_bytes(b"x")
    with pytest.raises(MaintenanceError, match="restore_identity_file"):
        archive.decrypt(source, tmp_path / "plain", b"")


@pytest.mark.skipif(not shutil.which("age"), reason="age is not installed here")
def test_only_the_private_key_reads_an_encrypted_backup(backup: Path, tmp_path: Path) -> None:
    def keys() -> tuple[bytes, str]:
        made = subprocess.run(["age-keygen"], capture_output=True, check=True)
        return made.stdout, made.stdout.decode().partition("public key: ")[2].split()[0]

    (private, public), (other, _) = keys(), keys()
    target, plain = tmp_path / "x.tar.age", tmp_path / "plain"
    archive.encrypt(backup, target, [public])
    assert b"1111" not in target.read_bytes()
    archive.decrypt(target, plain, private)
    assert plain.read_bytes() == backup.read_bytes()
    plain.unlink()
    with pytest.raises(MaintenanceError, match="decrypting"):
        archive.decrypt(target, plain, other)
    plain.unlink()
    with pytest.raises(MaintenanceError, match="age --encrypt"):
        archive.encrypt(backup, tmp_path / "no", ["not a key"])
