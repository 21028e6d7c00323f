# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``sge_maintenance.py``."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gridhub.maintenance import (
    backup,
    change,
    drain,
    home_files,
    host,
    hub,
    kept,
    metrics,
    operation,
    procedure,
    report,
    restore,
    settings,
    smoke,
    status,
    upgrade,
)
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

USAGE = """sge_maintenance.py run|now|update|after|announce|status|plan, check FILE
sge_maintenance.py smoke|smoke-timer
sge_maintenance.py backup REASON
sge_maintenance.py restore|restore-plan BACKUP adopt|leave, restore-files BACKUP
                   (standard input is the private key of an encrypted backup)
sge_maintenance.py upgrade RELEASE, rollback|rollback-plan [KEPT]
sge_maintenance.py mark changed|answering, start, finish, go-back REASON, settle, expire"""

#: The commands that change the host; only one may run at a time.
_CHANGES: dict[str, Callable[[Settings], int]] = {
    "run": lambda values: procedure.maintain(values, by_hand=False),
    "now": lambda values: procedure.maintain(values, by_hand=True),
    "update": lambda values: procedure.maintain(values, by_hand=True, reboots=False),
    "after": lambda values: procedure.continue_after_boot(values),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command (:data:`USAGE`); return the exit status."""
    try:
        return _dispatch(list(arguments))
    except (MaintenanceError, OSError) as error:  # a full disk, for example
        print(error, file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["check", path]:
            settings.read_settings(Path(path))
        case ["print-database" | "check-database" | "pack", *_]:
            return _part_of_backup(arguments)
        case ["receive" | "reserve" | "forget" | "install" | "unpack-own", *_]:
            return _part_of_change(arguments)
        case ["rollback-plan", *name] if len(name) < 2:
            _show(upgrade.plan_rollback(settings.read_settings(), *name or [""]))
        case ["settle"]:
            return change.settle(settings.read_settings())
        case ["backup", "timer"]:
            values = settings.read_settings()
            with host.lock(report.STATE) as has_lock:
                if has_lock:
                    return _operate(values, arguments)
            print("A maintenance or an upgrade is running, which makes a backup itself.")
        case [
            "backup"
            | "restore-plan"
            | "restore"
            | "restore-files"
            | "upgrade"
            | "rollback"
            | "mark"
            | "start"
            | "finish"
            | "go-back"
            | "expire",
            *_,
        ]:
            values = settings.read_settings()
            return operation.locked(lambda: _operate(values, arguments))
        case [name] if name in _CHANGES:
            return _change(name)
        case ["announce"]:
            return procedure.announce(settings.read_settings())
        case ["plan"]:
            return status.plan(settings.read_settings())
        case ["smoke"]:
            print(smoke.smoke_test(settings.read_settings()))
        case ["smoke-timer"]:
            return smoke.by_timer(settings.read_settings())
        case ["notice", minutes] if minutes.isdecimal():
            print(drain.send_notice(settings.read_settings(), sys.stdin.read(), int(minutes)))
        case ["sessions"]:
            print(json.dumps(drain.all_sessions(settings.read_settings())))
        case ["older-sessions", moment]:
            for line in drain.older_sessions(settings.read_settings(), moment):
                print(line)
        case ["end-sessions-now"]:
            print(drain.end_now(settings.read_settings()))
        case ["end-sessions"]:
            print(drain.end_sessions(settings.read_settings()))
        case ["session-files", "list"]:
            print(json.dumps(home_files.list_home(Path.home())))
        case ["session-files", "remove"]:
            print(json.dumps(home_files.remove_new(Path.home(), json.loads(sys.stdin.read()))))
        case ["status"]:
            print(json.dumps(status.status(settings.read_settings()), indent=1))
        case _:
            return _show_usage()
    return 0


def _show(found: object) -> int:
    print(json.dumps(found))
    return 0


def _operate(values: Settings, arguments: list[str]) -> int:
    """Run a command that changes the host while no other does."""
    match arguments:
        case ["backup", reason]:
            _show(backup.make(values, host.now(), reason))
            metrics.write(values)
        case ["restore", name, "adopt" | "leave" as what]:
            key = sys.stdin.buffer.read()
            _show(restore.restore(values, name, key, adopt=what == "adopt"))
        case ["restore-plan", name, "adopt" | "leave" as what]:
            key = sys.stdin.buffer.read()
            _show(restore.plan_restore(values, name, key, adopt=what == "adopt"))
        case ["restore-files", name]:
            _show(restore.restore_files(values, name, sys.stdin.buffer.read()))
        case ["upgrade", release]:
            _show(upgrade.upgrade(values, Path(release)))
        case ["rollback", *name] if len(name) < 2:
            _show(upgrade.roll_back(values, *name or [""]))
        case ["mark", "changed" | "answering" as step]:
            _show(change.mark(operation.Step(step)))
        case ["start"]:
            hub.start(values)
        case ["finish"]:
            _show(change.finish(values))
        case ["go-back", reason]:
            return change.go_back(values, reason)
        case ["expire"]:
            return upgrade.expire(values)
        case _:
            return _show_usage()
    return 0


def _part_of_change(arguments: list[str]) -> int:
    """Run a part of an operation for which :mod:`.hub` started this process as the hub's user."""
    try:
        match arguments:
            case ["receive", target]:
                hub.receive(Path(target))
            case ["reserve", target, size] if size.isdecimal():
                host.allocate(Path(target), int(size))
            case ["forget", target]:
                hub.forget(Path(target))
            case ["install", staged, database]:
                hub.install(Path(staged), Path(database))
            case ["unpack-own", folder]:
                pack = io.BytesIO(sys.stdin.buffer.read())
                print("\n".join(kept.write_files(pack, below=folder, only_missing=True)))
            case _:
                return _show_usage()
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise MaintenanceError(str(error)) from error
    return 0


def _part_of_backup(arguments: list[str]) -> int:
    """Run the part of the backup for which :mod:`.backup` started this process."""
    try:
        match arguments:
            case ["print-database", source]:
                backup.print_database(source)
            case ["check-database"]:
                print(json.dumps(backup.check_database()))
            case ["pack", copy, notice_file, *paths]:
                print(backup.pack_files([*map(Path, paths)], Path(copy), notice_file))
            case _:
                return _show_usage()
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise MaintenanceError(str(error)) from error
    return 0


def _change(name: str) -> int:
    values = settings.read_settings()
    with host.lock(report.STATE) as has_lock:
        if has_lock:
            return _CHANGES[name](values)
    print("A maintenance is already running. Nothing is done.", file=sys.stderr)
    # An administrator must see that the command did nothing. The timer's command must not fail.
    return int(name in ("now", "update"))


def _show_usage() -> int:
    print(USAGE, file=sys.stderr)
    return 2
