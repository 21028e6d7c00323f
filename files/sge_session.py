# SPDX-License-Identifier: BSD-3-Clause
"""The starter inside the job: from the constant job script to a JupyterLab that the hub knows.

It reads and deletes the file with the session's secrets, binds a port of the allowed range and
keeps it, starts the server on that very socket, and only then tells the hub the port. No other
user can take the port in between, and the hub never sees a port that does not answer.

Key and certificate stay in memory: they are on no disk of the worker, and gone with the process,
however it ends. Kernels are reached through sockets in a folder of the session's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import random
import re
import resource
import shutil
import socket
import ssl
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sge_watch import (
    Activity,
    Cut,
    Rules,
    RulesError,
    Teller,
    ask,
    read_cut,
    read_rules,
    started,
    warn,
    warn_of_cut,
    watch_use,
)

SESSION_FOLDER = ".jupyterhub-sessions"
MAX_FILE = 65_536

#: Pauses between attempts to reach a hub that is away, in seconds; the last one repeats.
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

#: Longest reason the hub takes, in characters.
MAX_REASON = 500

#: The reason that the hub has words of its own for; all others are told as they are.
NO_PORT = "no_port"

#: The kernel's lists of sockets (proc(5)), and the state of those that are nobody's any more.
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
TIME_WAIT = "06"

#: How many of those who hold the ports the hub is told.
MOST_HOLDERS = 3

#: What a refusal of the hub makes of the job, as an exit status of its own (sysexits.h, EX_NOPERM).
EXIT_REFUSED = 77

#: What a session ends with that is over because its worker is maintained (EX_TEMPFAIL); the hub
#: reads it in the accounting record.
EXIT_CUT = 75

#: How long the server may take to end its kernels then, in seconds.
END_WITHIN = 30.0

#: Longest name of the folder of kernels' sockets: they add 50 characters, and a socket's path may
#: have 107 (unix(7)). sge_kernel.py adds one that is as long as the others.
MAX_FOLDER = 56


#: Extensions of ours for the pages, beside this file.
EXTENSIONS = Path(__file__).with_name("labextensions")

#: From when on a countdown stands out where the site warns of no end, in seconds before it.
SOON = 300


class SessionError(Exception):
    """The session cannot start; the message goes to the job's log, which its owner can read."""


class NoPortError(SessionError):
    """Every port that a session may use is taken."""


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
            or found.st_size > MAX_FILE
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


