# SPDX-License-Identifier: BSD-3-Clause
"""The base of the spawner: its settings, the session's database row, and the session's job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchspawner.batchspawner import BatchSpawnerBase
from traitlets import Dict, Enum, Float, Integer, List, Tuple, Unicode, default

from gridhub.accounts import NoAccount, NoAnswer, NotOneName, account_of, group_names
from gridhub.broker.protocol import (
    Answer,
    Request,
    job_name,
)
from gridhub.grid.cluster_status import ClusterStatus
from gridhub.grid.collector import GONE, LONG_INTERVAL, SHORT_INTERVAL, Collector, Gone
from gridhub.grid.dialect import Dialect
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job
from gridhub.grid.request_files import split_options
from gridhub.menu.file import load_menu
from gridhub.menu.items import Choice
from gridhub.menu.job import Requested
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from gridhub.spawner import reach
from gridhub.spawner.cluster import SETTING, Cluster
from gridhub.spawner.database import SessionState, find_token, writing
from gridhub.spawner.directory import ask_directory
from gridhub.spawner.ended import SessionEnd
from gridhub.spawner.failures import SessionError
from gridhub.spawner.metrics import StartClock
from gridhub.words import text


class ClusterSpawner(BatchSpawnerBase):
    """A spawner with its session's state; all spawners of a hub share one cluster object."""

    menu_file = Unicode("/etc/jupyterhub/menu.json", help="The resource menu.").tag(config=True)
    broker_socket = Unicode(
        "/run/jupyterhub-broker.sock", help="The submission broker's socket."
    ).tag(config=True)
    broker_timeout = Float(30.0, help="Seconds the broker may take for a request.").tag(config=True)
    sge_root = Unicode("/var/lib/gridengine", help="SGE_ROOT.").tag(config=True)
    sge_cell = Unicode("default", help="SGE_CELL.").tag(config=True)
    sge_bin_dir = Unicode("/usr/bin", help="Folder of qstat.").tag(config=True)
    sge_ports = Dict(
        help="SGE_QMASTER_PORT and SGE_EXECD_PORT, unless they are in /etc/services."
    ).tag(config=True)
    sge_dialect = Enum(
        [each.value for each in Dialect], Dialect.SGE.value, help="The family of Grid Engines."
    ).tag(config=True)
    sge_timeout = Float(10.0, help="Seconds a Grid Engine command may take.").tag(config=True)
    short_interval = Float(
        SHORT_INTERVAL, help="Seconds between queries to Grid Engine while a person waits."
    ).tag(config=True)
    long_interval = Float(
        LONG_INTERVAL, help="Seconds between queries to Grid Engine otherwise."
    ).tag(config=True)
    wait_limit = Float(
        600.0, help="Seconds a session may take from its submission until it reports its port."
    ).tag(config=True)
    stop_timeout = Float(20.0, help="Seconds to wait for a deleted job to be gone.").tag(
        config=True
    )
    site_arguments = List(
        Unicode(), help="The site's arguments of qsub for every session; the broker adds them."
    ).tag(config=True)
    accounting_file = Unicode(
        help="Grid Engine's accounting file; if empty, that of the cell."
    ).tag(config=True)
    session_path = Unicode(
        help="Folder of the notebook environment on the workers, for the pages."
    ).tag(config=True)
    session_ports = Tuple(
        Integer(), Integer(), default_value=(28000, 28999), help="Ports sessions may use."
    ).tag(config=True)
    choice: Choice | None = None
    #: The options of the last accepted choice, as JupyterHub received them.
    accepted: dict[str, Any]
    #: Why the last choice was refused; ``None`` after the form has shown the reason.
    refusal: ChoiceError | None = None
    #: The session's name, 32 hexadecimal digits; empty while there is no session.
    session: str = ""
    #: The name of the current session, or of the last one, for the log and the pages. A start that
    #: tries several workers has a name for each.
    named: str = ""
    #: Measures the current start; ``None`` after a restart of the hub.
    _clock: StartClock | None = None
    #: The name of the person's account: the owner of the session's job in Grid Engine. Usually the
    #: hub's name of the person is the same; it may be another name of the account.
    owner: str = ""
    #: The hash of the session's API token, as JupyterHub stores it.
    token_hash: str = ""
    #: The worker's name; empty until the session's server is up.
    host: str = ""
    stopping: bool = False
    #: Whether the session does not answer, and the state of its job explains why. The proxy then
    #: has no route to it, so that its address shows the reason (:mod:`gridhub.hub.strays`).
    silent: bool = False
    #: Why the session cannot start: the starter has reported a reason, or maintenance of the
    #: workers is too near.
    failure: SessionError | None = None
    #: The time at which the session must end early, in seconds since the epoch; 0 if the session
    #: may use all of its run time.
    ends: float = 0.0
    #: Sentences about a run time that was cut and about workers without a free port; may be empty.
    note: str = ""
    #: What the session has requested; kept here because the menu may change while the session runs.
    asked: tuple[Requested, ...] = ()
    last: SessionEnd | None = None
    #: The workers on which the session has found no free port.
    _avoid: tuple[str, ...] = ()
    _explain_due: float = 0.0
    _explaining: asyncio.Future[None] | None = None
    _spawn_future: asyncio.Future[Any] | None = None
    _cleared: asyncio.Event | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Keep a copy: JupyterHub overwrites `user_options` with a new choice before it checks the
        # new choice.
        self.accepted = dict(self.user_options or {})

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        # This value is so large that JupyterHub's own timeout never ends a start. Instead,
        # `wait_limit` ends a slow start with a clear message. `wait_limit` does not apply while
        # Grid Engine or the worker does not respond: that delay is not the session's fault.
        return 10 * 365 * 24 * 3600

    @default("poll_interval")
    def _default_poll_interval(self) -> int:
        return 5  # a poll is cheap: it only reads the collector's last answer

    @property
    def _log_name(self) -> str:
        """The person with the session's name, for our lines of the log and JupyterHub's."""
        name = super()._log_name
        return f"{name} ({self.named})" if self.named else name

    def _menu(self) -> Menu:
        """Load the menu again, so that a changed menu applies without a restart of the hub."""
        try:
            return load_menu(Path(self.menu_file))
        except MenuError as error:
            raise SessionError(
                text("start.menu"),
                reason="menu",
                log_message=str(error),
                status_code=500,
            ) from error

    async def _account(self, menu: Menu) -> tuple[str, frozenset[str]]:
        """Return the name of the person's account, and its Unix groups.

        The look-up runs in a thread, because a directory service may be slow.

        :raises SessionError: when there is no answer, or no such account.
        """
        name, also = self.user.name, menu.groups()

        def account() -> tuple[str, frozenset[str]]:
            found = account_of(name)
            return found.pw_name, group_names(found, also)

        try:
            return await ask_directory("account", name, account)
        except NoAccount as error:
            words = text("account.not_on_hub", name=name)
            raise SessionError(words, reason="account") from error
        except NotOneName as error:
            words = text("account.not_one_name", reason=error)
            raise SessionError(words, reason="account") from error
        except NoAnswer as error:
            words = text("account.no_answer")
            raise SessionError(words, reason="account", status_code=503) from error

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the session's state from the database."""
        super().load_state(state)
        for name, value in SessionState.load(state)._asdict().items():
            setattr(self, name, value)
        self.owner = self.owner or self.user.name
        self.named = self.session or (self.last.session if self.last else "")

    def get_state(self) -> dict[str, Any]:
        """Return the session's state for the database."""
        own = SessionState(*(getattr(self, name) for name in SessionState._fields))
        return dict(super().get_state()) | own.dump()

    def clear_state(self) -> None:
        """Forget the session. If its job still exists, the collector deletes the job."""
        super().clear_state()
        if self.session:
            self.collector.release(job_name(self.session))
        self.session = self.token_hash = self.host = self.note = ""
        self.asked = ()
        self.port, self.ends = 0, 0.0
        self.stopping = self.silent = False
        if self._cleared:
            self._cleared.set()

    def _store_state(self) -> None:
        with writing(self.orm_spawner):
            self.orm_spawner.state = self.get_state()

    def _store_address(self) -> None:
        with writing(self.orm_spawner):
            self.server.proto = self._scheme
            self.server.ip, self.server.port = self.host, self.port

    def _store_end(self) -> None:
        """Store that the session is stopping, and revoke its token.

        The hub then refuses all further requests from the session's job. After a restart, only the
        token's hash is known, and JupyterHub's own code cannot revoke the token. So this method
        searches for the token by its hash.
        """
        self.stopping = True
        with writing(self.orm_spawner) as database:
            self.orm_spawner.state = self.get_state()
            if database and (token := find_token(database, self.api_token, self.token_hash)):
                database.delete(token)

    def _try(self, store: Callable[[], None]) -> bool:
        """Try to store a value; only log a failure: the hub can find or store the value later.

        :returns: whether the value was stored.
        """
        try:
            store()
        except SessionError as error:
            self.log.warning("Session of %s: %s", self._log_name, error.log_message)
            return False
        return True

    async def _until_stored(self, session: str) -> None:
        """Wait until the database has recorded that a session is over.

        JupyterHub writes to the database after a stop. If that write failed, JupyterHub would show
        the session as stopping for ever. Therefore, this method first waits until its own write
        succeeds.
        """
        pauses = iter(reach.PAUSES)
        pause = 0.0
        while self.session == session and not self._try(self._store_end):
            pause = next(pauses, pause)
            await asyncio.sleep(pause)

    @property
    def cluster(self) -> Cluster:
        """The cluster object that all sessions of this hub share."""
        settings = self.user.settings
        if SETTING not in settings:
            settings[SETTING] = self.make_cluster()
        cluster: Cluster = settings[SETTING]
        return cluster

    def make_cluster(self) -> Cluster:
        """Return a new cluster object from the spawner's settings."""
        return Cluster(
            GridEngine(
                Path(self.sge_root),
                self.sge_cell,
                Path(self.sge_bin_dir),
                self.sge_timeout,
                self.sge_ports,
                Dialect(self.sge_dialect),
            ),
            broker=Path(self.broker_socket),
            broker_timeout=self.broker_timeout,
            menu_file=Path(self.menu_file),
            short_interval=self.short_interval,
            long_interval=self.long_interval,
            accounting_file=self.accounting_file,
            queues=[
                queue
                for option in split_options(self.site_arguments)
                if option.name == "-q"
                for queue in option.values[0].split(",")
            ],
        )

    @property
    def collector(self) -> Collector:
        """The collector that all sessions share."""
        return self.cluster.collector

    @property
    def status(self) -> ClusterStatus:
        """Grid Engine's data for pages, except the states of jobs; all sessions share this data."""
        return self.cluster.status

    def _job(self) -> Job | Gone | None:
        return self.collector.look_up(job_name(self.session)) if self.session else GONE

    def _watch(self) -> None:
        """Watch the job; until the session is up, check the job more often."""
        self.cluster.watch(
            self.session,
            self.owner,
            waiting=bool(self._start_pending or not self.host),
            has_number=bool(self.job_id),
            requested=self.asked,
        )

    async def _ask_broker(self, request: Request) -> Answer:
        try:
            answer = await self.cluster.broker.ask(request)
        except (OSError, TimeoutError, GridEngineError) as error:
            raise SessionError(
                text("start.no_broker"),
                reason="no_answer",
                log_message=f"broker: {error!r}",
                status_code=503,
            ) from error
        if not answer.ok:
            ours = answer.kind in ("request", "broker")
            refusal = SessionError(
                text("start.broker", reason=answer.error) if ours else answer.error,
                reason=answer.kind,
                status_code=500 if ours else 400,
            )
            refusal.words, refusal.note = answer.words, answer.note
            raise refusal
        return answer
