# SPDX-License-Identifier: BSD-3-Clause
"""The schedule: the next date, whether maintenance is due, and whether a date was missed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from gridhub.maintenance import hold, timer
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report

#: If the timer fires again within this time, maintenance is not due. The timer fires again if the
#: clock is set back, or if an hour is repeated at the end of summer time.
MIN_APART = timedelta(hours=12)


def next_date(moment: datetime) -> tuple[datetime | None, str]:
    """Return the date of the next maintenance, or the reason why there is none."""
    if not timer.is_active():
        return None, f"{timer.TIMER} is not active"
    coming = timer.dates(timer.expression(), moment, 1)
    if not coming:
        return None, f"{timer.TIMER} has no further date"
    try:
        held = hold.read()
    except MaintenanceError as error:
        return None, str(error)
    if held and held.applies(coming[0]):
        return None, str(held)
    return coming[0], ""


def why_not_now(moment: datetime) -> str:
    """Return why maintenance is not due although the timer fired; empty if it is due."""
    date = timer.due(timer.dates(timer.expression(), moment - timer.MAX_DELAY, 4), moment)
    # Ignore a date that passed before the timer got its schedule. After a change of the schedule,
    # systemd fires the timer at once if a new date lies between the timer's last start and now.
    if date is None or date < timer.installed():
        return f"This is no time for it: the next one is {next_date(moment)[0]}."
    last = Report.load(Report.LAST)
    if last and not last.data["by_hand"]:
        before = datetime.fromisoformat(last.data["started"])
        if moment - before < MIN_APART:
            return f"There was one at {before}."
    return ""


def is_missed(past: Sequence[datetime], since: datetime, last: datetime | None) -> bool:
    """Return whether there was no maintenance for a date in ``past``.

    :param since: when the timer was installed; earlier dates do not count.
    :param last: the end of the last maintenance, if there was one.
    """
    return any(date >= since and (last is None or last < date) for date in past)


def missed_last(moment: datetime) -> bool:
    """Return whether the last date passed without maintenance, perhaps because the host was off.

    Maintenance that is still running has no report yet, but does not count as missed.
    """
    unfinished = Report.load(Report.UNFINISHED)
    if unfinished and unfinished.is_running():
        return False
    past = [
        date
        for date in timer.dates(timer.expression(), moment - timedelta(days=40), 8)
        if date + timer.MAX_DELAY <= moment
    ]
    report = Report.load(Report.LAST)
    # Use the end of the last maintenance, not the start: a run that an administrator started may
    # have been in progress at the date.
    last = datetime.fromisoformat(report.data["ended"]) if report else None
    return is_missed(past[-1:], timer.installed(), last)
