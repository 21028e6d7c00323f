# SPDX-License-Identifier: BSD-3-Clause
"""What pages show of the log of a session that has ended; only its person may see it."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass

from gridhub.broker.client import BrokerClient
from gridhub.broker.protocol import Log
from gridhub.contract import SESSION_FOLDER
from gridhub.grid.engine import GridEngineError
from gridhub.words import text

log = logging.getLogger("jupyterhub.sge")

#: The name of the person who has sent the current request; empty for services.
requester: ContextVar[str] = ContextVar("requester", default="")


@dataclass(frozen=True)
class SessionLog:
    """The end of a session's log; without any lines, ``words`` say why there are none."""

    words: str
    lines: str = ""
    #: Whether a later look may find more: the log was not there, was empty or could not be read.
    may_change: bool = False

    def __str__(self) -> str:
        """Return the sentence and the lines, for programs."""
        return f"{self.words}\n{self.lines}".rstrip()


def log_path(job: str) -> str:
    """Return the path of a session's log, as shown to the person."""
    return f"~/{SESSION_FOLDER}/{job}.log"


async def ask_log(broker: BrokerClient, person: str, job: str, host: str) -> SessionLog:
    """Return the last lines of the log of a person's job; the broker reads it as the person.

    :param host: the job's worker; empty if not known.
    """
    path = log_path(job)
    try:
        answer = await broker.ask(Log(user=person, job=int(job)))
    except (OSError, TimeoutError, GridEngineError) as error:
        log.info("The log of job %s cannot be read: broker: %r", job, error)
        return SessionLog(text("log.unreadable", log=path, reason=text("log.no_broker")), "", True)
    if not answer.ok:
        return SessionLog(text("log.unreadable", log=path, reason=answer.error), "", True)
    if answer.log:
        return SessionLog(text("log.lines", log=path), answer.log)
    name = "missing" if answer.log is None else "empty"
    words = text(f"log.none_{name}_on" if host else f"log.none_{name}", log=path, host=host)
    return SessionLog(words, "", True)
