# SPDX-License-Identifier: BSD-3-Clause
"""Find out from the accounting record why a session ended or never started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any

from gridhub.broker.protocol import job_name
from gridhub.contract import Ending
from gridhub.grid.accounting import FARTHEST_BACK, LOOK_BACK, signal_name, why
from gridhub.grid.accounting_records import Record
from gridhub.menu.job import Requested
from gridhub.spawner.amounts import limit_in_words
from gridhub.spawner.session_log import log_path
from gridhub.words import text

#: Who ends a session with the current request: :attr:`Ending.IDLE` means the culler,
#: :attr:`Ending.ADMINISTRATOR` a person who does not own the session, and ``None`` the
#: owner, the hub, or another service. JupyterHub does not pass this value to ``stop``. A context
#: variable reaches ``stop`` nevertheless, because JupyterHub calls ``stop`` in a task of the
#: request, and a task inherits context variables.
stopped_by: ContextVar[Ending | None] = ContextVar("stopped_by", default=None)

#: If a session ends in one of these ways before it is up, only the session's log shows the reason.
OWN_DOING = frozenset({Ending.ITSELF, Ending.FAILED, Ending.SIGNAL})

#: The sentences about these endings give the whole reason, so pages do not show the session's log.
WITHOUT_LOG = frozenset(
    {
        Ending.ADMINISTRATOR,
        Ending.IDLE,
        Ending.ITSELF,
        Ending.LINGERS,
        Ending.MAINTENANCE,
        Ending.RUN_TIME,
    }
)

#: The pause between two searches for an accounting record: ``EXPLAIN_PAUSE`` seconds, or the share
#: ``EXPLAIN_PAUSE_SHARE`` of the time since the session ended, whichever is longer. The pause grows
#: because a record that is still missing days after the end is unlikely to appear soon.
EXPLAIN_PAUSE = 5.0
EXPLAIN_PAUSE_SHARE = 0.25

#: Time limit for reading the accounting file, in seconds.
READ_WITHIN = 5.0


@dataclass(frozen=True)
class SessionEnd:
    """How the last session of a spawner ended, if its person did not stop it."""

    job: str
    why: Ending
    #: The job's name, which its accounting record contains.
    name: str = ""
    #: The job's owner, as in the accounting record.
    owner: str = ""
    host: str = ""
    #: When the hub noticed the end, in seconds since the epoch.
    ended: float = 0.0
    #: The largest amount of memory that was in use, in bytes.
    used: float = 0.0
    status: int = 0
    #: Grid Engine's code for what failed (sge_status(5)); 0 if nothing failed.
    failed: int = 0
    #: What the session had requested.
    had: tuple[Requested, ...] = ()
    #: Why the session could not start, as a sentence; empty if the session did start.
    text: str = ""
    #: The folder of the notebook environment.
    environment: str = ""

    @property
    def session(self) -> str:
        """The session's name."""
        return self.name.removeprefix(job_name(""))

    @property
    def words(self) -> str:
        """How the session ended, as a sentence for the person."""
        if self.text:
            return text("start.last", reason=self.text)
        words = {each.kind: each.words for each in self.had}
        limit = next((each.total for each in self.had if each.kind == "memory"), 0.0)
        used, memory = limit_in_words(self.used, limit)
        return text(
            f"ended.{self.why}",
            job=self.job,
            host=self.host or text("ended.a_worker"),
            used=used,
            status=self.status,
            failed=self.failed,
            signal=signal_name(self.status),
            memory=memory,
            run_time=words.get("run_time", ""),
            environment=self.environment,
            log=log_path(self.job),
        )

    @property
    def has_log(self) -> bool:
        """Whether the session's log may say more about the end."""
        # A job that could not start, and was never on a worker, has written nothing.
        ran = bool(self.host) or self.why is not Ending.START
        return bool(self.job) and ran and self.why not in WITHOUT_LOG

    @property
    def exceeded(self) -> tuple[str, ...]:
        """The menu items whose amounts were too small for the session."""
        return tuple(each.item for each in self.had if each.kind == self.why)

    @property
    def next_look(self) -> float:
        """When to search for the accounting record again, in seconds since the epoch."""
        now = time.time()
        return now + max((now - self.ended) * EXPLAIN_PAUSE_SHARE, EXPLAIN_PAUSE)

    def dump(self) -> dict[str, Any]:
        """Return the values for the database; :meth:`load` reads these values."""
        return asdict(self) | {"had": [each.model_dump() for each in self.had]}

    @staticmethod
    def load(data: dict[str, Any]) -> SessionEnd:
        """Read the values that :meth:`dump` has returned.

        :raises ValueError, TypeError, KeyError: when the values have another format.
        """
        had = tuple(Requested.model_validate(each) for each in data["had"])
        return SessionEnd(**data | {"why": Ending(data["why"]), "had": had})

    def explained(self, record: Record) -> SessionEnd:
        """Return this end with the data from the job's accounting record."""
        memory = next((each.total for each in self.had if each.is_vmem or each.is_rss), None)
        if any(each.is_rss for each in self.had):
            record = replace(record, maxvmem=0.0)  # the address space does not matter
        run_time = next((each.total for each in self.had if each.kind == "run_time"), None)
        found = why(record, memory, run_time)
        if self.why is Ending.WORKER and found is Ending.ITSELF:
            # A job that is removed by force (qdel -f) while its worker is away gets the record of
            # one that has ended by itself, as seen with 8.1.9.
            found = Ending.WORKER
        return replace(
            self,
            why=found,
            # Prefer the worker that the hub itself has seen: people can forge lines in the
            # accounting file.
            host=self.host or record.host,
            used=record.memory,
            status=record.status,
            failed=record.failed,
            text="",
        )


async def explain(
    end: SessionEnd, find: Callable[[int], Awaitable[Record | None]], patience: float = 0.0
) -> SessionEnd:
    """Return a session's end; add the data from the accounting record if the record is found.

    :param find: a function that searches for the record; its argument is the number of bytes to
        search, counted from the end of the file.
    :param patience: seconds to wait until Grid Engine writes the record.
    :raises OSError: when the file cannot be read.
    :raises TimeoutError: when the file cannot be read in time.
    :raises UnreadableRecordError: when the record has another dialect's format.
    """
    # For each hour since the end, search LOOK_BACK bytes more: these bytes cover about fifty
    # thousand jobs, the number that may end in an hour on a big cluster.
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
