# SPDX-License-Identifier: BSD-3-Clause
"""Start terminals with the user's environment, which has none of the session's secrets."""

from __future__ import annotations

from typing import Any, ClassVar

from jupyter_server_terminals.terminalmanager import TerminalManager

#: Variables that the terminal itself sets, such as its size.
_OF_THE_TERMINAL = ("TERM", "COLUMNS", "LINES", "PYXTERM_", "JUPYTER_SERVER_")


class SessionTerminalManager(TerminalManager):
    """Starts the terminals of a session."""

    #: Set once, before the first terminal starts.
    environment: ClassVar[dict[str, str]]
    home: ClassVar[str]

    def new_terminal(self, **options: Any) -> Any:
        """Start a terminal, in the home if the page names no other folder."""
        return super().new_terminal(**{"cwd": self.home} | options)

    def make_term_env(self, *arguments: Any, **options: Any) -> dict[str, str]:
        """Return the environment of a terminal."""
        own = super().make_term_env(*arguments, **options)
        added = {name: value for name, value in own.items() if name.startswith(_OF_THE_TERMINAL)}
        return self.environment | added
