# SPDX-License-Identifier: BSD-3-Clause
"""States of the hub that are kept for going back: release, configuration, units and database."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
import stat
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from gridhub.maintenance import archive, backup, host, hub, report
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

FOLDER, RECORD = "kept", "record.json"

#: What belongs to a release besides the release itself; missing ones are skipped.
PATHS = (
    "/etc/jupyterhub",
    "/etc/systemd/system/jupyterhub.service",
    "/etc/systemd/system/jupyterhub-broker.socket",
    "/etc/systemd/system/jupyterhub-broker@.service",
    "/etc/systemd/system/jupyterhub-broker-ready.socket",
    "/etc/systemd/system/jupyterhub-broker-ready@.service",
)

#: What is not put back: secrets that other hosts know too, and what administrators set at any time.
NOT_BACK = (
    "/etc/jupyterhub/secrets",
    "/etc/jupyterhub/database",
    "/etc/jupyterhub/openid_client_secret",
    "/etc/jupyterhub/announcement.json",
    "/etc/jupyterhub/worker_window.json",
    "/etc/jupyterhub/maintenance.json",
)


@dataclass
class Kept:
    """A state of the hub before an operation; its files are in a folder of root's."""

    name: str
    #: The kind of the operation before which it was kept.
    before: str
    #: The folder of the release; empty if there was none.
    release: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    #: ``users`` and ``revision`` of the database; empty if there was none, or it is damaged.
    database: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder with its files."""
        return report.STATE / FOLDER / self.name


def keep(settings: Settings, before: str) -> Kept:
    """Keep the present state while the hub is stopped; all of it or nothing.

    A database that cannot be read is kept as it is.
    """
    folder = report.STATE / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = folder / backup.UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    release = hub.current(settings)
    kept = Kept(
        archive.free_name(folder, host.now()),
        before,
        str(release) if release else "",
        backup.release_versions(release) if release else {},
    )
    try:
        if settings.print_database or Path(settings.database).exists():
            kept.database = _keep_database(settings, work / archive.DATABASE)
        if paths := [path for path in settings.keep_paths or PATHS if Path(path).exists()]:
            command = [*backup.PROGRAM, "pack", str(work / archive.FILES), settings.notice_file]
            host.run(
                [*command, *paths], seconds=backup.MAX_SECONDS, named="keeping the configuration"
            )
        host.write(work / RECORD, json.dumps(asdict(kept), indent=1), 0o600)
        work.replace(kept.folder)
        archive.sync(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kept


def _keep_database(settings: Settings, copy: Path) -> dict[str, Any]:
    try:
        return backup.copy_database(settings, copy)
    except MaintenanceError:
        if not settings.database:
            raise
        # It may be damaged, which is a reason for a restore. Keep every byte.
        copy.unlink(missing_ok=True)
        with archive.create(copy) as file:
            host.run(
                [*settings.as_hub, "cat", settings.database],
                seconds=backup.MAX_SECONDS,
                named=f"copying {settings.database}",
                writes=file,
            )
        return {}


def all_kept() -> list[Kept]:
    """Return all kept states, the newest first; those that cannot be read are left out."""
    found = []
    for path in sorted((report.STATE / FOLDER).glob(f"*/{RECORD}"), reverse=True):
        with contextlib.suppress(OSError, ValueError, TypeError):
            kept = Kept(**json.loads(path.read_bytes()))
            if kept.name == path.parent.name:
                found.append(kept)
    return found


def find(name: str) -> Kept:
    """Return a kept state.

    :raises MaintenanceError: when there is none of this name.
    """
    for kept in all_kept():
        if kept.name == name:
            return kept
    there = ", ".join(kept.name for kept in all_kept()) or "none"
    raise MaintenanceError(
        f"there is no kept state {name!r} in {report.STATE / FOLDER}; there are: {there}"
    )


def remove(name: str) -> None:
    """Forget a kept state."""
    shutil.rmtree(report.STATE / FOLDER / name, ignore_errors=True)


def put_files_back(kept: Kept) -> None:
    """Write the kept configuration and units, each file in one step."""
    pack_path = kept.folder / archive.FILES
    if pack_path.exists():
        with pack_path.open("rb") as file:
            write_files(file, skip=NOT_BACK)


def write_files(
    pack_file: IO[bytes],
    skip: Sequence[str] = (),
    *,
    below: str = "/",
    only_missing: bool = False,
) -> list[str]:
    """Write the files of a pack to where they were, with their owners and modes.

    :param skip: files and folders to leave out.
    :param below: the folder to whose files to keep.
    :param only_missing: whether files that exist are left as they are.
    :returns: the paths of the files that were written.
    """
    written = []
    with tarfile.open(fileobj=pack_file) as pack:
        for member in pack:
            path = Path("/", member.name)
            if (
                ".." in path.parts
                or not is_below(path, below)
                or any(is_below(path, each) for each in skip)
            ):
                continue
            if member.isdir():
                if not path.exists():
                    path.mkdir(parents=True)
                    _own(path, member)
            elif member.isfile() and not (only_missing and path.exists()):
                source = pack.extractfile(member)
                assert source is not None
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh = path.with_name(f".{path.name}.put-back")
                fresh.unlink(missing_ok=True)
                try:
                    with archive.create(fresh) as file:
                        shutil.copyfileobj(source, file)
                        file.flush()
                        os.fsync(file.fileno())
                    _own(fresh, member)
                    fresh.replace(path)
                except OSError:  # a full disk
                    fresh.unlink(missing_ok=True)
                    raise
                written.append(str(path))
            elif member.issym() and not path.is_symlink() and not path.exists():
                path.symlink_to(member.linkname)
    return written


def is_below(path: Path, folder: str) -> bool:
    """Return whether a path is a folder, or in it."""
    return path == Path(folder) or Path(folder) in path.parents


def _own(path: Path, member: tarfile.TarInfo) -> None:
    """Give a file its owner by name, because a new host may have other numbers."""
    if os.geteuid() == 0:
        uid, gid = member.uid, member.gid
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(member.uname).pw_uid
        with contextlib.suppress(KeyError):
            gid = grp.getgrnam(member.gname).gr_gid
        os.chown(path, uid, gid, follow_symlinks=False)
    path.chmod(stat.S_IMODE(member.mode))


def prune(settings: Settings) -> list[str]:
    """Remove kept states that are too many or too old, and releases that nothing uses.

    :returns: the paths that were removed.
    """
    removed = []
    oldest = host.now().replace(tzinfo=None) - timedelta(days=settings.release_days)
    for place, kept in enumerate(all_kept()):
        made = archive.made_at(kept.name + archive.PLAIN)
        is_old = bool(settings.release_days and made and made < oldest)
        if place >= settings.release_keep or is_old:
            remove(kept.name)
            removed.append(str(kept.folder))
    release = hub.current(settings)
    if release is None:
        return removed
    used = {str(release), *(kept.release for kept in all_kept())}
    base = Path(settings.hub_path)
    newest_first = sorted(
        (base / "releases").glob("*"), key=lambda each: each.stat().st_mtime, reverse=True
    )
    for each in newest_first[settings.release_keep :]:
        if str(each) not in used:
            shutil.rmtree(each)
            removed.append(str(each))
    environments = {
        (each / "env").resolve()
        for each in (base / "releases").glob("*")
        if (each / "env").exists()
    }
    for each in sorted((base / "environments").glob("*")):
        if each.resolve() not in environments:
            shutil.rmtree(each)
            removed.append(str(each))
    return removed
