# SPDX-License-Identifier: BSD-3-Clause
"""Carry out requests as the person: start, check or stop a session, or read its log."""

from __future__ import annotations

import contextlib
import json
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gridhub.accounts import group_names
from gridhub.broker.config import Config, parse_config
from gridhub.broker.connection import check_caller, receive
from gridhub.broker.folders import folders_for
from gridhub.broker.home import (
    HOME_TIMEOUT,
    home_trouble,
    session_rules,
    within,
    write_session_file,
)
from gridhub.broker.person import (
    Refused,
    become,
    check_account,
    check_owner,
    find_person,
    run_as_person,
)
from gridhub.broker.protocol import Answer, Check, Log, Look, Request, Start, Stop, job_name
from gridhub.broker.request_files import blame, check_options, dump, load, read_options
from gridhub.broker.session_log import LOG_TIMEOUT, read_log
from gridhub.broker.waiting import is_waiting, serve
from gridhub.contract import SESSION_FOLDER
from gridhub.grid.engine import AnswerError
from gridhub.grid.request_files import Option, hard_resources, overrides
from gridhub.grid.submit import (
    JOB_SHELL,
    avoid_hosts,
    is_qmaster_away,
    is_unknown_job,
    parse_job_id,
    session_arguments,
)
from gridhub.log import one_line
from gridhub.menu.file import load_menu
from gridhub.menu.job import gpus, qsub_arguments, requested, script_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.words import text


def _printed(process: subprocess.CompletedProcess[str]) -> str:
    return (process.stderr.strip() or process.stdout.strip())[:2000]


def _words(process: subprocess.CompletedProcess[str]) -> str:
    return _printed(process) or text("grid.no_reason")


def _check_answer(process: subprocess.CompletedProcess[str]) -> None:
    """Check that the qmaster answered.

    :raises Refused: when the command could not reach the qmaster.
    """
    words = _words(process)
    if is_qmaster_away(words):
        raise Refused("grid", text("grid.no_answer", reason=words))


class Checked(NamedTuple):
    """The command arguments and the run time for a checked choice."""

    #: ``resources``: arguments for qsub; ``script``: further arguments for the job script.
    resources: list[str]
    script: list[str]
    #: The run time in seconds; None if the menu has no run time.
    run_time: int | None
    #: The number of requested GPUs for each complex of the menu that counts GPUs.
    gpus: dict[str, int]
    #: The environment variables that name the chosen amounts.
    environment: dict[str, str]
    #: The root folder and the shortcuts of the file browser.
    folders: dict[str, Any]


def check_choice(
    config: Config, user: pwd.struct_passwd, values: Mapping[str, int | str]
) -> Checked:
    """Check that a person may have sessions, and that their choice is allowed.

    :raises Refused: when either check fails.
    """
    folders = (*config.root_folders, *config.shortcuts)
    try:
        menu = load_menu(config.menu)
        also = menu.groups().union(config.allowed_groups, *(each.groups for each in folders))
        groups = group_names(user, also)
        check_account(config, user, groups)
        choice = menu.choose(values, groups)
        totals = {each.kind: int(each.total) for each in requested(menu, choice)}
        return Checked(
            qsub_arguments(menu, choice),
            script_arguments(menu, choice),
            totals.get("run_time"),
            gpus(menu, choice),
            # JupyterHub's own name for it: the session shows how much of its memory is in use.
            {"MEM_LIMIT": str(totals["memory"])} if "memory" in totals else {},
            folders_for(user, groups, config.root_folders, config.shortcuts),
        )
    except ChoiceError as error:
        raise Refused("choice", str(error)) from error
    except MenuError as error:
        raise Refused("broker", str(error)) from error


