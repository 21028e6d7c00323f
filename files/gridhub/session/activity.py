# SPDX-License-Identifier: BSD-3-Clause
"""Detect whether a session is in use.

JupyterHub's own activity tracking cannot be used here. It counts the requests of an open page,
which polls every few seconds even if nobody looks at it. But it does not count a cell that computes
silently for hours. Here, a session is in use while a kernel is busy or a terminal runs a program.
Otherwise, its last use was when a kernel or a terminal last printed something, or when the user
last changed something or opened a page.
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

#: If the path of a request contains one of these parts, an open page has sent the request
#: automatically, without any action by the user. JupyterLab saves the layout of its tabs every ten
#: seconds.
_AUTOMATIC = ("/lab/api/workspaces/", f"/{NOTICES}/")


def runs_a_program(terminal: Any) -> bool:
    """Return whether a terminal runs a program in the foreground, other than its idle shell."""
    try:
        # The shell is a session leader, so its PID is also the ID of its process group.
        foreground = os.tcgetpgrp(terminal.ptyproc.fd)
        return foreground > 0 and foreground != terminal.ptyproc.pid
    except OSError:  # the terminal has been closed
        return False


class Activity:
    """Determines when the session was last in use. Jupyter Server uses this time, not its own."""

    def __init__(self, web_app: Any) -> None:
        self._settings = web_app.settings
        self._person = self._settings["started"]
        self._log: Callable[[Any], None] | None = self._settings.get("log_function")
        self._settings["log_function"] = self._note
        web_app.last_activity = self.last

    def _note(self, handler: Any) -> None:
        """Record a request if the user made it; Tornado calls this at the end of each request."""
        if self._log:
            self._log(handler)
        path = handler.request.path
        if handler.get_status() < 400 and not any(part in path for part in _AUTOMATIC):
            kind = handler._headers.get("Content-Type", "")
            if handler.request.method not in _READING or kind.startswith("text/html"):
                self._person = datetime.now(UTC)

    def in_use(self) -> bool:
        """Return whether anything is running that must not be interrupted."""
        kernels = self._settings["kernel_manager"].list_kernels()
        terminals = getattr(self._settings.get("terminal_manager"), "terminals", {})
        return any(kernel["execution_state"] == "busy" for kernel in kernels) or any(
            runs_a_program(terminal) for terminal in terminals.values()
        )

    def last(self) -> datetime:
        """Return when the session was last in use; if it is in use now, return the current time."""
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
        """Return what is due after ``idle`` seconds: ``notice``, ``back`` or an empty string.

        ``back`` means that the session is in use again. The hub must know this, or it would end the
        session.
        """
        if idle < self._quiet_after:
            was_quiet, self._quiet, self.notified = self._quiet, False, False
            return "back" if was_quiet else ""
        self._quiet = True
        due = self._notice is not None and idle >= self._notice and not self.notified
        return "notice" if due else ""


async def watch_use(rules: Rules, activity: Activity, notifier: Notifier) -> None:
    """Warn the user before an idle session is ended; tell the hub when its use resumes."""
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
            watch.notified = await notifier.notify_person(message(rules.words["idle"], end, now))
        # If the hub does not answer, repeat the report until it does.
        must_report = must_report or due == "back"
        if must_report:
            must_report = not await notifier.post_to_hub(last)
