# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: the way from the hub, which has no privilege, to a person's identity.

systemd starts it as root for one request on a Unix socket and it is gone afterwards. It checks who
calls, that the named user may have sessions, and the choice against the menu *again*; becomes that
user for good; and submits the constant job script, or deletes a job that is such a session. A hub
that is taken over gets from it sessions the site approves of, and their end; not root, a system
account or anybody the inventory does not name, nor what is not on the menu. What it might get from
Grid Engine without asking the broker is Grid Engine's to prevent (docs/security.md).

One request is one JSON object, ended by shutting down the writing side; so is the answer.
The module also holds the hub's end of the conversation (:func:`ask`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import pwd
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from sge_client import AnswerError, GridEngine, parse_job_id
from sge_menu import (
    INTERFACES,
    ChoiceError,
    MenuError,
    Value,
    asked,
    load_menu,
    qsub_arguments,
    script_arguments,
)
from sge_words import say

#: Largest request read, in bytes; a request of the hub is about 3 kB.
MAX_REQUEST = 65_536
#: How long a caller may take to send its request, in seconds.
RECEIVE_TIMEOUT = 5.0
#: After how long a session's file that nobody has read is removed, in seconds.
KEEP_FILES = 7 * 24 * 3600
#: Folder in the person's home for the files of their sessions.
SESSION_FOLDER = ".jupyterhub-sessions"

#: What Grid Engine starts the job script with; it runs the program of the script's first line.
#: A shell here would be a login shell (``login_shells`` of sge_conf(5)), which runs
#: ``~/.bash_profile`` before the session.
JOB_SHELL = "/usr/bin/env"

#: How long the person's home may take to hold the session's file, in seconds.
HOME_TIMEOUT = 10.0

#: What the hub may set in a session. Anything else (``LD_PRELOAD``, ``PATH``, ``BASH_ENV``, …)
#: would be a way to run code as the person.
SESSION_VARIABLES = frozenset(
    {
        "JUPYTERHUB_ACTIVITY_URL",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_API_URL",
        "JUPYTERHUB_BASE_URL",
        "JUPYTERHUB_CLIENT_ID",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED",
        "JUPYTERHUB_COOKIE_OPTIONS",
        "JUPYTERHUB_DEFAULT_URL",
        "JUPYTERHUB_DISABLE_USER_CONFIG",
        "JUPYTERHUB_HOST",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
        "JUPYTERHUB_OAUTH_CALLBACK_URL",
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES",
        "JUPYTERHUB_OAUTH_SCOPES",
        "JUPYTERHUB_PUBLIC_HUB_URL",
        "JUPYTERHUB_PUBLIC_URL",
        "JUPYTERHUB_SERVER_NAME",
        "JUPYTERHUB_SERVICE_PREFIX",
        "JUPYTERHUB_USER",
    }
)

#: User names as useradd(8) accepts them, wide enough for directory services. No option look-alikes.
UserName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$")]
Port = Annotated[int, Field(strict=True, ge=1024, le=65535)]
Minutes = Annotated[int, Field(strict=True, ge=0, le=10**6)]
#: A session, as the hub names it.
Session = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
#: A named server of JupyterHub; empty for the default one. No comma: it goes into a job's context.
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~-]{0,255}$")]


#: A host as Grid Engine names it, without what means more in a request (complex(5)): ``*``, ``|``.
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,253}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Pem = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=\n -]*$", max_length=16_384)]


class Tls(_Model):
    """The session's key and certificate, and whom it trusts, each as PEM."""

    key: Pem
    certificate: Pem
    authorities: Pem


