# SPDX-License-Identifier: BSD-3-Clause
"""Wait for the hub with everything imported, because the imports take most of a request's time.

A few such processes share a socket (``jupyterhub-broker-ready.socket``). For each request, such a
process forks; the child carries the request out, and exits. The waiting process itself reads no
request. If a request leaves a process or a file behind, the waiting process exits too: systemd ends
what is left, and starts another process, with a new ``/tmp``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gridhub.broker.connection import RECEIVE_TIMEOUT
from gridhub.contract import BROKER_IS_READY

#: The first file descriptor that systemd passes to a process (sd_listen_fds(3)).
LISTEN_FD = 3

#: A process waits for requests for so long, in seconds. The next one then uses what has changed on
#: the host, such as updated libraries.
WAIT = 3600.0

#: The orphans among the descendants of a process become its own children (prctl(2)).
_PR_SET_CHILD_SUBREAPER = 36

#: The release from which this process runs. The name of the program goes through a symbolic link.
_RELEASE = Path(__file__).resolve().parents[2]


def is_waiting() -> bool:
    """Return whether systemd has passed this process a socket on which connections arrive."""
    return "LISTEN_FDS" in os.environ


def accept(listener: socket.socket, wait: float = WAIT) -> socket.socket | None:
    """Return the first connection on which a request arrives.

    At each connection, the broker sends :data:`BROKER_IS_READY` first. If all waiting processes are
    busy, the hub sees no such byte and disconnects. Its connection then arrives here empty.

    systemd kills a process that has not used its watchdog for some time (``WatchdogSec=``). This
    process uses it only until a request arrives, so it is a time limit for the request. Even a user
    who stops the process cannot prevent it.

    :param wait: how long to wait for a request, in seconds.
    :returns: ``None`` if no request arrives in time.
    """
    end = time.monotonic() + wait
    listener.settimeout(min(wait, int(os.environ.get("WATCHDOG_USEC", "60000000")) / 4e6))
    while time.monotonic() < end:
        _reset_watchdog()
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(RECEIVE_TIMEOUT)
        with contextlib.suppress(OSError):
            connection.sendall(BROKER_IS_READY)
            if connection.recv(1, socket.MSG_PEEK):
                _reset_watchdog()
                return connection
        connection.close()
    return None


def _reset_watchdog() -> None:
    """Tell systemd's watchdog that this process is well (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            manager.sendall(b"WATCHDOG=1")


def serve(act: Callable[[socket.socket], object], wait: float = WAIT) -> None:
    """Serve the requests on the socket that systemd has passed to this process, one at a time.

    :param act: carries out the request of a connection; a child of this process calls it.
    :param wait: how long to serve, in seconds.
    """
    end = time.monotonic() + wait
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    temporary = Path(tempfile.gettempdir())
    gc.freeze()  # the children share the memory of what is imported
    with socket.socket(fileno=LISTEN_FD) as listener:
        while connection := accept(listener, end - time.monotonic()):
            is_stopped = _fork(listener, connection, act)
            if is_stopped or is_outdated() or not is_clean(temporary):
                return


def _fork(
    listener: socket.socket, connection: socket.socket, act: Callable[[socket.socket], object]
) -> bool:
    """Let a child serve a request; return whether systemd wants this process to stop.

    systemd may stop waiting processes at any time, but a request is completed.
    """
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    child = os.fork()
    if child == 0:
        listener.close()
        _carry_out(connection, act)
    connection.close()
    os.waitpid(child, 0)
    signal.signal(signal.SIGTERM, before)
    return bool(signals)


def _carry_out(connection: socket.socket, act: Callable[[socket.socket], object]) -> NoReturn:
    """Carry out a request, and exit. If the release has changed, the new one does it."""
    status = 1
    try:
        time.tzset()  # reads /etc/localtime again, if it has changed
        if is_outdated():
            os.dup2(connection.fileno(), 0)
            for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
                os.environ.pop(name, None)
            os.execv(sys.executable, [sys.executable, "-sE", *sys.argv])  # noqa: S606  # nosec B606
        act(connection)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def is_outdated() -> bool:
    """Return whether a deployment has changed the release in the meantime."""
    return Path(sys.argv[0]).resolve().parent != _RELEASE


def is_clean(temporary: Path) -> bool:
    """Return whether the requests have left neither a process nor a file.

    :param temporary: the only folder, apart from homes, where a request can write (``/tmp``).
    """
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:  # there is no child, so there is no descendant
        return not any(temporary.iterdir())
    return False
