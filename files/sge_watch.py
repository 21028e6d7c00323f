# SPDX-License-Identifier: BSD-3-Clause
"""What a session watches over: how long it may still run, and whether anything is done in it.

Both become notices in JupyterLab and Notebook, and the second tells the hub when the session was
last in use. JupyterHub's own idea of that does not serve: an open page asks for news every few
seconds, whether or not anybody sits before it, and a cell that computes for hours in silence is no
activity. Here a session is in use while a kernel is busy or a terminal runs a program, and was last
in use when a kernel or a terminal last said something, something was changed or a page was opened.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

#: Seconds between looks at what is done in the session.
LOOK = 2.0

#: Longest answer that is read, in bytes.
MAX_ANSWER = 65_536

#: Requests that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

#: Where the notifications extension has its addresses, below the session's own.
NOTICES = "jupyterlab-notifications-extension"

#: Parts of addresses at which a page writes without its person. JupyterLab stores how its tabs are
#: arranged every ten seconds.
_BY_ITSELF = ("/lab/api/workspaces/", f"/{NOTICES}/")


class Rules(NamedTuple):
    """What the site and the choice say of this session; all times in seconds."""

    #: None where the menu has none.
    run_time: int | None
    #: How long before the end of the run time to warn.
    warnings: tuple[int, ...]
    #: After how long without use it is ended; 0 for never.
    idle_timeout: int
    #: How long before that to say so; 0 for not at all.
    idle_notice: int
    #: How often to tell the hub when it was last in use; 0 for JupyterHub's own interval.
    idle_report: int
    #: The sentences, with ``{end}`` and ``{minutes}`` to be filled in; ``left`` with ``{left}``.
    words: dict[str, str]


class RulesError(ValueError):
    """The rules are not what the broker writes."""


class Cut(NamedTuple):
    """What ends a session before its run time is over: its worker is to be free by then."""

    #: In seconds since the epoch.
    end: float
    #: The sentence, with ``{end}`` and ``{minutes}`` to be filled in.
    words: str


def read_cut(answer: bytes) -> Cut | None:
    """Read what the hub has answered to the session's port; nothing is no cut.

    :raises RulesError: where it is anything else.
    """
    if not answer:
        return None
    try:
        content = json.loads(answer)
        return Cut(float(content["end"]), str(content["words"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RulesError(f"not the end of a session: {error!r}") from error


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise RulesError(f"{value!r} is not a number of seconds")
    return value


def read_rules(content: object) -> Rules:
    """Read what the broker wrote of a session's rules, and take nothing else for it.

    :raises RulesError: where it is anything else.
    """
    if not isinstance(content, dict) or content.keys() != set(Rules._fields):
        raise RulesError("not the rules of a session")
    run_time, warnings, words = (content[name] for name in ("run_time", "warnings", "words"))
    if not isinstance(warnings, list):
        raise RulesError("the warnings are not a list")
    # A job that has waited since before an upgrade has no words for the time left.
    if not isinstance(words, dict) or words.keys() - {"left"} != {"run_time", "idle"}:
        raise RulesError("not the words of a session")
    if not all(isinstance(text, str) and text for text in words.values()):
        raise RulesError("the words are not text")
    return Rules(
        run_time=None if run_time is None else _whole(run_time),
        warnings=tuple(_whole(each) for each in warnings),
        idle_timeout=_whole(content["idle_timeout"]),
        idle_notice=_whole(content["idle_notice"]),
        idle_report=_whole(content["idle_report"]),
        words=dict(words),
    )


# -- telling --------------------------------------------------------------------------------------


def ask(
    url: str, token: str, body: Mapping[str, Any], context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Post once; return the HTTP status, or 0 where nobody answered, and what was answered.

    The token goes into a header, and neither into the address nor into any message.
    """
    request = urllib.request.Request(  # noqa: S310  # the address is the hub's, or our own
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
        method="POST",
    )
    # No proxy of the environment: the hub is on the cluster's own network.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as response:
            return int(response.status), response.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        return error.code, b""
    except (OSError, http.client.HTTPException):
        return 0, b""


