# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner: the life of a session, as a Grid Engine job, and nothing else."""

from __future__ import annotations

import asyncio
import hmac
import pwd
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from batchspawner.api import BatchSpawnerAPIHandler
from batchspawner.batchspawner import BatchSpawnerBase, JobStatus
from jupyterhub.apihandlers import APIHandler, default_handlers
from jupyterhub.spawner import SpawnException
from sqlalchemy.orm import object_session
from tornado import web
from traitlets import Float, Integer, Tuple, Unicode, default

from sge_broker import SESSION_FOLDER, SESSION_VARIABLES, Answer, Start, Stop, ask, group_names
from sge_client import GONE, AnswerError, Collector, Gone, GridEngine, Job, State
from sge_menu import Choice, ChoiceError, Menu, MenuError, load_menu, render_form

#: One collector for each Grid Engine, shared by all spawners of this hub.
_collectors: dict[GridEngine, Collector] = {}

#: The states in which a job has a host and its session may answer.
_ON_A_HOST = frozenset({State.STARTING, State.RUNNING, State.SUSPENDED, State.DELETING})

#: What the person reads while waiting, by the state of the job.
_WAITING = {
    State.QUEUED: "Job {id} waits for a free place in the queue.",
    State.HELD: "Job {id} is held; it starts when the hold is released.",
    State.ERROR: "Job {id} is in an error state.",
    State.STARTING: "Job {id} is being started on {host}.",
    State.RUNNING: "Job {id} runs on {host}; JupyterLab is coming up.",
    State.SUSPENDED: "Job {id} is suspended on {host}.",
    State.DELETING: "Job {id} is being deleted.",
}


#: How many requests the broker is asked at once. Each is a process on the hub's host; a class of a
#: hundred that presses Start together waits in line here rather than at a closed socket.
_broker_line = asyncio.Semaphore(16)

#: Pauses between attempts to delete a job nobody wants any more, in seconds; the last one repeats.
_DELETION_PAUSES = (2.0, 5.0, 15.0, 60.0)

#: Deletions under way, kept here because the event loop alone would let go of them.
_deletions: set[asyncio.Task[None]] = set()


class SessionError(SpawnException):
    """A session cannot start; the message is for the person, and is shown as it is."""

    @property
    def jupyterhub_message(self) -> str:
        """What JupyterHub's pages show."""
        return str(self.message)