class Start(_Model):
    """Submit a session. ``choice`` has the values of the menu's items, by their names."""

    action: Literal["start"] = "start"
    user: UserName
    session: Session
    server: ServerName = ""
    choice: dict[str, Value] = Field(max_length=50)
    environment: dict[str, Annotated[str, Field(max_length=8192)]] = Field(max_length=50)
    #: None where the hub speaks plain HTTP with its sessions.
    tls: Tls | None = None
    #: Workers that have no port for it.
    avoid: tuple[HostName, ...] = Field((), max_length=4)

    @field_validator("environment")
    @classmethod
    def _is_known(cls, environment: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(environment) - SESSION_VARIABLES)
        if unknown:
            raise ValueError(f"not a variable of a session: {unknown[0][:40]!r}")
        if any("\0" in value for value in environment.values()):
            raise ValueError("a value holds a NUL character")
        if environment.get("JUPYTERHUB_DEFAULT_URL", "/lab") not in INTERFACES.values():
            raise ValueError("JUPYTERHUB_DEFAULT_URL is not the address of an interface")
        return environment


class Stop(_Model):
    """Delete the job of a session, whether or not it came to be."""

    action: Literal["stop"] = "stop"
    user: UserName
    session: Session


class Check(_Model):
    """Ask Grid Engine whether a choice could start, and submit nothing."""

    action: Literal["check"] = "check"
    user: UserName
    choice: dict[str, Value] = Field(max_length=50)


Request = Start | Stop | Check
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="action")])


class Answer(_Model):
    """What the broker did. ``job_id`` after a start; ``error`` is meant for the person."""

    ok: bool
    job_id: int | None = None
    #: After a check: whether the choice can start now, later, or never.
    verdict: Literal["now", "later", "never", ""] = ""
    #: Grid Engine's own words on a verdict.
    words: str = ""
    error: str = ""
    #: ``refused``: not allowed; ``choice``: not on the menu; ``home``: the person's home;
    #: ``grid``: Grid Engine's own words; ``request``, ``broker``: a fault of ours.
    kind: str = ""


class Config(_Model):
    """The broker's configuration (``/etc/jupyterhub/broker.json``), written by Ansible for root."""

    hub_user: str
    menu: Path
    job_script: Path
    minimum_uid: Annotated[int, Field(ge=1)]
    allowed_users: frozenset[str] = frozenset()
    allowed_groups: frozenset[str] = frozenset()
    qsub_arguments: tuple[str, ...] = ()
    sge_root: Path
    sge_cell: str
    sge_bin_dir: Path
    timeout: Annotated[float, Field(gt=0)]
    #: First and last port a session may use.
    ports: tuple[Port, Port]
    #: How many minutes before its run time ends a session warns its person.
    run_time_warnings: tuple[Minutes, ...] = ()
    #: After how many minutes without use a session is ended (0: never), and how many minutes before
    #: that it says so (0: not at all).
    idle_timeout: Minutes = 0
    idle_notice: Minutes = 0
    #: How often it tells the hub when it was last in use, in seconds.
    idle_report: Annotated[int, Field(strict=True, ge=0)] = 0

    @model_validator(mode="after")
    def _is_said_in_time(self) -> Config:
        if self.idle_timeout and self.idle_notice >= self.idle_timeout:
            raise ValueError(
                f"jupyterhub_idle_notice is {self.idle_notice} minutes; it must be less than "
                f"jupyterhub_idle_timeout, which is {self.idle_timeout}"
            )
        return self

    @field_validator("ports")
    @classmethod
    def _is_a_range(cls, ports: tuple[int, int]) -> tuple[int, int]:
        if ports[0] > ports[1]:
            raise ValueError(f"the first port, {ports[0]}, is above the last, {ports[1]}")
        return ports

    @property
    def grid(self) -> GridEngine:
        """Where Grid Engine is."""
        return GridEngine(self.sge_root, self.sge_cell, self.sge_bin_dir, self.timeout)


class Refused(Exception):
    """The request is not carried out; the message is for the person.

    ``kind`` is as in :class:`Answer`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def job_name(session: str) -> str:
    """Return the name of a session's job. Plain qstat shows the first ten letters of it."""
    return f"jupyterhub-{session}"


def group_names(user: pwd.struct_passwd) -> frozenset[str]:
    """Return the names of the Unix groups of an account, its primary group included."""
    names = set()
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):  # a gid without a name is no name to compare with
            names.add(grp.getgrgid(gid).gr_name)
    return frozenset(names)


