# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended, or never started, and the accounting record that says so."""

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

#: On whose behalf the request that is being carried out ends a session: :attr:`Ending.IDLE` for the
#: culler, :attr:`Ending.ADMINISTRATOR` for a person other than the session's own; ``None`` for its
#: own person, the hub, or another service. JupyterHub asks a spawner to stop without saying for
#: whom. It does so in a task of the request, which inherits what the request has set.
stopped_by: ContextVar[Ending | None] = ContextVar("stopped_by", default=None)

#: How a session may end before it is up for reasons that only its log can tell.
OWN_DOING = frozenset({Ending.ITSELF, Ending.FAILED})

#: How long to wait between looks for an accounting record that is not there yet, in seconds at
#: least, and as a share of the time since the session has ended: people may come days later.
EXPLAIN_PAUSE = 5.0
EXPLAIN_PAUSE_SHARE = 0.25

#: How long the accounting file may take to be read, in seconds.
READ_WITHIN = 5.0


@dataclass(frozen=True)
class SessionEnd:
    """How the last session here ended, if its person did not end it."""

    job: str
    why: Ending
    #: The job's name, by which its accounting record is found.
    name: str = ""
    host: str = ""
    #: When the hub noticed, in seconds since the epoch.
    ended: float = 0.0
    #: The largest memory in use, in bytes.
    used: float = 0.0
    status: int = 0
    had: tuple[Requested, ...] = ()
    #: Why it could not start, in a sentence.
    text: str = ""

    @property
    def words(self) -> str:
        """The sentence for the person."""
        if self.text:
            return text("start.last", reason=self.text)
        had = {each.kind: each.words for each in self.had}
        limit = next((each.total for each in self.had if each.kind == "memory"), 0.0)
        used, memory = limit_in_words(self.used, limit)
        return text(
            f"ended.{self.why}",
            job=self.job,
            host=self.host,
            used=used,
            status=self.status,
            memory=memory,
            run_time=had.get("run_time", ""),
            log=log_path(self.job),
        )

    @property
    def short_of(self) -> tuple[str, ...]:
        """The items of the menu of which it had too little."""
        return tuple(each.item for each in self.had if each.kind == self.why)

    @property
    def next_look(self) -> float:
        """When to look for its record again, in seconds since the epoch."""
        now = time.time()
        return now + max((now - self.ended) * EXPLAIN_PAUSE_SHARE, EXPLAIN_PAUSE)

    def dump(self) -> dict[str, Any]:
        """Return it for the database; :meth:`load` reads it again."""
        return asdict(self) | {"had": [each.model_dump() for each in self.had]}

    @staticmethod
    def load(data: dict[str, Any]) -> SessionEnd:
        """Read what :meth:`dump` has written.

        :raises ValueError, TypeError, KeyError: when it is anything else.
        """
        had = tuple(Requested.model_validate(each) for each in data["had"])
        return SessionEnd(**data | {"why": Ending(data["why"]), "had": had})

    def explained(self, record: Record) -> SessionEnd:
        """Return it with what its accounting record says."""
        memory = next((each.total for each in self.had if each.is_address_space), None)
        run_time = next((each.total for each in self.had if each.kind == "run_time"), None)
        return replace(
            self,
            why=why(record, memory, run_time),
            # What the hub has seen itself comes before words of a file that others can write into.
            host=self.host or record.host,
            used=record.maxvmem,
            status=record.status,
            text="",
        )


def log_path(job: str) -> str:
    """Return where a person finds the log of a session."""
    return f"~/{SESSION_FOLDER}/{job}.log"


async def explain(
    end: SessionEnd, find: Callable[[int], Awaitable[Record | None]], patience: float = 0.0
) -> SessionEnd:
    """Look for the accounting record of a session that has ended, and return what it says.

    :param find: looks for the record, so many bytes back from the end of the file.
    :param patience: seconds to wait for a record that is not there yet.
    :raises OSError, TimeoutError: when the file cannot be read, or not in time.
    """
    # As much farther back for each hour: a big cluster may end fifty thousand jobs in one.
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