class SGESpawner(BatchSpawnerBase):
    """Runs each session as a Grid Engine job, submitted by the broker as the person."""

    menu_file = Unicode("/etc/jupyterhub/menu.json", help="The resource menu.").tag(config=True)
    broker_socket = Unicode(
        "/run/jupyterhub-broker.sock", help="The submission broker's socket."
    ).tag(config=True)
    broker_timeout = Float(30.0, help="Seconds the broker may take for a request.").tag(config=True)
    sge_root = Unicode("/var/lib/gridengine", help="SGE_ROOT.").tag(config=True)
    sge_cell = Unicode("default", help="SGE_CELL.").tag(config=True)
    sge_bin_dir = Unicode("/usr/bin", help="Folder of qstat.").tag(config=True)
    sge_timeout = Float(10.0, help="Seconds a Grid Engine command may take.").tag(config=True)
    short_interval = Float(
        1.0, help="Seconds between questions to Grid Engine while somebody waits."
    ).tag(config=True)
    long_interval = Float(15.0, help="Seconds between questions to Grid Engine otherwise.").tag(
        config=True
    )
    stop_timeout = Float(20.0, help="Seconds to wait for a deleted job to be gone.").tag(
        config=True
    )
    session_ports = Tuple(
        Integer(), Integer(), default_value=(40000, 40999), help="Ports sessions may use."
    ).tag(config=True)

    choice: Choice | None = None

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        # Runs on every way into a start, REST included; the form's own hook does not.
        return type(self).check_choice

    @default("options_form")
    def _default_options_form(self) -> Any:
        return type(self).draw_form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return self.read_form

    # -- the menu ---------------------------------------------------------------------------------

    def _menu(self) -> Menu:
        """Load the menu; a change takes effect for the next session, without a restart."""
        try:
            return load_menu(Path(self.menu_file))
        except MenuError as error:
            raise SessionError(
                "The menu of resources cannot be read. Please tell the administrators.",
                reason="menu",
                log_message=str(error),
                status_code=500,
            ) from error

    async def _groups(self) -> frozenset[str]:
        """Return the person's Unix groups; a directory service may be slow, so in a thread."""
        try:
            return await asyncio.to_thread(lambda: group_names(pwd.getpwnam(self.user.name)))
        except KeyError as error:
            raise SessionError(
                f"There is no account {self.user.name} on the hub's host. "
                "Please tell the administrators.",
                reason="account",
            ) from error

    async def draw_form(self) -> str:
        """Return the form's fields for this person."""
        return render_form(self._menu(), await self._groups(), self.user_options or {})

    @staticmethod
    def read_form(data: dict[str, list[str]]) -> dict[str, object]:
        """Turn a form into options. What they mean is checked in :meth:`check_choice` alone."""
        fields = {name: values for name, values in data.items() if not name.startswith("_")}
        return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}

    async def check_choice(self, options: dict[str, object]) -> None:
        """Check what arrived against the menu; nothing unchecked goes further.

        :raises SessionError: with a message for the person.
        """
        self.choice = None
        groups = await self._groups()
        try:
            self.choice = self._menu().choose(options, groups)
        except ChoiceError as error:
            # Otherwise the refused choice would be taken for the next start without one.
            self._store(user_options={})
            raise SessionError(str(error), reason="choice") from error
        self.user_options = dict(self.choice.amounts)

    # -- Grid Engine ------------------------------------------------------------------------------

    @property
    def collector(self) -> Collector:
        """The collector all sessions share."""
        grid = GridEngine(
            Path(self.sge_root), self.sge_cell, Path(self.sge_bin_dir), self.sge_timeout
        )
        if grid not in _collectors:
            _collectors[grid] = Collector(grid, self.short_interval, self.long_interval)
        return _collectors[grid]

    def _job(self) -> Job | Gone | None:
        return self.collector.look_up(int(self.job_id)) if self.job_id else GONE

    async def _ask_broker(self, request: Start | Stop) -> Answer:
        try:
            async with _broker_line:
                answer = await ask(Path(self.broker_socket), request, self.broker_timeout)
        except (OSError, TimeoutError, AnswerError) as error:
            raise SessionError(
                "The submission service does not answer. Try again in a minute; if it lasts, "
                "please tell the administrators.",
                reason="broker",
                log_message=f"broker: {error!r}",
                status_code=503,
            ) from error
        if not answer.ok:
            raise SessionError(
                answer.error,
                reason=answer.kind,
                status_code=500 if answer.kind in ("request", "broker") else 400,
            )
        return answer

    async def submit_batch_script(self) -> str:
        """Have the broker submit the session, and store its job number at once."""
        assert self.choice is not None
        environment = {
            name: value for name, value in self.get_env().items() if name in SESSION_VARIABLES
        }
        request = Start(user=self.user.name, amounts=self.choice.amounts, environment=environment)
        asking = asyncio.ensure_future(self._ask_broker(request))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # Given up while submitting: the job may come to be, and nobody wants it then.
            asking.add_done_callback(self._delete_unwanted)
            raise
        self.job_id = str(answer.job_id)
        # Now, not after the start: a hub that dies meanwhile must find the job.
        self._store(state=self.get_state())
        self.log.info("Session of %s is job %s", self._log_name, self.job_id)
        return self.job_id

    def _store(self, **values: object) -> None:
        """Write values to the session's row of the hub's database, at once."""
        for name, value in values.items():
            setattr(self.orm_spawner, name, value)
        # Not self.db: JupyterHub is about to remove it.
        if database := object_session(self.orm_spawner):
            database.commit()

    async def cancel_batch_job(self) -> None:
        """Have the broker delete the job."""
        await self._ask_broker(Stop(user=self.user.name, job_id=int(self.job_id)))

    def _delete_unwanted(self, asking: asyncio.Future[Answer]) -> None:
        if not asking.cancelled() and asking.exception() is None and asking.result().job_id:
            self._delete_later(asking.result().job_id or 0)

    def _delete_later(self, job_id: int) -> None:
        """Go on trying to delete a job, while JupyterHub goes on without the session."""
        task = asyncio.ensure_future(self._keep_deleting(job_id))
        _deletions.add(task)
        task.add_done_callback(_deletions.discard)

    async def _keep_deleting(self, job_id: int) -> None:
        pauses = iter(_DELETION_PAUSES)
        pause = 0.0
        while True:
            try:
                await self._ask_broker(Stop(user=self.user.name, job_id=job_id))
                self.log.info("Job %s of %s is deleted", job_id, self._log_name)
                return
            except SessionError as error:
                if error.reason in ("refused", "request"):
                    self.log.error("Job %s stays: %s", job_id, error.log_message)
                    return
                pause = next(pauses, pause)
                self.log.warning(
                    "Job %s cannot be deleted now, trying again in %g s: %s",
                    job_id,
                    pause,
                    error.log_message,
                )
            await asyncio.sleep(pause)

    async def query_job_status(self) -> JobStatus:
        """Translate the collector's look-up into batchspawner's terms."""
        job = self._job()
        if job is GONE:
            return JobStatus.NOTFOUND
        if not isinstance(job, Job):
            return JobStatus.UNKNOWN
        return JobStatus.RUNNING if job.state in _ON_A_HOST else JobStatus.PENDING

    # -- a session's life -------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the job and wait until its server has told the hub its port.

        :returns: the URL of the server.
        :raises SessionError: with a message for the person when that cannot happen any more.
        """
        self.port = 0
        await self.submit_batch_script()
        job_id = int(self.job_id)
        self.collector.watch(job_id, self.user.name, waiting=True)
        while True:
            job = self._job()
            if job is GONE:
                raise SessionError(
                    f"Job {job_id} ended before JupyterLab was up. Its messages are in "
                    f"~/{SESSION_FOLDER}/{job_id}.log.",
                    reason="ended",
                )
            if isinstance(job, Job):
                if job.state is State.ERROR:
                    raise SessionError(
                        f"Grid Engine could not start job {job_id} (state {job.letters}). "
                        "Please tell the administrators.",
                        reason="error_state",
                    )
                if self.port and job.host:
                    self.ip = job.host
                    break
            await self.collector.news(self.sge_timeout)
        self.collector.watch(job_id, self.user.name, waiting=False)
        self.log.info("Session of %s answers at %s:%s", self._log_name, self.ip, self.port)
        return f"http://{self.ip}:{self.port}"

    def announce(self, port: int) -> None:
        """Take the port the starter has bound."""
        self.port = port
        self.collector.hurry()
        self.collector.wake()

    @property
    def awaits_port(self) -> bool:
        """Whether the session is starting and has not told its port yet."""
        return bool(self._start_pending and not self.port)

    async def poll(self) -> int | None:
        """Look up the job: ``None`` while it lives or is not known, 1 when it is over."""
        if self.job_id:
            self.collector.watch(
                int(self.job_id), self.user.name, waiting=bool(self._start_pending)
            )
        if await self.query_job_status() is JobStatus.NOTFOUND:
            self._forget_job()
            return 1
        return None

    async def stop(self, now: bool = False) -> None:
        """Delete the job and wait a bounded time for it to be gone.

        Without a job this does nothing; deleting one that is gone already is no error. JupyterHub
        forgets the session whatever happens here, so a job that cannot be deleted now is kept in
        mind and deleted later.
        """
        if not self.job_id:
            return
        job_id = int(self.job_id)
        try:
            await self.cancel_batch_job()
        except SessionError as error:
            self.log.warning("Job %s cannot be deleted now: %s", job_id, error.log_message)
            self._delete_later(job_id)
            now = True
        if not now:
            self.collector.watch(job_id, self.user.name, waiting=True)
            self.collector.hurry()
            deadline = asyncio.get_running_loop().time() + self.stop_timeout
            while self._job() is not GONE:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    self.log.warning(
                        "Job %s of %s was deleted but is still there after %g s",
                        job_id,
                        self._log_name,
                        self.stop_timeout,
                    )
                    break
                await self.collector.news(left)
        self._forget_job()

    def _forget_job(self) -> None:
        if self.job_id:
            self.collector.forget(int(self.job_id))
        self.clear_state()

    async def progress(self) -> AsyncIterator[dict[str, str]]:
        """Tell the person who waits what the job does, whenever that changes."""
        said = ""
        while self._start_pending:
            job = self._job() if self.job_id else None
            if isinstance(job, Job) and job.state in _WAITING:
                message = _WAITING[job.state].format(id=job.id, host=job.host)
            else:
                message = (
                    f"Job {self.job_id} is submitted." if self.job_id else "Submitting the job."
                )
            if message != said:
                said = message
                yield {"message": message}
            await self.collector.news(1.0)


class PortHandler(APIHandler):
    """``POST /hub/api/sge/port``: a starting session tells its port, and may tell nothing else."""

    @web.authenticated
    def post(self) -> None:
        """Take ``{"port": N}`` from the session whose token the request carries."""
        token = self.get_auth_token() or ""
        # A token of a service has no person behind it, and so no sessions.
        sessions = getattr(self.current_user, "spawners", {})
        spawner = next(
            (
                spawner
                for spawner in sessions.values()
                if isinstance(spawner, SGESpawner)
                and spawner.api_token
                and hmac.compare_digest(spawner.api_token, token)
            ),
            None,
        )
        if spawner is None or not spawner.awaits_port:
            raise web.HTTPError(403, "this token belongs to no session that is starting")
        body = self.get_json_body()
        first, last = spawner.session_ports
        if not isinstance(body, dict) or set(body) != {"port"}:
            raise web.HTTPError(400, 'the body must be {"port": N}')
        port = body["port"]
        if isinstance(port, bool) or not isinstance(port, int) or not first <= port <= last:
            raise web.HTTPError(400, f"the port must be a number from {first} to {last}")
        spawner.announce(port)
        self.set_status(204)


# Importing batchspawner registers a handler that sets any attribute of a spawner from the request.
default_handlers[:] = [
    entry for entry in default_handlers if entry[1] is not BatchSpawnerAPIHandler
] + [(r"/api/sge/port", PortHandler)]
