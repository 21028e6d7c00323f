# SPDX-License-Identifier: BSD-3-Clause
"""Parse Grid Engine's request files, and decide what they may change in a session.

qsub adds the options of up to three files to its arguments: the files of the cell, of the person's
home and of the working directory (sge_request(5)). Of most options, the last value counts, so a
session's own arguments override the files. This module knows the exceptions, as seen with 8.1.9.

The broker imports this module while it still runs as root, so the module is small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: The request file in a home and in a working directory, and the file of the cell.
HOME_FILE = ".sge_request"
CELL_FILE = "common/sge_request"

#: Options without a value, and options with two values. Each other option has one value.
_WITHOUT_VALUE = frozenset(
    (
        *("-clear", "-cwd", "-explain", "-h", "-hard", "-help", "-inherit", "-noshell"),
        *("-nostdin", "-notify", "-soft", "-terse", "-uall", "-V", "-verbose", "-verify", "-xml"),
    )
)
_WITH_TWO_VALUES = frozenset({"-pe"})
#: The words after ``-binding`` that another value follows.
_BINDING = frozenset({"set", "env", "pe"})

#: Options that no argument can take back. With them, qsub submits several jobs or none, or the job
#: waits for other jobs, or Grid Engine may move it to another host.
_NEVER = frozenset({"-ckpt", "-h", "-hold_jid", "-hold_jid_ad", "-t", "-tc", "-verify"})

#: Options whose value may be for one host, such as ``exec1:/tmp/log``. On this host, such a value
#: overrides the session's own. ``-e`` is missing here, because sessions use ``-j y``.
_BY_HOST = frozenset({"-i", "-o", "-S"})

#: The arguments that override an option of a request file, for options that sessions do not use.
_OVERRIDES = {
    "-a": "197001020000",  # not before this time, which is over
    "-b": "n",
    "-i": "/dev/null",
    "-now": "n",
    "-pty": "n",
    "-shell": "y",
}

#: Options that add to the session's own values, instead of being overridden by them.
_ADDING = frozenset({"-ac", "-l", "-m", "-M", "-v"})

#: Options with which qsub itself cannot fail.
_HARMLESS = frozenset({"-C", "-clear", "-cwd", "-e", "-j", "-notify", "-terse", "-V"})

#: Options on which the qmaster or the site's own check of new jobs decides. The messages of both
#: may leave out which option they are about.
_DECIDED = frozenset(
    [
        "-P",
        "-ar",
        "-binding",
        "-ckpt",
        "-dl",
        "-hold_jid",
        "-jsv",
        "-l",
        "-masterq",
        "-p",
        "-pe",
        "-q",
        "-t",
        "-tc",
        "-w",
    ]
)

_WORD = re.compile(r"""(?:[^ \t"']|"[^"]*"?|'[^']*'?)+""")
_QUOTED = re.compile(r""""([^"]*)"?|'([^']*)'?""")


class Option(NamedTuple):
    """An option of a request file, and where it is."""

    name: str
    values: tuple[str, ...]
    path: str
    #: The number of the line, counted from 1.
    line: int
    #: Whether the option follows ``-soft`` in its line.
    soft: bool = False

    def __str__(self) -> str:
        """Return the option as a request file would have it, without quotes."""
        return " ".join((self.name, *self.values))


def _words(line: str) -> list[str]:
    """Split a line; a ``#`` starts a comment even between quotes, and a backslash means itself."""
    words = _WORD.findall(line.partition("#")[0].rstrip())
    return [_QUOTED.sub(lambda found: found[1] or found[2] or "", word) for word in words]


def _values(words: Sequence[str]) -> int:
    """Return how many of the words after the first word are values of this option."""
    name = words[0]
    if name in _WITHOUT_VALUE or not name.startswith("-"):
        return 0
    if name in _WITH_TWO_VALUES or (name == "-binding" and words[1:2] and words[1] in _BINDING):
        return 2
    return 1


def parse_options(text: str, path: str) -> list[Option]:
    """Return the options of a request file, in their order.

    A word that belongs to no option counts as an option without values. So does a line that has
    only blanks or an indented comment: its option has no name. qsub 8.1.9 crashes at such a line.
    """
    options = []
    for number, line in enumerate(text.partition("\0")[0].split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        words = _words(line)
        options += split_options(words, path, number) or [Option("", (), path, number)]
    return options


def split_options(words: Sequence[str], path: str = "", line: int = 0) -> list[Option]:
    """Return the options that are in a list of words, such as arguments of qsub."""
    options = []
    soft = False
    while words:
        name, last = words[0], 1 + _values(words)
        soft = name == "-soft" or (soft and name != "-hard")
        options.append(Option(name, tuple(words[1:last]), path, line, soft))
        words = words[last:]
    return options


def unsuitable_arguments(arguments: Sequence[str], own: Sequence[str]) -> list[Option]:
    """Return those of the site's arguments of qsub that would break every session.

    :param own: the arguments that every session has; the site's come after them.
    """
    fixed = {each.name: " ".join(each.values) for each in split_options(own)} | _OVERRIDES
    never = {"-@", "-clear", "-cwd", "-e", "-help", "-inherit", "-xml"}
    guarded = re.compile(r"(^|,)\s*(HOME|PATH|LD_\w+)\b")

    def is_unsuitable(option: Option) -> bool:
        value = " ".join(option.values)
        if option.name in fixed and option.name not in _ADDING:
            return value != fixed[option.name]
        return (
            option.name in never
            or not re.fullmatch(r"-\w+", option.name)
            or len(option.values) != _values((option.name, *option.values))
            or (option.name == "-v" and bool(guarded.search(value)))
            or find_hindrance([option], ("-pe",)) is not None
        )

    return [each for each in split_options(arguments) if is_unsuitable(each)]


def in_effect(options: Iterable[Option]) -> list[Option]:
    """Return the options that are left after each ``-clear`` has removed the options before it."""
    left: list[Option] = []
    for option in options:
        if option.name == "-clear":
            # These have had their effect before: with -b y, qsub has not read the job script.
            left = [each for each in left if each.name in ("-b", "-sync", "")]
        else:
            left.append(option)
    return left


def find_hindrance(options: Iterable[Option], arguments: Sequence[str]) -> Option | None:
    """Return the first option that a session cannot have and that no argument overrides.

    :param options: the result of :func:`in_effect`.
    :param arguments: the session's own arguments of qsub.
    """
    for option in options:
        value = option.values[0] if option.values else ""
        if (
            option.name in _NEVER
            # 8.1.9 waits with y, Open Cluster Scheduler 9 also with r, x and rx.
            or (option.name == "-sync" and value and value[0] not in "nN")
            or (option.name in _BY_HOST and ":" in value)
            # Without -pe, the session has one slot; no argument requests this.
            or (option.name == "-pe" and "-pe" not in arguments)
        ):
            return option
    return None


def overrides(options: Iterable[Option], home: str) -> list[str]:
    """Return the arguments of qsub that override options of request files.

    :param options: the result of :func:`in_effect`.
    :param home: the person's home.
    """
    options = list(options)
    names = {option.name for option in options}
    arguments = [
        word for name, value in _OVERRIDES.items() if name in names for word in (name, value)
    ]
    # The first programs of the job need these variables. A library that they preload could break
    # them before the session starts.
    values = {"HOME": home, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    variables = {
        name: values.get(name, "")
        for option in options
        if option.name == "-v"
        for name in re.findall(r"(?:^|,)\s*(\w+)", "".join(option.values))
        if name in values or (name.startswith("LD_") and name != "LD_LIBRARY_PATH")
    }
    if variables:
        arguments += ["-v", ",".join(f"{name}={value}" for name, value in variables.items())]
    return arguments


def hard_resources(options: Iterable[Option]) -> list[str]:
    """Return the hard requests for resources among the options, as arguments of qsub."""
    return [
        word
        for option in options
        if option.name == "-l" and not option.soft
        for word in (option.name, *option.values)
    ]


def suspects(options: Iterable[Option], arguments: Sequence[str], words: str) -> list[Option]:
    """Return the options that may be the reason why qsub failed.

    :param options: the result of :func:`in_effect`.
    :param arguments: all arguments with which qsub was called.
    :param words: qsub's message; empty if qsub crashed.
    """
    options = list(options)
    # While qsub parses its arguments, it refuses wrong values even of options that are overridden.
    quoted = [option for option in options if option.values and f'"{option}"' in words]
    wrong = [option for option in options if option.name and f"{option.name} option" in words]
    if quoted or wrong:
        return quoted or [each for each in wrong if _has_value_in(each, words)] or wrong
    possible = [
        option
        for option in options
        if option.name not in _HARMLESS and (option.name in _ADDING or option.name not in arguments)
    ]
    if not words:
        return [option for option in possible if option.name in ("", "-@")] or possible
    if "Unknown option" in words:  # qsub does not name a word that is no option
        return [option for option in possible if not option.name.startswith("-")]
    possible = [option for option in possible if option.name]
    named = [option for option in possible if _is_named(option, words)]
    return named or [option for option in possible if option.name in _DECIDED]


def _is_named(option: Option, words: str) -> bool:
    """Return whether a message of qsub contains the option's name or a part of its value."""
    return _has(words, option.name) or _has_value_in(option, words)


def _has_value_in(option: Option, words: str) -> bool:
    parts = (part for value in option.values for part in re.split("[,=]", value))
    return any(_has(words, part) for part in parts if part)


def _has(words: str, part: str) -> bool:
    return bool(re.search(rf"(?<![\w.-]){re.escape(part)}(?![\w.-])", words))
