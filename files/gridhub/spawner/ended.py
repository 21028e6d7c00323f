# SPDX-License-Identifier: BSD-3-Clause
"""Find out from the accounting record why a session ended or never started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any

from gridhub.contract import SESSION_FOLDER, Ending
from gridhub.grid.accounting import FARTHEST_BACK, LOOK_BACK, Record, why
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import limit_in_words
from gridhub.words import text

#: Who ends a session through the current request: :attr:`Ending.IDLE` stands for the culler,
#: :attr:`Ending.ADMINISTRATOR` for a person who does not own the session, and ``None`` for the
#: owner, the hub, or another service. This is a context variable because JupyterHub does not pass
#: the value to the spawner's ``stop``. But JupyterHub calls ``stop`` in a task of the request, and
#: the task inherits the request's context variables.
stopped_by: ContextVar[Ending | None] = ContextVar("stopped_by", default=None)

#: If a session ends in one of these ways before it is up, only its log shows the reason.
OWN_DOING = frozenset({Ending.ITSELF, Ending.FAILED})

#: The pause before an accounting record is searched for again: this many seconds, or this share of
#: the time since the session ended, whichever is longer. People may come back only after days, and
#: a record that is not there by then is unlikely to appear soon.
EXPLAIN_PAUSE = 5.0
EXPLAIN_PAUSE_SHARE = 0.25

#: Time limit for reading the accounting file, in seconds.
READ_WITHIN = 5.0


@dataclass(frozen=True)
class SessionEnd:
    """How the last session of a spawner ended, if its person did not stop it."""

    job: str
    why: Ending
    #: The job's name, by which its accounting record is found.
    name: str = ""
    host: str = ""
    #: When the hub noticed the end, in seconds since the epoch.
    ended: float = 0.0
    #: The largest amount of memory that was in use, in bytes.
    used: float = 0.0
    status: int = 0
    #: What the session had requested.
    had: tuple[Requested, ...] = ()
    #: A sentence on why the session could not start; empty if the session did start.
    text: str = ""

    @property
    def words(self) -> str:
        """The sentence that tells the person how the session ended."""
        if self.text:
            return text("start.last", reason=self.text)
        words = {each.kind: each.words for each in self.had}
        limit = next((each.total for each in self.had if each.kind == "memory"), 0.0)
        used, memory = limit_in_words(self.used, limit)
        return text(
            f"ended.{self.why}",
            job=self.job,
            host=self.host,
            used=used,
            status=self.status,
            memory=memory,
            run_time=words.get("run_time", ""),
            log=log_path(self.job),
        )

    @property
    def exceeded(self) -> tuple[str, ...]:
        """The menu items of which the session had too little."""
        return tuple(each.item for each in self.had if each.kind == self.why)

    @property
    def next_look(self) -> float:
        """When to search for the accounting record again, in seconds since the epoch."""
        now = time.time()
        return now + max((now - self.ended) * EXPLAIN_PAUSE_SHARE, EXPLAIN_PAUSE)

    def dump(self) -> dict[str, Any]:
        """Return the values for the database; :meth:`load` reads them back."""
        return asdict(self) | {"had": [each.model_dump() for each in self.had]}

    @staticmethod
    def load(data: dict[str, Any]) -> SessionEnd:
        """Read the values that :meth:`dump` has returned.

        :raises ValueError, TypeError, KeyError: when the values have another format.
        """
        had = tuple(Requested.model_validate(each) for each in data["had"])
        return SessionEnd(**data | {"why": Ending(data["why"]), "had": had})

    def explained(self, record: Record) -> SessionEnd:
        """Return this end, completed from its accounting record."""
        memory = next((each.total for each in self.had if each.is_address_space), None)
        run_time = next((each.total for each in self.had if each.kind == "run_time"), None)
        return replace(
            self,
            why=why(record, memory, run_time),
            # Prefer the worker that the hub itself has seen, because others can write into the
            # accounting file.
            host=self.host or record.host,
            used=record.maxvmem,
            status=record.status,
            text="",
        )


def log_path(job: str) -> str:
    """Return the path of a session's log, as shown to the person."""
    return f"~/{SESSION_FOLDER}/{job}.log"


async def explain(
    end: SessionEnd, find: Callable[[int], Awaitable[Record | None]], patience: float = 0.0
) -> SessionEnd:
    """Return the end of a session, completed from its accounting record if there is one.

    :param find: a function that searches for the record; its argument is the number of bytes to
        search, counted from the end of the file.
    :param patience: seconds to wait for a record that is not there yet.
    :raises OSError: when the file cannot be read.
    :raises TimeoutError: when the file cannot be read in time.
    """
    # For each hour since the end, search LOOK_BACK bytes further back: on a big cluster, fifty
    # thousand jobs may end in an hour.
    hours = max(int((time.time() - end.ended) / 3600), 0)
    limit = min(LOOK_BACK * (1 + hours), FARTHEST_BACK)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    async with asyncio.timeout(patience + READ_WITHIN):
        while not (record := await find(limit)):
            if (left := deadline - loop.time()) <= 0:
                return end
            await asyncio.sleep(min(1.0, left))
    return end.explained(record)