def check_person(config: Config, user: pwd.struct_passwd) -> None:
    """Check that an account is a person's: the broker becomes no other, whatever is asked of it.

    :raises Refused: for root, accounts in its group and system accounts.
    """
    if user.pw_uid == 0 or user.pw_gid == 0:
        raise Refused("refused", say("account.root"))
    if user.pw_uid < config.minimum_uid:
        raise Refused("refused", say("account.system", name=user.pw_name))


def check_account(config: Config, user: pwd.struct_passwd, groups: frozenset[str]) -> None:
    """Check that a person may have sessions; whoever is taken off may still stop theirs.

    :raises Refused: for whoever the inventory does not name.
    """
    if user.pw_name not in config.allowed_users and not groups & config.allowed_groups:
        raise Refused("refused", say("account.not_here", name=user.pw_name))


def become(user: pwd.struct_passwd) -> None:
    """Become a person for good: there is no way back to root."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise RuntimeError("could not give up root")
    os.umask(0o077)
    os.chdir("/")  # qsub reads .sge_request of the working directory


def home_trouble(error: OSError, folder: Path) -> str:
    """Say in plain words what is wrong with a home that does not take the session's file."""
    what = "unusable"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "full"
    elif error.errno == errno.ENOENT:
        what = "missing"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = "read_only"
    return say(f"home.is_{what}", reason=error.strerror, path=error.filename or folder)


def remove_old_files(folder: Path) -> None:
    """Remove files of sessions that came to nothing, and that the home held on to at that time.

    A session deletes its own file when it starts; what is a week old waits for no job any more.
    """
    oldest = time.time() - KEEP_FILES
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < oldest:
                path.unlink()


def session_rules(config: Config, run_time: int | None) -> dict[str, Any]:
    """Return what a session must know of its limits; sge_watch.py reads it again.

    The words have ``{end}``, ``{minutes}`` and ``{left}`` still to be filled in.
    """
    return {
        "run_time": run_time,
        "warnings": [60 * each for each in config.run_time_warnings],
        "idle_timeout": 60 * config.idle_timeout,
        "idle_notice": 60 * config.idle_notice,
        "idle_report": config.idle_report,
        "words": {
            name: say(f"session.{name}", end="{end}", minutes="{minutes}", left="{left}")
            for name in ("run_time", "idle", "left")
        },
    }


