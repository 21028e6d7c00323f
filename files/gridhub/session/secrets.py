# SPDX-License-Identifier: BSD-3-Clause
"""The file with the session's secrets, which is read once and then deleted.

The key and the certificate stay in memory: they are never on a disk of the worker, and disappear
when the process ends for any reason.
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
    """Paths of the session's key, of its certificate and of the certificates the session trusts."""

    key: str
    certificate: str
    authorities: str

    def variables(self) -> dict[str, str]:
        """Return the environment variables from which JupyterHub's code reads the paths."""
        names = ("KEYFILE", "CERTFILE", "CLIENT_CA")
        return {f"JUPYTERHUB_SSL_{name}": path for name, path in zip(names, self, strict=True)}

    def _context(self, side: ssl.Purpose) -> ssl.SSLContext:
        context = ssl.create_default_context(side, cafile=self.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
        # The file of authorities includes the session's own certificate, but not the authority that
        # signed it. With this flag, the session accepts its own certificate, but not another
        # session's.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server(self) -> ssl.SSLContext:
        """Return the TLS context for the server, which admits hub, proxy and the session itself."""
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
    # A limit of 1 byte prevents every dump, because each is larger. Unlike a limit of 0, it also
    # stops the kernel from piping a dump to a program.
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))


def in_memory(name: str, text: str) -> str:
    """Write a text to a file in memory; return a path at which this user can read it.

    The file exists as long as this process. Apart from this user, only root can open it (proc(5)).
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "w", encoding="ascii") as file:
        file.write(text)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def read_tls(content: Any) -> Tls | None:
    """Write the key and certificates from the broker to files in memory; return their paths.

    :raises KeyError, TypeError: if the content has any other form.
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

    :raises SessionError: if the file is missing or is not the one that the broker wrote.
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
