# SPDX-License-Identifier: BSD-3-Clause
"""Let a new release take the place of the one in use, or go back to a kept state."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gridhub.maintenance import archive, backup, host, hub, kept, operation, report
from gridhub.maintenance.change import (
    GO_ON_WITHIN,
    TRIAL,
    WAITING,
    end,
    go_back,
    keep,
    or_undo,
    undo,
    until_kept,
)
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.operation import Step
from gridhub.maintenance.settings import Settings


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
    _undo_interrupted(settings, "upgrade")
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
            hub.migrate(settings, release)
    with or_undo(settings, done):
        done.enter(Step.CHANGING)
        if not done.data.get("database_kept"):
            hub.install_staged(settings, release)
        hub.switch(settings, release)
        _expect_the_playbook()
    return {"resumed": False, "backup": saved["path"], "tried": tried, "kept": done.kept}


def _undo_interrupted(settings: Settings, kind: str) -> None:
    """Put everything back if an operation of this kind was interrupted in the middle of a change.

    :raises MaintenanceError: when that fails.
    """
    found = operation.load()
    if found and found.kind == kind and found.step in operation.MIXED:
        print(undo(settings, found, "it was interrupted"), file=sys.stderr)


def _expect_the_playbook() -> None:
    """Let the host go back by itself if the machine that runs the playbook is lost."""
    host.run(["systemctl", "stop", f"{WAITING}.timer"], check=False)
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
    work = report.STATE / TRIAL
    work.unlink(missing_ok=True)
    try:
        backup.copy_database(settings, work)
        hub.stage(settings, work)
        form = hub.migrate(settings, release)
        url = f"sqlite:///{hub.staged_path(settings)}"
        opened = hub.tool(settings, release, "open", url, named="opening a copy of the database")
    finally:
        work.unlink(missing_ok=True)
        hub.unstage(settings)
    return {"form": form, "opened": opened}


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
    copy = report.STATE / TRIAL
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
    if unfinished and unfinished.kind != "rollback":
        return {"undone": str(end(settings, unfinished, "playbooks/rollback.yml was run"))}
    if unfinished and unfinished.step in (Step.CHANGED, Step.ANSWERING):
        with or_undo(settings, unfinished):
            hub.start(settings)
            unfinished.enter(Step.ANSWERING)
        return {"resumed": True, "to": unfinished.about}
    _undo_interrupted(settings, "rollback")
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
