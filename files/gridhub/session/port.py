# SPDX-License-Identifier: BSD-3-Clause
"""The session's port, and who holds the ports when none is free."""

from __future__ import annotations

import os
import pwd
import random
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gridhub.contract import NO_PORT
from gridhub.session.secrets import SessionError

#: The kernel's lists of sockets (proc(5)), and the state of those that are nobody's any more.
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
TIME_WAIT = "06"

#: How many of those who hold the ports the hub is told.
MOST_HOLDERS = 3


class NoPortError(SessionError):
    """Every port that a session may use is taken."""


def bind_port(first: int, last: int) -> socket.socket:
    """Bind a free TCP port from ``first`` to ``last``, both included, and keep it.

    :raises NoPortError: when all are taken.
    """
    ports = list(range(first, last + 1))
    both = socket.has_dualstack_ipv6()
    random.shuffle(ports)  # sessions that start together do not queue for the same port
    for port in ports:
        server = socket.socket(socket.AF_INET6 if both else socket.AF_INET, socket.SOCK_STREAM)
        # Without SO_REUSEADDR nobody else can bind the same port while we hold it. Both kinds of
        # address, or another user could take the port of the kind that is left.
        try:
            if both:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # Every address: the hub and the proxy are other hosts.
            server.bind(("::" if both else "0.0.0.0", port))  # noqa: S104  # nosec B104
            server.listen(128)
        except OSError:
            server.close()
            continue
        server.setblocking(False)
        return server
    raise NoPortError(f"every port from {first} to {last} is taken on this host")


def port_holders(first: int, last: int, tables: Iterable[Path] = SOCKETS) -> list[tuple[str, int]]:
    """Return which accounts hold how many ports of a range, those with the most first.

    The kernel lists no socket that is bound and neither listens nor is connected.
    """
    held: set[tuple[int, int]] = set()
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for line in lines:
            _, local, _, state, _, _, _, uid, *_ = line.split()
            port = int(local.rpartition(":")[2], 16)
            if first <= port <= last and state != TIME_WAIT:
                held.add((int(uid), port))
    return [
        (_account(uid), count)
        for uid, count in Counter(uid for uid, _ in held).most_common(MOST_HOLDERS)
    ]


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def no_port_reason(first: int, last: int) -> str:
    """Return what the hub is told where no port is free: the host, and who holds how many."""
    # As Grid Engine names the host, which is how the hub asks for another one.
    host = os.environ.get("HOSTNAME") or socket.gethostname()
    holders = ",".join(f"{name}={count}" for name, count in port_holders(first, last))
    return " ".join(filter(None, (NO_PORT, host, holders)))
