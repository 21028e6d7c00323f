# SPDX-License-Identifier: BSD-3-Clause
"""SGESpawner: the life of a session, as a Grid Engine job, and nothing else.

What is written to the session's row of the hub's database, and when, decides what survives a hub
that is killed: its name before the job is asked for, its port before the starter is answered, that
it is being stopped before the job is deleted.
"""

from __future__ import annotations

import asyncio
import hmac
import pwd
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from html import escape
from math import isfinite
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import urlencode

from aiohttp import ClientError, ClientResponse
from batchspawner.api import BatchSpawnerAPIHandler
from batchspawner.batchspawner import BatchSpawnerBase, JobStatus
from jupyterhub import orm
from jupyterhub.apihandlers import default_handlers
from jupyterhub.httpclient import fetch
from jupyterhub.utils import AnyTimeoutError, utcnow
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, object_session
from traitlets import Float, Integer, Tuple, Unicode, default

from gridhub.accounts import group_names
from gridhub.broker.client import ask
from gridhub.broker.protocol import (
    SESSION_VARIABLES,
    Answer,
    Check,
    Request,
    Start,
    Stop,
    Tls,
    job_name,
)
from gridhub.contract import SESSION_FOLDER
from gridhub.grid.accounting import FARTHEST_BACK, LOOK_BACK, Ending, find_record, why
from gridhub.grid.collector import GONE, Collector, Gone
from gridhub.grid.details import ask_details
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.grid.jobs import Job, State
from gridhub.grid.status import CachedQuery, ClusterStatus
from gridhub.grid.places import free
from gridhub.grid.reasons import main_reason, missing_by_reason, parse_reasons
from gridhub.hub.idle import ended_by
from gridhub.hub.starter import SessionHandler
from gridhub.menu.file import load_menu
from gridhub.menu.form import render_form
from gridhub.menu.job import Requested, asked, default_url, ending_within
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import PRESET_FIELD, Choice, Menu
from gridhub.spawner.directory import ask_directory
from gridhub.spawner.ended import Holders, SessionEnd, NoPort, SessionError, read_no_port
from gridhub.spawner.form import MAX_NOTICES, MORE, Link, followed
from gridhub.spawner.view import Amount, Forecast, Free, View
from gridhub.spawner.waiting import beside, free_now, in_words, lacking, lacks, later, never, short
from gridhub.tls import hub_context, issue, session_name
from gridhub.words import text, number_text

#: One collector for each Grid Engine, shared by all spawners of this hub.
_collectors: dict[GridEngine, Collector] = {}

#: The states in which a job has a host and its session may answer.
_ON_A_HOST = frozenset({State.STARTING, State.RUNNING, State.SUSPENDED})

#: From this age on, in seconds, Grid Engine's last answer is no news any more: the person is told,
#: and no session's time is over on account of it.
_OLD_NEWS = 30.0

#: How long a broker may be at a request after the hub has given up on it, in seconds.
_BROKER_MARGIN = 10.0

#: What ``qsub -w e`` says of a choice that no queue could take even on an empty cluster.
_NO_QUEUE = "no suitable queues"

#: How long a session that has not told its port gets for that after a restart of the hub at least,
#: in seconds; the starter's longest pause between attempts is 30 s.
_LEAST_WAIT = 90.0

#: How many requests the broker is asked at once. Each is a process on the hub's host; a class of a
#: hundred that presses Start together waits in line here rather than at a closed socket.
_broker_line = asyncio.Semaphore(16)

#: How long a session may be on its way to a worker, where it does not have to wait, in seconds.
_ON_THE_WAY = 60.0

#: On how many further workers a session is started that has found no port.
_MOST_ELSEWHERE = 2

#: Pauses between looks at a session that does not answer yet, in seconds; the last one repeats.
_LOOKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

#: Where the accounting file is read.
_records = ThreadPoolExecutor(2, "accounting")

#: How long to wait between looks for an accounting record that is not there yet, in seconds at
#: least, and as a share of the time since the session has ended: people may come days later.
_EXPLAIN_PAUSE = 5.0
_EXPLAIN_PAUSE_SHARE = 0.25

#: How long a failed start waits for its record, in seconds: Grid Engine writes it within 15 s,
#: unless the site says otherwise (``flush_time``, sge_conf(5)).
_EXPLAIN_START_FOR = 16.0

#: How a session may end before it is up for reasons that only its log can tell.
_OWN_DOING = frozenset({Ending.ITSELF.value, Ending.FAILED.value})

#: How long a page waits for what may as well be shown the next time, in seconds.
_GLIMPSE = 0.5

#: Grid Engine's verdicts on choices, by person, choice and what was missing for it: what is free
#: stands beside them. The newest of them, for a moment.
_verdicts: dict[tuple[str, str, frozenset[str] | None], CachedQuery[Answer]] = {}
_MAX_VERDICTS = 500

#: How many of one person's: who tries many choices pushes out nobody else's.
_MAX_VERDICTS_EACH = 20
_VERDICT_INTERVAL = 10.0
_LONGEST_VERDICT_INTERVAL = 40.0

#: How long a page waits for Grid Engine's answer to show it, in seconds.
_PATIENCE = 5.0

#: How many choices are checked at once, by whom, and how many may stand in line: starts and stops
#: have a line of their own, and nobody who plays with the form holds up the others.
_check_line = asyncio.Semaphore(2)
_checks: Counter[str] = Counter()
_MAX_CHECKS = 50
_MAX_CHECKS_EACH = 3

#: One view of each Grid Engine beyond the states of jobs, shared by all spawners of this hub.
_outlooks: dict[GridEngine, ClusterStatus] = {}


async def _ask(path: Path, request: Request, timeout: float) -> Answer:
    async with _broker_line:
        return await ask(path, request, timeout)


async def _delete(path: Path, timeout: float, job: Job) -> None:
    """Have the broker delete a job that no session wants."""
    request = Stop(user=job.owner, session=job.name.removeprefix(job_name("")))
    try:
        answer = await _ask(path, request, timeout)
    except (OSError, TimeoutError) as error:
        raise GridEngineError(f"broker: {error!r}") from error
    if not answer.ok:
        raise GridEngineError(answer.error)


