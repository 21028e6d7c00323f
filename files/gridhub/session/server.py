# SPDX-License-Identifier: BSD-3-Clause
"""The session's server: JupyterLab on a socket that is already bound.

The server's kernels use Unix sockets in a private folder of the session.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from gridhub.contract import EXIT_ANNOUNCED, EXIT_EARLY_END, SESSION_FOLDER
from gridhub.session.activity import Activity, watch_use
from gridhub.session.environment import job_environment, server_environment
from gridhub.session.file_browser import (
    follow_links_into_home,
    page_settings,
    root_arguments,
)
from gridhub.session.hub_api import announce, report
from gridhub.session.left_out import import_server
from gridhub.session.memory import free_large_bodies
from gridhub.session.notices import Notifier, started, warn, warn_of_early_end
from gridhub.session.own_kernels import add_kernels
from gridhub.session.person import Person
from gridhub.session.port import NoPortError, bind_port, no_port_reason
from gridhub.session.rules import EarlyEnd, Rules
from gridhub.session.secrets import SessionError, Tls, dump_no_core, read_session_file
from gridhub.session.signals import Signals
from gridhub.session.status import Status
from gridhub.session.unused import server_extensions, shorten_page

#: How long the server may take to shut its kernels down when the session ends early, in seconds.
END_WITHIN = 30.0

#: Longest path of the folder for the kernels' sockets, in characters. The path of a socket may have
#: 107 characters (unix(7)), and the name of a kernel's socket takes up 50 of these. ``kernel.py``
#: adds a socket whose name is not longer.
MAX_FOLDER = 56

#: The longest message of a page to a kernel, in bytes, as long as Jupyter's longest request.
MAX_MESSAGE_TO_KERNEL = 512 * 2**20

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
    the job's folder is too long, or the folder cannot be written, the new folder is in /tmp.
    """
    parent = os.environ.get("TMPDIR", "")
    if not 0 < len(parent) <= MAX_FOLDER - len("/jhub-12345678") or not os.access(parent, os.W_OK):
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
    person: Person,
    signals: Signals,
    tls: Tls | None = None,
    debugger: bool = False,
) -> int:
    """Run the server on a socket that is already bound, and report the port to the hub.

    :param environment: the variables of JupyterHub, with the session's token.
    :param debugger: whether JupyterLab offers its debugger.
    :returns: the job's exit status.

    The imports in this function load the site's notebook environment. If these imports were at the
    top of the module, :func:`main` could not report their errors to the user.
    """
    import_server()
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_server.base.handlers import APIHandler, JupyterHandler
    from jupyter_server.serverapp import ServerApp
    from jupyterhub.singleuser.extension import JupyterHubSingleUser
    from tornado.httpserver import HTTPServer

    from gridhub.session.bounded_server import SessionServer
    from gridhub.session.kernels import KernelSettings, SessionKernelManager
    from gridhub.session.terminals import SessionTerminalManager

    port = server.getsockname()[1]
    free_large_bodies(APIHandler)
    if not debugger:
        hide_debuggers(KernelSpec)

    async def check_no_version(app: JupyterHubSingleUser) -> None:
        """Replace a question to the hub before the server listens; only the log has the answer."""

    JupyterHubSingleUser.check_hub_version = check_no_version

    class SessionServerApp(ServerApp):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            # JupyterHub's code would read the token from the environment, which every program that
            # an extension starts inherits.
            self.config.HubAuth.api_token = environment["JUPYTERHUB_API_TOKEN"]
            # This file would contain the token, and any program of the user can read it.
            self.no_browser_open_file = True

        def server_info(self) -> dict[str, Any]:
            # The file with this information can be read by any program of the user too.
            return {**super().server_info(), "token": ""}

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
    SessionServer.words = rules.words
    # Set an attribute of JupyterHub's class instead of making a subclass: Jupyter Server finds an
    # extension by the module of the extension's class, and a subclass would belong to this module.
    JupyterHubSingleUser.serverapp_class = SessionServerApp
    root, shortcuts = person.folders()
    app = JupyterHubSingleUser.initialize_server(
        argv=[
            # Use Unix sockets in the runtime folder, because any user could connect to a TCP port.
            "--KernelManager.transport=ipc",
            f"--MultiKernelManager.kernel_manager_class={full_name(SessionKernelManager)}",
            f"--TerminalsExtensionApp.terminal_manager_class={full_name(SessionTerminalManager)}",
            f"--LabServerApp.extra_labextensions_path={RELEASE / 'labextensions'}",
            f"--LabServerApp.app_settings_dir={RELEASE / 'lab/settings'}",
            # Users cannot install extensions into the notebook environment.
            "--LabApp.extension_manager=readonly",
            f"--ServerApp.jpserver_extensions={server_extensions()}",
            *root_arguments(root, person.home),
            # Deleting must free space. Outside the home's file system, moving to the trash could
            # fail. Without a trash, Jupyter Server would by default refuse to delete full folders.
            "--FileContentsManager.delete_to_trash=False",
            "--FileContentsManager.always_delete_dir=True",
        ]
    )
    # A message to a kernel, such as an upload in a widget, may be as long as a notebook. By
    # default, the connection would break at 10 MiB.
    app.web_app.settings["websocket_max_message_size"] = MAX_MESSAGE_TO_KERNEL
    shorten_page(app.web_app.settings)
    status = Status(rules, start)
    status.install(app.web_app)
    page = app.web_app.settings.setdefault("page_config_data", {})
    page.update(page_settings(rules, root, person.home, shortcuts))
    if root != str(person.home):
        follow_links_into_home(JupyterHandler, app.web_app.settings["base_url"], root, person.home)
        # For a new terminal, the page names a folder relative to the root folder, and the server
        # looks for it in its own working folder first: let that be an empty one. It must not be the
        # root folder, because nbconvert runs templates from the working folder.
        os.chdir(tempfile.mkdtemp(prefix="empty-", dir=os.environ["JUPYTER_RUNTIME_DIR"]))
    context = tls.client() if tls else None
    notifier = Notifier(environment, port, context)
    exit_status = 0

    def prepare() -> None:
        person.prepare()
        person.notices.extend(add_kernels(app.kernel_spec_manager, person, rules))
        SessionKernelManager.settings = KernelSettings(
            person.environment,
            person.site_python,
            str(person.home),
            rules,
            notifier.notify_until_shown,
        )
        SessionTerminalManager.environment = person.environment
        SessionTerminalManager.home = str(person.home)

    def end(status: int) -> None:
        nonlocal exit_status
        # Free the worker in time, even if a kernel does not shut down.
        last_resort = threading.Timer(END_WITHIN, os._exit, [status])
        last_resort.daemon = True
        last_resort.start()
        exit_status = status
        app.stop()

    async def live() -> None:
        nonlocal exit_status
        try:
            await asyncio.to_thread(prepare)
        except Exception as error:
            await asyncio.to_thread(report, environment, repr(error), context)
            exit_status = 1
            app.stop()
            raise
        notices = asyncio.gather(*map(notifier.notify_until_shown, person.notices))
        announced = announce(environment, port, context)
        if await keep_time(announced, rules, start, notifier, status):
            notices.cancel()
            end(EXIT_EARLY_END)

    # These callbacks run after the server has begun to listen: the callback that makes the server
    # listen was added to the same loop earlier.
    app.io_loop.add_callback(live)
    app.io_loop.add_callback(signals.watch, rules, notifier, status, partial(end, EXIT_ANNOUNCED))
    app.io_loop.add_callback(watch_use, rules, Activity(app.web_app), notifier)
    app.start()
    return exit_status