def write_session_file(
    path: Path,
    environment: dict[str, str],
    ports: tuple[int, int],
    rules: Mapping[str, Any],
    tls: Tls | None = None,
) -> None:
    """Write the session's secrets and rules where only the person and their job can read them.

    Runs as the person, in their home. The file is made anew, never opened through a link.

    :raises Refused: when the home cannot hold it, in words for the person.
    """
    folder = path.parent
    content = {"environment": environment, "ports": ports, "rules": rules}
    if tls:
        content["tls"] = tls.model_dump()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise Refused("home", say("home.foreign", path=folder))
        folder.chmod(0o700)
        remove_old_files(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(descriptor)  # a full or over-quota home may only say so here
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused("home", home_trouble(error, folder)) from error


def within(seconds: float, task: Callable[[], object]) -> None:
    """Run a task that touches the person's home in a process of its own, which may hang.

    A home on a file server that does not answer holds whoever touches it, beyond any signal.

    :raises Refused: what the task raised, or when it takes longer than ``seconds``.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            task()
            answer = Answer(ok=True)
        except Refused as refusal:
            answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
        except BaseException as error:  # the parent says it
            answer = Answer(ok=False, kind="broker", error=repr(error))
        with contextlib.suppress(OSError):
            os.write(writer, answer.model_dump_json().encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    data = os.read(reader, MAX_REQUEST) if ready else b""
    os.close(reader)
    if not ready:
        raise Refused("home", say("home.no_answer", seconds=f"{seconds:g}"))
    answer = Answer.model_validate_json(data or '{"ok": false, "kind": "broker", "error": "died"}')
    if not answer.ok:
        raise Refused(answer.kind, answer.error)


def run_as_person(
    config: Config, user: pwd.struct_passwd, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a Grid Engine command as the person, with a clean environment and a time limit.

    :raises Refused: when it cannot be started or exceeds the limit.
    """
    environment = config.grid.environment() | {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
    }
    try:
        return subprocess.run(
            [config.grid.command(name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=config.timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("grid", say("grid.slow", seconds=f"{config.timeout:g}")) from error
    except OSError as error:
        raise Refused("broker", say("grid.no_command", command=name, reason=error)) from error


def _words(process: subprocess.CompletedProcess[str]) -> str:
    return (process.stderr.strip() or process.stdout.strip() or say("grid.no_reason"))[:2000]


def _check_answer(process: subprocess.CompletedProcess[str]) -> None:
    """Tell a qmaster that is away from one that refuses; both only differ in qsub's words.

    :raises Refused: where it is away.
    """
    words = _words(process)
    if "unable to send message to qmaster" in words or "unable to contact qmaster" in words:
        raise Refused("grid", say("grid.no_answer", reason=words))


class Checked(NamedTuple):
    """What follows from a choice that has been checked."""

    #: Arguments of qsub, and further ones of the job script.
    resources: list[str]
    script: list[str]
    #: In seconds; None where the menu has none.
    run_time: int | None


def check_choice(
    config: Config, user: pwd.struct_passwd, values: Mapping[str, int | str]
) -> Checked:
    """Check that a person may have a session, and this one.

    :raises Refused: where either is not so.
    """
    groups = group_names(user)
    check_account(config, user, groups)
    try:
        menu = load_menu(config.menu)
        choice = menu.choose(values, groups)
        times = [int(each.total) for each in asked(menu, choice) if each.kind == "run_time"]
        return Checked(
            qsub_arguments(menu, choice),
            script_arguments(menu, choice),
            times[0] if times else None,
        )
    except ChoiceError as error:
        raise Refused("choice", str(error)) from error
    except MenuError as error:
        raise Refused("broker", str(error)) from error


def _elsewhere(avoid: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the arguments of qsub that keep a session off some workers.

    The last request for a host counts (seen with 8.1.9), so that it takes in that of the others.

    :param arguments: what else the session asks for.
    """
    if not avoid:
        return []
    pairs = (
        pair.partition("=")
        for option, value in pairwise(arguments)
        if option == "-l"
        for pair in value.split(",")
    )
    hosts = [value for name, _, value in pairs if name in ("h", "hostname")]
    others = f"!({'|'.join(avoid)})"
    return ["-l", f"h=({hosts[-1]})&{others}" if hosts else f"h={others}"]


def start(config: Config, user: pwd.struct_passwd, request: Start) -> Answer:
    """Submit a session as the person.

    :raises Refused: and no job comes to life then; one that Grid Engine has taken all the same
        finds no file.
    """
    checked = check_choice(config, user, request.choice)
    rules = session_rules(config, checked.run_time)
    become(user)
    home = Path(user.pw_dir)
    path = home / SESSION_FOLDER / f"{request.session}.json"
    deadline = time.monotonic() + HOME_TIMEOUT

    def write() -> None:
        write_session_file(path, request.environment, config.ports, rules, request.tls)
        if time.monotonic() > deadline:  # a home that came back too late
            path.unlink()

    within(HOME_TIMEOUT, write)
    context = {
        "hub": socket.gethostname(),
        "user": user.pw_name,
        "server": request.server,
    }
    arguments = (*config.qsub_arguments, *checked.resources)
    try:
        process = run_as_person(
            config,
            user,
            "qsub",
            "-terse",
            "-N", job_name(request.session),
            "-S", JOB_SHELL,
            "-wd", user.pw_dir,
            "-j", "y",
            "-o", str(home / SESSION_FOLDER / "$JOB_ID.log"),
            "-r", "n",
            "-w", "e",
            # For administrators who read `qstat -j`; nothing depends on it.
            "-ac", ",".join(f"jupyterhub_{name}={value}" for name, value in context.items()),
            *arguments,
            *_elsewhere(request.avoid, arguments),
            str(config.job_script),
            request.session,
            *checked.script,
        )  # fmt: skip
        if process.returncode != 0:
            _check_answer(process)
            raise Refused("grid", say("grid.refused", reason=_words(process)))
        job_id = parse_job_id(process.stdout)
    except (Refused, AnswerError) as error:
        # A job that was submitted after all finds no file and ends itself.
        with contextlib.suppress(Refused):
            within(HOME_TIMEOUT, lambda: path.unlink(missing_ok=True))
        raise error if isinstance(error, Refused) else Refused("grid", str(error)) from error
    return Answer(ok=True, job_id=job_id)


def check(config: Config, user: pwd.struct_passwd, request: Check) -> Answer:
    """Ask Grid Engine as the person whether a session could start; nothing is submitted.

    ``qsub -w v`` asks for an empty cluster, ``-w p`` for it as it is now (qsub(1)).

    :raises Refused: where the choice is not allowed, or Grid Engine does not answer.
    """
    resources = check_choice(config, user, request.choice).resources
    become(user)
    home = Path(user.pw_dir)

    def reach() -> None:
        try:
            home.stat()
        except OSError as error:
            raise Refused("home", home_trouble(error, home)) from error

    # qsub reads the person's .sge_request, and nothing ends one that waits for a dead file server.
    within(HOME_TIMEOUT, reach)
    # Two commands in the time of one: the hub waits no longer for it.
    config = config.model_copy(update={"timeout": config.timeout / 2})

    def verify(mode: str, resources: Sequence[str]) -> str:
        """Return why not; nothing where it could."""
        arguments = (*config.qsub_arguments, "-w", mode, "-S", JOB_SHELL, "-wd", user.pw_dir)
        process = run_as_person(
            config, user, "qsub", *arguments, *resources, str(config.job_script)
        )
        if process.returncode == 0:
            return ""
        _check_answer(process)
        return _words(process)

    if never := verify("v", resources):
        # Of what counts per job, a parallel environment says nothing but "offers 0 slots".
        if "-pe" in resources:
            place = resources.index("-pe")
            never = verify("v", resources[:place] + resources[place + 3 :]) or never
        return Answer(ok=True, verdict="never", words=never)
    if later := verify("p", resources):
        return Answer(ok=True, verdict="later", words=later)
    return Answer(ok=True, verdict="now")


def stop(config: Config, user: pwd.struct_passwd, request: Stop) -> Answer:
    """Delete a session's job as the person; a job that is gone already is a success.

    By its name, which only a session of this hub has; as the person, who can delete no one else's.

    :raises Refused: when Grid Engine does not do it.
    """
    become(user)
    path = Path(user.pw_dir) / SESSION_FOLDER / f"{request.session}.json"
    # First: a job that has not started yet, or is still on its way, then ends itself.
    with contextlib.suppress(Refused):
        within(HOME_TIMEOUT, lambda: path.unlink(missing_ok=True))
    process = run_as_person(config, user, "qdel", job_name(request.session))
    if process.returncode != 0 and "does not exist" not in process.stdout + process.stderr:
        raise Refused("grid", say("grid.not_deleted", reason=_words(process)))
    return Answer(ok=True)


def check_caller(connection: socket.socket, hub_user: str) -> None:
    """Check the peer's credentials, which the kernel vouches for (SO_PEERCRED, unix(7)).

    :raises Refused: for every caller but the hub.
    """
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    if uid != pwd.getpwnam(hub_user).pw_uid:
        raise Refused("refused", f"only {hub_user} may use the broker, not uid {uid}")


def receive(connection: socket.socket) -> Request:
    """Read the whole request.

    :raises Refused: when it is too long, too slow or not a request.
    """
    deadline = time.monotonic() + RECEIVE_TIMEOUT
    data = bytearray()
    try:
        while True:
            # The limit is for the whole request: a caller that drips gains nothing.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = connection.recv(8192)
            if not chunk:
                break
            data += chunk
            if len(data) > MAX_REQUEST:
                raise Refused("request", f"the request is longer than {MAX_REQUEST} bytes")
    except TimeoutError as error:
        raise Refused("request", f"no whole request within {RECEIVE_TIMEOUT:g} s") from error
    try:
        return _REQUEST.validate_json(bytes(data))
    except ValidationError as error:
        # Only where and why: the values may be secrets.
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in problem["loc"])
        raise Refused("request", f"not a request: {where}: {problem['msg'][:200]}") from error


#: Longest line of the log, in characters; what the hub sends may be in it.
_LONGEST_LINE = 4_000


def one_line(text: str) -> str:
    """Return a text as one line of a log, in which nothing can look like another one.

    Line breaks of every alphabet, control characters and marks that turn the reading direction
    become blanks.
    """
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_LINE])


def decide(config: Config, request: Request) -> Answer:
    """Carry out one request and log the decision in one line, never with secrets."""
    try:
        try:
            user = pwd.getpwnam(request.user)
        except KeyError:
            raise Refused("refused", say("account.missing", name=request.user)) from None
        if user.pw_name != request.user:
            # A directory service may match names regardless of case.
            raise Refused("refused", say("account.missing", name=request.user))
        check_person(config, user)
        match request:
            case Start():
                answer = start(config, user, request)
            case Stop():
                answer = stop(config, user, request)
            case Check():
                answer = check(config, user, request)
        outcome = f"job {answer.job_id}" if answer.job_id else answer.verdict or "done"
    except Refused as refusal:
        answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
        outcome = f"refused ({refusal.kind}): {refusal}"
    session = "" if isinstance(request, Check) else f", session {request.session}"
    line = f"{request.action} for {request.user}{session}: {outcome}"
    print(one_line(line), file=sys.stderr)
    return answer


def check_config(path: Path) -> int:
    """Say what is wrong with a configuration, in the inventory's terms; 0 when nothing is."""
    try:
        Config.model_validate_json(path.read_bytes())
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            where = ".".join(str(part) for part in problem["loc"])
            print(f"{where}: {problem['msg']} (it is {problem['input']!r})", file=sys.stderr)
        print("The values come from the variables of the role jupyterhub.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Serve the one request on standard input, which is the connection (``Accept=yes``).

    ``sge_broker.py --check FILE`` only checks a configuration.
    """
    if sys.argv[1] == "--check":
        return check_config(Path(sys.argv[2]))
    config = Config.model_validate_json(Path(sys.argv[1]).read_bytes())
    connection = socket.socket(fileno=0)
    try:
        check_caller(connection, config.hub_user)
        answer = decide(config, receive(connection))
    except Refused as refusal:
        print(one_line(f"refused ({refusal.kind}): {refusal}"), file=sys.stderr)
        answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
    # A hub that has gone away meanwhile is no fault of the broker.
    with contextlib.suppress(OSError):
        connection.sendall(answer.model_dump_json().encode())
        # A child that hangs in the person's home has the connection open as well.
        connection.shutdown(socket.SHUT_WR)
    return 0


async def ask(path: Path, request: Request, timeout: float) -> Answer:
    """Ask the broker (the hub's end).

    :param timeout: seconds for the whole conversation.
    :raises OSError: when the socket cannot be reached.
    :raises TimeoutError: when there is no answer in time; the request may still be carried out.
    :raises AnswerError: when the broker died before it answered.
    """

    async def talk() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            writer.write(request.model_dump_json().encode())
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    async with asyncio.timeout(timeout):
        data = await talk()
    try:
        return Answer.model_validate_json(data)
    except ValidationError as error:
        raise AnswerError("the submission broker ended without an answer") from error


if __name__ == "__main__":
    sys.exit(main())
