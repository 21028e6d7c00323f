# SPDX-License-Identifier: BSD-3-Clause
"""The cluster object that all sessions of a hub share.

The object holds the collector, the client of the broker, and Grid Engine's data for pages.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
import time
from collections.abc import Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jupyterhub import orm

from gridhub.broker.client import BrokerClient
from gridhub.broker.protocol import job_name
from gridhub.contract import LEFT_SESSIONS
from gridhub.grid.accounting import find_record
from gridhub.grid.accounting_records import Record
from gridhub.grid.cluster_status import ClusterStatus
from gridhub.grid.collector import Collector
from gridhub.grid.engine import GridEngine
from gridhub.grid.jobs import Job
from gridhub.grid.left_sessions import LeftSessions
from gridhub.menu.file import load_menu
from gridhub.menu.job import Requested
from gridhub.menu.kinds import MenuError
from gridhub.spawner import metrics
from gridhub.spawner.verdicts import Verdicts

#: The hub's setting that holds its :class:`Cluster`.
SETTING = "cluster"

#: How long the broker may still work on a request that the hub has given up, in seconds.
BROKER_MARGIN = 10.0


class MeasuredCollector(Collector):
    """A collector whose queries are counted."""

    async def ask(self, now: float) -> list[Job]:
        """Query the jobs of all sessions, and record how long the answer took."""
        began, seconds = time.monotonic(), None
        try:
            jobs = await super().ask(now)
            seconds = time.monotonic() - began
            return jobs
        finally:
            metrics.query(seconds)


class Cluster:
    """A hub's view of one Grid Engine.

    :param broker: the submission broker's socket.
    :param broker_timeout: seconds the broker may take for a request.
    :param short_interval, long_interval: seconds between queries to Grid Engine, as for
        :class:`~gridhub.grid.collector.Collector`.
    :param accounting_file: Grid Engine's accounting file; if empty, the file in the cell's folder.
    :param queues: as for :class:`~gridhub.grid.cluster_status.ClusterStatus`.
    """

    def __init__(
        self,
        grid: GridEngine,
        *,
        broker: Path,
        broker_timeout: float,
        menu_file: Path,
        short_interval: float,
        long_interval: float,
        accounting_file: str = "",
        queues: Collection[str] = (),
    ) -> None:
        self.grid = grid = replace(grid, observe=metrics.command)
        self.broker = BrokerClient(broker, broker_timeout, observe=metrics.decision)
        self.collector = MeasuredCollector(
            grid,
            short_interval,
            long_interval,
            delete=self._delete,
            left=LeftSessions(Path(LEFT_SESSIONS)),
        )
        self.status = ClusterStatus(grid, self._job_numbers, self._complexes, queues=queues)
        self.verdicts = Verdicts(broker, broker_timeout)
        #: Another client, so that homes that do not answer delay no starts and stops of sessions.
        self.logs = BrokerClient(broker, broker_timeout, at_once=2, observe=metrics.decision)
        #: What each session has requested, keyed by its job's name. Some may be over.
        self.requested: dict[str, tuple[Requested, ...]] = {}
        #: Tasks that go on when the spawner that began them is gone.
        self._background: set[asyncio.Task[None]] = set()
        self._menu_file = menu_file
        self._accounting_file = Path(accounting_file or grid.accounting_file)
        # Use a separate thread pool: a read blocks its thread while the file server is down.
        self._records = ThreadPoolExecutor(2, "accounting")

    def _job_numbers(self) -> Collection[int]:
        return [job.id for job in self.collector.jobs()]

    def _complexes(self) -> Collection[str]:
        try:
            return load_menu(self._menu_file).complexes()
        except MenuError:
            return ()

    async def _delete(self, job: Job) -> None:
        is_stray = not self.collector.watches(job.name)
        is_done = False
        try:
            await self.broker.delete(job)
            is_done = True
        finally:
            metrics.deletion(is_stray, is_done)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``, which must handle its own errors, without waiting for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def record(self, name: str, owner: str, limit: int) -> Record | None:
        """Return the accounting record of a job.

        :param limit: how many bytes to search, counted from the end of the file.
        :raises OSError: when the file cannot be read.
        :raises UnreadableRecordError: when the record has another dialect's format.
        """
        find = partial(find_record, self._accounting_file, name, owner, limit, self.grid.dialect)
        return await asyncio.get_running_loop().run_in_executor(self._records, find)

    def watch(
        self,
        session: str,
        owner: str,
        *,
        waiting: bool,
        has_number: bool,
        requested: tuple[Requested, ...] = (),
    ) -> None:
        """Watch the job of a session.

        :param waiting: whether a person is waiting for the session.
        :param has_number: whether the job's number is known. Without a known number, the broker may
            still be submitting the job.
        :param requested: what the session has requested, for the metrics.
        """
        delay = 0.0 if has_number else self.broker.timeout + BROKER_MARGIN
        watched = self.collector.watched
        if len(self.requested) > 2 * len(watched) + 100:
            self.requested = {name: had for name, had in self.requested.items() if name in watched}
        self.requested[job_name(session)] = requested
        self.collector.watch(job_name(session), owner, waiting=waiting, delay=delay)

    def watches(self, session: str) -> bool:
        """Return whether the session with that name is waiting, running or ending."""
        return self.collector.watches(job_name(session))

    def watch_all(self, database: Any, mark: str) -> None:
        """Watch all sessions in a hub's database, and delete the hub's jobs without a session.

        :param mark: the prefix in the names of the hub's sessions (:func:`hub_mark`).
        """
        for row in database.query(orm.Spawner).filter(orm.Spawner.server_id.is_not(None)):
            if session := (row.state or {}).get("session"):
                has_number = bool(row.state.get("job_id"))
                owner = row.state.get("owner") or row.user.name
                self.watch(session, owner, waiting=True, has_number=has_number)
        self.collector.sweep(re.compile(re.escape(job_name(mark)) + "[0-9a-f]{24}"))


def hub_mark(secret: bytes) -> str:
    """Return the prefix for the names of this hub's sessions: eight hexadecimal digits.

    The prefix depends on the hub's secret and on the host's name. Therefore, another hub on the
    same Grid Engine does not delete this hub's jobs. Nor does a copy of this hub on another host.
    """
    return hmac.digest(secret, socket.gethostname().encode(), "sha256").hex()[:8]
