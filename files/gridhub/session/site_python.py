# SPDX-License-Identifier: BSD-3-Clause
"""Start kernels that run the notebook environment's Python."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

#: Code that runs a module as ``python -m`` does, but does not search the working folder for it. The
#: option ``-P`` would also keep IPython from adding this folder for the notebook's own imports.
_RUN_MODULE = (
    "import sys; sys.path[:1] == [''] and sys.path.pop(0); import runpy;"
    " runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)

#: Options of Python without a value, several in one word; ``-c`` is not one of them.
_OPTIONS = re.compile(r"-[A-Zabd-ln-z]+")


def is_site_python(program: str) -> bool:
    """Return whether a kernel's program is the Python of the notebook environment."""
    path = Path(program)
    return path.parent == Path(sys.executable).parent and path.name.startswith("python")


def with_own_settings(command: list[str]) -> list[str]:
    """Return a command that starts a kernel; an IPython kernel also reads ``kernel.py``.

    Most workers' ``/etc/ipython`` names this file too, but a site may not let us write there.
    IPython only warns if a container that the command enters has no such file.
    """
    modules = {"ipykernel", "ipykernel_launcher"}
    pairs = pairwise(command)
    if not any(
        each.startswith("-") and each.endswith("m") and name in modules for each, name in pairs
    ):
        return command
    if any(each.startswith("--config") for each in command):
        return command
    return [*command, f"--config={Path(__file__).with_name('kernel.py')}"]


def without_folder(command: list[str]) -> list[str]:
    """Return a command that starts a module of Python, but not one of the notebook's folder.

    With ``python -m ipykernel_launcher``, Python would look for this module in the working folder
    first, which may belong to somebody else.
    """
    at = 1
    while at < len(command):
        word = command[at]
        if word.startswith(("-W", "-X")):  # the value is in this word or in the next one
            at += 2 if word in ("-W", "-X") else 1
        elif _OPTIONS.fullmatch(word):
            at += 1
        else:
            break
    if at + 1 >= len(command):
        return command
    others = command[at].removesuffix("m")
    if others == command[at] or not (others == "-" or _OPTIONS.fullmatch(others)):
        return command
    code = _RUN_MODULE.format(module=command[at + 1])
    return [*command[:at], *([others] if others != "-" else []), "-c", code, *command[at + 2 :]]
