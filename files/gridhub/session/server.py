# SPDX-License-Identifier: BSD-3-Clause
"""The session's server: JupyterLab on a socket that is already bound.

The server's kernels use Unix sockets in a private folder of the session.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from gridhub.contract import EXIT_EARLY_END, SESSION_FOLDER
from gridhub.session.activity import Activity, watch_use
from gridhub.session.hub_api import announce, report
from gridhub.session.notices import Notifier, started, warn, warn_of_early_end
from gridhub.session.port import NoPortError, bind_port, no_port_reason
from gridhub.session.rules import EarlyEnd, Rules
from gridhub.session.secrets import SessionError, Tls, dump_no_core, read_session_file
from gridhub.session.status import Status

#: How long the server may take to shut its kernels down when the session ends early, in seconds.
END_WITHIN = 30.0

#: Longest path of the folder for the kernels' sockets, in characters. The path of a socket may have
#: 107 characters (unix(7)), and the name of a kernel's socket takes up 50 of these. ``kernel.py``
#: adds a socket whose name is not longer.
MAX_FOLDER = 56

#: The folder of the release. It has our extensions for JupyterLab and Notebook, and the site's
#: default settings for JupyterLab.
RELEASE = Path(__file__).resolve().parents[2]


async def keep_time(
    announced: Coroutine[Any, Any, EarlyEnd | None],
    rules: Rules,
    start: float,
    notifier: Notifier,
    status: Status,
) -> bool:
    """Warn of the end of the run time, or of an earlier end that the hub reports.

    If the job has waited long in the queue, the user's chosen run time may now reach into
    maintenance of the worker. Then the session must end early. Grid Engine cannot shorten the run
    time of a running job, so the session ends itself.

    :returns: whether the session must end itself now; if not, Grid Engine ends it.
    """
    warnings = asyncio.ensure_future(warn(rules, start, notifier))
    cut = await announced
    if cut is None or (rules.run_time is not None and start + rules.run_time <= cut.end):
        await warnings
        return False
    warnings.cancel()
    status.end = cut.end
    await warn_of_early_end(cut, rules, notifier)
    return True


def extension_settings(rules: Rules) -> dict[str, str]:
    """Return the environment variables for the activity reports."""
    if rules.idle_report:
        return {"JUPYTERHUB_ACTIVITY_INTERVAL": str(rules.idle_report)}
    return {}


def private_folder() -> Path:
    """Make the folder that the server and its kernels share, on the worker's own disk.

    The new folder is in the job's folder, which Grid Engine removes with the job. If the path of
    the job's folder is too long, the new folder is in /tmp.
    """
    parent = os.environ.get("TMPDIR", "")
    if not 0 < len(parent) <= MAX_FOLDER - len("/jhub-12345678"):
        parent = "/tmp"  # noqa: S108  # nosec B108  # only the user can enter the folder made there
    return Path(tempfile.mkdtemp(prefix="jhub-", dir=parent))


def hide_debuggers(spec: Any) -> None:
    """Report to browsers that no kernel has a debugger: JupyterLab then offers no debugger.

    ipykernel's debugger listens on a port of 127.0.0.1 until its kernel ends, and does not
    authenticate its clients: any account on the worker could run code as the user.

    :param spec: the class of kernel specs, which this function changes. A subclass in the setting
        ``kernel_spec_class`` might have no effect: a site's own manager of kernel specs, such as
        conda's, may ignore this setting.
    """
    plain = spec.to_dict

    def to_dict(self: Any) -> dict[str, Any]:
        values = plain(self)
        return {**values, "metadata": {**values["metadata"], "debugger": False}}

    spec.to_dict = to_dict


def serve(
    environment: dict[str, str],
    server: socket.socket,
    rules: Rules,
    start: float,
    tls: Tls | None = None,
    debugger: bool = False,
) -> int:
    """Run the server on a socket that is already bound, and report the port to the hub.

    :param debugger: whether JupyterLab offers its debugger.
    :returns: the job's exit status.

    The imports in this function load the site's notebook environment. If these imports were at the
    top of the module, :func:`main` could not report their errors to the user.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_server.serverapp import ServerApp
    from jupyterhub.singleuser.extension import JupyterHubSingleUser
    from tornado.httpserver import HTTPServer

    from gridhub.session.bounded_server import SessionServer

    port = server.getsockname()[1]
    if not debugger:
        hide_debuggers(KernelSpec)

    class SessionServerApp(ServerApp):
        def _find_http_port(self) -> None:
            self.port = port

        def _bind_http_server_tcp(self) -> bool:
            if tls:
                # Jupyter Server itself would make a new TLS context for every connection.
                self.http_server.ssl_options = tls.server()
            self.http_server.add_socket(server)
            return True

    # Make Jupyter Server use `SessionServer` as its HTTP server.
    HTTPServer.configure(SessionServer)
    # Set an attribute of JupyterHub's class instead of making a subclass: Jupyter Server finds an
    # extension by the module of the extension's class, and a subclass would belong to this module.
    JupyterHubSingleUser.serverapp_class = SessionServerApp
    app = JupyterHubSingleUser.initialize_server(
        argv=[
            # Use Unix sockets in the runtime folder, because any user could connect to a TCP port.
            "--KernelManager.transport=ipc",
            f"--LabServerApp.extra_labextensions_path={RELEASE / 'labextensions'}",
            f"--LabServerApp.app_settings_dir={RELEASE / 'lab/settings'}",
        ]
    )
    status = Status(rules, start)
    status.install(app.web_app)
    # Because this server ignores the user's settings, it would not find the user's kernels either.
    # It is safe to add the folder of these kernels: kernels, unlike settings, run no code in the
    # server. The folder comes last, so that the user's kernels cannot replace the site's kernels.
    kernels = app.kernel_spec_manager
    if kernels.user_kernel_dir not in kernels.kernel_dirs:
        kernels.kernel_dirs = [*kernels.kernel_dirs, kernels.user_kernel_dir]
    context = tls.client() if tls else None
    notifier = Notifier(environment, port, context)
    over = False

    async def live() -> None:
        nonlocal over
        announced = announce(environment, port, context)
        over = await keep_time(announced, rules, start, notifier, status)
        if over:
            # Free the worker in time, even if a kernel does not shut down.
            last_resort = threading.Timer(END_WITHIN, os._exit, [EXIT_EARLY_END])
            last_resort.daemon = True
            last_resort.start()
            app.stop()

    # These callbacks run after the server has begun to listen: the callback that makes the server
    # listen was added to the same loop earlier.
    app.io_loop.add_callback(live)
    app.io_loop.add_callback(watch_use, rules, Activity(app.web_app), notifier)
    app.start()
    return EXIT_EARLY_END if over else 0


def main() -> int:
    """Run the session with the given name: ``sge_session.py SESSION [--debugger]``."""
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
        os.environ.update(environment | extension_settings(rules))
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
