# SPDX-License-Identifier: BSD-3-Clause
"""Run the smoke test, one at a time, and keep its result.

The maintenance, a deployment, ``playbooks/smoke.yml`` and a timer all run :func:`smoke_test`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridhub.maintenance import canary, host
from gridhub.maintenance.canary import START_WITHIN, SmokeTest, read_record
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings
from gridhub.maintenance.smoke_steps import write_metrics

#: The result of the last smoke test.
LAST = canary.STATE / "last.json"

#: How long to wait for another smoke test to end, in seconds.
WAIT_FOR_OTHER = 400.0


def last_result() -> dict[str, Any] | None:
    """Return the result of the last smoke test; ``None`` if there was none."""
    return read_record(LAST) or None


def smoke_test(settings: Settings, seconds: float = START_WITHIN) -> str:
    """Do a smoke test, and return its result in words. A second one waits for the first.

    :param seconds: how long the session may take to become ready.
    :raises MaintenanceError: with the step that failed and what to look at.
    """
    if not settings.canary_user:
        raise MaintenanceError(
            "There is no canary account: set maintenance_canary_user (roles/maintenance/README.md, "
            "'The canary')"
        )
    deadline = time.monotonic() + WAIT_FOR_OTHER
    while True:
        with host.lock(canary.STATE) as has_lock:
            if has_lock:
                return _locked(settings, seconds)
        if time.monotonic() > deadline:
            raise MaintenanceError(f"another smoke test runs, for more than {WAIT_FOR_OTHER:.0f} s")
        time.sleep(1)


def _locked(settings: Settings, seconds: float) -> str:
    test = SmokeTest(settings, seconds)
    try:
        test.run()
        return test.sentence()
    finally:
        ended = host.now().isoformat()
        before = (last_result() or {}).get("last_success", "")
        test.result |= {"ended": ended, "last_success": ended if test.result["ok"] else before}
        if not test.result["ok"] and not test.result["failed"]:
            test.result |= {"failed": "prepare", "reason": "it was interrupted"}
        host.write(LAST, json.dumps(test.result, indent=1), 0o600)
        write_metrics(settings, test.result)


def by_timer(settings: Settings) -> int:
    """Do a smoke test for the timer, unless no session may start now; return the exit status."""
    if why := why_closed(settings):
        print(f"No smoke test now: {why}")
        return 0
    with host.lock(canary.STATE) as has_lock:
        if not has_lock:
            print("Another smoke test is running. Nothing is done.")
            return 0
        try:
            print(_locked(settings, START_WITHIN))
        except MaintenanceError as error:
            print(error, flush=True)
            return 1
    return 0


def why_closed(settings: Settings) -> str:
    """Return why no session may start now: a maintenance, or a drain; empty if one may."""
    for path, name in ((settings.notice_file, "a maintenance"), (settings.drain_file, "a drain")):
        if not path:
            continue
        found = read_record(Path(path))
        try:
            # A time without a zone is in this host's time zone.
            begin, end = (
                datetime.fromisoformat(found[each]).astimezone(UTC) for each in ("refuse", "end")
            )
            if begin <= host.now() < end:
                return f"{name} keeps sessions from starting until {found['end']}"
        except (KeyError, ValueError, TypeError):
            continue
    return ""
