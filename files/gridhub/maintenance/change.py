# SPDX-License-Identifier: BSD-3-Clause
"""Restore, upgrade and rollback: keep what there is, change, check, finish; or put all back.

Each function that begins with the hub stopped ends with a hub that runs: the new one, or the old
one with :class:`Undone` and the reason. :func:`settle` does the same when the host went down.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridhub.contract import LEFT_SESSIONS
from gridhub.maintenance import archive, backup, host, hub, kept, operation, report
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.operation import Operation, Step
from gridhub.maintenance.settings import Settings

#: The folder into which a backup is unpacked.
WORK = "restore"

#: A transient unit that goes back, and after how many seconds, if a playbook stops in between.
WAITING, GO_ON_WITHIN = "gridhub-going-back", 900


class Undone(MaintenanceError):
    """An operation has failed, and the state before it is back."""


def words_of(error: BaseException) -> str:
    """Return an error as a sentence."""
    return str(error) if isinstance(error, (MaintenanceError, OSError)) else repr(error)


@contextmanager
def until_kept(settings: Settings, done: Operation) -> Iterator[None]:
    """End an operation that fails before anything is changed; the hub runs as before.

    :raises MaintenanceError: with the reason.
    """
    runs = hub.is_installed()
    try:
        yield
    except Exception as error:
        _quietly(lambda: hub.unstage(settings))
        if runs:
            _quietly(lambda: hub.start(settings))
        done.close(f"failed, nothing was changed: {words_of(error)}")
        raise MaintenanceError(
            f"The {done.kind} failed, and nothing was changed: {words_of(error)}"
        ) from error


@contextmanager
def or_undo(settings: Settings, done: Operation) -> Iterator[None]:
    """Put everything back if a block fails.

    :raises Undone: with the reason.
    """
    try:
        yield
    except Exception as error:
        raise undo(settings, done, words_of(error)) from error


def _quietly(act: Callable[[], object]) -> None:
    try:
        act()
    except (MaintenanceError, OSError) as error:
        print(f"also: {error}", flush=True)


def keep(settings: Settings, done: Operation) -> None:
    """Stop the hub, and keep its present state."""
    hub.stop()
    done.enter(Step.KEEPING)
    state = kept.keep(settings, done.kind)
    done.kept = state.name


# -- going back -----------------------------------------------------------------------------------


def put_back(settings: Settings, done: Operation, *, adopt: bool) -> None:
    """Put the kept state back while the hub is stopped. It can be repeated.

    :param adopt: whether the hub may have run since, so that sessions may have begun.
    """
    state = kept.find(done.kept)
    copy = state.folder / archive.DATABASE
    if copy.exists() and not done.data.get("database_kept"):
        release = hub.current(settings)
        hub.stage(settings, copy)
        if adopt and state.database and release:
            try:
                hub.reconcile(settings, release, adopt=True, write=True)
            except MaintenanceError as error:
                # The sessions of the last minutes are not known. They must not be ended.
                _leave_all(str(error))
        hub.install_staged(settings, Path(state.release) if state.release else release or Path())
    if state.release:
        hub.switch(settings, Path(state.release))
    kept.put_files_back(state)


def _leave_all(reason: str) -> None:
    """Let the hub delete no job without a session: a file without the names means all."""
    host.write(Path(LEFT_SESSIONS), f'{{"all": true, "reason": {reason!a}}}\n', 0o644)


def undo(settings: Settings, done: Operation, reason: str) -> Undone:
    """Put everything back, and start the hub.

    :param reason: what has failed.
    :returns: an error that says so.
    :raises MaintenanceError: when that fails too, with what to do.
    """
    ran = done.step in (Step.CHANGED, Step.ANSWERING)
    state = done.kept
    try:
        hub.stop()
        ran = ran or bool(done.data.get("ran"))
        done.enter(Step.UNDOING, data={**done.data, "ran": ran})
        put_back(settings, done, adopt=ran)
        done.enter(Step.KEEPING)  # everything is as before
        if hub.is_installed():
            hub.start(settings)
    except Exception as error:
        raise MaintenanceError(
            f"The {done.kind} failed: {reason}. Going back failed too: {words_of(error)}. "
            f"{done.next()}. What was kept is in {report.STATE / kept.FOLDER / state}"
        ) from error
    done.close(f"failed, and everything was put back: {reason}")
    kept.remove(state)
    return Undone(
        f"The {done.kind} failed, and everything was put back: release, configuration and "
        f"database. The reason: {reason}"
    )


def settle(settings: Settings) -> int:
    """Before the hub starts: put back what was only half changed when the host went down."""
    done = operation.load()
    if done is None:
        return 0
    if done.step in operation.MIXED:
        done.enter(Step.UNDOING)
        put_back(settings, done, adopt=bool(done.data.get("ran")))
        done.close("interrupted, and everything was put back")
        host.run(["systemctl", "daemon-reload"])
        print(f"The {done.kind} of {done.started} was interrupted; everything was put back.")
    elif done.step in (Step.CHECKING, Step.KEEPING):
        hub.unstage(settings)
        done.close("interrupted before anything was changed")
        print(f"The {done.kind} of {done.started} was interrupted; nothing was changed.")
    else:
        print(done.next())
    return 0


def finish(settings: Settings) -> dict[str, Any]:
    """End an operation that has been checked, and remove old states and releases.

    :raises MaintenanceError: when the hub does not answer.
    """
    done = operation.load()
    if done is None:
        return {"result": "there was nothing to finish", "removed": []}
    if done.step not in (Step.CHANGED, Step.ANSWERING):
        raise MaintenanceError(done.next())
    if words := hub.answer_problem(settings):
        raise MaintenanceError(f"the hub does not answer: {words}. {done.next()}")
    done.close("done")
    return {"result": "done", "kept": done.kept, "removed": kept.prune(settings)}


def go_back(settings: Settings, reason: str) -> int:
    """Undo the operation that is not finished.

    :raises MaintenanceError: that it was undone, or why not.
    """
    done = operation.load()
    if done is None:
        ended = operation.last() or {"kind": "operation", "result": "there was none to undo"}
        raise MaintenanceError(f"{reason}. The {ended['kind']}: {ended['result']}")
    if done.step in (Step.CHECKING, Step.KEEPING):
        hub.unstage(settings)
        if hub.is_installed() and not hub.is_active():
            hub.start(settings)
        done.close(f"failed, nothing was changed: {reason}")
        raise MaintenanceError(f"The {done.kind} failed, and nothing was changed: {reason}")
    raise undo(settings, done, reason)


# -- upgrade --------------------------------------------------------------------------------------


def upgrade(settings: Settings, release: Path) -> dict[str, Any]:
    """Try a release on a copy of the database, then let it take the place of the one in use.

    Afterwards, the hub is stopped, at :attr:`Step.CHANGING`: the role writes the configuration.

    :param release: the new release's folder.
    :returns: ``resumed``: whether this upgrade has changed everything before; otherwise also
        ``backup``, ``tried`` and ``kept``.
    :raises MaintenanceError: with the reason; then the hub runs as before.
    """
    hub.check_release(release)
    if hub.current(settings) is None:
        raise MaintenanceError("there is no hub on this host: deploy it with playbooks/site.yml")
    done = operation.begin("upgrade", release.name)
    if done.step is not Step.CHECKING:
        return {"resumed": True}
    with until_kept(settings, done):
        if hub.current(settings) == release:
            done.data["database_kept"] = True
        saved = backup.make(settings, host.now(), f"upgrade to {release.name}")
        done.data["backup"] = saved["path"]
        tried = _try(settings, release)
        done.data["tried"] = tried
        keep(settings, done)
        # The database as it is now, with what people did during the trial.
        state = kept.find(done.kept)
        if state.database.get("revision") == tried["form"]["new"]:
            done.data["database_kept"] = True
        else:
            hub.stage(settings, state.folder / archive.DATABASE)
            _migrate(settings, release)
    with or_undo(settings, done):
        done.enter(Step.CHANGING)
        if not done.data.get("database_kept"):
            hub.install_staged(settings, release)
        hub.switch(settings, release)
        _expect_the_playbook()
    return {"resumed": False, "backup": saved["path"], "tried": tried, "kept": done.kept}


def _expect_the_playbook() -> None:
    """Let the host go back by itself if the machine that runs the playbook is lost."""
    host.run(
        [
            "systemd-run",
            "--collect",
            f"--unit={WAITING}",
            f"--on-active={GO_ON_WITHIN}s",
            *backup.PROGRAM,
            "expire",
        ]
    )


def expire(settings: Settings) -> int:
    """Go back if the playbook has not gone on."""
    done = operation.load()
    if done and done.step in (Step.CHANGING, Step.CHANGED):
        go_back(settings, f"the playbook did not go on within {GO_ON_WITHIN // 60} minutes")
    return 0


def _try(settings: Settings, release: Path) -> dict[str, Any]:
    """Migrate a copy of the database that is in use, and open it with a release."""
    work = report.STATE / "trial.sqlite"
    work.unlink(missing_ok=True)
    try:
        backup.copy_database(settings, work)
        hub.stage(settings, work)
        form = _migrate(settings, release)
        url = f"sqlite:///{hub.staged_path(settings)}"
        opened = hub.tool(settings, release, "open", url, named="opening a copy of the database")
    finally:
        work.unlink(missing_ok=True)
        hub.unstage(settings)
    return {"form": form, "opened": opened}


def _migrate(settings: Settings, release: Path) -> dict[str, str]:
    url = f"sqlite:///{hub.staged_path(settings)}"
    return dict(
        hub.tool(settings, release, "migrate", url, named="migrating a copy of the database")
    )


def mark(step: Step) -> dict[str, Any]:
    """Note that a playbook has reached a step.

    :raises MaintenanceError: when there is no operation that could reach it.
    """
    done = operation.load()
    order = [Step.CHANGING, Step.CHANGED, Step.ANSWERING]
    if done is None or done.step not in order:
        raise MaintenanceError(done.next() if done else "there is no operation that could go on")
    if order.index(step) > order.index(done.step):
        done.enter(step)
    if step is Step.ANSWERING:
        host.run(["systemctl", "stop", f"{WAITING}.timer"], check=False)
    return {"step": str(done.step)}


# -- rollback -------------------------------------------------------------------------------------


def choose(states: list[kept.Kept], name: str, now: Path | None) -> kept.Kept:
    """Return the kept state to go back to.

    :param name: its name, or that of its release; if empty, the newest of another release.
    :raises MaintenanceError: when there is none.
    """
    for state in states:
        if name in (state.name, Path(state.release).name) or (
            not name and state.release and state.release != str(now)
        ):
            return state
    shown = ", ".join(f"{each.name} ({Path(each.release).name})" for each in states) or "none"
    what = f"no kept state {name!r}" if name else "no kept state of another release"
    raise MaintenanceError(f"there is {what}; rollback_to can be: {shown}")


def plan_rollback(settings: Settings, name: str) -> dict[str, Any]:
    """Return what a rollback would do, without changing anything."""
    states = kept.all_kept()
    found: dict[str, Any] = {
        "kept": [
            {"name": each.name, "before": each.before, **each.versions, **each.database}
            for each in states
        ]
    }
    unfinished = operation.load()
    if unfinished and unfinished.is_open:
        return found | {"unfinished": unfinished.next()}
    return found | _rollback_plan(settings, choose(states, name, hub.current(settings)))


def _rollback_plan(settings: Settings, state: kept.Kept) -> dict[str, Any]:
    release = Path(state.release)
    hub.check_release(release)
    copy = report.STATE / "trial.sqlite"
    copy.unlink(missing_ok=True)
    try:
        now = backup.copy_database(settings, copy)
    finally:
        copy.unlink(missing_ok=True)
    # After a restore, going back means the database before it.
    same = now["revision"] == state.database.get("revision") and state.before != "restore"
    if not same:
        backup.look_into(settings, state.folder / archive.DATABASE)
    return {
        "to": state.name,
        "release": release.name,
        "versions": state.versions,
        "database": "the present one" if same else f"the one kept at {state.name}",
        "same_form": same,
    }


def roll_back(settings: Settings, name: str) -> dict[str, Any]:
    """Go back to a kept state; the hub then answers, at :attr:`Step.ANSWERING`.

    :raises MaintenanceError: with the reason; then the hub runs as before.
    """
    unfinished = operation.load()
    if unfinished and unfinished.kind != "rollback" and unfinished.is_open:
        raise undo(settings, unfinished, "rollback.yml was run")
    if unfinished and unfinished.step in (Step.CHANGED, Step.ANSWERING):
        with or_undo(settings, unfinished):
            hub.start(settings)
            unfinished.enter(Step.ANSWERING)
        return {"resumed": True, "to": unfinished.about}
    present = hub.current(settings)
    state = choose(kept.all_kept(), name, present)
    done = operation.begin("rollback", state.name)
    sessions: dict[str, Any] = {}
    with until_kept(settings, done):
        planned = _rollback_plan(settings, state)
        done.data["database_kept"] = planned["same_form"]
        saved = backup.make(settings, host.now(), f"rollback to {state.name}")
        keep(settings, done)
        if not planned["same_form"]:
            assert present is not None
            hub.stage(settings, state.folder / archive.DATABASE)
            sessions = hub.reconcile(settings, present, adopt=True, write=True)
    with or_undo(settings, done):
        done.enter(Step.CHANGING)
        if not planned["same_form"]:
            hub.install_staged(settings, Path(state.release))
        kept.put_files_back(state)
        hub.switch(settings, Path(state.release))
        done.enter(Step.CHANGED)
        hub.start(settings)
        done.enter(Step.ANSWERING)
    return {"resumed": False, **planned, "backup": saved["path"], "sessions": sessions}


# -- restore --------------------------------------------------------------------------------------


def unpack(settings: Settings, name: str, identity: bytes) -> tuple[Path, dict[str, Any]]:
    """Check a backup, and unpack it into a folder of root's; return the folder and the manifest.

    :param name: the backup's path, or its name in the folder of backups.
    """
    path = Path(settings.backup_folder, name)
    if not path.is_file():
        there = ", ".join(each.name for each in archive.all_in(Path(settings.backup_folder)))
        raise MaintenanceError(f"there is no backup {path}; restore_from can be: {there or 'none'}")
    work = report.STATE / WORK
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
    shutil.rmtree(report.STATE / WORK, ignore_errors=True)


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
                found["form"] = _migrate(settings, release)
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
                _migrate(settings, release)
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
