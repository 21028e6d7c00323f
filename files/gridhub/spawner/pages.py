# SPDX-License-Identifier: BSD-3-Clause
"""The data that a spawner gives to pages: form, progress of a start, forecast, and session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from traitlets import default

from gridhub.contract import Ending
from gridhub.grid.collector import Gone
from gridhub.grid.jobs import Job, State
from gridhub.grid.reasons import meaning_of
from gridhub.spawner import waiting
from gridhub.spawner.ended import SessionEnd
from gridhub.spawner.endings import EndingSpawner
from gridhub.spawner.forecast import forecast
from gridhub.spawner.form import Filled, draw, fill_from_link, fill_shifted, followed
from gridhub.spawner.session_log import SessionLog, requester
from gridhub.spawner.verdicts import PATIENCE
from gridhub.spawner.view import Forecast, View, amounts, moment
from gridhub.words import text

#: How long a page may wait for a value, in seconds. After that, only the next page shows the value.
GLIMPSE = 0.5


class ShownSpawner(EndingSpawner):
    """A spawner that pages can show; the methods of this class never change a session."""

    @default("options_form")
    def _default_options_form(self) -> Any:
        return type(self).draw_form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return self.read_form

    async def draw_form(self) -> str:
        """Return the form's fields for this person, filled in from the last choice or a link."""
        refusal, self.refusal = self.refusal, None
        menu = self._menu()
        _, groups = await self._account(menu)
        last: dict[str, Any] = dict(self.user_options or {})
        link = followed.get()
        if link is None:
            filled = Filled(last, {}, (), refusal)
        elif link.shifts:
            places = None if link.more else await self.status.places.look(PATIENCE)
            filled = fill_shifted(menu, groups, last, link, places)
        else:
            filled = fill_from_link(menu, groups, link.values)
        await self.explain_last()
        # If the last start failed, JupyterHub itself shows the reason above the form.
        shown = None if self._failed else self.last
        log = await self.shown_log() if shown else None
        return draw(menu, groups, filled, shown, log, offer_more=not (link and link.more))

    @staticmethod
    def read_form(data: dict[str, list[str]]) -> dict[str, object]:
        """Return the options in a submitted form, unchecked; :meth:`check_choice` checks them."""
        fields = {name: values for name, values in data.items() if not name.startswith("_")}
        return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}

    async def forecast(self, options: dict[str, object]) -> Forecast:
        """Return what is free now, and whether a session with these options could start."""
        menu = self._menu()
        name, groups = await self._account(menu)
        return await forecast(self.cluster, menu, name, groups, options)

    async def explain_last(self) -> None:
        """Find out how the last session ended, unless the hub already knows.

        A call returns after :data:`GLIMPSE` seconds at the latest. Grid Engine may write the
        accounting record up to ``accounting_flush_time`` late (sge_conf(5)), so later calls search
        again.
        """
        last, now = self.last, time.time()
        if last is None or self.session:
            return
        if last.why is Ending.LINGERS and not self.collector.watches(last.name):
            self._store_last(last, None)
        elif last.why is Ending.UNKNOWN and self._explain_due < now:
            self._explain_due = last.next_look
            self._explaining = asyncio.ensure_future(self._find_out(last))
            await asyncio.wait([self._explaining], timeout=GLIMPSE)

    async def shown_log(self) -> SessionLog | None:
        """Return the end of the last session's log, if the person has asked and it may say more.

        Administrators can open a person's pages, but may not read files in the person's home.
        """
        if self.last is None or self.session or requester.get() != self.user.name:
            return None
        return await self._read_log(self.last, GLIMPSE)

    async def _find_out(self, last: SessionEnd) -> None:
        explained = await self._explained(last)
        if explained != last:
            self._store_last(last, explained)

    def _store_last(self, last: SessionEnd, known: SessionEnd | None) -> None:
        """Replace the stored end of the last session, unless a new session has begun.

        :param last: the stored end.
        :param known: the new end; ``None`` removes it.
        """
        # After a stop, JupyterHub makes a new spawner. Do not overwrite the new spawner's state,
        # which is in the same row.
        is_current = self.user.spawners.get(self.name) is self
        if self.last is last and is_current and not self.session:
            self.last = known
            self._try(self._store_state)

    async def progress(self) -> AsyncIterator[dict[str, str]]:
        """Yield an event with stage and message whenever the progress of a start changes."""
        shown: dict[str, str] = {}
        while self._start_pending:
            stage, message = self.progress_message()
            event = {"stage": stage, "message": message, "raw": self.raw_reason()}
            if event != shown:
                shown = event
                yield event
            await self.collector.news(1.0)

    def progress_message(self) -> tuple[str, str]:
        """Return the stage of a start (``submitted``, ``waiting``, ``starting``) and a message."""
        job = self._job() if self.session else None
        words = waiting.progress(
            job, self.collector.age, self.job_id, self.session, self.host
        ) or self.why_queued(job)
        return waiting.stage(job), f"{words} {self.note}".rstrip()

    @property
    def why_silent(self) -> str:
        """Why the session may not answer although it runs; empty if nothing is known."""
        if not self.session:
            return ""
        job = self._job()
        if self.host and isinstance(job, Job) and not job.host:
            return text("waiting.moved", job=job.id)
        return waiting.why_silent(job, self.collector.age)

    def why_queued(self, job: Job | Gone | None) -> str:
        """Return why a job waits in the queue; empty if the job is not in the queue."""
        if not isinstance(job, Job) or job.state is not State.QUEUED:
            return ""
        status = self.status
        return waiting.why_queued(
            job, self.asked, status.of(job), status.places.answer, status.line.answer
        )

    def raw_reason(self) -> str:
        """Return the scheduler's messages about why the job waits; may be empty."""
        job = self._job() if self.session else None
        if not isinstance(job, Job) or job.host:
            return ""
        details = self.status.of(job)
        return "\n".join(filter(meaning_of, details.reasons)) if details else ""

    @property
    def unavailable(self) -> tuple[str, ...]:
        """The menu items for which the session waits, as far as known."""
        reasons = self.raw_reason().splitlines()
        return waiting.unavailable_now(self.asked, self.status.places.answer, reasons)

    async def view(self) -> View:
        """Return this session's data for the pages."""
        await self.explain_last()
        found = self._job() if self.session else None
        job = found if isinstance(found, Job) else None
        started = job.since if job and job.host else None
        run_time = next((each.total for each in self.asked if each.kind == "run_time"), None)
        ends = [started + run_time] if started and run_time else []
        ends += [self.ends] if self.ends else []
        waits = bool(self._start_pending)
        state: Literal["none", "waiting", "running", "stopping"] = "none"
        if self._stop_pending:
            state = "stopping"
        elif waits:
            state = "waiting"
        elif self.active:
            state = "running"
        message = ""
        if state in ("waiting", "running"):
            message = self.progress_message()[1] if waits else self.why_silent
        return View(
            name=self.name,
            state=state,
            message=message,
            raw=self.raw_reason() if waits else "",
            ended=self.last.words if self.last and state == "none" else "",
            exceeded=self.last.exceeded if self.last else (),
            log=await self.shown_log() if state == "none" else None,
            job=int(self.job_id) if self.job_id else None,
            session=self.session or (self.last.session if self.last else ""),
            host=job.host if job else self.host,
            since=moment(started),
            ends=moment(min(ends, default=None)),
            amounts=amounts(
                self.asked,
                self.status.of(job) if job else None,
                max(time.time() - started, 1.0) if started else None,
            ),
        )
