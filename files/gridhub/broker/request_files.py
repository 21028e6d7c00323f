# SPDX-License-Identifier: BSD-3-Clause
"""Read the request files that qsub adds to a session's arguments, and refuse what breaks a session.

qsub reads these files itself, so they cannot be kept away from it. ``-clear`` would remove their
options, but also the options that the site wants for every job.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from gridhub.broker.config import Config
from gridhub.broker.person import Refused
from gridhub.grid.request_files import (
    CELL_FILE,
    HOME_FILE,
    Option,
    find_hindrance,
    in_effect,
    parse_options,
    suspects,
)
from gridhub.words import text

#: The largest request file to read, in bytes. The usual size is a few hundred bytes.
MAX_SIZE = 65_536

#: How many request files may name each other with ``-@``; qsub crashes at a file that names itself.
MAX_DEPTH = 8

#: How many options a sentence names, and how many characters of each.
MAX_NAMED = 3
MAX_SHOWN = 80


def _read(path: Path) -> str:
    """Return a request file's text; empty if qsub ignores the file too.

    :raises Refused: when qsub would fail, wait for ever or read too much.
    """
    try:
        status = path.stat()
        if stat.S_ISCHR(status.st_mode):  # a link to /dev/null
            return ""
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_SIZE:
            return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # for example, the file is missing, or only others may read it
        return ""
    raise Refused("home", text("grid.file_unusable", path=path, most=MAX_SIZE // 1024))


def _with_included(options: Iterable[Option], home: str, depth: int = 1) -> list[Option]:
    found = []
    for option in options:
        found.append(option)
        if option.name == "-@" and option.values:
            if depth > MAX_DEPTH:
                raise _refusal(option, home)
            path = Path("/", option.values[0])  # qsub runs in /
            found += _with_included(parse_options(_read(path), str(path)), home, depth + 1)
    return found


def read_options(config: Config, home: str) -> list[Option]:
    """Return the options that qsub adds to its arguments for a person.

    This function runs as the person, in a process that may hang with the person's home.

    :param home: the person's home.
    :raises Refused: when a request file cannot be used; the message is for the person.
    """
    paths = (
        config.sge_root / config.sge_cell / CELL_FILE,
        Path(home, HOME_FILE),
        Path("/", HOME_FILE),
    )
    options = [option for path in paths for option in parse_options(_read(path), str(path))]
    return in_effect(_with_included(options, home))


def dump(options: Iterable[Option]) -> str:
    """Return options as JSON, for :func:`load` in another process."""
    return json.dumps(list(options))


def load(data: str) -> list[Option]:
    """Return the options that :func:`dump` has written."""
    return [
        Option(name, tuple(values), path, line, soft)
        for name, values, path, line, soft in json.loads(data)
    ]


def _shown(option: Option) -> str:
    words = str(option)
    return words if len(words) <= MAX_SHOWN else f"{words[:MAX_SHOWN]}…"


def _is_own(path: str, home: str) -> bool:
    return path.startswith(f"{home.rstrip('/')}/")


def _refusal(option: Option, home: str) -> Refused:
    name, kind = ("own", "home") if _is_own(option.path, home) else ("cluster", "grid")
    words = text(f"grid.option_{name}", option=_shown(option), line=option.line, path=option.path)
    return Refused(kind, words)


def check_options(options: Iterable[Option], arguments: Sequence[str], home: str) -> None:
    """Check that the request files leave a session what it is.

    :param arguments: the session's arguments of qsub.
    :raises Refused: when an option would break the session; the message names its file and line.
    """
    if option := find_hindrance(options, arguments):
        raise _refusal(option, home)


def blame(options: Iterable[Option], arguments: Sequence[str], words: str, home: str) -> str:
    """Return a sentence that names the options of request files that may have made qsub fail.

    Options of the person's own files come first, because the person can change them.

    :param words: qsub's message; empty if qsub crashed.
    :param home: the person's home.
    :returns: the sentence after a space; empty if there is no such option.
    """
    found = suspects(options, arguments, words)
    own = [option for option in found if _is_own(option.path, home)]
    found = (own or found)[:MAX_NAMED]
    if not found:
        return ""
    places = [
        text(
            "grid.option_place" if each.name else "grid.option_blank",
            option=_shown(each),
            line=each.line,
            path=each.path,
        )
        for each in found
    ]
    listed = "; ".join(places)
    return " " + text("grid.options" if own else "grid.options_cluster", places=listed)
