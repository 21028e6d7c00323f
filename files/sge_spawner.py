# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner: start, poll, stop and resume a session that runs as a Grid Engine job.

Sessions survive when the hub is killed, because the hub writes to the session's database row before
each step. Before submitting the job, the hub stores the session's name. Before answering the
starter, the hub stores the port. Before deleting the job, the hub stores that the session stops.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from aiohttp import ClientResponse
from batchspawner.batchspawner import JobStatus
from jupyterhub.utils import utcnow
from pydantic import ValidationError
from traitlets import default

from gridhub.broker.protocol import (
    SESSION_VARIABLES,
    Start,
    Stop,
    Tls,
    job_name,
)
from gridhub.contract import Ending
from gridhub.grid.collector import GONE, Gone
from gridhub.grid.details import ask_details
from gridhub.grid.engine import GridEngineError
from gridhub.grid.jobs import Job, State
from gridhub.grid.submit import NO_QUEUE
from gridhub.log import one_line
from gridhub.menu.job import default_url, requested
from gridhub.menu.kinds import ChoiceError
from gridhub.notices import next_maintenance
from gridhub.spawner import failures, metrics, reach, waiting
from gridhub.spawner.cluster import hub_mark
from gridhub.spawner.database import find_token, writing
from gridhub.spawner.ended import OWN_DOING, SessionEnd, stopped_by
from gridhub.spawner.failures import NoPort, SessionError, read_no_port
from gridhub.spawner.forecast import why_never, why_refused
from gridhub.spawner.metrics import StartClock
from gridhub.spawner.pages import ShownSpawner
from gridhub.spawner.session_log import log_path
from gridhub.spawner.window import end_before, over_in_time
from gridhub.tls import hub_context, issue, session_name
from gridhub.words import text

#: After a restart of the hub, a session may take at least this many seconds to report its port. The
#: starter's pauses between its reports are shorter: at most 30 s.
LEAST_WAIT = 90.0

#: How many other workers to try when a worker has no free port.
MAX_ELSEWHERE = 2

#: How long a failed start waits for the job's accounting record, in seconds. Grid Engine writes the
#: record within 15 s, unless the site configures another time (``flush_time``, sge_conf(5)).
EXPLAIN_START_FOR = 16.0

#: How long a failed start waits for the end of the job's log, in seconds.
READ_LOG_FOR = 6.0