def full_name(of_class: type) -> str:
    """Return the name by which a class can be imported."""
    return f"{of_class.__module__}.{of_class.__qualname__}"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments of the starter; exit with status 2 if they are wrong."""
    parser = argparse.ArgumentParser(prog="sge_session.py", allow_abbrev=False)

    def session(name: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{32}", name):
            raise argparse.ArgumentTypeError("not the name of a session")
        return name

    parser.add_argument("session", type=session, help="the name of the session")
    parser.add_argument("--script", default="", help="the job script, which has the start-up lines")
    parser.add_argument("--software", default="", help="the software environment to load")
    parser.add_argument("--debugger", action="store_true", help="offer JupyterLab's debugger")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the session that the job script names."""
    arguments = parse_arguments(sys.argv[1:])
    dump_no_core()
    signals = Signals()
    account = pwd.getpwuid(os.getuid())
    job = job_environment(os.environ)
    os.environ.clear()
    os.environ.update(server_environment(job, account))
    try:
        environment, ports, rules, tls = read_session_file(
            Path(account.pw_dir) / SESSION_FOLDER / f"{arguments.session}.json"
        )
    except (SessionError, OSError) as error:
        print(f"The session cannot start: {error}", file=sys.stderr)
        return 1
    folder = None
    try:
        person = Person(account, job, rules, arguments.script, arguments.software)
        if rules.prologue_required and (problem := person.start_up_problem()):
            raise SessionError(problem)
        server = bind_port(*ports)
        start = started()
        folder = private_folder()
        os.environ.update(environment | extension_settings(rules))
        del os.environ["JUPYTERHUB_API_TOKEN"]
        os.environ.update(tls.variables() if tls else {}, JUPYTER_RUNTIME_DIR=str(folder))
        os.environ["JUPYTERHUB_SERVICE_URL"] = (
            f"{'https' if tls else 'http'}://0.0.0.0:{server.getsockname()[1]}"
            f"{environment['JUPYTERHUB_SERVICE_PREFIX']}"
        )
        person.use_own_folders(folder)
        return serve(environment, server, rules, start, person, signals, tls, arguments.debugger)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return 0
        reason = f"{error}" if isinstance(error, OSError | SessionError) else f"{error!r}"
        reason = no_port_reason(*ports) if isinstance(error, NoPortError) else reason
        report(environment, reason, tls.client() if tls else None)
        raise
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
