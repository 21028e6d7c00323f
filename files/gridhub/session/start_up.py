# SPDX-License-Identifier: BSD-3-Clause
"""Run the start-up lines of the site in a child process, and read the environment that results.

The start-up lines are ``/etc/profile``, the site's prologue and the lines of the chosen software
environment. They may do anything: exit, start another shell, redirect their output, wait for input
or fail. Therefore, they do not run in the process that becomes the server. The job script contains
these lines: it runs them if its first argument is ``start-up``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import selectors
import signal
import subprocess  # nosec B404
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

#: The shell of the start-up lines. With ``-p``, it ignores ``BASH_ENV`` and functions in the
#: environment.
SHELL = ("/bin/bash", "-p")

#: Copy at most this many bytes of the lines' output to the session's log, which is in the home.
MAX_OUTPUT = 65_536

#: The longest environment to accept, in bytes. Linux itself has a limit for a new process: 2 MB
#: with the usual limit for the stack (execve(2)).
MAX_ENVIRONMENT = 2**22

#: The longest record of a command to keep, in bytes, and the longest command to show, in
#: characters.
MAX_RECORD = 16_384
MAX_SHOWN = 200

#: Seconds between two checks whether the shell has ended.
LOOK_INTERVAL = 0.01

#: The lowest number for our pipes' descriptors in the shell, if the limit of the process allows it:
#: start-up lines may use lower numbers. Those for locks (``exec 200>lock; flock 200``) and of Bash
#: itself (255) are common.
FIRST_DESCRIPTOR = 1000

#: The parts of the start-up lines: profile, prologue and software environment.
PARTS = 3

#: The beginnings of our own commands in the job script. The lines never stop at them on their own.
_OURS = (b"gridhub_", b"builtin trap - DEBUG", b"builtin printf 'end", b"case $gridhub_")

#: Variables that describe the shell itself, not its environment.
_OF_THE_SHELL = frozenset({"_", "PWD", "OLDPWD", "SHLVL"})


class Stopped(NamedTuple):
    """The command at which the start-up lines stopped."""

    #: Empty if the lines stopped before the first command.
    file: str
    line: int
    command: str
    #: The exit status of the shell (negative: the signal that ended it); None: the time limit.
    status: int | None

    def __str__(self) -> str:
        """Return file, line, command and end, for a sentence."""
        where = f"{self.file}, line {self.line}: {self.command}" if self.file else "the first line"
        return f"{where} ({self._end()})"

    def _end(self) -> str:
        if self.status is None:
            return "time limit"
        if self.status < 0:
            return f"signal {-self.status}"
        return f"exit status {self.status}"


class StartUp(NamedTuple):
    """The result of the start-up lines."""

    #: The environment after the last part (profile, prologue, software environment) that ran to
    #: its end.
    environment: dict[str, str]
    #: The file mode creation mask after that part; None if no part ran to its end.
    umask: int | None
    #: None if all parts ran to their ends.
    stopped: Stopped | None


class _Reports:
    """The environments that the shell reports: ``NAME=VALUE`` entries, then a mark, all with NUL.

    A mark has no equals sign. The mark after a part is ``part UMASK``; the last mark is ``end``.
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] | None = None
        self.umask: int | None = None
        self.complete = False
        self._parts = 0
        self._data = b""
        self._entries: dict[str, str] = {}
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ENVIRONMENT:
            return
        *entries, self._data = (self._data + data).split(b"\0")
        for entry in entries:
            name, is_variable, value = os.fsdecode(entry).partition("=")
            if is_variable:
                self._entries[name] = value
            elif name == "end":
                # The lines may have removed our functions, so that parts are missing.
                self.complete = self._parts == PARTS
            elif mark := re.fullmatch(r"\w+ ([0-7]+)", name):
                self.environment, self._entries = self._entries, {}
                self.umask = int(mark[1], 8)
                self._parts += 1
                self._size = 0


class _Command(NamedTuple):
    """A command that the shell began."""

    file: bytes
    line: bytes
    command: bytes

    def reads_a_file(self) -> bool:
        return self.command.startswith((b". ", b"source "))


