# SPDX-License-Identifier: BSD-3-Clause
"""The steps of a maintenance run from beginning to end, including the reboot.

The phases are ``before`` (checks, repair, backup), ``updating``, ``rebooting`` and ``checking``.
The functions that return ``int`` return the program's exit status.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from datetime import datetime, timedelta

from gridhub.maintenance import (
    backup,
    checks,
    hold,
    host,
    metrics,
    notice,
    operation,
    packages,
    probes,
    publish,
    schedule,
)
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import MAX_OTHER_STEPS, Report
from gridhub.maintenance.settings import Settings


def maintain(settings: Settings, *, by_hand: bool, reboots: bool = True) -> int:
    """Do the maintenance.

    :param by_hand: whether an administrator started this run; such a run ignores the schedule.
    :param reboots: whether this program reboots the host; if not, Ansible reboots the host.
    """
    started = host.now()
    if not by_hand and (why := schedule.why_not_now(started)):
        print(f"{why} Nothing is done.")
        return announce(settings)
    longest = timedelta(seconds=settings.time_limit) + MAX_OTHER_STEPS
    report = Report(started, by_hand=by_hand, longest=longest)
    report.log(f"The maintenance of {report.data['host']} begins.")
    try:
        if held := hold.current():
            report.log(f"The maintenance is {held}")
            publish.close(settings, report, "held")
            return 0
    except MaintenanceError as error:
        with report.step("the hold file can be read"):
            raise error
        return give_up(settings, report)
    try:
        report.enter_phase("before")
        # Let no session start from now on, even if this maintenance was not announced.
        notice.publish(settings, started)
        if not prepare(settings, report, started):
            return give_up(settings, report)
        report.enter_phase("updating")
        with report.step("the updates are installed") as notes:
            packages.update(settings.lock_wait, settings.time_limit, notes)
        with report.step("all packages are fully installed") as notes:
            packages.repair(notes)
        if packages.problem():
            # Do not reboot: with half-installed packages, the host might not boot again.
            return give_up(settings, report)
        return reboot(settings, report, reboots=reboots)
    except Exception as error:  # any failure must reach the report and the mail
        return give_up(settings, record_unexpected(report, error))


def prepare(settings: Settings, report: Report, started: datetime) -> bool:
    """Run the steps that must succeed before the updates; return whether all steps succeeded."""
    with report.step("no other update is running"):
        if found := host.wait_until_clear(packages.lock_holder, settings.lock_wait * 60):
            raise MaintenanceError(
                f"another program holds {found}, for more than {settings.lock_wait} minutes"
            )
    with report.step("no upgrade, rollback or restore is unfinished"):
        if unfinished := operation.load():
            raise MaintenanceError(unfinished.next())
    with report.step("there is enough disk space"):
        host.check_disk(settings.free_mb, settings.backup_folder)
    if not report.ok:
        return False
    with report.step("all packages are fully installed") as notes:
        packages.repair(notes)
    if settings.backup_folder:
        with report.step("a backup is made and verified") as notes:
            notes.append(backup.back_up(settings, started))
    record_sessions(settings, report)
    return report.ok


def record_sessions(settings: Settings, report: Report) -> None:
    """Record the running sessions, for the check after the reboot."""
    if settings.sessions:
        with report.step("the running sessions are recorded") as notes:
            report.data["sessions"] = probes.running_sessions(settings.sessions)
            notes.append(f"{len(report.data['sessions'])} sessions are running")


def reboot(settings: Settings, report: Report, *, reboots: bool) -> int:
    """Reboot the host if the site's settings require a reboot; otherwise start the checks."""
    if settings.reboot == "when_required" and not packages.needs_reboot():
        report.log("No update requires a reboot, and this site reboots only if one does.")
        return finish(settings, report)
    notice.publish(settings, host.now())
    record_sessions(settings, report)
    report.log("The host reboots.")
    report.enter_phase("rebooting")
    if not reboots:
        return 0
    try:
        host.run(["systemctl", "reboot", "--no-block"])
    except MaintenanceError as error:
        with report.step("the host reboots"):
            raise error
        return give_up(settings, report)
    return 0


def continue_after_boot(settings: Settings) -> int:
    """Continue the maintenance after the reboot."""
    report = Report.load(Report.UNFINISHED)
    if report is None:
        print("No maintenance is unfinished.")
        return 0
    if report.data["boot"] == host.boot_id():
        print("The host has not been rebooted since the maintenance began.")
        return 0
    if report.data["phase"] not in ("rebooting", "checking"):
        with report.step("no one else has rebooted the host"):
            raise MaintenanceError("the host went down before the updates were done")
    with report.step("all packages are fully installed") as notes:
        packages.repair(notes)
    return finish(settings, report)


def finish(settings: Settings, report: Report) -> int:
    """Check the services, and end the maintenance."""
    report.data["process"] = os.getpid()  # after a reboot, the report has the old PID
    longest = timedelta(minutes=settings.check_minutes) + MAX_OTHER_STEPS
    report.data["overdue"] = (host.now() + longest).isoformat()
    with contextlib.suppress(OSError):
        report.enter_phase("checking")
    try:
        checks.check_services(settings, report)
    except Exception as error:
        record_unexpected(report, error)
    return end(settings, report, "done" if report.ok else "failed in part: see the failed steps")


def give_up(settings: Settings, report: Report) -> int:
    """End a maintenance run that cannot go on, and leave the services as they are."""
    return end(settings, report, "failed, and the host was not rebooted")


def end(settings: Settings, report: Report, result: str) -> int:
    """Publish the report and announce the next maintenance."""
    publish.close(settings, report, result)
    try:
        # Do not call announce() here: if the final report could not be written, announce() would
        # treat this maintenance as still running.
        notice.publish(settings, schedule.next_date(host.now())[0])
    except (OSError, MaintenanceError) as error:
        report.log(f"FAILED: the notice of the next maintenance: {error}")
    return 0 if result == "done" else 1


def record_unexpected(report: Report, error: Exception) -> Report:
    """Add an unexpected exception to the report, as a failed step."""
    report.log(traceback.format_exc())
    with report.step("no unexpected error occurs"):
        raise MaintenanceError(f"{error!r}") from error
    return report


def announce(settings: Settings) -> int:
    """Update the notice of the next maintenance, and the metrics."""
    report = Report.load(Report.UNFINISHED)
    if report and report.is_before_reboot():
        # No session may start until the reboot, even if the updates take longer than expected.
        notice.publish(settings, host.now())
    elif not (report and report.awaits_reboot(settings.expected_minutes)):
        # The new notice also replaces the notice of an interrupted maintenance run.
        notice.publish(settings, schedule.next_date(host.now())[0])
    metrics.write(settings)
    return 0
