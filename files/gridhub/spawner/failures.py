# SPDX-License-Identifier: BSD-3-Clause
"""Errors that explain to a person why their session cannot start."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from typing import NamedTuple

from jupyterhub.spawner import SpawnException

from gridhub.contract import NO_PORT, SESSION_FOLDER
from gridhub.grid.collector import Gone
from gridhub.grid.jobs import Job, State
from gridhub.spawner.session_log import SessionLog, requester
from gridhub.words import number_text, text

_NO_PORT_REPORT = re.compile(
    NO_PORT + r"(?: (?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,253})(?: (?P<holders>\S{1,400}))?)?"
)


#: Messages of the system about a full file system, as Grid Engine quotes them.
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


class SessionError(SpawnException):
    """A session cannot start; pages show the message to the person unchanged."""

    #: The end of the session's log and the name of its person; ``None`` if there is no log.
    log: tuple[str, SessionLog] | None = None
    #: Grid Engine's own message, and the broker's note on it; empty if Grid Engine refused nothing.
    words: str = ""
    note: str = ""

    @property
    def jupyterhub_message(self) -> str:
        """The message for JupyterHub's pages and API, with the log if its person has asked."""
        words = str(self.message)
        if self.log and self.log[0] == requester.get():
            words = f"{words}\n{self.log[1]}"
        return words


class NoPort(SessionError):
    """A session cannot start because every port of its worker is taken."""

    #: The worker; empty if it is not known.
    host = ""


class Holders(NamedTuple):
    """The holders of a worker's ports, as the starter reports them.

    The starter runs as the person, so its report cannot be trusted.
    """

    host: str
    #: How many ports each account holds, as far as the kernel lists them.
    accounts: dict[str, int]

    def __str__(self) -> str:
        """Return each account with its number of ports, for the log."""
        return ", ".join(f"{name} {count}" for name, count in self.accounts.items()) or "unknown"


def read_no_port(reason: str) -> Holders | None:
    """Parse a starter's report that no port is free; return ``None`` for any other report."""
    found = _NO_PORT_REPORT.fullmatch(reason)
    if not found:
        return None
    pairs = (each.rpartition("=") for each in (found["holders"] or "").split(","))
    return Holders(
        found["host"] or "",
        {name: int(count) for name, _, count in pairs if name and count.isdecimal()},
    )


def no_port(holders: Holders, host: str, ports: tuple[int, int], person: str, job: str) -> NoPort:
    """Return the error for a worker without a free port; the message never names a port's holder.

    :param host: the worker's name in Grid Engine; empty if not known.
    """
    first, last = ports
    host = host or holders.host
    most = max(holders.accounts, key=lambda name: holders.accounts[name], default="")
    if host and most:
        whose = "own" if most == person else "other"
        words = text(f"start.no_port_{whose}", first=first, last=last, host=host)
    else:
        reason = text("start.no_port", first=first, last=last)
        words = text("start.starter", job=job, reason=reason)
    error = NoPort(words, reason="starter")
    error.host = host
    return error


def error_state(job: Job, errors: Collection[str]) -> SessionError:
    """Return the error for a job in an error state.

    :param errors: Grid Engine's messages, which the error quotes.
    """
    reason = "\n".join(errors) or text("start.no_reason")
    full = f"/{SESSION_FOLDER}/" in reason and any(words in reason for words in _FULL)
    name = "error_full" if full else "error_state"
    return SessionError(
        text(f"start.{name}", job=job.id, letters=job.letters, reason=reason),
        reason="error_state",
    )


def deleted(job: str) -> SessionError:
    """Return the error for a job that was deleted before the session was up."""
    return SessionError(text("start.deleted", job=job), reason="deleted")


def out_of_time(
    job_id: str, job: Job | Gone | None, wait_limit: float, why_queued: str
) -> SessionError:
    """Return the error for a session that is not up in time; the message names the cause.

    :param wait_limit: the time limit that the session has exceeded, in seconds.
    :param why_queued: why the job waits in the queue; empty if the job is not in the queue.
    """
    if not job_id:
        return SessionError(text("start.not_submitted"), reason="timeout")
    what, host = "unstarted", ""
    if isinstance(job, Job):
        if job.state.is_on_a_host:
            what, host = "not_up", job.host
        elif job.state is State.QUEUED:
            what = "no_place"
        elif job.state is State.HELD:
            what = "held"
    minutes, seconds = divmod(wait_limit, 60)
    number, unit = (wait_limit, "seconds") if seconds else (minutes, "minutes")
    limit = f"{number:g} {number_text(f'unit.{unit}', number)}"
    return SessionError(
        text(f"start.late_{what}", job=job_id, limit=limit, host=host, why=why_queued),
        reason="timeout",
    )