def tell_hub(
    environment: dict[str, str],
    what: str,
    body: dict[str, Any],
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Post to ``/hub/api/sge/`` once; return the HTTP status and the answer.

    The status is 0 when the hub did not answer.
    """
    url = environment["JUPYTERHUB_API_URL"].rstrip("/") + f"/sge/{what}"
    status, answer = ask(url, environment["JUPYTERHUB_API_TOKEN"], body, context)
    if not status:
        print("The hub does not answer.", file=sys.stderr, flush=True)
    return status, answer


def is_refusal(status: int) -> bool:
    """Tell whether a status means the hub does not want this session (and not: try again)."""
    return 400 <= status < 500 and status not in (408, 429)


async def announce(
    environment: dict[str, str], port: int, context: ssl.SSLContext | None = None
) -> Cut | None:
    """Tell the hub the port, patiently while it is away; end the job when it refuses.

    :returns: what the hub says of an end before that of the run time.
    """
    pauses = iter(PAUSES)
    pause = 0.0
    while True:
        body = {"port": port}
        status, answer = await asyncio.to_thread(tell_hub, environment, "port", body, context)
        if 200 <= status < 300:
            try:
                return read_cut(answer)
            except RulesError as error:
                print(f"The hub's answer: {error}", file=sys.stderr, flush=True)
                return None
        if is_refusal(status):
            print(
                f"The hub does not want this session any more (HTTP {status}); ending.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(EXIT_REFUSED)
        pause = next(pauses, pause)
        await asyncio.sleep(pause)


def report(environment: dict[str, str], reason: str, context: ssl.SSLContext | None = None) -> None:
    """Tell the hub why the session cannot start, so that the person reads it on the page."""
    for pause in (*PAUSES[:4], 0.0):
        status, _ = tell_hub(environment, "failure", {"reason": reason[:MAX_REASON]}, context)
        if status not in (0, 429, 503):
            return
        time.sleep(pause)


async def keep_time(
    announced: Coroutine[Any, Any, Cut | None], rules: Rules, start: float, teller: Teller
) -> bool:
    """Warn of the end of the run time, or of an earlier one that the hub knows of.

    The person chose the run time when the job had still to wait in the queue, and Grid Engine does
    not change a limit of a job that runs.

    :returns: whether the session is over now; if not, Grid Engine ends it.
    """
    warnings = asyncio.ensure_future(warn(rules, start, teller))
    cut = await announced
    if cut is None or (rules.run_time is not None and start + rules.run_time <= cut.end):
        await warnings
        return False
    warnings.cancel()
    left = rules._replace(run_time=max(int(cut.end - start), 0))
    os.environ.update(extension_settings(left, start))
    await warn_of_cut(cut, rules, teller)
    return True


def extension_settings(rules: Rules, start: float) -> dict[str, str]:
    """Return the variables that extensions read: the countdown's, and how often the hub is told."""
    variables = {}
    if rules.run_time is not None:
        variables["JOB_START_TIME"] = str(int(start))
        variables["JOB_RUN_TIME"] = str(rules.run_time // 60)
    if rules.idle_report:
        variables["JUPYTERHUB_ACTIVITY_INTERVAL"] = str(rules.idle_report)
    return variables


def page_settings(rules: Rules) -> dict[str, Any]:
    """Return what Notebook's countdown (``files/time_left``) is told, besides when the end is.

    Nothing, where there is nothing to count down.
    """
    if rules.run_time is None or "left" not in rules.words:
        return {}
    soon = max((each for each in rules.warnings if each < rules.run_time), default=SOON)
    return {"gridhubTimeLeft": {"words": rules.words["left"], "soon": soon}}


def private_folder() -> Path:
    """Make the folder for what the server and its kernels share, on the worker's own disk.

    In the job's own folder, which Grid Engine removes with the job, where its name is not too long.
    """
    parent = os.environ.get("TMPDIR", "")
    if not 0 < len(parent) <= MAX_FOLDER - len("/jhub-12345678"):
        parent = "/tmp"  # noqa: S108  # nosec B108  # only the person may look into what is made there
    return Path(tempfile.mkdtemp(prefix="jhub-", dir=parent))


def hide_debuggers(spec: Any) -> None:
    """Tell browsers that no kernel has a debugger; JupyterLab offers none then.

    ipykernel's listens at a port of 127.0.0.1 until its kernel ends, and asks nobody who they are:
    whoever is on the worker could run code as the person.

    :param spec: the class of what the server knows of a kernel. The class itself, not a setting
        of the manager: one that a site may have, such as conda's, makes them without asking it.
    """
    plain = spec.to_dict

    def to_dict(self: Any) -> dict[str, Any]:
        told = plain(self)
        return {**told, "metadata": {**told["metadata"], "debugger": False}}

    spec.to_dict = to_dict


def serve(
    environment: dict[str, str],
    server: socket.socket,
    rules: Rules,
    start: float,
    tls: Tls | None = None,
    debugger: bool = False,
) -> int:
    """Run the server on a socket that is bound already, and tell the hub its port.

    :param debugger: whether JupyterLab offers its debugger.
    :returns: the job's exit status.

    What is imported here is the site's environment for notebooks: that it cannot be loaded must
    reach the person, so it is not imported any earlier.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_server.serverapp import ServerApp
    from jupyterhub.singleuser.extension import JupyterHubSingleUser
    from tornado.httpserver import HTTPServer

    from sge_session_server import SessionServer

    port = server.getsockname()[1]
    if not debugger:
        hide_debuggers(KernelSpec)

    class SessionServerApp(ServerApp):
        def find_server_extensions(self) -> None:
            super().find_server_extensions()
            if rules.run_time is None:
                # The countdown would make one up.
                self.jpserver_extensions["jupyterlab_server_timer"] = False

        def _find_http_port(self) -> None:
            self.port = port

        def _bind_http_server_tcp(self) -> bool:
            if tls:
                # Jupyter Server would read the files again for every connection.
                self.http_server.ssl_options = tls.server()
            self.http_server.add_socket(server)
            return True

    # Jupyter Server makes its server of this class.
    HTTPServer.configure(SessionServer)
    # Set, not subclassed: Jupyter Server finds an extension by the module of its class.
    JupyterHubSingleUser.serverapp_class = SessionServerApp
    app = JupyterHubSingleUser.initialize_server(
        argv=[
            # Through sockets in the runtime folder; other users can connect to TCP ports.
            "--KernelManager.transport=ipc",
            f"--LabServerApp.extra_labextensions_path={EXTENSIONS}",
        ]
    )
    app.web_app.settings.setdefault("page_config_data", {}).update(page_settings(rules))
    # Without the person's settings their kernels are gone as well, which are no code of the
    # server's. Last, so that none takes the place of one of the site's.
    kernels = app.kernel_spec_manager
    if kernels.user_kernel_dir not in kernels.kernel_dirs:
        kernels.kernel_dirs = [*kernels.kernel_dirs, kernels.user_kernel_dir]
    context = tls.client() if tls else None
    teller = Teller(environment, port, context)
    over = False

    async def live() -> None:
        nonlocal over
        over = await keep_time(announce(environment, port, context), rules, start, teller)
        if over:
            # Whatever a kernel does meanwhile, the worker is free in time.
            last_resort = threading.Timer(END_WITHIN, os._exit, [EXIT_CUT])
            last_resort.daemon = True
            last_resort.start()
            app.stop()

    # Runs after the server listens: both are callbacks of the same loop, in this order.
    app.io_loop.add_callback(live)
    app.io_loop.add_callback(watch_use, rules, Activity(app.web_app), teller)
    app.start()
    return EXIT_CUT if over else 0


def main() -> int:
    """``sge_session.py SESSION [--debugger]``: run the session of that name."""
    name, *options = sys.argv[1:] or [""]
    if not re.fullmatch(r"[0-9a-f]{32}", name) or options not in ([], ["--debugger"]):
        print("usage: sge_session.py SESSION [--debugger]", file=sys.stderr)
        return 2
    dump_no_core()
    try:
        environment, ports, rules, tls = read_session_file(
            Path.home() / SESSION_FOLDER / f"{name}.json"
        )
    except (SessionError, OSError) as error:
        print(f"The session cannot start: {error}", file=sys.stderr)
        return 1
    folder = None
    try:
        server = bind_port(*ports)
        start = started()
        folder = private_folder()
        os.environ.update(environment | extension_settings(rules, start))
        os.environ.update(tls.variables() if tls else {}, JUPYTER_RUNTIME_DIR=str(folder))
        os.environ["JUPYTERHUB_SERVICE_URL"] = (
            f"{'https' if tls else 'http'}://0.0.0.0:{server.getsockname()[1]}"
            f"{environment['JUPYTERHUB_SERVICE_PREFIX']}"
        )
        return serve(environment, server, rules, start, tls, bool(options))
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return 0
        reason = f"{error}" if isinstance(error, OSError) else f"{error!r}"
        reason = no_port_reason(*ports) if isinstance(error, NoPortError) else reason
        report(environment, reason, tls.client() if tls else None)
        raise
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
