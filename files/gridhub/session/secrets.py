# SPDX-License-Identifier: BSD-3-Clause
"""Read the file with the session's secrets, and delete it.

The process keeps the key and the certificate in memory, never on a disk of the worker. They
disappear with the process, however it ends.
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
    """The session cannot start; the message goes to the job's log, which the user can read."""


class Tls(NamedTuple):
    """Paths of the session's key, of its certificate and of the certificates the session trusts."""

    key: str
    certificate: str
    authorities: str

    def variables(self) -> dict[str, str]:
        """Return the paths as the environment variables that JupyterHub's code reads."""
        names = ("KEYFILE", "CERTFILE", "CLIENT_CA")
        return {f"JUPYTERHUB_SSL_{name}": path for name, path in zip(names, self, strict=True)}

    def _context(self, side: ssl.Purpose) -> ssl.SSLContext:
        context = ssl.create_default_context(side, cafile=self.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
        # ``authorities`` contains the session's own certificate, but not the authority that signs
        # the certificates of sessions. With this flag, the session accepts its own certificate, but
        # no other session's.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        """Return the server's TLS context: it admits only hub, proxy and the session itself."""
        return self._context(ssl.Purpose.CLIENT_AUTH)

    def client(self) -> ssl.SSLContext:
        """Return the TLS context for the session's connections to the hub and to itself."""
        return self._context(ssl.Purpose.SERVER_AUTH)


class SessionFile(NamedTuple):
    """The content of the file that the broker wrote for this session."""

    environment: dict[str, str]
    ports: tuple[int, int]
    rules: Rules
    #: None if the hub uses plain HTTP.
    tls: Tls | None


def dump_no_core() -> None:
    """Keep this process and its children from dumping core: a dump would contain secrets.

    A user can still turn core dumps on: ``ulimit -c unlimited``.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    # Every dump is larger than 1 byte, so a limit of 1 byte prevents all dumps. Unlike a limit of
    # 0, this limit also stops the kernel from piping a dump to a program.
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))


def in_memory(name: str, text: str) -> str:
    """Write a text to a file in memory; return the file's path.

    The file disappears with this process. Only this user and root can open the file (proc(5)).
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def read_tls(content: Any) -> Tls | None:
    """Write the session's key and certificates to files in memory; return the files' paths.

    :param content: the TLS part of the session's file; ``None`` without TLS.
    :raises KeyError, TypeError: if a part of ``content`` is missing or malformed.
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

    :raises SessionError: if the file is missing or malformed, or was not written by the broker.
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