class _Trace:
    """The last command that the shell began: ``FILE``, ``LINE`` and the command, all with NUL.

    The commands of a trap (``trap … EXIT``) also arrive here, but they are not where the lines
    stopped. For them, Bash gives the command during which the trap began (``BASH_COMMAND`` in
    bash(1)), even in functions. If the trap began at the end of a file that the shell reads, this
    is the command that reads the file. The lines are counted from the start of the trap.
    """

    def __init__(self) -> None:
        self._fields: list[bytes] = []
        self._data = b""
        self._last = _Command(b"", b"", b"")
        #: For each command that reads a file, the files that contain it.
        self._readers: dict[bytes, set[bytes]] = {}
        #: The file of the first command: the job script.
        self._script = b""

    def add(self, data: bytes) -> None:
        *fields, rest = (self._data + data).split(b"\0")
        self._data = rest[:MAX_RECORD]
        fields = self._fields + fields
        whole = len(fields) // 3 * 3
        self._fields = fields[whole:]
        for command in map(_Command._make, zip(*(iter(fields[:whole]),) * 3, strict=True)):
            self._script = self._script or command.file
            last = self._last
            if last.reads_a_file() and command.file != last.file:
                self._readers.setdefault(last.command, set()).add(last.file)
            if not command.command.startswith(_OURS) and not self._belongs_to_trap(command):
                self._last = command

    def _belongs_to_trap(self, command: _Command) -> bool:
        readers = self._readers.get(command.command, {command.file})
        if command.file != self._script and command.file not in readers:
            return True
        last = self._last
        if command.command != last.command:
            return False
        are_numbers = command.line.isdigit() and last.line.isdigit()
        return command.file != last.file or (are_numbers and int(command.line) < int(last.line))

    def last(self) -> tuple[str, int, str]:
        """Return the file, the line and the command; empty and zero if there was no command."""
        file, line, command = map(os.fsdecode, self._last)
        if not line.isdigit():
            return "", 0, ""
        return file, int(line), " ".join(command.split())[:MAX_SHOWN]


class _Output:
    """Copies the beginning of the lines' output to the session's log."""

    def __init__(self) -> None:
        self._left = MAX_OUTPUT

    def add(self, data: bytes) -> None:
        if not self._left:
            return
        piece = data[: self._left]
        self._left -= len(piece)
        if not self._left:
            piece += b"\n(The rest of the output of the start-up lines is left out.)\n"
        with contextlib.suppress(OSError):  # the log may be on a full disk
            while piece:
                piece = piece[os.write(2, piece) :]


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe: one to read from without waiting, and one with a high number."""
    reader, low = os.pipe()
    os.set_blocking(reader, False)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = (
        min(FIRST_DESCRIPTOR, limit - 8) if limit != resource.RLIM_INFINITY else FIRST_DESCRIPTOR
    )
    writer = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, max(first, 0))
    os.close(low)
    return reader, writer


def _drain(readers: Mapping[int, _Reports | _Trace | _Output]) -> None:
    """Read what the shell wrote before it ended: at most what a pipe holds, 64 kB (pipe(7)).

    A program in the background may write for ever, so do not read until the pipe is empty.
    """
    for reader, sink in readers.items():
        with contextlib.suppress(BlockingIOError):
            sink.add(os.read(reader, 65_536))


def _discard(readers: list[int]) -> None:
    """Read and discard what arrives: programs in the background must not fail or wait to write."""

    def read() -> None:
        with selectors.DefaultSelector() as selector:
            for reader in readers:
                selector.register(reader, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    if not os.read(key.fd, 65_536):
                        selector.unregister(key.fd)
                        os.close(key.fd)

    threading.Thread(target=read, name="start-up", daemon=True).start()


def run_start_up(
    script: str, environment: Mapping[str, str], software: str, timeout: float, folder: str = "."
) -> StartUp:
    """Run the start-up lines, and return the resulting environment.

    :param script: the path of the job script.
    :param environment: the environment of the job.
    :param software: the software environment that the user chose; may be empty.
    :param folder: the working folder of the lines.
    :param timeout: time limit in seconds. When it is over, the lines' process group is killed.

    Programs that the lines leave in the background stay: they end with the job.
    """
    reports, trace, output = _Reports(), _Trace(), _Output()
    (report_reader, report), (trace_reader, tracing), (out_reader, out) = _pipe(), _pipe(), _pipe()
    readers: dict[int, _Reports | _Trace | _Output] = {
        report_reader: reports,
        trace_reader: trace,
        out_reader: output,
    }
    deadline = time.monotonic() + timeout
    status: int | None = None
    try:
        shell = subprocess.Popen(  # nosec B603
            [*SHELL, script, "start-up", software, str(report), str(tracing)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(environment),
            cwd=folder,
            pass_fds=(report, tracing),
            start_new_session=True,
        )
    finally:
        for writer in (report, tracing, out):
            os.close(writer)
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader, selectors.EVENT_READ)
        while (status := shell.poll()) is None and time.monotonic() < deadline:
            for key, _ in selector.select(LOOK_INTERVAL):
                data = b""
                with contextlib.suppress(BlockingIOError):
                    data = os.read(key.fd, 65_536)
                if data:
                    readers[key.fd].add(data)
                else:
                    selector.unregister(key.fd)
            if not selector.get_map():
                time.sleep(LOOK_INTERVAL)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    _drain(readers)
    _discard(list(readers))
    before = reports.environment
    result = dict(environment) if before is None else before
    return StartUp(
        {name: value for name, value in result.items() if name not in _OF_THE_SHELL},
        reports.umask,
        None if reports.complete else Stopped(*trace.last(), status),
    )
