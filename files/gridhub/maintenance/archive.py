# SPDX-License-Identifier: BSD-3-Clause
"""The file of a backup: a tar with a manifest, the hub's database and the packed files.

The manifest has the SHA-256 hash of each other member. With public keys of age, the whole file is
encrypted. age is used, not GnuPG, because a host then needs only one line of public key: no
keyring, no agent, and no key that expires.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError

#: The members. The database is in SQLite's format, whichever database system the hub uses.
MANIFEST, DATABASE, FILES = "manifest.json", "database.sqlite", "files.tar.gz"

#: The version of the manifest's form.
FORM = 1

PLAIN, ENCRYPTED = ".tar", ".tar.age"

#: The name of a backup is the time in UTC at which it was begun.
NAME = "%Y-%m-%dT%H%M%S"

#: Time limit for encrypting or decrypting a backup, in seconds.
MAX_SECONDS = 600.0

#: The longest manifest that is read, in bytes.
MAX_MANIFEST = 1 << 20

_AGE_HEADER = b"age-encryption.org/v1\n"


def digest_of(file: Any) -> str:
    """Read an open file to its end; return the SHA-256 hash of what was read."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def create(path: Path) -> IO[bytes]:
    """Open a new file that only root can read; other programs' files are not overwritten."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "rb+")


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(target: Path, members: Mapping[str, Path], manifest: Mapping[str, Any]) -> None:
    """Write a backup, and read it back.

    :param members: the file for each member's name.
    :param manifest: what the manifest says besides the members' hashes and sizes.
    :raises MaintenanceError: when the backup is not as its parts.
    """
    files = {}
    for name, path in members.items():
        with path.open("rb") as member:
            files[name] = {"sha256": digest_of(member), "bytes": path.stat().st_size}
    described = target.with_name(f"{target.name}.{MANIFEST}")
    try:
        with create(described) as file:
            file.write(json.dumps({"form": FORM, **manifest, "files": files}, indent=1).encode())
        with create(target) as new, tarfile.open(fileobj=new, mode="w") as pack:
            for name, path in {MANIFEST: described, **members}.items():
                pack.add(path, arcname=name, recursive=False)
    finally:
        described.unlink(missing_ok=True)
    check(target)
    sync(target)


def read_manifest(pack: tarfile.TarFile, path: Path) -> dict[str, Any]:
    """Return the manifest of an open backup.

    :raises MaintenanceError: when it is not a backup of this form.
    """
    member = pack.next()
    if member is None or member.name != MANIFEST or member.size > MAX_MANIFEST:
        raise MaintenanceError(f"{path} is not a backup of GridHub: it has no {MANIFEST}")
    file = pack.extractfile(member)
    assert file is not None
    try:
        found = json.loads(file.read())
        form, files = found["form"], found["files"]
        _ = {name: (each["sha256"], each["bytes"]) for name, each in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaintenanceError(f"{path}: its {MANIFEST} cannot be read: {error!r}") from error
    if form != FORM:
        raise MaintenanceError(
            f"{path} has the form {form!r}, and this release reads {FORM}: use the release of "
            f"GridHub that made it ({found.get('versions')})"
        )
    return dict(found)


def check(path: Path, into: Path | None = None) -> dict[str, Any]:
    """Check a backup that is not encrypted, and return its manifest.

    :param into: an empty folder for the members; ``None`` only to check them.
    :raises MaintenanceError: naming the member that is missing, more than announced, or changed.
    """
    try:
        with tarfile.open(path, mode="r:") as pack:
            manifest = read_manifest(pack, path)
            missing = dict(manifest["files"])
            while member := pack.next():
                said = missing.pop(member.name, None)
                if said is None or not member.isfile() or "/" in member.name:
                    raise MaintenanceError(f"{path}: {member.name} is not in its {MANIFEST}")
                if into:
                    _extract(pack, member, into / member.name)
                file: Any = (into / member.name).open("rb") if into else pack.extractfile(member)
                with file:
                    if digest_of(file) != said["sha256"]:
                        raise MaintenanceError(
                            f"{path} is damaged: {member.name} is not what its {MANIFEST} says"
                        )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise MaintenanceError(f"{path} cannot be read as a backup: {error}") from error
    if missing:
        raise MaintenanceError(f"{path} is incomplete: {min(missing)} is missing")
    return manifest


def _extract(pack: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = pack.extractfile(member)
    assert source is not None
    with create(target) as file:
        while block := source.read(1 << 20):
            file.write(block)


def encrypt(plain: Path, target: Path, recipients: Sequence[str]) -> None:
    """Encrypt a file for the holders of the private keys.

    :param recipients: public keys, as age reads them: of age, or of SSH.
    :raises MaintenanceError: when age fails, such as for a key that it does not know.
    """
    keys = [word for key in recipients for word in ("--recipient", key)]
    with plain.open("rb") as reads, create(target) as writes:
        command = ["age", "--encrypt", *keys]
        host.run(command, seconds=MAX_SECONDS, named="age --encrypt", reads=reads, writes=writes)
        writes.seek(0)
        if writes.read(len(_AGE_HEADER)) != _AGE_HEADER:
            raise MaintenanceError(f"age has not written an encrypted file to {target}")
    sync(target)


def decrypt(source: Path, target: Path, identity: bytes) -> None:
    """Decrypt a file.

    :param identity: the private key, as age reads it. It goes through a pipe, never to the disk.
    :raises MaintenanceError: when the key is not one of the backup's, or the file is damaged.
    """
    if not identity.strip():
        raise MaintenanceError(
            f"{source} is encrypted: restore_identity_file must name the file with the private key "
            "on the machine that runs the playbook"
        )
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reads:
        with os.fdopen(write_end, "wb") as key:
            # Much less than a pipe holds (pipe(7)), so this does not block.
            key.write(identity[:32_768])
        with create(target) as writes:
            command = ["age", "--decrypt", "--identity", "-", str(source)]
            host.run(
                command,
                seconds=MAX_SECONDS,
                named=f"decrypting {source}",
                reads=reads,
                writes=writes,
            )


def free_name(folder: Path, moment: datetime, suffix: str = "") -> str:
    """Return the name for something that is made at a time, which nothing in the folder has.

    :param moment: the time in UTC.
    """
    while (folder / (name := f"{moment:{NAME}}{suffix}")).exists():
        moment += timedelta(seconds=1)
    return name


def all_in(folder: Path) -> list[Path]:
    """Return the finished backups in a folder, the oldest first."""
    found = [each for each in folder.glob("*") if made_at(each.name)]
    return sorted(found, key=lambda each: each.name)


def made_at(name: str) -> datetime | None:
    """Return the time in a backup's name, in UTC without a zone; ``None`` for other files."""
    stem, dot, rest = name.partition(".")
    if f"{dot}{rest}" not in (PLAIN, ENCRYPTED):
        return None
    try:
        return datetime.strptime(stem, NAME)
    except ValueError:
        return None


def outdated(names: Iterable[str], keep: int, days: int, now: datetime) -> list[str]:
    """Return the names of the backups to delete: too many, or too old.

    :param keep: how many to keep at most.
    :param days: the oldest age to keep; 0 means any age. The newest backup is always kept.
    :param now: the time in UTC, without a zone.
    """
    newest_first = sorted(filter(made_at, names), reverse=True)
    oldest = now - timedelta(days=days)
    return [
        name
        for place, name in enumerate(newest_first)
        if place and (place >= keep or (days and (made_at(name) or now) < oldest))
    ]
