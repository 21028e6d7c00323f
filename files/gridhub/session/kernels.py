# SPDX-License-Identifier: BSD-3-Clause
"""Start kernels with the user's environment, and report kernels that die or do not answer.

Kernels communicate through Unix sockets in a private folder, except those for which the site allows
TCP ports: any account on the worker can connect to a port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from tornado.web import HTTPError

from gridhub.session.environment import site_kernel_environment
from gridhub.session.rules import Rules
from gridhub.session.site_python import is_site_python, with_own_settings, without_folder

#: How much of a kernel's last output to keep, in bytes, and how much of it a notice shows: lines,
#: and characters of each line.
MAX_OUTPUT = 8192
SHOWN_LINES = 5
SHOWN_WIDTH = 300

#: A kernel that dies again within so many seconds is not reported again: the server restarts a dead
#: kernel up to five times.
SAME_DEATH = 60.0

#: How long after its start a kernel is checked, and how long it then has to answer, in seconds.
SILENT_AFTER = 45.0
ANSWER_WITHIN = 10.0


class KernelSettings(NamedTuple):
    """What all kernels of a session have in common."""

    #: The environment of the kernels, and of those that run the notebook environment's Python.
    environment: dict[str, str]
    #: The Python to use instead of the notebook environment's own; empty for the latter.
    site_python: str
    #: The working folder of kernels for which the page names no folder.
    home: str
    rules: Rules
    notify: Callable[[str], Awaitable[bool]]


def may_use_tcp(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a kernel's name matches one of the site's patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class _Output:
    """The end of a kernel's output; all of it also goes to the session's log."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._end = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, 65_536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1
            return
        self._end = (self._end + data)[-MAX_OUTPUT:]
        with contextlib.suppress(OSError):  # the log may be on a full disk
            os.write(2, data)

    def lines(self) -> str:
        """Return the last lines."""
        if self._reader >= 0:
            self._read()
        lines = self._end.decode(errors="replace").splitlines()
        shown = [line.strip()[:SHOWN_WIDTH] for line in lines if line.strip()]
        return "\n".join(shown[-SHOWN_LINES:])


class SessionKernelManager(ServerKernelManager):
    """Starts one kernel, and watches it."""

    #: Set once, before the first kernel starts.
    settings: ClassVar[KernelSettings]

    _output: _Output | None = None
    _reported = 0.0
    _silent: asyncio.TimerHandle | None = None

    async def _async_pre_start_kernel(self, **options: Any) -> Any:
        if may_use_tcp(self.kernel_name, self.settings.rules.tcp_kernels):
            self.transport, self.ip = "tcp", "127.0.0.1"
        # The server passes its own environment with a variable of this kernel.
        passed = options.get("env") or {}
        added = {name: value for name, value in passed.items() if name.startswith("JPY_SESSION")}
        options["env"] = self.settings.environment | added
        return await super()._async_pre_start_kernel(**options)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        kernel_cmd = with_own_settings(kernel_cmd)
        if is_site_python(kernel_cmd[0]):
            options["env"] = site_kernel_environment(options["env"])
            program = self.settings.site_python or kernel_cmd[0]
            kernel_cmd = without_folder([program, *kernel_cmd[1:]])
        options.setdefault("cwd", self.settings.home)
        self._output = None
        if not isinstance(self.provisioner, LocalProvisioner):
            await super()._async_launch_kernel(kernel_cmd, **options)
            return
        output = _Output()
        try:
            options |= {"stdout": output.writer, "stderr": output.writer}
            await super()._async_launch_kernel(kernel_cmd, **options)
        except OSError as error:
            words = self._text("kernel_program", program=kernel_cmd[0], reason=error.strerror)
            raise HTTPError(500, words or str(error)) from error
        finally:
            os.close(output.writer)
        self._output = output
        self._watch_for_silence()

    def _watch_for_silence(self) -> None:
        def check() -> None:
            self._check = asyncio.ensure_future(self._report_silence())

        if self._silent:
            self._silent.cancel()
        self._silent = asyncio.get_running_loop().call_later(SILENT_AFTER, check)

    async def _report_silence(self) -> None:
        """Report a kernel that does not answer.

        As long as no page or program has connected to a kernel, nobody has asked it anything.
        """
        if self.execution_state != "starting" or not self.has_kernel:
            return
        client = self.client()
        client.start_channels(stdin=False, hb=False, control=False)
        try:
            await client.wait_for_ready(timeout=ANSWER_WITHIN)
        except RuntimeError:  # no answer, or it has ended
            if self.has_kernel:
                self._notify("kernel_silent" if self.transport == "ipc" else "kernel_slow")
        finally:
            client.stop_channels()

    def start_restarter(self) -> None:
        """Start to watch the kernel; also report its death."""
        super().start_restarter()
        self.add_restart_callback(self._died, "restart")
        self.add_restart_callback(self._died, "dead")

    def _died(self) -> None:
        """Report the kernel's death, once for each series of deaths."""
        process = getattr(self.provisioner, "process", None)
        status = process.poll() if process else None
        now = time.monotonic()
        is_new, self._reported = now - self._reported > SAME_DEATH or not self._reported, now
        if is_new:
            self._notify(self._kind_of_death(status), status=status)

    def _kind_of_death(self, status: int | None) -> str:
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return "kernel_killed"
        spec = self.kernel_spec
        is_python = spec is not None and spec.language.lower() == "python"
        may_need_tcp = self.execution_state == "starting" and self.transport == "ipc"
        return "kernel_died_early" if may_need_tcp and not is_python else "kernel_died"

    def _text(self, name: str, **values: object) -> str:
        spec = self.kernel_spec
        kernel = spec.display_name if spec else self.kernel_name
        return self.settings.rules.text(name, kernel=kernel, **values)

    def _notify(self, name: str, **values: object) -> None:
        lines = self._output.lines() if self._output else ""
        if words := self._text(name, lines=lines or "—", **values):
            self._task = asyncio.ensure_future(self.settings.notify(words))

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        if self._silent and not restart:
            self._silent.cancel()
        await super()._async_cleanup_resources(restart=restart)
