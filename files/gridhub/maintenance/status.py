# SPDX-License-Identifier: BSD-3-Clause
"""The reports to an administrator: the status, and the plan for the next maintenance."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gridhub.contract import LEFT_SESSIONS
from gridhub.maintenance import (
    archive,
    drain,
    expiry,
    hold,
    host,
    operation,
    operator,
    packages,
    schedule,
    smoke,
    timer,
)
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings

BACKUP_UNIT = "jupyterhub-backup.service"


def _names(path: Path) -> list[str]:
    """Return the jobs that the hub leaves alone; empty if they are not known."""
    try:
        return list(map(str, json.loads(path.read_bytes())["left"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def status(settings: Settings) -> dict[str, Any]:
    """Return the date of the next maintenance and the result of the last, for ``status.yml``."""
    moment = host.now()
    coming, why = schedule.next_date(moment)
    unfinished, last = Report.load(Report.UNFINISHED), Report.load(Report.LAST)
    running = unfinished.data["started"] if unfinished and unfinished.is_running() else ""
    problems = [why] if why and settings.timer else []
    if settings.timer and schedule.missed_last(moment):
        problems.append("the last date passed without a maintenance: the host was off, or asleep")
    if unfinished and not running:
        problems.append(f"a maintenance is not finished: {unfinished.data['phase']}")
    if last and last.data["result"] not in ("done", "held"):
        problems += [f"{last.data['result']} (log: {last.data['log']})"]
        problems += [f"{each['name']}: {each['words']}" for each in last.failed_steps()]
    hub = hub_status(settings) if settings.hub_api else {}
    problems += hub.pop("problems", [])
    if unended := operation.load():
        problems.append(unended.next())
    backups = archive.all_in(Path(settings.backup_folder)) if settings.backup_folder else []
    if settings.backup_folder and host.run(
        ["systemctl", "is-failed", BACKUP_UNIT], check=False
    ).startswith("failed"):
        problems.append(f"the last backup has failed (journalctl -u {BACKUP_UNIT})")
    left = Path(LEFT_SESSIONS)
    if left.exists() and '"left"' not in left.read_text(encoding="utf-8", errors="replace"):
        problems.append(
            f"{left} names no jobs, so the hub deletes no job that has no session: after an undo, "
            "Grid Engine did not answer. Remove the file when all such jobs have ended"
        )
    return {
        **hub,
        "left_jobs": _names(left),
        "last_backup": str(backups[-1]) if backups else "",
        "last_operation": operation.last(),
        "next": coming.isoformat() if coming else None,
        "held": hold.reason_now(),
        "problems": problems,
        "last": last.data if last else None,
        "running": running,
        "unfinished": bool(unfinished),
        "phase": unfinished.data["phase"] if unfinished else "",
    }


#: The collector's answer may be this old, in seconds, before it is a problem. Without sessions, it
#: asks only every ten minutes.
OLDEST_ANSWER = 900.0


def hub_status(settings: Settings) -> dict[str, Any]:
    """Return what only the hub's host knows, and its problems."""
    found: dict[str, Any] = {"problems": [], "hub": None, "drain": None}
    problems: list[str] = found["problems"]
    try:
        found["hub"] = operator.call(settings, "GET", "status")
        problems += collector_problems(found["hub"])
    except MaintenanceError as error:
        problems.append(str(error))
    try:
        if drained := drain.read_drain(settings):
            found["drain"] = {"until": drained["end"].isoformat(), "text": drained["text"]}
    except MaintenanceError as error:
        problems.append(str(error))
    found["certificates"] = expiry.certificates(settings)
    found["rotated"] = expiry.rotated_at(settings)
    problems += [each["problem"] for each in found["certificates"] if each["problem"]]
    found["smoke"] = smoke.last_result()
    problems += smoke_problems(settings, found["smoke"], host.now())
    return found


def collector_problems(hub: dict[str, Any]) -> list[str]:
    """Return what is wrong with the hub's answers from Grid Engine."""
    age, failures = hub["collector_age"], hub["collector_failures"]
    if age is None:
        return ["Grid Engine has not answered the hub since it started"] if failures else []
    if failures or age > OLDEST_ANSWER:
        return [f"Grid Engine answered the hub {age:.0f} s ago; {failures} queries failed since"]
    return []


def smoke_problems(
    settings: Settings, result: dict[str, Any] | None, moment: datetime
) -> list[str]:
    """Return what is wrong with the last smoke test, or that it is too long ago."""
    if result is None:
        return []
    if not result["ok"]:
        return [f"the smoke test failed at the step {result['failed']}: {result['reason']}"]
    ended = datetime.fromisoformat(result["ended"])
    # A drain and a maintenance suspend it.
    if settings.smoke_minutes and not smoke.why_closed(settings):
        oldest = timedelta(minutes=3 * settings.smoke_minutes + 15)
        if moment - ended > oldest:
            return [f"the last smoke test was at {ended:%Y-%m-%d %H:%M} UTC"]
    return []


def plan_dates() -> None:
    """Print the next dates."""
    calendar = timer.expression()
    print(f"{timer.TIMER}: {calendar}")
    zone = timer.zone_of(calendar)
    for date in timer.dates(calendar, host.now(), 6):
        print(f"  {date.astimezone(zone):%A %Y-%m-%d %H:%M %Z}")
    coming, why = schedule.next_date(host.now())
    print(f"The next one: {coming.astimezone(zone):%Y-%m-%d %H:%M %Z}" if coming else why)


def plan(settings: Settings) -> int:
    """Print what maintenance would do now, without changing anything; return the exit status."""
    if settings.timer:
        plan_dates()
    else:
        print("No timer: it is maintained by playbook only.")
    for name, problem in (
        ("another update runs", packages.lock_holder),
        ("some packages are not fully installed, and would be repaired", packages.problem),
    ):
        if found := problem():
            print(f"{name}: {found}")
    if why := hold.reason_now():
        print(f"A maintenance now would do nothing, even by hand: {why}")
    try:
        host.check_disk(settings.free_mb, settings.backup_folder)
    except MaintenanceError as error:
        print(f"It could not begin: {error}")
    print("Updates it would install (it looks for newer ones first):")
    for line in packages.planned() or ["not known: unattended-upgrade --dry-run does not say"]:
        print(f"  {line}")
    print(f"Reboot: {settings.reboot}")
    return 0
