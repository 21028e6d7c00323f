# SPDX-License-Identifier: BSD-3-Clause
"""Individual checks of units, addresses, Grid Engine and sessions.

A function named ``*_problem`` returns a description of the problem, or an empty string.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gridhub.grid.engine import AnswerError
from gridhub.grid.job_numbers import parse_job_numbers
from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: A running session, as ``files/sge_sessions.py`` prints it: user, label, name, job, scheme, host,
#: port, path.
Session = dict[str, Any]


def internal_tls(certificates: str, authority: str) -> ssl.SSLContext:
    """Return a TLS context that presents the hub's certificate and trusts only ``authority``.

    :param certificates: the folder of the hub's certificates.
    :raises OSError: when a certificate or the key cannot be read.
    """
    folder = Path(certificates)
    trusted = folder / authority / f"{authority}.crt"
    certificate, key = (folder / f"hub-internal/hub-internal.{kind}" for kind in ("crt", "key"))
    # The hub owns the folder and could put a pipe there instead of a file. Reading a pipe might
    # block.
    if wrong := [str(path) for path in (trusted, certificate, key) if not path.is_file()]:
        raise OSError(f"{', '.join(wrong)}: there is no such file")
    context = ssl.create_default_context(cafile=trusted)
    # Do not check host names: a session's certificate contains the session's name, not the
    # worker's. Skipping the check is safe, because the authority certifies only our own components.
    context.check_hostname = False
    # An authority that was replaced while sessions run is still trusted (``hub/rotation.py``).
    retired = folder / "retired" / f"{authority}.crt"
    if retired.is_file():
        context.load_verify_locations(retired)
    context.load_cert_chain(certificate, key)
    return context


def public_tls(*, verify: bool) -> ssl.SSLContext:
    """Return a TLS context that checks the server's certificate only if ``verify`` is true."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class _Named(http.client.HTTPSConnection):
    """A connection to a server whose certificate has another name than its address."""

    def __init__(self, host: str, port: int | None, seconds: float, context: ssl.SSLContext):
        super().__init__(host, port, timeout=seconds, context=context)
        self.tls_name = host
        self._tls = context

    def connect(self) -> None:
        """Connect, and check the certificate for the expected name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.tls_name)


def connect(
    url: str, context: ssl.SSLContext, seconds: float, name: str = ""
) -> http.client.HTTPConnection:
    """Return a connection, not yet open, to the host in ``url``.

    :param name: the name in the server's certificate; if empty, the host name in ``url``.
    """
    target = urlsplit(url)
    if target.scheme == "https":
        link = _Named(target.hostname or "", target.port, seconds, context)
        link.tls_name = name or link.tls_name
        return link
    return http.client.HTTPConnection(target.hostname or "", target.port, timeout=seconds)


def http_status(url: str, context: ssl.SSLContext, name: str = "") -> int:
    """Request an address and return the HTTP status of the answer.

    :param name: the value of the header ``Host``; if empty, the host name in ``url``.
    :raises OSError: when there is no answer, or the certificate is not valid.
    """
    link = connect(url, context, 10, urlsplit(f"//{name}").hostname or "")
    try:
        link.request("GET", urlsplit(url).path or "/", headers={"Host": name} if name else {})
        return link.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"{error!r}") from error
    finally:
        link.close()


def url_problem(settings: Settings, url: str) -> str:
    """Return why an address does not answer with status 200."""
    place = urlsplit(url).netloc
    is_hub = settings.hub_api and place == urlsplit(settings.hub_api).netloc
    try:
        if is_hub:
            context = internal_tls(settings.certificates, "hub-ca")
        else:
            context = public_tls(verify=settings.verify_tls)
        status = http_status(url, context, settings.names.get(place, ""))
    except OSError as error:
        return f"{url}: {error}"
    return "" if status == 200 else f"{url}: status {status}"


def units_problem(units: Sequence[str]) -> str:
    """Return a text that names the units that are not active."""
    shown = host.run(["systemctl", "is-active", *units], check=False).split()
    down = [unit for unit, state in zip(units, shown, strict=False) if state != "active"]
    return f"not active: {', '.join(down)}" if down or len(shown) < len(units) else ""


def grid_engine_jobs(settings: Settings) -> set[str]:
    """Return the job numbers of all jobs in Grid Engine.

    :raises MaintenanceError: when Grid Engine gives no valid answer.
    """
    shown = host.run(settings.qstat, seconds=15, environment=settings.environment)
    try:
        return parse_job_numbers(shown)
    except AnswerError as error:
        raise MaintenanceError(f"{settings.qstat[0]}: {error}") from error


def grid_engine_problem(settings: Settings) -> str:
    """Return why Grid Engine does not list its jobs."""
    try:
        grid_engine_jobs(settings)
    except MaintenanceError as error:
        return str(error)
    return ""


def running_sessions(command: Sequence[str]) -> list[Session]:
    """Return the sessions that the hub's database lists as running.

    :param command: the command that prints the sessions (``files/sge_sessions.py``).
    :raises MaintenanceError: when the command fails or prints no list.
    """
    shown = host.run(command)
    try:
        return list(json.loads(shown.splitlines()[-1]))
    except (ValueError, IndexError) as error:
        raise MaintenanceError(
            f"{' '.join(command)} printed no list of sessions: {error}"
        ) from error


def session_problem(settings: Settings, session: Session) -> str:
    """Return why the hub cannot reach a session."""
    name = f"[{session['host']}]" if ":" in session["host"] else session["host"]
    try:
        address = f"{session['scheme']}://{name}:{session['port']}{session['path']}api"
        status = http_status(address, internal_tls(settings.certificates, "notebooks-ca"))
    except OSError as error:
        return f"{session['user']} {session['name']} (job {session['job']}): {error}"
    # A status below 500 shows that the session's server is up, even if it refuses the request.
    return "" if status < 500 else f"{session['user']} (job {session['job']}): status {status}"


def route_problem(settings: Settings, session: Session) -> str:
    """Return why people cannot reach a session through the proxy.

    The function requests the session's ``/api``, which needs no login. If the proxy has no route to
    the session, the hub answers the request with a redirect.
    """
    if not settings.proxy:
        return ""
    place = urlsplit(settings.proxy).netloc
    name = settings.names.get(place, place)
    if settings.user_subdomains:
        name = f"{session['label']}.{name}"
    try:
        context = public_tls(verify=settings.verify_tls)
        status = http_status(f"{settings.proxy}{session['path']}api", context, name)
        found = "" if status == 200 else f"status {status}, which is not the session's own answer"
    except OSError as error:
        found = str(error)
    where = f"through {settings.proxy}" if name == place else f"through {settings.proxy} as {name}"
    return found and f"{session['user']} (job {session['job']}) {where}: {found}"
