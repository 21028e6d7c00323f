# SPDX-License-Identifier: BSD-3-Clause
"""The checks after the reboot: services, addresses, Grid Engine, sessions and the smoke test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gridhub.maintenance import host, notice, probes, schedule, smoke
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.probes import Session
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


def check_sessions(
    settings: Settings, before: Sequence[Session], notes: list[str], seconds: float = 60
) -> None:
    """Check that the hub still knows each session in ``before``, and that the session answers.

    :param seconds: how long to repeat the check while it fails; the proxy's host may still be
        booting.
    :raises MaintenanceError: naming the sessions that are lost.
    """
    everyone = {each["job"] for each in before}

    def running_jobs() -> set[str]:
        return probes.grid_engine_jobs(settings) & everyone if settings.qstat else everyone

    def problem_of(session: Session, known: set[str]) -> str:
        if session["job"] not in known:
            return f"{session['user']} (job {session['job']}): the hub has forgotten it"
        return probes.session_problem(settings, session) or probes.route_problem(settings, session)

    def problem() -> str:
        try:
            jobs = running_jobs()
            known = {each["job"] for each in probes.running_sessions(settings.sessions)}
            found = {each["job"]: problem_of(each, known) for each in before if each["job"] in jobs}
            # A session whose job ended during the check is not lost.
            jobs = running_jobs() if any(found.values()) else jobs
        except MaintenanceError as error:
            return str(error)
        return "\n".join(text for job, text in found.items() if text and job in jobs)

    found = host.wait_until_clear(problem, seconds)
    ended = everyone - running_jobs()
    notes.append(f"{len(everyone)} sessions ran before, and {len(everyone) - len(ended)} still do")
    if ended:
        notes.append(f"ended meanwhile: jobs {', '.join(sorted(ended))}")
    if found:
        raise MaintenanceError(found)
    # A few sessions may have ended normally since the reboot began. If most have ended, there must
    # be a common cause.
    if len(ended) >= 2 and len(ended) * 2 > len(everyone):
        raise MaintenanceError(
            "more than half of the sessions have ended: did the hub delete them?"
        )


def check_services(settings: Settings, report: Report) -> None:
    """Check everything that people need, and record each check as a step of the report.

    All steps share one deadline, because the hosts boot at the same time.
    """
    deadline = time.monotonic() + settings.check_minutes * 60

    def check(problem: Callable[[], str]) -> None:
        if found := host.wait_until_clear(problem, max(deadline - time.monotonic(), 0)):
            raise MaintenanceError(found)

    if settings.units:
        with report.step(f"the services run: {', '.join(settings.units)}"):
            check(lambda: probes.units_problem(settings.units))
    for url in settings.urls:
        with report.step(f"{url} answers"):
            check(lambda url=url: probes.url_problem(settings, url))  # type: ignore[misc]
    if settings.qstat:
        with report.step("Grid Engine answers"):
            check(lambda: probes.grid_engine_problem(settings))
    if report.data["sessions"]:
        with report.step("the sessions that ran before still run") as notes:
            left = max(deadline - time.monotonic(), 60)
            check_sessions(settings, report.data["sessions"], notes, left)
    if settings.canary_user:
        with report.step(f"the smoke test as {settings.canary_user} succeeds") as notes:
            left = max(deadline - time.monotonic(), 120)
            # The notice of this maintenance keeps sessions from starting, so first publish the
            # notice of the next one. The hub reads the new notice within a few seconds.
            notice.publish(settings, schedule.next_date(host.now())[0])
            notes.append(smoke.smoke_test(settings, left))
