# SPDX-License-Identifier: BSD-3-Clause
"""The session's file with its secrets, read once and deleted; key and certificate stay in memory.

They are on no disk of the worker, and gone with the process, however it ends.
"""

from __future__ import annotations

import json
import os
import resource
import ssl
import stat
from pathlib import Path
from typing import Any, NamedTuple

from gridhub.contract import MAX_MESSAGE
from gridhub.session.rules import Rules, read_rules


class SessionError(Exception):
    """The session cannot start; the message goes to the job's log, which its owner can read."""


class Tls(NamedTuple):
    """Files with the session's key and certificate, and with whom it trusts."""

    key: str
    certificate: str
    authorities: str

    def variables(self) -> dict[str, str]:
        """Return the variables by which JupyterHub's part of the server finds them."""
        names = ("KEYFILE", "CERTFILE", "CLIENT_CA")
        return {f"JUPYTERHUB_SSL_{name}": path for name, path in zip(names, self, strict=True)}

    def _context(self, side: ssl.Purpose) -> ssl.SSLContext:
        context = ssl.create_default_context(side, cafile=self.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
        # Takes the session's own certificate, and none of another session.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        """Return how the session's server speaks: only with the hub, the proxy and itself."""
        return self._context(ssl.Purpose.CLIENT_AUTH)

    def client(self) -> ssl.SSLContext:
        """Return how the session speaks to the hub, and to itself."""
        return self._context(ssl.Purpose.SERVER_AUTH)


class SessionFile(NamedTuple):
    """What the broker wrote for this session: environment, ports, rules, and how it speaks TLS."""

    environment: dict[str, str]
    ports: tuple[int, int]
    rules: Rules
    #: None where the hub speaks plain HTTP.
    tls: Tls | None


def dump_no_core() -> None:
    """Keep memory, with its secrets, out of core dumps, of this process and all it starts.

    A person can still ask for them: ``ulimit -c unlimited``.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    # Fewer bytes than a dump has; unlike 0, it also keeps the kernel from handing one to a program.
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))


def in_memory(name: str, text: str) -> str:
    """Keep a text in a file that is on no disk; return a path by which the person can read it.

    The file is there as long as this process. proc(5) lets nobody else in but root.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def read_tls(content: Any) -> Tls | None:
    """Keep what the broker wrote of certificates in memory.

    :raises KeyError, TypeError: when it is anything else.
    """
    if content is None:
        return None
    certificate = content["certificate"]
    return Tls(
        in_memory("key", content["key"]),
        in_memory("certificate", certificate),
        in_memory("authorities", content["authorities"] + certificate),
    )


def read_session_file(path: Path) -> SessionFile:
    """Read the session's file and delete it.

    :raises SessionError: when it is missing or is not the file the broker wrote.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SessionError(
            f"{path}: {error.strerror}. The session was given up before this job started."
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if (
            not stat.S_ISREG(found.st_mode)
            or found.st_uid != os.getuid()
            or stat.S_IMODE(found.st_mode) != 0o600
            or found.st_size > MAX_MESSAGE
        ):
            raise SessionError(f"{path} is not the file of a session")
        path.unlink()
        try:
            content = json.load(file)
            environment = {str(name): str(value) for name, value in content["environment"].items()}
            first, last = content["ports"]
            rules = read_rules(content["rules"])
            return SessionFile(
                environment, (int(first), int(last)), rules, read_tls(content.get("tls"))
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SessionError(f"{path} cannot be read: {error!r}") from error
