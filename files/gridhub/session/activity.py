# SPDX-License-Identifier: BSD-3-Clause
"""Detect whether a session is in use.

JupyterHub's own activity tracking is unsuitable. An open page polls every few seconds, and
JupyterHub counts these requests even if nobody looks at the page. JupyterHub does not count a cell
that computes silently for hours. For this module, a session is in use while a kernel is busy or a
terminal runs a program. Otherwise, the last use is the latest of three times: when a kernel or a
terminal last printed something, when the user last changed something, and when the user last opened
a page.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gridhub.session.notices import LOOK_INTERVAL, NOTICES, Notifier, message
from gridhub.session.rules import Rules

#: The HTTP methods of requests that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: A request whose path contains one of these parts comes from an open page, not from an action of
#: the user. For example, JupyterLab saves the layout of its tabs every ten seconds.
_AUTOMATIC = ("/lab/api/workspaces/", f"/{NOTICES}/")


def runs_a_program(terminal: Any) -> bool:
    """Return whether a program other than the shell runs in the foreground of a terminal."""
    try:
        # The shell is a session leader, so its PID is also the ID of its process group.
        foreground = os.tcgetpgrp(terminal.ptyproc.fd)
        return foreground > 0 and foreground != terminal.ptyproc.pid
    except OSError:  # the terminal has been closed
        return False


class Activity:
    """Records when the session was last in use, and replaces Jupyter Server's own record."""

    def __init__(self, web_app: Any) -> None:
        self._settings = web_app.settings
        self._person = self._settings["started"]
        self._log: Callable[[Any], None] | None = self._settings.get("log_function")
        self._settings["log_function"] = self._note
        web_app.last_activity = self.last

    def _note(self, handler: Any) -> None:
        """Record the time of a user's request; Tornado calls this method after each request."""
        if self._log:
            self._log(handler)
        path = handler.request.path
        if handler.get_status() < 400 and not any(part in path for part in _AUTOMATIC):
            kind = handler._headers.get("Content-Type", "")
            if handler.request.method not in _READING or kind.startswith("text/html"):
                self._person = datetime.now(UTC)

    def in_use(self) -> bool:
        """Return whether a kernel is busy or a terminal runs a program."""
        kernels = self._settings["kernel_manager"].list_kernels()
        terminals = getattr(self._settings.get("terminal_manager"), "terminals", {})
        return any(kernel["execution_state"] == "busy" for kernel in kernels) or any(
            runs_a_program(terminal) for terminal in terminals.values()
        )

    def last(self) -> datetime:
        """Return the time of the last use, or the current time if the session is in use now."""
        if self.in_use():
            return datetime.now(UTC)
        moments: list[datetime] = [
            self._person,
            self._settings["kernel_manager"].last_kernel_activity,
        ]
        terminal = self._settings.get("terminal_last_activity")
        return max(moments if terminal is None else [*moments, terminal])


class IdleWatch:
    """Decides what to do about an idle session; the caller measures the time."""

    def __init__(self, rules: Rules) -> None:
        self._notice = rules.idle_timeout - rules.idle_notice if rules.idle_notice else None
        half = rules.idle_timeout / 2
        self._quiet_after = half if self._notice is None else min(half, self._notice)
        self._quiet = False
        #: Whether the user has been notified; set by the caller.
        self.notified = False

    def look(self, idle: float) -> str:
        """Return what to do after ``idle`` seconds: ``notice``, ``back`` or an empty string.

        ``notice``: warn the user. ``back``: the session is in use again, so report this to the hub,
        which would otherwise end the session.
        """
        if idle < self._quiet_after:
            was_quiet, self._quiet, self.notified = self._quiet, False, False
            return "back" if was_quiet else ""
        self._quiet = True
        due = self._notice is not None and idle >= self._notice and not self.notified
        return "notice" if due else ""


async def watch_use(rules: Rules, activity: Activity, notifier: Notifier) -> None:
    """Warn the user before an idle session ends; tell the hub when the session is used again."""
    if not rules.idle_timeout:
        return
    watch = IdleWatch(rules)
    must_report = False
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        last = activity.last()
        now = time.time()
        due = watch.look(now - last.timestamp())
        if due == "notice":
            end = last.timestamp() + rules.idle_timeout
            words = message(rules.words["idle"], end, now, rules.zone)
            watch.notified = await notifier.notify_person(words)
        # Repeat the report until the hub answers.
        must_report = must_report or due == "back"
        if must_report:
            must_report = not await notifier.post_to_hub(last)
