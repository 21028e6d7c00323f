# SPDX-License-Identifier: BSD-3-Clause
"""The commands of ``sge_maintenance.py``."""

from __future__ import annotations

import json
import sqlite3
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gridhub.maintenance import (
    backup,
    drain,
    home_files,
    host,
    procedure,
    report,
    settings,
    smoke,
    status,
)
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

USAGE = (
    "sge_maintenance.py run|now|update|after|announce|status|plan|smoke|smoke-timer, or check FILE"
)

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
    except MaintenanceError as error:
        print(error, file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["check", path]:
            settings.read_settings(Path(path))
        case ["print-database" | "check-database" | "pack", *_]:
            return _part_of_backup(arguments)
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


def _part_of_backup(arguments: list[str]) -> int:
    """Run the part of the backup for which :mod:`.backup` started this process."""
    try:
        match arguments:
            case ["print-database", source]:
                backup.print_database(source)
            case ["check-database"]:
                backup.check_database()
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