def start(config: Config, user: pwd.struct_passwd, request: Start) -> Answer:
    """Submit a session as the person.

    :raises Refused: when the submission fails. The session's file is then removed. If Grid Engine
        has accepted the job after all, the job does not find the file and ends.
    """
    if user.pw_name != request.user:
        # The hub watches the jobs of the account that it names; it would delete this one.
        raise Refused("refused", text("account.renamed", old=request.user, name=user.pw_name))
    check_owner(user)
    checked = check_choice(config, user, request.choice)
    rules = session_rules(config, checked.run_time, checked.gpus, checked.folders)
    become(user)
    home = Path(user.pw_dir)
    path = home / SESSION_FOLDER / f"{request.session}.json"
    context = {
        "hub": socket.gethostname(),
        "user": user.pw_name,
        "server": request.server,
    }
    ours = session_arguments(
        job_name(request.session),
        home=user.pw_dir,
        log=str(home / SESSION_FOLDER / "$JOB_ID.log"),
        context=context,
    )
    arguments = (*config.qsub_arguments, *checked.resources)
    deadline = time.monotonic() + HOME_TIMEOUT

    def prepare() -> str:
        options = read_options(config, user.pw_dir)
        check_options(options, (*ours, *arguments), user.pw_dir)
        environment = request.environment | checked.environment
        write_session_file(path, environment, config.ports, rules, request.tls)
        if time.monotonic() > deadline:  # the home answered too late
            path.unlink()
        return dump(options)

    options = load(within(HOME_TIMEOUT, prepare))
    arguments = (
        *ours,
        *overrides(options, user.pw_dir),
        *arguments,
        *avoid_hosts(request.avoid, (*hard_resources(options), *arguments)),
    )
    try:
        job_id = _submit(
            config,
            user,
            options,
            arguments,
            (str(config.job_script), request.session, *checked.script),
        )
    except Refused:
        # Remove the session's file: if Grid Engine has accepted the job after all, the job then
        # ends.
        with contextlib.suppress(Refused):
            within(HOME_TIMEOUT, lambda: path.unlink(missing_ok=True))
        raise
    return Answer(ok=True, job_id=job_id)


def _submit(
    config: Config,
    user: pwd.struct_passwd,
    options: Sequence[Option],
    arguments: Sequence[str],
    command: Sequence[str],
) -> int:
    """Run qsub and return the job's number.

    :param options: the options of request files, which the messages name if qsub fails.
    :raises Refused: when qsub fails or does not print a job number.
    """
    try:
        process = run_as_person(config, user, "qsub", *arguments, *command)
    except Refused as refusal:
        # A submit verifier of a request file may be what does not answer.
        verifiers = [each for each in options if each.name == "-jsv"]
        raise Refused(
            refusal.kind, str(refusal) + blame(verifiers, (), "-jsv", user.pw_dir)
        ) from refusal
    if process.returncode != 0:
        _check_answer(process)
        note = blame(options, arguments, _printed(process), user.pw_dir)
        message = text("grid.refused", reason=_words(process)) + note
        raise Refused("grid", message, _printed(process), note.strip())
    try:
        return parse_job_id(process.stdout)
    except AnswerError as error:
        message = text("grid.no_number", reason=error)
        raise Refused(
            "grid", message + blame(options, arguments, process.stdout, user.pw_dir)
        ) from error


def check(config: Config, user: pwd.struct_passwd, request: Check) -> Answer:
    """Ask Grid Engine, as the person, whether a session could start; do not submit a job.

    ``qsub -w v`` assumes an empty cluster; ``qsub -w p`` takes the running jobs into account
    (qsub(1)).

    :raises Refused: when the choice is not allowed, or Grid Engine does not answer.
    """
    resources = check_choice(config, user, request.choice).resources
    become(user)
    home = Path(user.pw_dir)

    ours = (*config.qsub_arguments, "-S", JOB_SHELL, "-wd", user.pw_dir)

    def reach() -> str:
        try:
            home.stat()
        except OSError as error:
            raise Refused("home", home_trouble(error, home)) from error
        options = read_options(config, user.pw_dir)
        check_options(options, (*ours, *resources), user.pw_dir)
        return dump(options)

    # First make sure that the home's file server answers: qsub reads .sge_request in the home, and
    # it cannot be killed while it waits for the file server.
    options = load(within(HOME_TIMEOUT, reach))
    # At most two qsub commands follow. Each command gets half of the usual time limit, because the
    # hub waits for a check only as long as for one command.
    config = config.model_copy(update={"timeout": config.timeout / 2})

    def verify(mode: str, resources: Sequence[str]) -> str:
        """Return the reason why the session cannot start; empty if it can start."""
        arguments = (*overrides(options, user.pw_dir), *ours, "-w", mode, *resources)
        process = run_as_person(config, user, "qsub", *arguments, str(config.job_script))
        if process.returncode == 0:
            return ""
        _check_answer(process)
        if not _printed(process):  # qsub crashed
            refusal = text("grid.refused", reason=_words(process))
            raise Refused("grid", refusal + blame(options, arguments, "", user.pw_dir))
        return _words(process)

    if never := verify("v", resources):
        # If a resource that is counted per job is not available, qsub reports only "offers 0 slots"
        # for a request with a parallel environment. To learn which resource is not available, check
        # again without the parallel environment.
        if "-pe" in resources:
            index = resources.index("-pe")
            never = verify("v", resources[:index] + resources[index + 3 :]) or never
        note = blame(options, (*ours, *resources), never, user.pw_dir).strip()
        return Answer(ok=True, verdict="never", words=never, note=note)
    if later := verify("p", resources):
        return Answer(ok=True, verdict="later", words=later)
    return Answer(ok=True, verdict="now")


