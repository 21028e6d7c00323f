# SPDX-License-Identifier: BSD-3-Clause
"""Keep sessions from running into maintenance of the workers."""

from __future__ import annotations

import time
from collections.abc import Collection

from gridhub.grid.collector import Gone
from gridhub.grid.jobs import Job
from gridhub.menu.items import Choice
from gridhub.menu.job import Requested
from gridhub.menu.kinds import ChoiceError
from gridhub.menu.menu import Menu, ending_within
from gridhub.notices.next_maintenance import Window
from gridhub.spawner.failures import SessionError
from gridhub.words import text

#: How long a session that does not wait in the queue may take to reach a worker, in seconds.
ON_THE_WAY = 60.0


def over_in_time(
    menu: Menu, choice: Choice, groups: Collection[str], window: Window | None
) -> tuple[Choice, str]:
    """Cut a choice's run time if it reaches into maintenance; return the new choice and a note.

    The note is a sentence about the cut; it is empty if the choice is unchanged.

    :raises ChoiceError: when the session would run into the maintenance and its run time cannot be
        cut: the site does not cut run times, or no offered run time is short enough.
    """
    if window is None:
        return choice, ""
    left = window.begin.timestamp() - time.time() - ON_THE_WAY
    found = ending_within(menu, choice, groups, left)
    if found is None or found[1] == choice:
        return choice, ""
    item, fitting = found
    if fitting is None:
        raise ChoiceError(text("maintenance.too_late", **window.values()), item.name)
    longest = item.in_words(fitting.values[item.name])
    if window.rule == "cap":
        return fitting, text("maintenance.cut", longest=longest, **window.values())
    raise ChoiceError(text("maintenance.too_long", longest=longest, **window.values()), item.name)


def end_before(
    window: Window | None, job: Job | Gone | None, requests: Collection[Requested]
) -> float:
    """Return the time at which the session must end early for maintenance of the workers.

    The run time was checked before the session waited in the queue. After the wait, the run time
    may reach into the maintenance.

    :returns: seconds since the epoch; 0 if the session may use all of its run time.
    :raises SessionError: when the session would run into the maintenance and the site does not cut
        run times, or when the maintenance has begun.
    """
    if window is None:
        return 0.0
    begin, now = window.begin.timestamp(), time.time()
    started = (job.since if isinstance(job, Job) and job.host else None) or now
    run_time = next((each.total for each in requests if each.kind == "run_time"), None)
    if run_time is not None and started + run_time <= begin:
        return 0.0
    # Without a run time in the menu, people cannot choose a shorter run time. In this case, end the
    # session early, even if the site's rule is to refuse long run times.
    if now < begin and (window.rule == "cap" or run_time is None):
        return begin
    words = text("maintenance.waited", **window.values())
    raise SessionError(words, reason="maintenance", status_code=409)
