# SPDX-License-Identifier: BSD-3-Clause
"""Run qconf with a time limit, and make only one change at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import parse_names


class Result(NamedTuple):
    """The result of one call of qconf."""

    argv: list[str]
    rc: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The message that qconf printed, on one line and without qconf's list of options."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        kept = [line.strip() for line in lines if not line.startswith("   [-")]
        return "; ".join(line for line in kept if line)[:2000] or "no message"


class RefusedError(Exception):
    """qconf refused a call, or did not do what was requested."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class UnreachableError(Exception):
    """The qmaster does not answer."""


def run_limited(argv: list[str], env: Mapping[str, str], timeout: float) -> Result:
    """Run a command for at most ``timeout`` seconds.

    :raises subprocess.TimeoutExpired: after killing the command and its children.
    """
    with subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Kill the whole process group: if qconf is a wrapper script, its child would keep the
            # pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Result(argv, process.returncode, out, err)


_UNREACHABLE = re.compile(
    r"unable to (send message to|contact) qmaster|commlib error|unable to read qmaster name"
    r"|(SGE_ROOT|cell) directory .* doesn't exist",
)
UNRESOLVED_HOST = re.compile(r"can't resolve host ?name")
_EMPTY_LIST = re.compile(r"^no .*(host|config|list).* defined", re.MULTILINE)


class Qconf:
    """Run qconf for one cell, with a time limit and a folder for temporary files."""

    def __init__(self, path: str, root: str, cell: str, timeout: int, scratch: str | None) -> None:
        self.path = path
        self.common = os.path.join(root, cell, "common")
        self.timeout = timeout
        self.scratch = scratch
        self.env = {
            **os.environ,
            "LC_ALL": "C",  # because errors are recognised by their English text
            "SGE_ROOT": root,
            "SGE_CELL": cell,
            "SGE_SINGLE_LINE": "1",
        }

    def qmaster_host(self) -> str:
        """Return the qmaster's host from the cell's files, or the reason why it is unknown."""
        try:
            with open(os.path.join(self.common, "act_qmaster"), encoding="utf-8") as file:
                return file.read().strip() or "(act_qmaster is empty)"
        except OSError as error:
            return f"(cannot read {error.filename}: {error.strerror})"

    def call(self, *args: str) -> Result:
        """Run qconf once and return its result, even if qconf refuses the call.

        :raises UnreachableError: if the qmaster does not answer.
        :raises BadRequestError: if qconf cannot be run.
        """
        try:
            result = run_limited([self.path, *args], self.env, self.timeout)
        except subprocess.TimeoutExpired:
            problem = f"no answer to 'qconf {args[0]}' within {self.timeout} seconds"
            if not args[0].startswith("-s"):
                problem += " (the change may or may not have been made)"
            hint = ""
        except OSError as error:
            raise BadRequestError(f"cannot run {self.path}: {error.strerror}") from error
        else:
            if result.rc == 0 or not _UNREACHABLE.search(result.err):
                return result
            problem = result.message
            hint = "the host names of both sides, " if "access denied" in problem else ""
        raise UnreachableError(
            f"cannot reach the qmaster {self.qmaster_host()}: {problem}; check {hint}"
            "`systemctl status gridengine-master` there (of Open Cluster Scheduler, its unit is "
            f"ocsPORT-qmaster), and sge_root, sge_cell ({self.common})"
        )

    def names(self, option: str) -> list[str]:
        """Return the names that qconf lists for an option.

        If the list is empty, qconf reports an error, but this method returns an empty list.

        :raises RefusedError: for any other error.
        """
        result = self.call(option)
        if result.rc != 0 and not _EMPTY_LIST.search(result.err):
            raise RefusedError(f"cannot list with 'qconf {option}': {result.message}", result)
        return parse_names(result.out) if result.rc == 0 else []

    def change(self, action: str, *args: str) -> Result:
        """Run a call that changes something.

        ``action`` is a verb phrase for the error message, such as "remove queue all.q".

        :raises RefusedError: if qconf's exit status is not 0.
        """
        result = self.call(*args)
        if result.rc != 0:
            raise RefusedError(
                f"qconf refused to {action} (exit status {result.rc}): {result.message}", result
            )
        return result

    def change_from_file(self, action: str, option: str, basename: str, text: str) -> Result:
        """Run a call that changes an object, and give qconf the object's new text in a file.

        ``qconf -Mconf`` takes the configuration's name from the file's name, ``basename``.
        """
        # The directory is private: in a shared directory, other users could replace the file before
        # qconf reads it.
        with tempfile.TemporaryDirectory(prefix="sge_object-", dir=self.scratch) as directory:
            path = os.path.join(directory, basename)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return self.change(action, option, path)


@contextlib.contextmanager
def one_at_a_time(timeout: int, directory: str = "/run") -> Iterator[None]:
    """Hold a lock, so that two runs on this host do not undo each other's changes.

    qconf replaces a whole object, or the whole table of complexes. If two tasks ran at the same
    time without the lock, each task could overwrite the other task's change with old values.

    :raises BadRequestError: if another run holds the lock for four times ``timeout`` seconds.
    """
    path = os.path.join(directory, "sge_object.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        # Only root can create the lock in /run. Other users run without a lock: in a directory
        # where every user can create files, a lock would not be safe from other users.
        yield
        return
    try:
        deadline = time.monotonic() + 4 * timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BadRequestError(
                        f"another run of sge_object has held {path} for {4 * timeout} seconds"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
