# SPDX-License-Identifier: BSD-3-Clause
"""Find out which programs hold ports that GridHub needs."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct

#: With these addresses, a program listens on all addresses of its kind; Linux lets ``::`` take
#: IPv4 too.
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # nosec B104

#: The state of a socket that listens (TCP_LISTEN), in proc_pid_net(5).
LISTENS = "0A"

#: The options of a module's argument ``ports``.
PORT_OPTIONS = {
    "port": {"type": "int", "required": True},
    "addresses": {"type": "list", "elements": "str", "required": True},
    "variable": {"type": "str", "required": True},
}


def address_of(digits):
    """Return an address of ``/proc/net/tcp`` or ``tcp6``: words of the machine's byte order."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack("=%dI" % len(words), *words))


def parse_listeners(text):
    """Return the sockets that listen, as (port, address, inode)."""
    rows = [line.split() for line in text.splitlines()[1:]]
    found = []
    for row in rows:
        if row[3] == LISTENS:
            address, _, port = row[1].rpartition(":")
            found.append((int(port, 16), address_of(address), row[9]))
    return found


def listeners():
    """Return the sockets of this host that listen, as (port, address, inode)."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            found += parse_listeners(file.read())
    return found


def holders(inodes):
    """Return the programs that hold sockets, as (name, number, unit)."""
    found = set()
    wanted = {"socket:[%s]" % inode for inode in inodes}
    for process in filter(str.isdecimal, os.listdir("/proc")):
        folder = "/proc/" + process
        try:
            with os.scandir(folder + "/fd") as entries:
                links = {os.readlink(each.path) for each in entries}
            if links & wanted:
                with open(folder + "/comm", encoding="utf-8") as file:
                    name = file.read().strip()
                with open(folder + "/cgroup", encoding="utf-8") as file:
                    units = re.findall(r"/([^/\n]+\.(?:service|socket))", file.read())
                found.add((name, int(process), units[-1] if units else ""))
        except OSError:  # the process has ended
            continue
    return sorted(found)


def is_in_the_way(address, wanted):
    """Return whether a program that listens on an address takes one of the wanted addresses."""
    addresses = [each.strip("[]") for each in wanted]
    if address == "::" or address in addresses or "::" in addresses:
        return True
    same_kind = [each for each in addresses if (":" in each) == (":" in address)]
    return bool(same_kind) and (address in EVERYWHERE or bool(set(EVERYWHERE) & set(same_kind)))


def taken_ports(ports, units):
    """Return a sentence for each port that another program holds.

    :param ports: dictionaries with PORT_OPTIONS.
    :param units: the names of the units that may hold the ports.
    """
    sentences = []
    listening = listeners()
    for each in ports:
        for port, address, inode in listening:
            if port != each["port"] or not is_in_the_way(address, each["addresses"]):
                continue
            others = [holder for holder in holders([inode]) if holder[2] not in units]
            for name, number, unit in others[:1]:
                program = "%s (process %d%s)" % (name, number, ", " + unit if unit else "")
                sentences.append(
                    "port %d of %s is taken by %s; stop it, or change %s"
                    % (port, address, program, each["variable"])
                )
    return sentences
