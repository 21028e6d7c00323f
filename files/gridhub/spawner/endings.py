# SPDX-License-Identifier: BSD-3-Clause
"""The part of the spawner that finds out how a session ended, from the record and the log."""

from __future__ import annotations

import asyncio
import time

from gridhub.broker.protocol import job_name
from gridhub.contract import Ending
from gridhub.grid.accounting_records import Record, UnreadableRecordError
from gridhub.spawner import metrics
from gridhub.spawner.base import ClusterSpawner
from gridhub.spawner.ended import SessionEnd, explain
from gridhub.spawner.session_log import SessionLog, ask_log

#: The pauses before each search for the accounting record of a session that has ended, in seconds.
#: After the last one, its end is logged and counted as ``unknown``. Grid Engine writes the record
#: within 15 s, unless the site configures another time (``accounting_flush_time``, sge_conf(5)).
EXPLAIN_END_AFTER = (5.0, 10.0, 15.0, 30.0)


class EndingSpawner(ClusterSpawner):
    """A spawner that knows how its last session ended."""

    #: The session whose end needs no further line in the log: it was logged, or it never began.
    _noted: str = ""
    #: The last session's log, and the number of its job.
    _log: tuple[str, SessionLog] | None = None
    _log_due: float = 0.0
    _reading_log: asyncio.Future[None] | None = None

    def _own_end(self) -> SessionEnd:
        """Return what is known so far about the end of a session that was not stopped from the hub.

        The reason for the end is added later, from the accounting record.
        """
        seen = self.collector.last_seen(job_name(self.session))
        why = Ending.UNKNOWN
        if seen and seen.is_rescheduled:
            why = Ending.RESCHEDULED  # the job has a record for each of its starts
        elif seen and not seen.reports:
            why = Ending.WORKER
        return SessionEnd(
            job=self.job_id,
            why=why,
            name=job_name(self.session),
            owner=self.owner,
            host=self.host or (seen.host if seen else ""),
            ended=time.time(),
            had=self.asked,
            environment=self.session_path,
        )

    def _note_end(self, why: str, end: SessionEnd | None = None) -> None:
        """Log and count the end of a session that was up, once.

        :param why: how it ended: an :class:`~gridhub.contract.Ending` or
            :data:`~gridhub.spawner.metrics.PERSON`.
        :param end: what is known about it, if Grid Engine may know more.
        """
        if not self.host or self._noted == self.session:
            return
        self._noted = self.session
        where = f"job {self.job_id} on {self.host}"
        self.cluster.in_background(self._log_end(self._log_name, where, why, end))

    async def _log_end(self, who: str, where: str, why: str, end: SessionEnd | None) -> None:
        for pause in EXPLAIN_END_AFTER:
            if end is None or end.why is not Ending.UNKNOWN:
                break
            await asyncio.sleep(pause)
            end = await self._explained(end)
            why = end.why
        metrics.ending(why)
        self.log.info("Session of %s has ended: %s, %s", who, why, where)

    async def _read_log(self, last: SessionEnd, patience: float) -> SessionLog | None:
        """Return the end of a session's log; ``None`` if it is not known yet, or says nothing more.

        :param patience: how long to wait, in seconds. A later call returns what arrives later.
        """
        if not last.has_log:
            return None
        is_known = self._log is not None and self._log[0] == last.job
        may_change = not is_known or (self._log and self._log[1].may_change)
        is_idle = self._reading_log is None or self._reading_log.done()
        if may_change and is_idle and (not is_known or self._log_due < time.time()):
            self._reading_log = asyncio.ensure_future(self._store_log(last))
        if self._reading_log and not self._reading_log.done():
            await asyncio.wait([self._reading_log], timeout=patience)
        return self._log[1] if self._log and self._log[0] == last.job else None

    async def _store_log(self, last: SessionEnd) -> None:
        found = await ask_log(self.cluster.logs, self.user.name, last.job, last.host)
        self._log, self._log_due = (last.job, found), last.next_look

    async def _explained(self, last: SessionEnd, patience: float = 0.0) -> SessionEnd:
        """Return how a session ended; if possible, add the data from the accounting record.

        :param patience: seconds to wait for the accounting record.
        """

        async def find(limit: int) -> Record | None:
            return await self.cluster.record(last.name, last.owner, limit)

        try:
            return await explain(last, find, patience)
        except UnreadableRecordError as error:
            self.log.warning("Cannot find out why job %s ended: %s", last.job, error)
            return last
        except Exception as error:  # even without a known reason, a session must be able to end
            self.log.info("Cannot find out why job %s ended: %r", last.job, error)
            return last
