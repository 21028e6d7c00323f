# SPDX-License-Identifier: BSD-3-Clause
"""Whether anything is done in the session.

JupyterHub's own idea of that does not serve: an open page asks for news every few seconds, whether
or not anybody sits before it, and a cell that computes for hours in silence is no activity. Here a
session is in use while a kernel is busy or a terminal runs a program, and was last in use when a
kernel or a terminal last printed something, something was changed or a page was opened.
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

#: Requests that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Parts of addresses at which a page writes without its person. JupyterLab stores how its tabs are
#: arranged every ten seconds.
_BY_ITSELF = ("/lab/api/workspaces/", f"/{NOTICES}/")


def runs_a_program(terminal: Any) -> bool:
    """Tell whether a terminal runs something in the foreground; its shell at the prompt is none."""
    try:
        # The shell leads a session of its own, so its number is its process group's as well.
        foreground = os.tcgetpgrp(terminal.ptyproc.fd)
        return foreground > 0 and foreground != terminal.ptyproc.pid
    except OSError:  # closed meanwhile
        return False


class Activity:
    """When the session was last in use, in place of what Jupyter Server thinks of it."""

    def __init__(self, web_app: Any) -> None:
        self._settings = web_app.settings
        self._person = self._settings["started"]
        self._log: Callable[[Any], None] | None = self._settings.get("log_function")
        self._settings["log_function"] = self._note
        web_app.last_activity = self.last

    def _note(self, handler: Any) -> None:
        """Note the requests a person makes; it is called at the end of each."""
        if self._log:
            self._log(handler)
        path = handler.request.path
        if handler.get_status() < 400 and not any(part in path for part in _BY_ITSELF):
            kind = handler._headers.get("Content-Type", "")
            if handler.request.method not in _READING or kind.startswith("text/html"):
                self._person = datetime.now(UTC)

    def in_use(self) -> bool:
        """Tell whether anything runs that must not be ended."""
        kernels = self._settings["kernel_manager"].list_kernels()
        terminals = getattr(self._settings.get("terminal_manager"), "terminals", {})
        return any(kernel["execution_state"] == "busy" for kernel in kernels) or any(
            runs_a_program(terminal) for terminal in terminals.values()
        )

    def last(self) -> datetime:
        """Return when the session was last in use; now, while it is."""
        if self.in_use():
            return datetime.now(UTC)
        moments: list[datetime] = [
            self._person,
            self._settings["kernel_manager"].last_kernel_activity,
        ]
        terminal = self._settings.get("terminal_last_activity")
        return max(moments if terminal is None else [*moments, terminal])


class IdleWatch:
    """Decides what is due of a session that is not in use; looks at no clock itself."""

    def __init__(self, rules: Rules) -> None:
        self._notice = rules.idle_timeout - rules.idle_notice if rules.idle_notice else None
        half = rules.idle_timeout / 2
        self._quiet_after = half if self._notice is None else min(half, self._notice)
        self._quiet = False
        #: Set by whoever has told the person.
        self.told = False

    def look(self, idle: float) -> str:
        """Say what is due after ``idle`` seconds without use: ``notice``, ``back`` or nothing.

        ``back``: it is in use again, which the hub must hear before it ends the session.
        """
        if idle < self._quiet_after:
            back, self._quiet, self.told = self._quiet, False, False
            return "back" if back else ""
        self._quiet = True
        due = self._notice is not None and idle >= self._notice and not self.told
        return "notice" if due else ""


async def watch_use(rules: Rules, activity: Activity, teller: Notifier) -> None:
    """Tell the person before an idle session is ended, and the hub at once when it is not idle."""
    if not rules.idle_timeout:
        return
    watch = IdleWatch(rules)
    owed = False
    while True:
        await asyncio.sleep(LOOK_INTERVAL)
        last = activity.last()
        now = time.time()
        due = watch.look(now - last.timestamp())
        if due == "notice":
            end = last.timestamp() + rules.idle_timeout
            watch.told = await teller.notify_person(message(rules.words["idle"], end, now))
        # A hub that is away is told when it is back.
        owed = owed or due == "back"
        if owed:
            owed = not await teller.post_to_hub(last)
