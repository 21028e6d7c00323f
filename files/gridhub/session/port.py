# SPDX-License-Identifier: BSD-3-Clause
"""Bind the session's port; if all ports are taken, find out which accounts hold the ports."""

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

#: The kernel's lists of TCP sockets (proc(5)). A socket in the state TIME_WAIT no longer has an
#: owner.
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
TIME_WAIT = "06"

#: The report to the hub names at most this many accounts that hold ports.
MOST_HOLDERS = 3


class NoPortError(SessionError):
    """Every port that a session may use is taken."""


def bind_port(first: int, last: int) -> socket.socket:
    """Bind a free TCP port from ``first`` to ``last``, both included; return its socket.

    :raises NoPortError: when all these ports are taken.
    """
    ports = list(range(first, last + 1))
    both = socket.has_dualstack_ipv6()
    random.shuffle(ports)  # so that sessions that start together try different ports
    for port in ports:
        server = socket.socket(socket.AF_INET6 if both else socket.AF_INET, socket.SOCK_STREAM)
        # Do not set SO_REUSEADDR: without it, no other process can bind the port while we hold it.
        # Bind the port for IPv4 and IPv6 at once, so that no other user can bind the port for one
        # of the two protocols.
        try:
            if both:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # Listen on every address: the hub and the proxy connect from other hosts.
            server.bind(("::" if both else "0.0.0.0", port))  # noqa: S104  # nosec B104
            server.listen(128)
        except OSError:
            server.close()
            continue
        server.setblocking(False)
        return server
    raise NoPortError(f"every port from {first} to {last} is taken on this host")


def port_holders(first: int, last: int, tables: Iterable[Path] = SOCKETS) -> list[tuple[str, int]]:
    """Return the accounts that hold the most ports in a range, each with its number of ports.

    The kernel does not list sockets that are bound but neither listening nor connected.
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
        (account_name(uid), count)
        for uid, count in Counter(uid for uid, _ in held).most_common(MOST_HOLDERS)
    ]


def account_name(uid: int) -> str:
    """Return the name of an account, or the account's number if the account has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def no_port_reason(first: int, last: int) -> str:
    """Return the reason to report when no port is free; it names the host and the port holders."""
    # Report the host by its name in Grid Engine, so that the hub can request another host.
    host = os.environ.get("HOSTNAME") or socket.gethostname()
    holders = ",".join(f"{name}={count}" for name, count in port_holders(first, last))
    return " ".join(filter(None, (NO_PORT, host, holders)))
