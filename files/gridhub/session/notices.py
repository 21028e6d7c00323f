# SPDX-License-Identifier: BSD-3-Clause
"""Notices to the user: before the run time ends, and before an idle session is ended."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from gridhub.clock import Change, clock
from gridhub.session.hub_api import post
from gridhub.session.rules import EarlyEnd, Rules

#: Seconds between two checks for use of the session, or between two attempts to send a notice.
LOOK_INTERVAL = 2.0

#: The path of the notifications extension, relative to the session's path.
NOTICES = "jupyterlab-notifications-extension"


class Notifier:
    """Sends notices to the user and reports to the hub. Methods return whether they succeeded."""

    def __init__(
        self, environment: Mapping[str, str], port: int, context: ssl.SSLContext | None = None
    ) -> None:
        self._environment = environment
        self._context = context
        own = f"{'https' if context else 'http'}://127.0.0.1:{port}"
        self._notices = f"{own}{environment['JUPYTERHUB_SERVICE_PREFIX']}{NOTICES}/ingest"

    async def _post(self, url: str, body: Mapping[str, Any]) -> bool:
        token = self._environment["JUPYTERHUB_API_TOKEN"]
        status, _ = await asyncio.to_thread(post, url, token, body, self._context)
        return 200 <= status < 300

    async def notify_person(self, message: str) -> bool:
        """Show a notice on all open pages until the user closes the notice.

        If no page is open, the notice appears on the next page that the user opens.
        """
        return await self._post(
            self._notices,
            {"message": message, "type": "warning", "autoClose": False, "immediate": True},
        )

    async def notify_until_shown(self, message: str) -> bool:
        """Show a notice as soon as the server and the hub, which checks the token, answer."""
        while True:
            if await self.notify_person(message):
                return True
            await asyncio.sleep(LOOK_INTERVAL)

    async def post_to_hub(self, last: datetime) -> bool:
        """Report to the hub when the session was last in use."""
        moment = last.isoformat()
        name = self._environment.get("JUPYTERHUB_SERVER_NAME", "")
        body = {"servers": {name: {"last_activity": moment}}, "last_activity": moment}
        return await self._post(self._environment["JUPYTERHUB_ACTIVITY_URL"], body)


def message(words: str, end: float, now: float, zone: Sequence[Change]) -> str:
    """Fill in the time at which a session ends, and the number of minutes until then.

    :param zone: the zone of the time; empty for this host's zone.
    """
    # Do not use str.format: the broker has already formatted the words, so any other braces in the
    # words are plain text.
    minutes = max(round((end - now) / 60), 1)
    return words.replace("{end}", clock(end, now, zone)).replace("{minutes}", str(minutes))


def started() -> float:
    """Return the time at which this job started, in seconds since the epoch.

    The job script replaces itself with this program (``exec``), so the start time of this process
    is the start time of the script. The run time therefore includes the time for the script.
    """
    # proc(5): field 22. The second field, a name in parentheses, may itself contain spaces and
    # parentheses.
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def warning_times(end: float, rules: Rules) -> list[float]:
    """Return the times at which to warn, without times before the start of the session."""
    return sorted({end - each for each in rules.warnings if each < (rules.run_time or 0)})


async def warn(rules: Rules, start: float, notifier: Notifier) -> None:
    """Warn the user each time a warning is due, until the run time is over.

    A notice fails while the hub is unreachable, because only the hub can check the token. The
    notice is then repeated until it succeeds or the next warning is due.
    """
    if rules.run_time is None:
        return
    end = start + rules.run_time
    await _notify_each(warning_times(end, rules), rules.words["run_time"], end, rules, notifier)


async def _notify_each(
    moments: list[float], words: str, end: float, rules: Rules, notifier: Notifier
) -> None:
    for moment, next_moment in pairwise([*moments, end]):
        await asyncio.sleep(max(moment - time.time(), 0))
        while (now := time.time()) < next_moment:
            if await notifier.notify_person(message(words, end, now, rules.zone)):
                break
            await asyncio.sleep(LOOK_INTERVAL)


async def warn_of_early_end(cut: EarlyEnd, rules: Rules, notifier: Notifier) -> None:
    """Warn the user at once and again before the early end; return at the early end."""
    now = time.time()
    later = {moment for each in rules.warnings if (moment := cut.end - each) > now}
    await _notify_each(sorted({now} | later), cut.words, cut.end, rules, notifier)
    await asyncio.sleep(max(cut.end - time.time(), 0))
