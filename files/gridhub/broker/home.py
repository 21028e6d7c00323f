# SPDX-License-Identifier: BSD-3-Clause
"""Write the session's file in the person's home, as the person and within a time limit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.broker.protocol import Answer, Tls
from gridhub.clock import DAY, HORIZON, changes
from gridhub.contract import MAX_MESSAGE
from gridhub.words import text

#: After this many seconds, remove a session file that no session has read.
KEEP_FILES = 7 * 24 * 3600

#: Time limit, in seconds, for one task in the person's home, such as writing the session's file.
HOME_TIMEOUT = 10.0


def home_trouble(error: OSError, folder: Path) -> str:
    """Return a sentence that says why the session's file cannot be written in a home."""
    state = "unusable"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        state = "full"
    elif error.errno == errno.ENOENT:
        state = "missing"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        state = "read_only"
    return text(f"home.is_{state}", reason=error.strerror, path=error.filename or folder)


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


def session_rules(config: Config, run_time: int | None) -> dict[str, Any]:
    """Return a session's limits, and the sentences with which the session announces a limit.

    :func:`gridhub.session.rules.read_rules` parses the result. The sentences still contain the
    placeholders ``{end}``, ``{minutes}`` and ``{left}``.
    """
    today = time.time() // DAY * DAY
    return {
        "run_time": run_time,
        "warnings": [60 * each for each in config.run_time_warnings],
        "idle_timeout": 60 * config.idle_timeout,
        "idle_notice": 60 * config.idle_notice,
        "idle_report": config.idle_report,
        "words": {
            name: text(f"session.{name}", end="{end}", minutes="{minutes}", left="{left}")
            for name in ("run_time", "idle", "left")
        },
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
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise Refused("home", text("home.foreign", path=folder))
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
        raise Refused("home", home_trouble(error, folder)) from error


def within(seconds: float, task: Callable[[], object]) -> None:
    """Run a task in a separate process, because a task that touches the person's home may hang.

    If the home's file server does not answer, every process that touches the home blocks, and no
    signal can end such a process.

    :raises Refused: when the task fails, or takes longer than ``seconds``.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            task()
            answer = Answer(ok=True)
        except Refused as refusal:
            answer = Answer(ok=False, kind=refusal.kind, error=str(refusal))
        except BaseException as error:  # the parent reports it
            answer = Answer(ok=False, kind="broker", error=repr(error))
        with contextlib.suppress(OSError):
            os.write(writer, answer.model_dump_json().encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], seconds)
    data = os.read(reader, MAX_MESSAGE) if ready else b""
    os.close(reader)
    if not ready:
        raise Refused("home", text("home.no_answer", seconds=f"{seconds:g}"))
    answer = Answer.model_validate_json(data or '{"ok": false, "kind": "broker", "error": "died"}')
    if not answer.ok:
        raise Refused(answer.kind, answer.error)