def hub_mark(secret: bytes) -> str:
    """Return what the names of this hub's sessions begin with: eight hexadecimal digits.

    Made from the hub's own secret, so that no other hub on the same Grid Engine takes its jobs for
    strays, and from the host's name, so that a copy of the hub on another host does not either.
    """
    return hmac.digest(secret, socket.gethostname().encode(), "sha256").hex()[:8]


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
    wait_limit = Float(
        600.0, help="Seconds a session may take from its submission until it has told its port."
    ).tag(config=True)
    stop_timeout = Float(20.0, help="Seconds to wait for a deleted job to be gone.").tag(
        config=True
    )
    accounting_file = Unicode(
        help="Grid Engine's accounting file; the one of the cell where it is empty."
    ).tag(config=True)
    session_ports = Tuple(
        Integer(), Integer(), default_value=(40000, 40999), help="Ports sessions may use."
    ).tag(config=True)

    choice: Choice | None = None
    #: The last choice that was accepted, as it was sent.
    accepted: dict[str, Any]
    #: Why the last choice was refused, until the form has said it.
    refusal: ChoiceError | None = None
    #: The session's name, 32 hexadecimal digits; empty while there is none.
    session: str = ""
    #: The hash of the session's API token, as JupyterHub stores it.
    token_hash: str = ""
    #: The worker, once the session has been reached there.
    host: str = ""
    #: Whether the session speaks TLS; one that an older release has started does not.
    secure: bool = False
    stopping: bool = False
    #: Why the session cannot start, where it has said so itself or has come too late.
    failure: SessionError | None = None
    #: When it must be over, though its run time is not, in seconds since the epoch; 0: never.
    ends: float = 0.0
    #: What of the choice was changed, in a sentence.
    note: str = ""
    #: What the session has asked for; kept, because the menu may change while it runs.
    asked: tuple[Requested, ...] = ()
    last: SessionEnd | None = None
    #: The workers on which the session has found no port.
    _avoid: tuple[str, ...] = ()
    _explain_due: float = 0.0
    _explaining: asyncio.Future[None] | None = None
    _spawn_future: asyncio.Future[Any] | None = None
    _cleared: asyncio.Event | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # JupyterHub writes each choice over the last one before it is checked.
        self.accepted = dict(self.user_options or {})

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        # Ours ends a start, in plain words, and knows when not to: while Grid Engine is away, or
        # the worker, it is not the session that takes too long. JupyterHub's never comes to that.
        return 10 * 365 * 24 * 3600

    @default("poll_interval")
    def _default_poll_interval(self) -> int:
        return 5  # a look-up costs nothing

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
                text("start.menu"),
                reason="menu",
                log_message=str(error),
                status_code=500,
            ) from error

    async def _groups(self) -> frozenset[str]:
        """Return the person's Unix groups; a directory service may be slow, so in a thread."""
        try:
            name = self.user.name
            return await ask_directory("groups", name, lambda: group_names(pwd.getpwnam(name)))
        except KeyError as error:
            raise SessionError(
                text("account.not_on_hub", name=self.user.name),
                reason="account",
            ) from error

    async def draw_form(self) -> str:
        """Return the form's fields for this person, filled in as the link they followed says."""
        refusal, self.refusal = self.refusal, None
        menu, groups = self._menu(), await self._groups()
        shown: dict[str, Any] = dict(self.user_options or {})
        notes: dict[str, str] = {}
        notices: list[str] = []
        if link := followed.get():
            if link.shifts:
                shown, _ = menu.take(shown, groups)  # it is stored as it was sent
                shown.pop(PRESET_FIELD, None)
                notes = await self._shift(menu, groups, shown, link)
            else:
                shown, left_out = menu.take(link.values, groups)
                notices = [text("form.link")] if shown else []
                notices += [text("form.left_out", what=each) for each in left_out[:MAX_NOTICES]]
                try:
                    menu.choose(shown, groups)
                except ChoiceError as error:  # a rule between items; the link is filled in
                    refusal = error
        fields = render_form(menu, groups, shown, refusal, notes)
        await self.explain_last()
        told = [escape(each) for each in notices]
        # Of a start that has failed a moment ago JupyterHub says so itself, above the form.
        if self.last and not self._failed:
            told.insert(0, escape(self.last.words))
            if self.last.short_of and not (link and link.more):
                query = urlencode({MORE: ",".join(self.last.short_of)})
                again = escape(text("sessions.again_with_more"))
                told[0] += f' <a class="alert-link" href="?{escape(query)}">{again}</a>'
        alerts = (f'<p class="alert alert-warning" role="status">{each}</p>' for each in told)
        return "".join(alerts) + fields

    async def _shift(
        self, menu: Menu, groups: Collection[str], shown: dict[str, Any], link: Link
    ) -> dict[str, str]:
        """Change the amounts that were lacking in a choice; return what to say about each."""
        notes = {}
        places = None if link.more else await self.outlook.places.look(_PATIENCE)
        mine = menu.items_for(groups)
        queue = next(
            (shown.get(each.name, each.default) for each in mine if each.request.kind == "queue"),
            "",
        )
        wanted = [item for item in mine if item.name in link.shifts]
        shifted = set()
        # Again for those that found nothing: a rule may let one of them pass only after another.
        for item in wanted * len(wanted):
            old = shown.get(item.name, item.default)
            if item.name in shifted or not isinstance(old, int):
                continue
            most, why = None, "more"
            if not link.more:
                most, why = old, "less"
                if places and item.request.counted:
                    room = item.units_in(free(places, item.request.counted, str(queue))[1])
                    most, why = (room, "less_free") if room < old else (most, why)
            new = menu.shift(shown, item.name, groups, most)
            if new is None:
                why = "most" if link.more else "least"
            else:
                shown[item.name] = new
                shifted.add(item.name)
            notes[item.name] = text(
                f"form.{why}",
                label=item.label,
                old=item.in_words(old),
                new="" if new is None else item.in_words(new),
            )
        return notes

    @staticmethod
    def read_form(data: dict[str, list[str]]) -> dict[str, object]:
        """Turn a form into options. What they mean is checked in :meth:`check_choice` alone."""
        fields = {name: values for name, values in data.items() if not name.startswith("_")}
        return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}

    async def check_choice(self, options: dict[str, object]) -> None:
        """Check what arrived against the menu; nothing unchecked goes further.

        :raises SessionError: with a message for the person.
        """
        self.choice = self.refusal = None
        groups = await self._groups()
        menu = self._menu()
        try:
            self.choice, self.note = _over_in_time(menu, menu.choose(options, groups), groups)
        except ChoiceError as error:
            self.refusal = error
            # Otherwise the refused choice would be taken for the next start without one.
            with self._database():
                self.orm_spawner.user_options = self.accepted
            raise SessionError(str(error), reason="choice") from error
        if words := maintenance.refusal():
            self.choice = None
            raise SessionError(words, reason="maintenance")
        self.accepted = options
        self.user_options = dict(self.choice.values)
        self.default_url = default_url(menu, self.choice)

    # -- what survives a restart of the hub --------------------------------------------------------

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what the database holds of a session."""
        super().load_state(state)
        self.session = state.get("session", "")
        self.token_hash = state.get("token_hash", "")
        self.host = state.get("host", "")
        self.secure = state.get("secure", False)
        self.port = state.get("port", 0)
        self.stopping = state.get("stopping", False)
        self.ends = state.get("ends", 0.0)
        self.note = state.get("note", "")
        # What another release has written may look otherwise: it is for people only, and not worth
        # a session.
        self.asked, self.last = (), None
        with suppress(ValidationError, TypeError, KeyError):
            self.asked = tuple(Requested.model_validate(each) for each in state.get("asked", ()))
            self.last = SessionEnd.load(last) if (last := state.get("last")) else None

    def get_state(self) -> dict[str, Any]:
        """Return what the database is to hold of the session."""
        state = dict(super().get_state())
        if self.session:
            state |= {
                "session": self.session,
                "token_hash": self.token_hash,
                "host": self.host,
                "secure": self.secure,
                "port": self.port,
                "stopping": self.stopping,
                "ends": self.ends,
                "note": self.note,
                "asked": [each.model_dump() for each in self.asked],
            }
        if self.last:
            state["last"] = self.last.dump()
        return state

    def clear_state(self) -> None:
        """Let go of the session. A job it still has is nobody's then, and is deleted."""
        super().clear_state()
        if self.session:
            self.collector.release(job_name(self.session))
        self.session = self.token_hash = self.host = self.note = ""
        self.asked = ()
        self.port, self.ends = 0, 0.0
        self.stopping = False
        if self._cleared:
            self._cleared.set()

    @contextmanager
    def _database(self) -> Iterator[Session | None]:
        """Write to the hub's database, at once.

        :raises SessionError: when that cannot be done.
        """
        # Not self.db: JupyterHub is about to remove it.
        database = object_session(self.orm_spawner)
        try:
            yield database
            if database:
                database.commit()
        except SQLAlchemyError as error:
            if database:
                database.rollback()
            raise SessionError(
                text("start.database"),
                reason="database",
                log_message=f"database: {error}",
                status_code=503,
            ) from error

    def _store_state(self) -> None:
        with self._database():
            self.orm_spawner.state = self.get_state()

    def _store_address(self) -> None:
        with self._database():
            self.server.proto = self._scheme
            self.server.ip, self.server.port = self.host, self.port

    def _store_end(self) -> None:
        """Make the session's token worthless: whatever comes from its job is refused from now on.

        JupyterHub does so after a stop, but only while it has the token itself, which a restart
        takes from it.
        """
        self.stopping = True
        with self._database() as database:
            self.orm_spawner.state = self.get_state()
            if database and (token := self._token(database)):
                database.delete(token)

    def _token(self, database: Session) -> orm.APIToken | None:
        """Return the session's own token as JupyterHub stores it; it holds no secret."""
        if self.api_token:
            return orm.APIToken.find(database, self.api_token)
        return database.query(orm.APIToken).filter_by(hashed=self.token_hash).first()

    def _try(self, store: Callable[[], None]) -> bool:
        """Store what is not worth an end, because it can be found out, or done, again."""
        try:
            store()
        except SessionError as error:
            self.log.warning("Session of %s: %s", self._log_name, error.log_message)
            return False
        return True

    async def _until_stored(self, session: str) -> None:
        """Wait until it can be written to the database that a session is over.

        JupyterHub writes to it after a stop, and calls the session stopping for ever if it cannot.
        """
        looks = iter(_LOOKS)
        pause = 0.0
        while self.session == session and not self._try(self._store_end):
            pause = next(looks, pause)
            await asyncio.sleep(pause)

    # -- Grid Engine ------------------------------------------------------------------------------

    @cached_property
    def collector(self) -> Collector:
        """The collector all sessions share."""
        grid = GridEngine(
            Path(self.sge_root), self.sge_cell, Path(self.sge_bin_dir), self.sge_timeout
        )
        if grid not in _collectors:
            delete = partial(_delete, Path(self.broker_socket), self.broker_timeout)
            _collectors[grid] = Collector(
                grid, self.short_interval, self.long_interval, delete=delete
            )
        return _collectors[grid]

    @property
    def outlook(self) -> ClusterStatus:
        """What all sessions' pages show of Grid Engine beyond the states of jobs."""
        collector = self.collector
        grid = collector.grid

        def jobs() -> Collection[int]:
            return [job.id for job in collector.jobs()]

        def complexes() -> Collection[str]:
            with suppress(SessionError):
                return self._menu().complexes()
            return ()

        if grid not in _outlooks:
            _outlooks[grid] = ClusterStatus(grid, jobs, complexes)
        return _outlooks[grid]

    def _job(self) -> Job | Gone | None:
        return self.collector.look_up(job_name(self.session)) if self.session else GONE

    def _watch(self) -> None:
        """Have the job watched, as closely as somebody waits for it."""
        # Without a number the broker may still be at it.
        delay = 0.0 if self.job_id else self.broker_timeout + _BROKER_MARGIN
        self.collector.watch(
            job_name(self.session),
            self.user.name,
            waiting=bool(self._start_pending or not self.host),
            delay=delay,
        )

    async def _ask_broker(self, request: Request) -> Answer:
        try:
            answer = await _ask(Path(self.broker_socket), request, self.broker_timeout)
        except (OSError, TimeoutError, GridEngineError) as error:
            raise SessionError(
                text("start.no_broker"),
                reason="no_answer",
                log_message=f"broker: {error!r}",
                status_code=503,
            ) from error
        if not answer.ok:
            ours = answer.kind in ("request", "broker")
            raise SessionError(
                text("start.broker", reason=answer.error) if ours else answer.error,
                reason=answer.kind,
                status_code=500 if ours else 400,
            )
        return answer

    async def create_certs(self) -> dict[str, str]:
        """Leave them to :meth:`submit_batch_script`: they hold the name of the session.

        certipy's would take 100 ms of everybody's time for a key, and leave it on the hub's disk.
        """
        return {}

    @property
    def certified_name(self) -> str:
        """The session, where hub and proxy have to ask for its certificate."""
        return self.session if self.secure else ""

    async def submit_batch_script(self) -> str:
        """Have the broker submit the session, and store its job number at once.

        Its name is stored before: a hub that dies meanwhile finds the job by it.
        """
        assert self.choice is not None
        self.asked = tuple(asked(self._menu(), self.choice))
        environment = {
            name: value for name, value in self.get_env().items() if name in SESSION_VARIABLES
        }
        session = hub_mark(self.user.settings["cookie_secret"]) + token_hex(12)
        tls = None
        if self.internal_ssl:
            tls = Tls(**issue(Path(self.internal_certs_location), session)._asdict())
        try:
            request = Start(
                user=self.user.name,
                session=session,
                server=self.name,
                choice=self.choice.values,
                environment=environment,
                tls=tls,
                avoid=self._avoid,
            )
        except ValidationError as error:
            where = " and ".join(str(problem["loc"][0]) for problem in error.errors())
            # Without the values, which may be secrets.
            raise SessionError(
                text("start.request", name=self.user.name, what=where),
                reason="request",
            ) from None
        self.session, self.secure = session, tls is not None
        try:
            with self._database() as database:
                token = self._token(database) if database else None
                self.token_hash = token.hashed if token else ""
                self.orm_spawner.state = self.get_state()
        except SessionError:
            self.session = ""  # nothing has been asked for yet
            raise
        self._watch()
        answer = await self._ask_broker(request)
        self.job_id = str(answer.job_id)
        self.collector.submitted(job_name(self.session))
        self._try(self._store_state)
        self.log.info("Session of %s is job %s", self._log_name, self.job_id)
        return self.job_id

    async def cancel_batch_job(self) -> None:
        """Have the broker delete the job."""
        await self._ask_broker(Stop(user=self.user.name, session=self.session))

    async def query_job_status(self) -> JobStatus:
        """Translate the collector's look-up into batchspawner's terms."""
        job = self._job()
        if job is GONE:
            return JobStatus.NOTFOUND
        if not isinstance(job, Job) or job.state is State.UNKNOWN:
            return JobStatus.UNKNOWN
        waits = (State.QUEUED, State.HELD, State.ERROR)
        return JobStatus.PENDING if job.state in waits else JobStatus.RUNNING

    # -- a session's life -------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the job and wait until its server answers.

        :returns: the URL of the server.
        :raises SessionError: with a message for the person when that cannot happen any more.
        """
        self.failure = None
        self.last = None
        try:
            await self._until_up_somewhere()
            await self._until_answering(self.http_timeout)
        except SessionError as error:
            self._keep_reason(error)
            raise
        self._watch()
        self.log.info("Session of %s answers at %s:%s", self._log_name, self.host, self.port)
        return f"{self._scheme}://{self.host}:{self.port}"

    async def _until_up_somewhere(self) -> None:
        """Submit the job and wait until its server is up, if need be on another worker.

        One person's programs can take every port of a worker: the others start elsewhere.

        :raises SessionError: with a message for the person when that cannot happen any more.
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
                if not error.host or error.host in self._avoid or len(full) == _MOST_ELSEWHERE:
                    raise
                full.append(error)
            except SessionError as error:
                if not full:
                    raise
                if error.reason == "grid":  # no other worker can take it
                    raise full[-1] from error
                # Whatever keeps it from another worker, this is how it began.
                words = f"{full[-1].message} {error.message}"
                raise SessionError(words, reason=error.reason) from error
            self._leave_job()
            words = text("start.no_port_elsewhere", host=full[-1].host)
            self.note = f"{note} {words}".lstrip()

    def _leave_job(self) -> None:
        """Let go of a job that could not start the session, for another one to do so."""
        self.collector.release(job_name(self.session))
        self.session = self.job_id = ""
        self.failure = None

    async def _submit(self) -> None:
        try:
            await self.submit_batch_script()
        except SessionError as error:
            # Whatever else the broker says, it has not submitted anything. Only when it says
            # nothing the job may have come to be, and JupyterHub has us stop it.
            if error.reason != "no_answer":
                self._try(self._store_end)
                self.clear_state()
            if error.reason == "grid" and (words := await self._impossible(str(error.message))):
                raise SessionError(words, reason="grid", log_message=str(error.message)) from error
            raise

    async def _impossible(self, refusal: str) -> str:
        """Say why a choice that Grid Engine has refused can never start, if the dry run knows."""
        assert self.choice is not None
        if _NO_QUEUE not in refusal:
            return ""
        menu, places = self._menu(), self.outlook.places.answer
        had = tuple(asked(menu, self.choice))
        answer = await self._verdict(self.choice, lacks(had, places))
        if answer is None or answer.verdict != "never":
            return ""
        return never(answer.words, menu, had, places)

    def _keep_reason(self, error: SessionError) -> None:
        """Keep why a start has failed for the next visit: nobody may be looking now.

        JupyterHub has it only as long as it keeps this spawner. It stores our state after a stop.
        """
        if self.last is None:
            text = error.jupyterhub_message
            self.last = SessionEnd(job=self.job_id, why="start", ended=time.time(), text=text)

    async def _until_up(self, limit: float) -> None:
        """Wait until the job runs and its server has told the port.

        :param limit: seconds to wait at most.
        :raises SessionError: with a message for the person when that cannot happen any more.
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
                    raise self._deleted()
                if self.port and job.host and job.state in _ON_A_HOST:
                    self.host = job.host
                    self._try(self._store_state)
                    return
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 and self._is_well(job):
                raise self._out_of_time(job)
            await self.collector.news(min(max(left, 1.0), self.sge_timeout))

    def _starters_reason(self, reason: str) -> SessionError:
        """Return what the starter has given as the reason; it names one that we can say better."""
        if holders := read_no_port(reason):
            return self._no_port(holders)
        return SessionError(text("start.starter", job=self.job_id, reason=reason), reason="starter")

    def _no_port(self, holders: Holders) -> NoPort:
        """Say that every port is taken: to the person without names, to the log with them."""
        first, last = self.session_ports
        job = self._job()
        host = (job.host if isinstance(job, Job) else "") or holders.host
        who = ", ".join(f"{name} {count}" for name, count in holders.accounts.items())
        self.log.warning(
            "Session of %s: every port from %s to %s of %s is taken. It says by whom: %s",
            self._log_name,
            first,
            last,
            host or "its worker",
            who or "nothing",
        )
        most = max(holders.accounts, key=lambda name: holders.accounts[name], default="")
        if host and most:
            whose = "own" if most == self.user.name else "other"
            words = text(f"start.no_port_{whose}", first=first, last=last, host=host)
        else:
            reason = text("start.no_port", first=first, last=last)
            words = text("start.starter", job=self.job_id, reason=reason)
        error = NoPort(words, reason="starter")
        error.host = host
        return error

    def _deleted(self) -> SessionError:
        return SessionError(text("start.deleted", job=self.job_id), reason="deleted")

    async def _early_end(self) -> SessionError:
        """Return what is known of a job that is gone before its server was up."""
        seen = self.collector.last_seen(job_name(self.session))
        if seen and seen.state in (State.QUEUED, State.HELD, State.ERROR, State.DELETING):
            return self._deleted()
        if not self.job_id:
            return SessionError(text("start.not_submitted"), reason="ended")
        log = f"~/{SESSION_FOLDER}/{self.job_id}.log"
        words = text("start.ended", job=self.job_id, log=log)
        last = await self._explained(self._own_end(), _EXPLAIN_START_FOR)
        if last.why in _OWN_DOING:
            last = replace(last, why="start", text=words)
        elif last.why == "unknown":
            last = replace(last, text=words)  # whoever looks later may find out
        else:
            words = f"{words} {last.words}"
        self.last = last
        return SessionError(words, reason="ended")

    def _own_end(self) -> SessionEnd:
        """Return what is known at once of a session that ran and that nobody stopped here."""
        seen = self.collector.last_seen(job_name(self.session))
        return SessionEnd(
            job=self.job_id,
            why="unknown" if seen is None or seen.reports else Ending.WORKER.value,
            name=job_name(self.session),
            host=self.host or (seen.host if seen else ""),
            ended=time.time(),
            had=self.asked,
        )

    async def _explained(self, last: SessionEnd, patience: float = 0.0) -> SessionEnd:
        """Look for the accounting record of a session that has ended, and return what it says.

        :param patience: seconds to wait for one that is not there yet.
        """
        path = Path(self.accounting_file or self.collector.grid.accounting_file)
        # As much farther back for each hour: a big cluster may end fifty thousand jobs in one.
        hours = max(int((time.time() - last.ended) / 3600), 0)
        limit = min(LOOK_BACK * (1 + hours), FARTHEST_BACK)
        find = partial(find_record, path, last.name, self.user.name, limit)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        try:
            # In threads of its own: it may be on a file server that does not answer.
            async with asyncio.timeout(patience + _PATIENCE):
                while not (record := await loop.run_in_executor(_records, find)):
                    if (left := deadline - loop.time()) <= 0:
                        break
                    await asyncio.sleep(min(1.0, left))
        except Exception as error:  # a reason that is not found must not keep a session from ending
            self.log.info("Why job %s has ended is not known: %r", last.job, error)
            return last
        if record is None:
            return last
        memory = next((each.total for each in last.had if each.is_address_space), None)
        run_time = next((each.total for each in last.had if each.kind == "run_time"), None)
        reason = why(record, memory, run_time).value
        return replace(
            last,
            why=reason,
            # What the hub has seen itself comes before words of a file that others can write into.
            host=last.host or record.host,
            used=record.maxvmem,
            status=record.status,
            text="",
        )

    async def explain_last(self) -> None:
        """Find out what has become of the last session, where that is not known yet.

        Grid Engine writes the record up to ``accounting_flush_time`` late (sge_conf(5)): whoever
        looks later finds it. No page waits for it for long.
        """
        last, now = self.last, time.time()
        if last is None or self.session:
            return
        if last.why == "lingers" and not self.collector.watches(last.name):
            self._store_last(last, None)
        elif last.why == "unknown" and self._explain_due < now:
            pause = (now - last.ended) * _EXPLAIN_PAUSE_SHARE
            self._explain_due = now + max(pause, _EXPLAIN_PAUSE)
            self._explaining = asyncio.ensure_future(self._find_out(last))
            await asyncio.wait([self._explaining], timeout=_GLIMPSE)

    async def _find_out(self, last: SessionEnd) -> None:
        explained = await self._explained(last)
        if explained != last:
            self._store_last(last, explained)

    def _store_last(self, last: SessionEnd, known: SessionEnd | None) -> None:
        """Put what is known now in the place of what was known of the last session."""
        # JupyterHub makes a new spawner after a stop, which may have a session by now: its state is
        # in the same row.
        is_current = self.user.spawners.get(self.name) is self
        if self.last is last and is_current and not self.session:
            self.last = known
            self._try(self._store_state)

    async def _error_state(self, job: Job) -> SessionError:
        """Return what is wrong with a job in an error state, in Grid Engine's words."""
        errors: tuple[str, ...] = ()
        try:
            details = (await ask_details(self.collector.grid, [job.id])).get(job.id)
            if details and details.owner == job.owner:
                errors = details.errors
        except GridEngineError as error:
            self.log.warning("Cannot ask why job %s is in an error state: %s", job.id, error)
        return SessionError(
            text(
                "start.error_state",
                job=job.id,
                letters=job.letters,
                reason="\n".join(errors) or text("start.no_reason"),
            ),
            reason="error_state",
        )

    def _is_well(self, job: Job | Gone | None) -> bool:
        """Whether nothing but the session itself can be the reason that it is not up."""
        age = self.collector.age
        if age is None or age > _OLD_NEWS:
            return False
        return not isinstance(job, Job) or (job.reports and job.state is not State.SUSPENDED)

    def _out_of_time(self, job: Job | Gone | None) -> SessionError:
        """Return what the session was still waiting for when its time was over."""
        if not self.job_id:
            return SessionError(text("start.not_submitted"), reason="timeout")
        what, host, why = "unstarted", "", ""
        if isinstance(job, Job):
            if job.state in _ON_A_HOST:
                what, host = "not_up", job.host
            elif job.state is State.QUEUED:
                what, why = "no_place", self._why_queued(job)
            elif job.state is State.HELD:
                what = "held"
        minutes, seconds = divmod(self.wait_limit, 60)
        number, unit = (self.wait_limit, "seconds") if seconds else (minutes, "minutes")
        limit = f"{number:g} {number_text(f'unit.{unit}', number)}"
        return SessionError(
            text(f"start.late_{what}", job=self.job_id, limit=limit, host=host, why=why),
            reason="timeout",
        )

    @property
    def _scheme(self) -> str:
        return "https" if self.secure else "http"

    def _address(self) -> str:
        return f"{self._scheme}://{self.host}:{self.port}{self.server.base_url}"

    async def _answers(self) -> ClientResponse | None:
        """Look once whether the session's server answers."""
        try:
            # A worker that is cut off swallows connections; JupyterHub's own HTTP client has few to
            # spare, and others wait for theirs.
            async with asyncio.timeout(3):
                _, writer = await asyncio.open_connection(self.host, self.port)
            writer.close()
            options: dict[str, Any] = {}
            if self.secure:
                options["ssl"] = hub_context(Path(self.internal_certs_location))
                options["server_hostname"] = session_name(self.session)
            async with asyncio.timeout(5):
                response = await fetch(
                    self._address() + "api",
                    raise_for_status=False,
                    allow_redirects=False,
                    **options,
                )
        except (OSError, ClientError, *AnyTimeoutError) as error:
            self.log.debug("Session of %s does not answer: %r", self._log_name, error)
            return None
        return None if response.status >= 500 else response

    async def _until_answering(self, limit: float | None) -> None:
        """Wait until the session's server answers.

        :param limit: seconds to wait at most; ``None``: as long as Grid Engine has the job.
        :raises SessionError: with a message for the person when that cannot happen any more.
        """
        deadline = asyncio.get_running_loop().time() + (limit or float("inf"))
        looks = iter(_LOOKS)
        pause = 0.0
        while not (response := await self._answers()):
            job = self._job()
            if job is GONE:
                raise SessionError(self._own_end().words, reason="ended")
            if asyncio.get_running_loop().time() > deadline and self._is_well(job):
                raise SessionError(
                    text("start.unreachable", host=self.host, job=self.job_id, port=self.port),
                    reason="unreachable",
                )
            pause = next(looks, pause)
            await asyncio.sleep(pause)

        async def wait_up(**_: object) -> ClientResponse:
            return response

        # JupyterHub looks once more, and stops the session if its worker happens to be cut off in
        # that very moment. It has its answer here.
        self.server.wait_up = wait_up

    def announce(self, port: int) -> None:
        """Take the port the starter has bound.

        :raises SessionError: when it comes too late before the workers are maintained, or cannot be
            stored.
        """
        try:
            self.ends = self._end_for_window()
        except SessionError as error:
            self.failure = error
            self.collector.wake()
            raise
        self.port = port
        try:
            # Before the starter is answered: it tells us only once.
            self._store_state()
        except SessionError:
            self.port = 0
            raise
        self.collector.hurry()
        self.collector.wake()

    def _end_for_window(self) -> float:
        """Return when a session that starts now must be over for the workers' sake; 0: never.

        It was chosen when it had still to wait in the queue.

        :raises SessionError: when it would run into the window, and the site does not want it cut.
        """
        window = maintenance.windows.current()
        if window is None:
            return 0.0
        job, begin, now = self._job(), window.begin.timestamp(), time.time()
        started = (job.since if isinstance(job, Job) and job.host else None) or now
        run_time = next((each.total for each in self.asked if each.kind == "run_time"), None)
        if run_time is not None and started + run_time <= begin:
            return 0.0
        # Without a run time there is nothing that the person could choose less of.
        if now < begin and (window.rule == "cap" or run_time is None):
            return begin
        words = text("maintenance.waited", **window.told())
        raise SessionError(words, reason="maintenance", status_code=409)

    def give_up(self, reason: str) -> None:
        """Take the reason why the starter cannot start the session."""
        self.failure = self._starters_reason(reason)
        self.collector.wake()

    @property
    def is_starting(self) -> bool:
        """Whether the session is starting and has not told its port yet."""
        return bool(self._start_pending and not self.stopping and not self.port)

    async def poll(self) -> int | None:
        """Look up the job: ``None`` while it lives or is not known, 1 when it is over."""
        if self.session and self._check_pending and self._spawn_future is None:
            return await self._take_up()
        if self.session:
            self._watch()
        if await self.query_job_status() is JobStatus.NOTFOUND:
            if self.session and not self.port:
                await self._remove_file()
            if not self._try(self._store_end):
                return None  # it is closed when that can be written down
            session = self.session
            if self.host:
                self.last = await self._explained(self._own_end())
            if self.session == session:
                self.clear_state()
            return 1
        return None

    async def _remove_file(self) -> None:
        """Have the broker remove the file of a job that ended before it read it, if it did."""
        try:
            await self.cancel_batch_job()
        except SessionError as error:
            self.log.warning("A file of job %s may be left: %s", self.job_id, error.log_message)

    async def get_url(self) -> str:
        """Return where the session is; JupyterHub asks after a restart."""
        return self._address()

    # -- after a restart of the hub ---------------------------------------------------------------

    async def _take_up(self) -> int | None:
        """Go on with a session after a restart of the hub, however far it had come.

        JupyterHub would stop what does not answer within ``http_timeout``, and what still waits.
        To everybody else the session is starting meanwhile: the person sees how far it is, and can
        give it up.
        """
        if self.stopping:
            return 1  # JupyterHub stops it then
        self._spawn_pending = self._start_pending = True
        self._watch()
        # A bare future, for the person to cancel: a hub that is shut down cancels all tasks.
        self._spawn_future = wish = asyncio.get_running_loop().create_future()
        self._cleared = asyncio.Event()
        work = asyncio.ensure_future(self._resume())
        try:
            await asyncio.wait([wish, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
        self._spawn_pending = self._start_pending = False
        if wish.cancelled():
            return await self._given_up()
        try:
            work.result()
        except SessionError as error:
            self.log.warning("Session of %s is over: %s", self._log_name, error)
            if error.reason == "ended" and self.host:
                # It has been up: no start has failed. Why it has ended is found out by the poll
                # with which JupyterHub begins to stop it, or when somebody looks.
                self.last = self._own_end()
                wish.set_result(None)
                self._spawn_future = None
                return 1
            self._keep_reason(error)
            wish.set_exception(error)  # the person's page shows it
            wish.exception()  # and asyncio is not to complain when nobody looks
            return 1
        # From here on nothing is awaited until JupyterHub calls the session ready: whoever waits
        # for `wish` looks right then.
        wish.set_result(None)
        self._spawn_future = None
        self._watch()
        return None

    async def _given_up(self) -> int | None:
        """Leave a session that the person has given up to JupyterHub, which stops it in a moment.

        It does so by its name, when nothing is pending; until then nothing else may touch it.
        """
        assert self._cleared is not None
        self._spawn_future = None
        self._check_pending = False
        while not self._cleared.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await self._cleared.wait()
                    break
            if not self._stop_pending:  # it could not: everything is as before
                self._check_pending = True
                return await self._take_up()
        return 1

    async def _resume(self) -> None:
        """Wait until a session of before the restart answers.

        :raises SessionError: when it is over.
        """
        pauses = iter(_LOOKS)
        pause = 0.0
        while True:
            try:
                if not self.host:
                    started = self.orm_spawner.started or utcnow(with_tz=False)
                    waited = (utcnow(with_tz=False) - started).total_seconds()
                    await self._until_up(max(self.wait_limit - waited, _LEAST_WAIT))
                    await self._until_answering(self.http_timeout)
                    self._try(self._store_address)  # it is where the proxy sends people
                    await self.user.settings["proxy"].add_user(self.user, self.name)
                # Not to answer is no death: only Grid Engine ends a session, or the person.
                await self._until_answering(None)
                break
            except SessionError:
                raise
            except Exception:
                # JupyterHub would end the session over any fault of ours.
                self.log.exception("Cannot take up the session of %s yet", self._log_name)
            pause = next(pauses, pause)
            await asyncio.sleep(pause)
        self.log.info("Session of %s is taken up, job %s", self._log_name, self.job_id)

    async def stop(self, now: bool = False) -> None:
        """Delete the job and wait a bounded time for it to be gone.

        Without a job this does nothing; deleting one that is gone already is no error. JupyterHub
        forgets the session whatever happens here; a job that is still there is deleted as soon as
        Grid Engine lets it be.
        """
        if not self.session:
            await self._until_stored("")
            return
        session, job_id = self.session, self.job_id
        name = job_name(session)
        if who := ended_by():
            self.last = SessionEnd(job=job_id, why=who, name=name, host=self.host, had=self.asked)
        # First: whatever comes from the job from now on is refused, also after a restart.
        self._try(self._store_end)
        try:
            await self.cancel_batch_job()
        except SessionError as error:
            self.log.warning("Job %s cannot be deleted now: %s", job_id, error.log_message)
            now = True
        self._watch()
        self.collector.release(name)
        # Without a number it may never come to be, and ends itself if it does.
        limit = self.stop_timeout if job_id and not now else 0.0
        deadline = asyncio.get_running_loop().time() + limit
        while self.collector.watches(name):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                if job_id and self.last is None:
                    self.last = SessionEnd(job=job_id, why="lingers", name=name)
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

    async def progress(self) -> AsyncIterator[dict[str, str]]:
        """Tell the person who waits what the job does, whenever that changes."""
        said: dict[str, str] = {}
        while self._start_pending:
            stage, message = self._progress()
            event = {"stage": stage, "message": message, "raw": self._raw_reason()}
            if event != said:
                said = event
                yield event
            await self.collector.news(1.0)

    def _progress(self) -> tuple[str, str]:
        """Return how far a start is (``submitted``, ``waiting``, ``starting``), and what to say."""
        stage, words = self._stage()
        return stage, f"{words} {self.note}".rstrip()

    def _stage(self) -> tuple[str, str]:
        job = self._job() if self.session else None
        age = self.collector.age
        stage = "waiting" if isinstance(job, Job) and not job.host else "starting"
        if not isinstance(job, Job):
            stage = "submitted"
        if age is not None and age > _OLD_NEWS:
            return stage, text("waiting.no_answer")
        if job is GONE and self.session and self.job_id:
            return stage, text("waiting.gone", job=self.job_id)
        if not isinstance(job, Job):
            if self.job_id:
                return stage, text("waiting.submitted", job=self.job_id)
            return stage, text("waiting.submitting")
        if not job.reports:
            return stage, text("waiting.no_report", job=job.id, host=job.host)
        if self.host:
            return stage, text("waiting.silent", job=job.id, host=job.host)
        if job.state is State.QUEUED:
            return stage, self._why_queued(job)
        if job.state is State.UNKNOWN:
            return stage, text("waiting.unknown", job=job.id, letters=job.letters)
        return stage, text(f"waiting.{job.state.value}", job=job.id, host=job.host)

    def _why_queued(self, job: Job) -> str:
        """Say what a job in the queue waits for, as far as that is known."""
        line = self.outlook.line.answer
        lacks = lacks(self.asked, self.outlook.places.answer)
        details = self.outlook.of(job)
        reason = main_reason(parse_reasons(details.reasons if details else ()), lacks)
        if reason.scope:
            words = text("waiting.reason", job=job.id, reason=in_words(reason, self.asked))
        elif reason.name == "lacks":
            words = text("waiting.lacks", job=job.id, what=lacking(self.asked, lacks or ()))
            words += free_now(self.asked, lacks or (), self.outlook.places.answer or ())
        elif reason.name == "closed":
            words = text("waiting.closed", job=job.id)
        else:
            words = text("waiting.turn" if reason.name == "turn" else "waiting.queued", job=job.id)
        before = line.index(job.id) if line and job.id in line else 0
        return f"{words} {text('waiting.line', count=before)}" if before else words

    def _raw_reason(self) -> str:
        """Return the scheduler's own words on why the job waits."""
        job = self._job() if self.session else None
        if not isinstance(job, Job) or job.host:
            return ""
        details = self.outlook.of(job)
        return "\n".join(details.reasons) if details else ""

    @property
    def lacking(self) -> tuple[str, ...]:
        """The items of the menu that a waiting session lacks now, as far as that is known."""
        lacks = lacks(self.asked, self.outlook.places.answer)
        if lacks is None:
            lacks = missing_by_reason(main_reason(parse_reasons(self._raw_reason().splitlines()), None))
        return tuple(each.item for each in short(self.asked, lacks))

    async def forecast(self, options: dict[str, object]) -> Forecast:
        """Tell what is free now, and whether a session with these options could start.

        Nothing is submitted. Grid Engine is asked at most every few seconds for each choice.
        """
        menu, groups = self._menu(), await self._groups()
        places = await self.outlook.places.look(_PATIENCE)
        age = self.outlook.places.age
        room = tuple(
            Free(item.label, *map(item.in_units, amounts))
            for item in menu.items_for(groups)
            if places and (name := item.request.counted) is not None
            # Of what a queue does not limit there is nothing to tell.
            if isfinite((amounts := free(places, name))[0])
        )
        if words := maintenance.refusal():
            return Forecast(free=room, age=age, message=words)
        try:
            choice, note = _over_in_time(menu, menu.choose(options, groups), groups)
        except ChoiceError as error:
            return Forecast(free=room, age=age, message=str(error), item=error.item or "")
        had = tuple(asked(menu, choice))
        answer = await self._verdict(choice, lacks(had, places))
        if answer is None:
            words = text("forecast.unknown")
        elif not answer.ok:
            words = answer.error
        elif answer.verdict == "later":
            words = later(answer.words, had, places)
        elif answer.verdict == "never":
            words = never(answer.words, menu, had, places)
        else:
            words = text("forecast.now")
        return Forecast(
            free=room,
            age=age,
            verdict=answer.verdict if answer else "",
            message=f"{words} {note}".rstrip(),
            raw=answer.words if answer else "",
        )

    async def _verdict(self, choice: Choice, lacks: frozenset[str] | None) -> Answer | None:
        """Return Grid Engine's verdict on a choice, or the broker's refusal, if there is one.

        :param lacks: what :func:`lacks` returns; it is asked for anew where that has changed.
        """
        key = self.user.name, repr(sorted(choice.values.items())), lacks
        request = Check(user=self.user.name, choice=choice.values)

        async def check() -> Answer:
            if _checks[self.user.name] >= _MAX_CHECKS_EACH or _checks.total() >= _MAX_CHECKS:
                raise GridEngineError("too many choices are being checked")
            _checks[self.user.name] += 1
            try:
                async with _check_line:
                    return await ask(Path(self.broker_socket), request, self.broker_timeout)
            except (OSError, TimeoutError) as error:
                raise GridEngineError(f"broker: {error!r}") from error
            finally:
                _checks[self.user.name] -= 1

        glance = _verdicts.pop(key, None) or CachedQuery(
            check, _VERDICT_INTERVAL, longest=_LONGEST_VERDICT_INTERVAL
        )
        _verdicts[key] = glance
        own = [each for each in _verdicts if each[0] == self.user.name]
        if len(own) > _MAX_VERDICTS_EACH:
            del _verdicts[own[0]]
        elif len(_verdicts) > _MAX_VERDICTS:
            del _verdicts[next(iter(_verdicts))]
        return await glance.look(_PATIENCE)

    async def view(self) -> View:
        """Return what the pages show of this session."""
        await self.explain_last()
        job = self._job() if self.session else None
        started = job.since if isinstance(job, Job) and job.host else None
        run_time = next((each.total for each in self.asked if each.kind == "run_time"), None)
        ends = [started + run_time] if started and run_time else []
        ends += [self.ends] if self.ends else []
        waiting = bool(self._start_pending)
        state: Literal["none", "waiting", "running", "stopping"] = (
            "stopping"
            if self._stop_pending
            else "waiting"
            if waiting
            else "running"
            if self.active
            else "none"
        )
        return View(
            name=self.name,
            state=state,
            message=self._progress()[1] if waiting else "",
            raw=self._raw_reason() if waiting else "",
            ended=self.last.words if self.last and state == "none" else "",
            short_of=self.last.short_of if self.last else (),
            job=int(self.job_id) if self.job_id else None,
            host=job.host if isinstance(job, Job) else self.host,
            since=_moment(started),
            ends=_moment(min(ends, default=None)),
            amounts=self._amounts(job if isinstance(job, Job) else None, started),
        )

    def _amounts(self, job: Job | None, started: float | None) -> tuple[Amount, ...]:
        """Return what the session has asked for, each with what it uses of it."""
        details = self.outlook.of(job) if job else None
        elapsed = max(time.time() - started, 1.0) if started else None

        def amount(each: Requested) -> Amount:
            if details is None or details.vmem is None:
                return Amount(each.label, each.words)  # the worker has not reported yet
            if each.is_address_space:
                used = details.vmem
                words = text("sessions.used", used=beside(each, used, round), asked=each.words)
            elif each.kind == "slots" and details.cpu is not None and elapsed:
                used = details.cpu / elapsed
                words = text("sessions.busy", used=f"{used:.1f}", asked=each.words)
            else:
                return Amount(each.label, each.words)
            return Amount(each.label, words, min(used / each.total, 1))

        # Words say something by themselves; of things, none is not worth a line.
        return tuple(
            amount(each)
            for each in self.asked
            if each.total or (isinstance(each.value, str) and each.value)
        )


def _over_in_time(menu: Menu, choice: Choice, groups: Collection[str]) -> tuple[Choice, str]:
    """Return the choice as it may be before the workers are maintained, and what was changed.

    :raises ChoiceError: when it would run into that, and the site does not want it cut short.
    """
    window = maintenance.windows.current()
    if window is None:
        return choice, ""
    left = window.begin.timestamp() - time.time() - _ON_THE_WAY
    found = ending_within(menu, choice, groups, left)
    if found is None or found[1] == choice:
        return choice, ""
    item, fitting = found
    if fitting is None:
        raise ChoiceError(text("maintenance.too_late", **window.told()), item.name)
    longest = item.in_words(fitting.values[item.name])
    if window.rule == "cap":
        return fitting, text("maintenance.cut", longest=longest, **window.told())
    raise ChoiceError(text("maintenance.too_long", longest=longest, **window.told()), item.name)


def _moment(seconds: float | None) -> datetime | None:
    """Return a time as the pages take it: in UTC, without a zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def watch_sessions(hub: Any) -> None:
    """Watch all sessions in a hub's database, and delete this hub's jobs that are none of them.

    :param hub: the :class:`jupyterhub.app.JupyterHub` that is starting.
    """
    spawner = SGESpawner(parent=hub)
    for row in hub.db.query(orm.Spawner).filter(orm.Spawner.server_id.is_not(None)):
        if session := (row.state or {}).get("session"):
            delay = 0.0 if row.state.get("job_id") else spawner.broker_timeout + _BROKER_MARGIN
            spawner.collector.watch(job_name(session), row.user.name, waiting=True, delay=delay)
    mark = re.escape(job_name(hub_mark(hub.cookie_secret)))
    spawner.collector.sweep(re.compile(mark + "[0-9a-f]{24}"))


def is_watched(session: str) -> bool:
    """Tell whether a session of that name waits, runs or is being ended."""
    return any(collector.watches(job_name(session)) for collector in _collectors.values())


# Importing batchspawner registers a handler that sets any attribute of a spawner from the request.
default_handlers[:] = [
    entry for entry in default_handlers if entry[1] is not BatchSpawnerAPIHandler
] + [(r"/api/sge/(port|failure)", SessionHandler)]