class SGESpawner(ShownSpawner):
    """Runs each session as a Grid Engine job, which the broker submits as the person."""

    #: Settings that hooks of a site often change, but that sessions do not get.
    NO_EFFECT = ("args", "cpu_limit", "environment", "mem_limit", "notebook_dir")

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        # JupyterHub calls this hook for every start, even for a start through the REST API. The
        # hook `options_from_form` runs only for the form.
        return type(self).check_choice

    async def check_choice(self, options: dict[str, object]) -> None:
        """Check the requested options against the menu; later code uses only checked values.

        :raises SessionError: with a message for the person.
        """
        try:
            await self._check_choice(options)
        except SessionError as error:
            metrics.refusal(error.reason)
            raise

    async def _check_choice(self, options: dict[str, object]) -> None:
        self.choice = self.refusal = None
        menu = self._menu()
        owner, groups = await self._account(menu)
        try:
            self.choice, self.note = over_in_time(
                menu, menu.choose(options, groups), groups, next_maintenance.window_file.current()
            )
        except ChoiceError as error:
            self.refusal = error
            # Restore the last accepted choice; otherwise, the next start without options would use
            # the refused choice.
            with writing(self.orm_spawner):
                self.orm_spawner.user_options = self.accepted
            raise SessionError(str(error), reason="choice") from error
        if words := next_maintenance.refusal():
            self.choice = None
            raise SessionError(words, reason="maintenance")
        self.accepted = options
        self.user_options = dict(self.choice.values)
        self.default_url = default_url(menu, self.choice)
        self.owner = owner

    async def create_certs(self) -> dict[str, str]:
        """Make no certificate: :meth:`submit_batch_script` makes it, with the session's name.

        JupyterHub's own method uses certipy, which blocks the hub for 100 ms for each key and
        leaves the key on the hub's disk.
        """
        return {}

    @property
    def certified_name(self) -> str:
        """The name that hub and proxy expect in the session's certificate; empty without TLS."""
        return self.session if self.internal_ssl else ""

    async def submit_batch_script(self) -> str:
        """Submit the session's job through the broker, and store the job number at once.

        Before the job is submitted, the session's name is stored. If the hub dies before it stores
        the job number, the restarted hub finds the job by the session's name.
        """
        assert self.choice is not None
        self.asked = tuple(requested(self._menu(), self.choice))
        environment = {
            name: value for name, value in self.get_env().items() if name in SESSION_VARIABLES
        }
        if ignored := sorted(name for name in self.NO_EFFECT if getattr(self, name)):
            # The deployment refuses these settings, so a hook has set them.
            self.log.warning(
                "A hook has set %s of the spawner, which has no effect "
                "(docs/administrators/hub-settings.md)",
                ", ".join(ignored),
            )
        session = hub_mark(self.user.settings["cookie_secret"]) + token_hex(12)
        self.named = session
        self._clock = StartClock()
        self.log.info("Session of %s is requested", self._log_name)
        tls = None
        if self.internal_ssl:
            tls = Tls(**issue(Path(self.internal_certs_location), session)._asdict())
        try:
            request = Start(
                user=self.owner,
                session=session,
                server=self.name,
                choice=self.choice.values,
                environment=environment,
                tls=tls,
                avoid=self._avoid,
            )
        except ValidationError as error:
            where = " and ".join(str(problem["loc"][0]) for problem in error.errors())
            # The message omits the values, which may be secrets.
            raise SessionError(
                text("start.request", name=self.user.name, what=where),
                reason="request",
            ) from None
        self.session = session
        try:
            with writing(self.orm_spawner) as database:
                token = find_token(database, self.api_token, "") if database else None
                self.token_hash = token.hashed if token else ""
                self.orm_spawner.state = self.get_state()
        except SessionError:
            self.session = ""  # no job has been requested yet
            raise
        self._watch()
        answer = await self._ask_broker(request)
        self.job_id = str(answer.job_id)
        self._clock.reach("queue")
        self.collector.submitted(job_name(self.session))
        self._try(self._store_state)
        self.log.info("Session of %s is job %s", self._log_name, self.job_id)
        return self.job_id

    async def cancel_batch_job(self) -> None:
        """Delete the job through the broker."""
        await self._ask_broker(Stop(user=self.owner, session=self.session))

    async def query_job_status(self) -> JobStatus:
        """Return the job's state, as the collector knows it, as a status of batchspawner."""
        job = self._job()
        if job is GONE:
            return JobStatus.NOTFOUND
        if not isinstance(job, Job) or job.state is State.UNKNOWN:
            return JobStatus.UNKNOWN
        waits = (State.QUEUED, State.HELD, State.ERROR)
        return JobStatus.PENDING if job.state in waits else JobStatus.RUNNING

    async def start(self) -> str:
        """Submit the job and wait until the session's server answers.

        :returns: the URL of the server.
        :raises SessionError: when the session can no longer start; the message is for the person.
        """
        self.failure = None
        self.last = None
        try:
            await self._until_up_somewhere()
            await self._until_answering(self.http_timeout)
        except SessionError as error:
            metrics.start(error.reason)
            self.log.warning(
                "Session of %s did not start (%s): %s",
                self._log_name,
                error.reason,
                one_line(str(error.log_message or error.message)),
            )
            await self._keep_reason(error)
            raise
        except asyncio.CancelledError:
            metrics.start("cancelled")
            self._noted = self.session
            self.log.info(
                "Session of %s: the start is cancelled, by its person or because the hub stops",
                self._log_name,
            )
            raise
        if self._clock:
            self._clock.finish()
        metrics.start("ready")
        self._watch()
        self.log.info("Session of %s answers at %s:%s", self._log_name, self.host, self.port)
        return f"{self._scheme}://{self.host}:{self.port}"

    async def _until_up_somewhere(self) -> None:
        """Submit the job and wait until the session's server is up.

        If a worker has no free port, try other workers: programs of one person may have taken every
        port of the worker, and must not keep other people from starting sessions.

        :raises SessionError: when the session can no longer start; the message is for the person.
        """
        full: list[NoPort] = []
        note = self.note
        while True:
            self._avoid = tuple(each.host for each in full)
            try:
                await self._submit()
                await self._until_up(self.wait_limit)
                return
            except NoPort as error:
                if not error.host or error.host in self._avoid or len(full) == MAX_ELSEWHERE:
                    raise
                full.append(error)
            except SessionError as error:
                if not full:
                    raise
                if error.reason == "grid":  # no other worker can run the job
                    raise full[-1] from error
                # Begin the message with the earlier problem: a worker had no free port.
                words = f"{full[-1].message} {error.message}"
                raise SessionError(words, reason=error.reason) from error
            self.log.info(
                "Session of %s gives up %s, which has no free port, and tries another worker",
                self._log_name,
                full[-1].host,
            )
            self._leave_job()
            words = text("start.no_port_elsewhere", host=full[-1].host)
            self.note = f"{note} {words}".lstrip()

    def _leave_job(self) -> None:
        """Release a job that could not start the session, so that another job can be submitted."""
        self.collector.release(job_name(self.session))
        self.session = self.job_id = ""
        self.failure = None

    async def _submit(self) -> None:
        try:
            await self.submit_batch_script()
        except SessionError as error:
            # An error from the broker means that no job was submitted. If the broker does not
            # answer, a job may exist: JupyterHub then calls `stop`, which deletes the job.
            if error.reason != "no_answer":
                self._try(self._store_end)
                self.clear_state()
            if error.words:
                self.log.warning(
                    "Session of %s: Grid Engine refused the job: %s",
                    self._log_name,
                    one_line(error.words),
                )
                if words := await self._why_refused(error):
                    raise SessionError(
                        words, reason="grid", log_message=str(error.message)
                    ) from error
            raise

    async def _why_refused(self, error: SessionError) -> str:
        """Return why Grid Engine has refused the choice, as a sentence; empty if not known.

        If Grid Engine only finds no queue, a dry run of the submission gives the reason.
        """
        assert self.choice is not None
        menu, places = self._menu(), self.status.places.answer
        requests = tuple(requested(menu, self.choice))
        if NO_QUEUE not in error.words:
            words = why_refused(error.words, requests)
            return f"{words} {error.note}".rstrip() if words else ""
        answer = await self.cluster.verdicts.verdict(
            self.owner, self.choice, waiting.unavailable_for(requests, places)
        )
        if answer is None or answer.verdict != "never":
            return ""
        return why_never(answer.words, menu, requests, places)

    async def _keep_reason(self, error: SessionError) -> None:
        """Keep the reason for a failed start, to show it on the person's next visit.

        The error gets the end of the session's log.

        JupyterHub itself loses the reason when it drops this spawner. Therefore, put the reason
        into :attr:`last`, which is part of the state that JupyterHub stores after a stop.
        """
        self._noted = self.session
        if self.last is None:
            job = self.collector.last_seen(job_name(self.session)) if self.session else None
            self.last = SessionEnd(
                job=self.job_id,
                why=Ending.START,
                name=job_name(self.named),
                host=job.host if job else "",
                ended=time.time(),
                text=str(error.message),
            )
        if log := await self._read_log(self.last, READ_LOG_FOR):
            error.log = self.user.name, log

    async def _until_up(self, limit: float) -> None:
        """Wait until the job runs and the starter has reported a port.

        :param limit: seconds to wait at most.
        :raises SessionError: when the session can no longer start; the message is for the person.
        """
        deadline = asyncio.get_running_loop().time() + limit
        while True:
            job = self._job()
            if self.failure:
                raise self.failure
            if job is GONE:
                raise await self._early_end()
            if isinstance(job, Job):
                if not self.job_id:
                    self.job_id = str(job.id)
                    self._try(self._store_state)
                if job.state is State.ERROR:
                    raise await self._error_state(job)
                if job.state is State.DELETING:
                    raise failures.deleted(self.job_id)
                is_there = job.host and job.state.is_on_a_host
                if is_there and self._clock and self._clock.reach("boot"):
                    self.log.info("Session of %s is on %s", self._log_name, job.host)
                if self.port and job.host and job.state.is_on_a_host:
                    self.host = job.host
                    self._try(self._store_state)
                    return
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 and self._is_well(job):
                raise failures.out_of_time(self.job_id, job, self.wait_limit, self.why_queued(job))
            await self.collector.news(min(max(left, 1.0), self.sge_timeout))

    def _starters_reason(self, reason: str) -> SessionError:
        """Return the error for the starter's reason; if no port is free, log the ports' holders."""
        holders = read_no_port(reason)
        if holders is None:
            words = text("start.starter", job=self.job_id, reason=reason)
            return SessionError(words, reason="starter")
        job = self._job()
        host = job.host if isinstance(job, Job) else ""
        error = failures.no_port(holders, host, self.session_ports, self.owner, self.job_id)
        # Only the log names the holders of the ports: a person must not see other people's names.
        self.log.warning(
            "Session of %s: all ports of %s are taken. Reported holders: %s",
            self._log_name,
            error.host or "its worker",
            holders,
        )
        return error

    async def _early_end(self) -> SessionError:
        """Return the error for a job that disappeared before the session's server was up."""
        seen = self.collector.last_seen(job_name(self.session))
        if seen and seen.state in (State.QUEUED, State.HELD, State.ERROR, State.DELETING):
            return failures.deleted(self.job_id)
        if not self.job_id:
            return SessionError(text("start.not_submitted"), reason="ended")
        words = text("start.ended", job=self.job_id, log=log_path(self.job_id))
        last = await self._explained(self._own_end(), EXPLAIN_START_FOR)
        if last.why in OWN_DOING:
            last = replace(last, why=Ending.START, text=words)
        elif last.why is Ending.UNKNOWN:
            last = replace(last, text=words)  # a later search may find the record
        else:
            words = f"{words} {last.words}"
        self.last = last
        return SessionError(words, reason="ended")

    async def _error_state(self, job: Job) -> SessionError:
        errors: tuple[str, ...] = ()
        try:
            details = (await ask_details(self.cluster.grid, [job.id])).get(job.id)
            if details and details.owner == job.owner:
                errors = details.errors
        except GridEngineError as error:
            self.log.warning(
                "Cannot ask Grid Engine why job %s is in an error state: %s", job.id, error
            )
        return failures.error_state(job, errors)

    def _is_well(self, job: Job | Gone | None) -> bool:
        """Return whether Grid Engine and the worker can be ruled out as causes of a delay.

        If they cannot be ruled out, the time limit of a start does not apply.
        """
        age = self.collector.age
        if age is None or age > waiting.OLD_ANSWER:
            return False
        return not isinstance(job, Job) or (job.reports and job.state is not State.SUSPENDED)

    @property
    def _scheme(self) -> str:
        return "https" if self.internal_ssl else "http"

    def _address(self) -> str:
        return f"{self._scheme}://{self.host}:{self.port}{self.server.base_url}"

    def _tls_options(self) -> dict[str, Any]:
        if not self.internal_ssl:
            return {}
        return {
            "ssl": hub_context(Path(self.internal_certs_location)),
            "server_hostname": session_name(self.session),
        }

    async def _until_answering(self, limit: float | None) -> None:
        """Wait until the session's server answers.

        :param limit: seconds to wait at most; ``None`` to wait as long as Grid Engine has the job.
        :raises SessionError: when the session has ended, or does not answer in time; the message is
            for the person.
        """
        deadline = asyncio.get_running_loop().time() + (limit or float("inf"))
        pauses = iter(reach.PAUSES)
        pause = 0.0
        while not (response := await self._answer()):
            job = self._job()
            if job is GONE:
                raise SessionError(self._own_end().words, reason="ended")
            if asyncio.get_running_loop().time() > deadline and self._is_well(job):
                raise SessionError(
                    text("start.unreachable", host=self.host, job=self.job_id, port=self.port),
                    reason="unreachable",
                )
            pause = next(pauses, pause)
            await asyncio.sleep(pause)

        async def wait_up(**_: object) -> ClientResponse:
            return response

        # JupyterHub would now query the server once more, and stop the session if the worker loses
        # the network at this moment. Therefore, give JupyterHub the answer that has arrived.
        self.server.wait_up = wait_up

    async def _answer(self) -> ClientResponse | None:
        return await reach.answer(self._address() + "api", self.host, self.port, self._tls_options)

    async def check_silence(self) -> None:
        """Find out whether the session answers, if the state of its job suggests that it does not.

        Grid Engine's word alone is not enough: a session also answers while the execution daemon of
        its worker is down.
        """
        job = self._job()
        # A job without a host waits again: Grid Engine has rescheduled it.
        is_away = isinstance(job, Job) and (job.may_be_silent or not job.host)
        may_be_silent = is_away and self.host and self.port
        self.silent = bool(may_be_silent and not await self._answer() and self.host)

    def announce(self, port: int) -> None:
        """Store the port that the starter has bound.

        :raises SessionError: when maintenance of the workers is too near, or when the port cannot
            be stored.
        """
        try:
            window = next_maintenance.window_file.current()
            self.ends = end_before(window, self._job(), self.asked)
        except SessionError as error:
            self.failure = error
            self.collector.wake()
            raise
        self.port = port
        try:
            # Store the port before the starter gets an answer, because after an answer the starter
            # does not report the port again.
            self._store_state()
        except SessionError:
            self.port = 0
            raise
        if self._clock:
            self._clock.reach("answer")
        self.log.info("Session of %s has reported port %s", self._log_name, port)
        self.collector.hurry()
        self.collector.wake()

    def give_up(self, reason: str) -> None:
        """Let the start fail with the starter's reason."""
        self.failure = self._starters_reason(reason)
        self.collector.wake()

    @property
    def is_starting(self) -> bool:
        """Whether the session is starting and has not reported its port yet."""
        return bool(self._start_pending and not self.stopping and not self.port)

    async def poll(self) -> int | None:
        """Return 1 if the session is over, and ``None`` if it exists or its state is not known."""
        if self.session and self._check_pending and self._spawn_future is None:
            return await self._resume()
        if self.session:
            self._watch()
        if await self.query_job_status() is JobStatus.NOTFOUND:
            if self.session and not self.port:
                await self._remove_file()
            if not self._try(self._store_end):
                return None  # the next poll tries again
            session = self.session
            if self.host:
                self.last = await self._explained(self._own_end())
                self._note_end(self.last.why, self.last)
            if self.session == session:
                self.clear_state()
            return 1
        return None

    async def _remove_file(self) -> None:
        """Remove the secrets file through the broker: the job may have ended without reading it."""
        try:
            await self.cancel_batch_job()
        except SessionError as error:
            self.log.warning(
                "A secrets file of job %s may be left behind: %s", self.job_id, error.log_message
            )

    async def get_url(self) -> str:
        """Return the session's URL, which JupyterHub needs after a restart."""
        return self._address()

    async def _resume(self) -> int | None:
        """Resume a running or starting session after a restart of the hub.

        JupyterHub itself would stop a session that does not answer within ``http_timeout`` or that
        is still in the queue. While this method runs, JupyterHub treats the session as starting:
        the person sees the progress and can cancel the session.

        :returns: the result for :meth:`poll`: ``None`` when the session answers, and 1 when the
            session is over.
        """
        if self.stopping:
            return 1  # JupyterHub then stops the session
        self._spawn_pending = self._start_pending = True
        self._watch()
        # Use a bare future, which only the person can cancel. A hub that shuts down cancels all its
        # tasks, so a task would also be cancelled without the person.
        self._spawn_future = outcome = asyncio.get_running_loop().create_future()
        self._cleared = asyncio.Event()
        work = asyncio.ensure_future(self._until_resumed())
        try:
            await asyncio.wait([outcome, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
        self._spawn_pending = self._start_pending = False
        if outcome.cancelled():
            return await self._until_stopped()
        try:
            work.result()
        except SessionError as error:
            self.log.warning("Session of %s is over: %s", self._log_name, error)
            if error.reason == "ended" and self.host:
                # The start did not fail, because the session was up. The reason for the session's
                # end is found later: when JupyterHub polls before the stop, or when a person opens
                # a page.
                self.last = self._own_end()
                self._note_end(self.last.why, self.last)
                outcome.set_result(None)
                self._spawn_future = None
                return 1
            await self._keep_reason(error)
            outcome.set_exception(error)  # the person's page shows it
            outcome.exception()  # keeps asyncio from complaining if no page retrieves it
            return 1
        # Do not `await` anything below. Otherwise, code that waits for `outcome` would run before
        # JupyterHub has marked the session as ready.
        outcome.set_result(None)
        self._spawn_future = None
        self._watch()
        return None

    async def _until_stopped(self) -> int | None:
        """Wait until JupyterHub has stopped a session that the person has cancelled.

        JupyterHub calls :meth:`stop` as soon as no other action of this spawner is pending. Until
        then, no other code may change the session. If the stop fails, resume the session.

        :returns: the result for :meth:`poll`.
        """
        assert self._cleared is not None
        self._spawn_future = None
        self._check_pending = False
        while not self._cleared.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await self._cleared.wait()
                    break
            if not self._stop_pending:  # the stop has failed: the session still exists
                self._check_pending = True
                return await self._resume()
        return 1

    async def _until_resumed(self) -> None:
        """Wait until the session that is being resumed answers.

        :raises SessionError: when the session is over.
        """
        pauses = iter(reach.PAUSES)
        pause = 0.0
        while True:
            try:
                if not self.host:
                    started = self.orm_spawner.started or utcnow(with_tz=False)
                    waited = (utcnow(with_tz=False) - started).total_seconds()
                    await self._until_up(max(self.wait_limit - waited, LEAST_WAIT))
                    await self._until_answering(self.http_timeout)
                    self._try(self._store_address)  # the proxy's route leads to this address
                    await self.user.settings["proxy"].add_user(self.user, self.name)
                # A session that does not answer may still be alive, so only Grid Engine or the
                # person may end it.
                await self._until_answering(None)
                break
            except SessionError:
                raise
            except Exception:
                # An uncaught exception would make JupyterHub end the session.
                self.log.exception("Cannot resume the session of %s yet", self._log_name)
            pause = next(pauses, pause)
            await asyncio.sleep(pause)
        self.log.info("Session of %s is resumed, job %s", self._log_name, self.job_id)

    async def stop(self, now: bool = False) -> None:
        """Delete the job, if it exists, and wait a limited time until the job is gone.

        JupyterHub forgets the session in any case. If the job still exists after the wait, the
        collector deletes the job as soon as Grid Engine allows the deletion.
        """
        if not self.session:
            await self._until_stored("")
            return
        session, job_id = self.session, self.job_id
        name = job_name(session)
        if who := stopped_by.get():
            self.last = SessionEnd(
                job=job_id, why=who, name=name, owner=self.owner, host=self.host, had=self.asked
            )
        self._note_end(who or metrics.PERSON)
        # Store the end first: the hub then refuses requests from the job, even if the hub restarts
        # during the stop.
        self._try(self._store_end)
        try:
            await self.cancel_batch_job()
        except SessionError as error:
            self.log.warning("Job %s cannot be deleted now: %s", job_id, error.log_message)
            now = True
        self._watch()
        self.collector.release(name)
        # Do not wait for a job whose number is not known. Such a job may never exist; if it starts,
        # it ends at once because its secrets file is gone.
        limit = self.stop_timeout if job_id and not now else 0.0
        deadline = asyncio.get_running_loop().time() + limit
        while self.collector.watches(name):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                if job_id and self.last is None:
                    self.last = SessionEnd(job=job_id, why=Ending.LINGERS, name=name)
                self.log.warning(
                    "Job %s of %s is not gone after %g s; it will be deleted",
                    job_id or "(number not known)",
                    self._log_name,
                    limit,
                )
                break
            await self.collector.news(left)
        await self._until_stored(session)
        if self.session == session:
            self.clear_state()