class Teller:
    """Tells the person in the session, and the hub about it, each once and with the outcome."""

    def __init__(
        self, environment: Mapping[str, str], port: int, context: ssl.SSLContext | None = None
    ) -> None:
        self._environment = environment
        self._context = context
        own = f"{'https' if context else 'http'}://127.0.0.1:{port}"
        self._notices = f"{own}{environment['JUPYTERHUB_SERVICE_PREFIX']}{NOTICES}/ingest"

    async def _post(self, url: str, body: Mapping[str, Any]) -> bool:
        token = self._environment["JUPYTERHUB_API_TOKEN"]
        status, _ = await asyncio.to_thread(ask, url, token, body, self._context)
        return 200 <= status < 300

    async def tell_person(self, message: str) -> bool:
        """Show a notice that stays until it is closed, on all pages that are open.

        Where none is, the first that is opened later shows it, and only that one.
        """
        return await self._post(
            self._notices,
            {"message": message, "type": "warning", "autoClose": False, "immediate": True},
        )

    async def tell_hub(self, last: datetime) -> bool:
        """Tell the hub when the session was last in use."""
        moment = last.isoformat()
        name = self._environment.get("JUPYTERHUB_SERVER_NAME", "")
        body = {"servers": {name: {"last_activity": moment}}, "last_activity": moment}
        return await self._post(self._environment["JUPYTERHUB_ACTIVITY_URL"], body)


def _message(words: str, end: float, now: float) -> str:
    # Not str.format: the site's words may hold braces of their own by now.
    minutes = max(round((end - now) / 60), 1)
    clock = time.strftime("%H:%M", time.localtime(end))
    return words.replace("{end}", clock).replace("{minutes}", str(minutes))


# -- the run time ---------------------------------------------------------------------------------


def started() -> float:
    """Return when this job began, in seconds since the epoch.

    The job script becomes this process: what it loads before is part of the run time.
    """
    # proc(5): field 22; the second one, a name in parentheses, may hold anything.
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def warning_times(end: float, rules: Rules) -> list[float]:
    """Return when to warn; a session is not warned of its end before it has begun."""
    return sorted({end - each for each in rules.warnings if each < (rules.run_time or 0)})


async def warn(rules: Rules, start: float, teller: Teller) -> None:
    """Warn the person each time it is due, until the run time is over.

    A notice that cannot be given (only the hub knows whose token it is, and it may be away) is
    tried again until the next one is due.
    """
    if rules.run_time is None:
        return
    end = start + rules.run_time
    await _tell_each(warning_times(end, rules), rules.words["run_time"], end, teller)


async def _tell_each(moments: list[float], words: str, end: float, teller: Teller) -> None:
    for moment, next_moment in pairwise([*moments, end]):
        await asyncio.sleep(max(moment - time.time(), 0))
        while (now := time.time()) < next_moment:
            if await teller.tell_person(_message(words, end, now)):
                break
            await asyncio.sleep(LOOK)


async def warn_of_cut(cut: Cut, rules: Rules, teller: Teller) -> None:
    """Warn the person at once, and then as before the end of a run time; return at the end."""
    now = time.time()
    later = {moment for each in rules.warnings if (moment := cut.end - each) > now}
    await _tell_each(sorted({now} | later), cut.words, cut.end, teller)
    await asyncio.sleep(max(cut.end - time.time(), 0))


# -- use ------------------------------------------------------------------------------------------


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


async def watch_use(rules: Rules, activity: Activity, teller: Teller) -> None:
    """Tell the person before an idle session is ended, and the hub at once when it is not idle."""
    if not rules.idle_timeout:
        return
    watch = IdleWatch(rules)
    owed = False
    while True:
        await asyncio.sleep(LOOK)
        last = activity.last()
        now = time.time()
        due = watch.look(now - last.timestamp())
        if due == "notice":
            end = last.timestamp() + rules.idle_timeout
            watch.told = await teller.tell_person(_message(rules.words["idle"], end, now))
        # A hub that is away is told when it is back.
        owed = owed or due == "back"
        if owed:
            owed = not await teller.tell_hub(last)
