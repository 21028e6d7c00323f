# SPDX-License-Identifier: BSD-3-Clause
"""What restore, upgrade and rollback share: keep, check, finish; or put everything back.

Each function that begins with the hub stopped ends with a hub that runs: the new one, or the old
one with :class:`Undone` and the reason. :func:`settle` does the same when the host went down.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridhub.contract import LEFT_SESSIONS
from gridhub.maintenance import archive, backup, host, hub, kept, operation, report, reserve
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.operation import Operation, Step
from gridhub.maintenance.settings import Settings

#: In the folder of the state: a copy of the database to try a release on, and an unpacked backup.
TRIAL, UNPACKED = "trial.sqlite", "restore"

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
        _quietly(lambda: reserve.free(settings))
        _quietly(lambda: hub.unstage(settings))
        if runs:
            _quietly(lambda: hub.start(settings))
        if done.kept:
            kept.remove(done.kept)
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
    """Set aside the disk space for going back, stop the hub, and keep its present state."""
    reserve.hold(settings)
    hub.stop()
    done.enter(Step.KEEPING)
    state = kept.keep(settings, done.kind)
    done.enter(Step.KEEPING, kept=state.name)


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
        host.run(["systemctl", "stop", f"{WAITING}.timer"], check=False)
        hub.stop()
        reserve.free(settings)
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
        reserve.free(settings)
        done.enter(Step.UNDOING)
        put_back(settings, done, adopt=bool(done.data.get("ran")))
        done.close(f"interrupted, and everything was put back: {done.again}")
        _forget(settings, done)
        host.run(["systemctl", "daemon-reload"])
        print(
            f"The {done.kind} of {done.started} was interrupted, and everything was put back. "
            f"To go on, {done.again}."
        )
    elif done.step in (Step.CHECKING, Step.KEEPING):
        _forget(settings, done)
        done.close(f"interrupted, and nothing was changed: {done.again}")
        print(
            f"The {done.kind} of {done.started} was interrupted, and nothing was changed. "
            f"To go on, {done.again}."
        )
    else:
        print(done.next())
    return 0


def _forget(settings: Settings, done: Operation) -> None:
    """Remove what an operation has made that was interrupted, or has changed nothing."""
    reserve.free(settings)
    hub.unstage(settings)
    for folder in (
        Path(settings.backup_folder, backup.UNFINISHED),
        report.STATE / kept.FOLDER / backup.UNFINISHED,
        report.STATE / UNPACKED,
    ):
        shutil.rmtree(folder, ignore_errors=True)
    for name in (TRIAL, hub.JOBS):
        (report.STATE / name).unlink(missing_ok=True)
    if done.kept:
        kept.remove(done.kept)


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
    reserve.free(settings)
    done.close("done")
    return {"result": "done", "kept": done.kept, "removed": kept.prune(settings)}


def end(settings: Settings, done: Operation, reason: str) -> Undone:
    """End an operation that is not finished, wherever it is; the hub then runs as before it.

    :returns: an error that says so.
    :raises MaintenanceError: when something could not be put back, with what to do.
    """
    if done.step not in (Step.CHECKING, Step.KEEPING):
        return undo(settings, done, reason)
    _forget(settings, done)
    if hub.is_installed() and not hub.is_active():
        hub.start(settings)
    done.close(f"failed, nothing was changed: {reason}")
    return Undone(f"The {done.kind} failed, and nothing was changed: {reason}")


def go_back(settings: Settings, reason: str) -> int:
    """Undo the operation that is not finished.

    :raises MaintenanceError: that it was undone, or why not.
    """
    done = operation.load()
    if done is None:
        if "nothing was changed" in reason or "everything was put back" in reason:
            raise MaintenanceError(reason)
        ended = operation.last() or {"kind": "operation", "result": "there was none to undo"}
        raise MaintenanceError(f"{reason}. The {ended['kind']}: {ended['result']}")
    raise end(settings, done, reason)


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
