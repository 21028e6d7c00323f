# SPDX-License-Identifier: BSD-3-Clause
"""Write the session's file in the person's home, as the person and within a time limit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import select
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer, Tls
from gridhub.clock import DAY, HORIZON, changes
from gridhub.contract import MAX_MESSAGE
from gridhub.words import text, unfilled

#: After this many seconds, remove a session file that no session has read.
KEEP_FILES = 7 * 24 * 3600

#: Time limit, in seconds, for one task in the person's home, such as writing the session's file.
HOME_TIMEOUT = 10.0


def home_trouble(error: OSError, home: Path) -> str:
    """Return a sentence that says why a home cannot be used, and what its owner can do."""
    state = "unusable"
    owner = ""
    if error.errno == errno.ENOSPC:
        state = "out_of_files" if _has_no_free_file(home) else "full"
    elif error.errno == errno.EDQUOT:
        state = "over_quota"
    elif error.errno == errno.ENOENT:
        state = "missing"
    elif error.errno == errno.EROFS:
        state = "read_only"
    elif error.errno in (errno.EACCES, errno.EPERM):
        with contextlib.suppress(OSError):
            uid = home.stat().st_uid
            state = "closed" if uid == os.getuid() else "foreign"
            owner = _account(uid)
    path = error.filename or home
    return text(f"home.is_{state}", reason=error.strerror, path=path, home=home, owner=owner)


def _has_no_free_file(home: Path) -> bool:
    """Return whether the home's file system has no free inode, but may have free bytes."""
    with contextlib.suppress(OSError):
        system = os.statvfs(home)
        return system.f_files > 0 and system.f_favail == 0  # some systems have no fixed number
    return False


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def remove_old_files(folder: Path) -> None:
    """Remove the files of sessions that never started.

    A session deletes its own file when it starts, and no session takes a week to start. So a file
    that is a week old belongs to a session that never started.
    """
    oldest = time.time() - KEEP_FILES
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < oldest:
                path.unlink()


def session_rules(
    config: Config,
    run_time: int | None,
    gpus: Mapping[str, int] = MappingProxyType({}),
    folders: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return a session's limits, and the sentences of its notices.

    :func:`gridhub.session.rules.read_rules` parses the result. The sentences still contain their
    placeholders.

    :param gpus: see :func:`gridhub.menu.job.gpus`.
    :param folders: see :func:`gridhub.broker.folders.folders_for`.
    """
    today = time.time() // DAY * DAY
    return {
        "run_time": run_time,
        "warnings": [60 * each for each in config.run_time_warnings],
        "idle_timeout": 60 * config.idle_timeout,
        "idle_notice": 60 * config.idle_notice,
        "idle_report": config.idle_report,
        "words": unfilled("session") | unfilled("status"),
        "prologue_timeout": config.prologue_timeout,
        "prologue_required": config.prologue_required,
        "gpus": dict(gpus),
        "tcp_kernels": list(config.tcp_kernels),
        **folders,
        "zone": [list(each) for each in changes(today, today + HORIZON)],
    }


def write_session_file(
    path: Path,
    environment: dict[str, str],
    ports: tuple[int, int],
    rules: Mapping[str, Any],
    tls: Tls | None = None,
) -> None:
    """Write the session's secrets and rules to a file that only the person's account can read.

    This function runs as the person. It always creates a new file, and never follows a link.

    :raises Refused: when the file cannot be written; the message is for the person.
    """
    folder = path.parent
    content = {"environment": environment, "ports": ports, "rules": rules}
    if tls:
        content["tls"] = tls.model_dump()
    try:
        with contextlib.suppress(FileExistsError):  # also if it is a file or a link to nowhere
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise Refused("home", text("home.foreign", path=folder, name=folder.name))
        folder.chmod(0o700)
        remove_old_files(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(descriptor)  # if the home is full, this may be the first call to fail
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused("home", home_trouble(error, folder.parent)) from error


def within(seconds: float, task: Callable[[], object]) -> str:
    """Run a task in a separate process, because a task that touches the person's home may hang.

    If the home's file server does not answer, every process that touches the home blocks, and no
    signal can end such a process.

    :returns: the text that the task returns; empty if it returns something else.
    :raises Refused: when the task fails, or takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            result = task()
            answer = Answer(ok=True, words=result if isinstance(result, str) else "")
        except Refused as refusal:
            answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
        except BaseException as error:  # the parent reports it
            answer = Answer(ok=False, kind="broker", error=repr(error))
        with contextlib.suppress(OSError), os.fdopen(writer, "w", encoding="utf-8") as pipe:
            pipe.write(answer.model_dump_json())
        os._exit(0)
    os.close(writer)
    data = b""
    with os.fdopen(reader, "rb", 0) as pipe:
        while True:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([pipe], [], [], left)[0]:
                raise Refused("home", text("home.no_answer", seconds=f"{seconds:g}"))
            if not (chunk := pipe.read(MAX_MESSAGE)):
                break
            data += chunk
    answer = Answer.model_validate_json(data or '{"ok": false, "kind": "broker", "error": "died"}')
    if not answer.ok:
        raise Refused(answer.kind, answer.error)
    return answer.words
