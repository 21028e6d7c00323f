# SPDX-License-Identifier: BSD-3-Clause
"""Wait for the hub with everything imported, because the imports take most of a request's time.

A few such processes share a socket (``jupyterhub-broker-ready.socket``). Each of them serves one
request and then exits, and systemd starts another one in its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

from gridhub.broker.connection import RECEIVE_TIMEOUT
from gridhub.contract import BROKER_IS_READY

#: The first file descriptor that systemd passes to a process (sd_listen_fds(3)).
LISTEN_FD = 3

#: A process that has had no request for so long exits, in seconds. The next one then uses what has
#: changed on the host, such as updated libraries or new sources of accounts.
WAIT = 3600.0

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


def wait_for_connection() -> socket.socket | None:
    """Wait for a request on the socket that systemd has passed to this process.

    If a deployment has changed the release in the meantime, the new release's broker serves the
    request, in this process.

    :returns: ``None`` if no request arrives within an hour.
    """
    with socket.socket(fileno=LISTEN_FD) as listener:
        connection = accept(listener)
    if connection:
        # systemd may stop waiting processes at any time, but a request is completed.
        signal.signal(signal.SIGTERM, lambda *_: None)
        time.tzset()  # reads /etc/localtime again, if it has changed
        if Path(sys.argv[0]).resolve().parent != _RELEASE:
            os.dup2(connection.fileno(), 0)
            for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
                os.environ.pop(name, None)
            os.execv(sys.executable, [sys.executable, "-sE", *sys.argv])  # noqa: S606  # nosec B606
    return connection