def stop(config: Config, user: pwd.struct_passwd, request: Stop) -> Answer:
    """Delete a session's job as the person; succeed if the job is already gone.

    The job is selected by its name, which no other session has. Since qdel runs under the person's
    account, it cannot delete another person's job of the same name.

    :raises Refused: when Grid Engine does not delete the job.
    """
    become(user)
    path = Path(user.pw_dir) / SESSION_FOLDER / f"{request.session}.json"
    # Remove the session's file first, because a job that starts without its file ends at once. qdel
    # alone would miss a job that is still on its way to Grid Engine.
    with contextlib.suppress(Refused):
        within(HOME_TIMEOUT, lambda: path.unlink(missing_ok=True))
    process = run_as_person(config, user, "qdel", job_name(request.session))
    if process.returncode != 0 and not is_unknown_job(process.stdout + process.stderr):
        raise Refused("grid", text("grid.not_deleted", reason=_words(process)))
    return Answer(ok=True)


def log(config: Config, user: pwd.struct_passwd, request: Log) -> Answer:
    """Return the last lines of a log in the person's folder for session files.

    :raises Refused: when the person may not have sessions, or the log cannot be read in time.
    """
    check_account(config, user, group_names(user))
    become(user)
    folder = Path(user.pw_dir) / SESSION_FOLDER

    def read() -> str:
        try:
            return json.dumps(read_log(folder, request.job))
        except OSError as error:
            raise Refused("home", error.strerror or str(error)) from error

    return Answer(ok=True, log=json.loads(within(LOG_TIMEOUT, read)))


def look(user: pwd.struct_passwd) -> Answer:
    """Check that an account can have sessions: Grid Engine takes its name, and its home exists.

    A home that cannot be used now is no reason: it may be back when the person starts a session.

    :raises Refused: when the account can have no session.
    """
    check_owner(user)
    become(user)
    home = Path(user.pw_dir)

    def state() -> str:
        with contextlib.suppress(OSError):
            return "" if home.is_dir() and home != Path("/") else "none"
        return ""

    found = ""
    with contextlib.suppress(Refused):  # no answer from the file server
        found = within(HOME_TIMEOUT, state)
    if found:
        raise Refused("no_home", text("home.none", home=user.pw_dir, name=user.pw_name))
    return Answer(ok=True)


def decide(config: Config, request: Request) -> Answer:
    """Carry out one request, and log the decision in one line without secrets."""
    try:
        user = find_person(config, request.user)
        match request:
            case Start():
                answer = start(config, user, request)
            case Stop():
                answer = stop(config, user, request)
            case Check():
                answer = check(config, user, request)
            case Log():
                answer = log(config, user, request)
            case Look():
                answer = look(user)
        outcome = f"job {answer.job_id}" if answer.job_id else answer.verdict or "done"
    except Refused as refusal:
        answer = Answer(
            ok=False,
            kind=refusal.kind,
            error=str(refusal),
            words=refusal.words,
            note=refusal.note,
        )
        outcome = f"refused ({refusal.kind}): {refusal}"
    about = ""
    if isinstance(request, Start | Stop):
        about = f", session {request.session}"
    elif isinstance(request, Log):
        about = f", job {request.job}"
    line = f"{request.action} for {request.user}{about}: {outcome}"
    print(one_line(line), file=sys.stderr)
    return answer


def answer_to(connection: socket.socket) -> None:
    """Serve the request of a connection."""
    config = parse_config(Path(sys.argv[1]).read_bytes())
    try:
        check_caller(connection, config.hub_user)
        answer = decide(config, receive(connection))
    except Refused as refusal:
        print(one_line(f"refused ({refusal.kind}): {refusal}"), file=sys.stderr)
        answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
    # The hub may have disconnected, which is not an error in the broker.
    with contextlib.suppress(OSError):
        connection.sendall(answer.model_dump_json().encode())
        # Closing the connection is not enough to end the answer: a child process that hangs in the
        # person's home keeps its copy of the connection open.
        connection.shutdown(socket.SHUT_WR)


def main() -> int:
    """Serve requests.

    systemd passes a waiting broker the socket on which it waits (:mod:`gridhub.broker.waiting`).
    If no broker waits, systemd starts one for the connection, and passes it the connection as
    standard input (``Accept=yes``, systemd.socket(5)).
    """
    if is_waiting():
        serve(answer_to)
    else:
        answer_to(socket.socket(fileno=0))
    return 0
