# SPDX-License-Identifier: BSD-3-Clause
"""Restore the hub's database, and the files that a new host does not have, from a backup."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

from gridhub.maintenance import archive, backup, host, hub, kept, operation, report
from gridhub.maintenance.change import UNPACKED, keep, or_undo, until_kept
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.operation import Step
from gridhub.maintenance.settings import Settings


def unpack(settings: Settings, name: str, identity: bytes) -> tuple[Path, dict[str, Any]]:
    """Check a backup, and unpack it into a folder of root's; return the folder and the manifest.

    :param name: the backup's path, or its name in the folder of backups.
    """
    path = Path(settings.backup_folder, name)
    if not path.is_file():
        there = ", ".join(each.name for each in archive.all_in(Path(settings.backup_folder)))
        raise MaintenanceError(f"there is no backup {path}; restore_from can be: {there or 'none'}")
    work = report.STATE / UNPACKED
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    if path.name.endswith(archive.ENCRYPTED):
        plain = work / "backup.tar"
        archive.decrypt(path, plain, identity)
        path = plain
    members = work / "members"
    members.mkdir(mode=0o700)
    manifest = archive.check(path, members)
    if archive.DATABASE in manifest["files"]:
        manifest["database"] = backup.look_into(settings, members / archive.DATABASE)
    return members, manifest


def clean() -> None:
    """Remove what was unpacked."""
    shutil.rmtree(report.STATE / UNPACKED, ignore_errors=True)


def plan_restore(settings: Settings, name: str, identity: bytes, *, adopt: bool) -> dict[str, Any]:
    """Check a backup, and say what a restore would do."""
    try:
        members, manifest = unpack(settings, name, identity)
        found = {
            "manifest": manifest,
            "new_host": hub.current(settings) is None,
            "missing_files": _files(settings, members, write=False),
        }
        release = hub.current(settings)
        if release and archive.DATABASE in manifest["files"]:
            try:
                hub.stage(settings, members / archive.DATABASE)
                found["form"] = hub.migrate(settings, release)
                found["sessions"] = hub.reconcile(settings, release, adopt=adopt, write=False)
            finally:
                hub.unstage(settings)
        return found
    finally:
        clean()


def restore_files(settings: Settings, name: str, identity: bytes) -> dict[str, Any]:
    """Write the files of a backup that the host does not have; return their paths."""
    try:
        members, manifest = unpack(settings, name, identity)
        return {"written": _files(settings, members, write=True), "versions": manifest["versions"]}
    finally:
        clean()


def _files(settings: Settings, members: Path, *, write: bool) -> list[str]:
    """Return the files of a backup that are missing on the host; write them if wanted."""
    pack = members / archive.FILES
    if not pack.exists():
        return []
    if not write:
        with tarfile.open(pack) as found:
            paths = [Path("/", each.name) for each in found if each.isfile()]
        return [str(path) for path in paths if not path.exists()]
    # The hub owns its folder, so root writes nothing there.
    with pack.open("rb") as file:
        written = kept.write_files(file, skip=[settings.hub_state], only_missing=True)
    with pack.open("rb") as file:
        own = host.run(
            [*settings.as_hub, *backup.PROGRAM, "unpack-own", settings.hub_state],
            seconds=backup.MAX_SECONDS,
            named="writing the hub's own files",
            reads=file,
        )
    return written + own.splitlines()


def restore(settings: Settings, name: str, identity: bytes, *, adopt: bool) -> dict[str, Any]:
    """Let the database of a backup be the hub's.

    Afterwards, the hub answers if its unit is installed; on a new host, the playbook deploys it.

    :param adopt: whether sessions that are not in the backup are taken over from the database in
        use; otherwise, their jobs are left alone.
    :raises MaintenanceError: with the reason; then the hub runs as before.
    """
    release = hub.current(settings)
    if release is None:
        raise MaintenanceError("there is no release of the hub on this host yet")
    done = operation.begin("restore", name)
    sessions: dict[str, Any] = {}
    manifest: dict[str, Any] = {}
    if done.step is Step.CHECKING:
        try:
            with until_kept(settings, done):
                members, manifest = unpack(settings, name, identity)
                if archive.DATABASE not in manifest["files"]:
                    raise MaintenanceError(f"{name} has no database: it is of a host without a hub")
                with hub.all_jobs(settings):
                    pass  # without an answer, the hub is not even stopped
                hub.stage(settings, members / archive.DATABASE)
                hub.migrate(settings, release)
                url = f"sqlite:///{hub.staged_path(settings)}"
                hub.tool(settings, release, "open", url, named="opening the copy of the database")
                keep(settings, done)
                sessions = hub.reconcile(settings, release, adopt=adopt, write=True)
        finally:
            clean()
        with or_undo(settings, done):
            done.enter(Step.CHANGING)
            hub.install_staged(settings, release)
            done.enter(Step.CHANGED, data={**done.data, "sessions": sessions})
    runs = hub.is_installed()
    if runs:
        with or_undo(settings, done):
            hub.start(settings)
            done.enter(Step.ANSWERING)
    sessions = sessions or done.data.get("sessions", {})
    return {"manifest": manifest, "sessions": sessions, "runs": runs}
