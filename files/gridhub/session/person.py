# SPDX-License-Identifier: BSD-3-Clause
"""What a session prepares for its person: environment, folders and packages of the kernels."""

from __future__ import annotations

import errno
import os
import pwd
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gridhub.session.environment import (
    login_shell,
    person_environment,
    with_programs,
    with_programs_last,
)
from gridhub.session.file_browser import FileBrowser
from gridhub.session.folders import bad_folders, owner, replacements
from gridhub.session.packages import PLACE, SITE_PACKAGES, person_packages, site_packages
from gridhub.session.rules import Rules
from gridhub.session.start_up import StartUp, run_start_up

#: In terminals, ``/etc/profile`` may reset PATH. ``/etc/profile.d/00-gridhub.sh`` restores it from
#: this variable.
TERMINAL_PATH = "GRIDHUB_PATH"


#: The folder of the commands of sessions, beside the releases.
COMMANDS = Path(__file__).resolve().parents[4] / "bin"


class Person:
    """Runs the site's start-up lines, and prepares what kernels and terminals need.

    :param job: the job's environment.
    :param script: the job script; empty if it has run the start-up lines itself, as the scripts of
        earlier releases did.
    :param software: the software environment that the person chose; may be empty.
    """

    def __init__(
        self,
        account: pwd.struct_passwd,
        job: Mapping[str, str],
        rules: Rules,
        script: str = "",
        software: str = "",
    ) -> None:
        self._account = account
        self.home = Path(account.pw_dir)
        self._job = job
        self._rules = rules
        self._file_browser = FileBrowser(self.home, rules.root_folder, rules.shortcuts)
        #: Sentences for the person, to be shown once the server is up.
        self.notices: list[str] = []
        #: The Python of the person's own packages; empty without them.
        self.site_python = ""
        #: The environment of kernels and terminals, once :meth:`prepare` has returned.
        self.environment: dict[str, str] = {}
        self._start_up: Future[StartUp] = Future()
        if script:
            # The server is initialized at the same time.
            executor = ThreadPoolExecutor(1, thread_name_prefix="start-up")
            self._start_up = executor.submit(
                run_start_up,
                script,
                self._shell_environment(),
                software,
                rules.prologue_timeout,
                str(Path.cwd()),
            )
            executor.shutdown(wait=False)
        else:
            self._start_up.set_result(StartUp(dict(job), None, None))

    def _shell_environment(self) -> dict[str, str]:
        # Grid Engine sets SHELL to the program that starts the job script.
        return {**self._job, "SHELL": login_shell(self._account)}

    def start_up_problem(self) -> str:
        """Wait for the start-up lines; return a sentence if they stopped, else an empty string."""
        stopped = self._start_up.result().stopped
        if not stopped:
            return ""
        print(f"The start-up lines of the site stopped: {stopped}", file=sys.stderr, flush=True)
        name = "prologue_stopped" if self._rules.prologue_required else "prologue_left_out"
        return self._rules.text(name, where=str(stopped))

    def use_own_folders(self, parent: Path) -> None:
        """Replace folders of the home that cannot be used; set the variables that name them."""
        bad = bad_folders(self.home)
        os.environ.update(replacements(bad, parent))
        for path in dict.fromkeys(each.path for each in bad):
            self._notify("bad_folder", path=path, owner=owner(path))

    def folders(self) -> tuple[str, dict[str, str]]:
        """Return the root folder of the file browser, and the shortcuts to folders below it.

        Wait a few seconds for folders that do not answer; then go on without them.
        """
        root, unusable = self._file_browser.root()
        shortcuts, silent = self._file_browser.shortcuts(root)
        if unusable:
            self._notify("root_unavailable", path=unusable)
        if silent:
            self._notify("folders_unavailable", paths=", ".join(dict.fromkeys(silent)))
        return root, shortcuts

    def _notify(self, name: str, **values: object) -> None:
        """Show a sentence to the person, and write it to the session's log."""
        words = self._rules.text(name, **values)
        print(words, file=sys.stderr, flush=True)
        self.notices.append(words)

    def _use_own_packages(self) -> None:
        """Make the place for packages that the person installs, if the home allows it."""
        try:
            place = person_packages(self.home)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._notify(
                "no_room_for_packages" if is_full else "no_packages",
                path=error.filename or self.home / PLACE,
                reason=error.strerror or error,
            )
            return
        self.site_python = str(place / "bin" / "python")
        self.environment["PATH"] = with_programs(
            self.environment.get("PATH", ""), str(place / "bin")
        )
        self.environment[SITE_PACKAGES] = site_packages()

    def prepare(self) -> None:
        """Wait for the start-up lines, and make the environment of kernels and terminals."""
        if problem := self.start_up_problem():
            self.notices.insert(0, problem)
        start_up = self._start_up.result()
        # Files that the server saves get the same mode as those of kernels. A mask that denies the
        # owner access would break the server.
        if start_up.umask is not None and not start_up.umask & 0o700:
            os.umask(start_up.umask)
        self.environment = person_environment(
            start_up.environment, self._job, os.environ, self._rules
        )
        self._use_own_packages()
        if COMMANDS.is_dir():
            path = self.environment.get("PATH", "")
            self.environment["PATH"] = with_programs_last(path, str(COMMANDS))
        if self.environment.get("PATH"):
            self.environment[TERMINAL_PATH] = self.environment["PATH"]
        if self._account.pw_shell != self.environment["SHELL"]:
            self.notices.append(self._rules.text("no_shell", program=self._account.pw_shell or "—"))
