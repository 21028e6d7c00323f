# SPDX-License-Identifier: BSD-3-Clause
"""The rules of a session: its run time, its warnings and a possible early end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from gridhub.clock import DAY, Change


class Rules(NamedTuple):
    """The rules of a session, set by the site and the user's choice. All times are in seconds."""

    #: None if the menu has no run time.
    run_time: int | None
    #: Warn this long before the end of the run time, once for each value.
    warnings: tuple[int, ...]
    #: End the session after this long without use; 0 means never.
    idle_timeout: int
    #: Warn this long before an idle session is ended; 0 means no warning.
    idle_notice: int
    #: The interval at which the session reports its last use to the hub; 0 means JupyterHub's own
    #: interval.
    idle_report: int
    #: The sentences of the notices and of the status bar (``session.NAME`` and ``status.NAME`` in
    #: ``words.toml``), with their placeholders.
    words: dict[str, str]
    #: The time zone of the notices, which is that of the hub's host; empty for this host's own.
    zone: tuple[Change, ...] = ()
    #: Time limit of the site's start-up lines.
    prologue_timeout: int = 60
    #: Whether a session must not start if the start-up lines stop.
    prologue_required: bool = False
    #: The number of requested GPUs for each complex of the menu that counts GPUs.
    gpus: Mapping[str, int] = {}
    #: Names of kernels that may use TCP ports, as patterns (``fnmatch``).
    tcp_kernels: tuple[str, ...] = ()
    #: The highest folder of the file browser; empty for the home.
    root_folder: str = ""
    #: Paths of further folders, by the names that people see.
    shortcuts: Mapping[str, str] = {}

    def text(self, name: str, **values: object) -> str:
        """Return a sentence; empty if the hub that submitted the job did not know the sentence.

        This method does not use str.format: the broker has already formatted the words, so any
        other braces in the words are plain text.
        """
        words = self.words.get(name, "")
        for placeholder, value in values.items():
            words = words.replace(f"{{{placeholder}}}", str(value))
        return words


class RulesError(ValueError):
    """The rules are not in the format that the broker writes."""


class EarlyEnd(NamedTuple):
    """The early end of a session, to free the worker before the run time is over."""

    #: In seconds since the epoch.
    end: float
    #: The sentence of the notice, with the placeholders ``{end}`` and ``{minutes}``.
    words: str


def read_early_end(answer: bytes) -> EarlyEnd | None:
    """Parse the hub's answer to the report of the port; an empty answer means no early end.

    :raises RulesError: if the answer has any other form.
    """
    if not answer:
        return None
    try:
        content = json.loads(answer)
        return EarlyEnd(float(content["end"]), str(content["words"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RulesError(f"not the end of a session: {error!r}") from error


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise RulesError(f"{value!r} is not a number of seconds")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RulesError(f"{value!r} is not a list of names")
    return tuple(value)


def _numbers(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise RulesError(f"{value!r} is not numbers by name")
    return {name: _whole(number) for name, number in value.items()}


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise RulesError(f"{value!r} is not the path of a folder")
    return value


def _paths(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise RulesError(f"{value!r} is not paths by name")
    return {name: _path(path) for name, path in value.items()}


def _zone(value: object) -> tuple[Change, ...]:
    try:
        if not isinstance(value, list):
            raise TypeError("not a list")
        zone = tuple(Change(float(begin), int(offset), str(name)) for begin, offset, name in value)
        if any(abs(each.offset) >= DAY for each in zone):
            raise ValueError("an offset of a day or more")
    except (TypeError, ValueError, OverflowError) as error:
        raise RulesError(f"{value!r} is not a time zone: {error}") from error
    return zone


def read_rules(content: object) -> Rules:
    """Parse the rules of a session as the broker writes them.

    A job that was submitted before an upgrade has only the fields and sentences of that time.

    :raises RulesError: if the rules have any other form.
    """
    known = set(Rules._fields)
    required = known - set(Rules._field_defaults)
    if not isinstance(content, dict) or not required <= content.keys() <= known:
        raise RulesError("not the rules of a session")
    run_time, warnings, words = (content[name] for name in ("run_time", "warnings", "words"))
    if not isinstance(warnings, list):
        raise RulesError("the warnings are not a list")
    if not isinstance(words, dict) or not {"run_time", "idle"} <= words.keys():
        raise RulesError("not the words of a session")
    if not all(isinstance(text, str) and text for text in words.values()):
        raise RulesError("the words are not text")
    return Rules(
        run_time=None if run_time is None else _whole(run_time),
        warnings=tuple(_whole(each) for each in warnings),
        idle_timeout=_whole(content["idle_timeout"]),
        idle_notice=_whole(content["idle_notice"]),
        idle_report=_whole(content["idle_report"]),
        words=dict(words),
        prologue_timeout=_whole(content.get("prologue_timeout", 60)),
        prologue_required=content.get("prologue_required") is True,
        gpus=_numbers(content.get("gpus", {})),
        tcp_kernels=_patterns(content.get("tcp_kernels", [])),
        root_folder=_path(content["root_folder"]) if "root_folder" in content else "",
        shortcuts=_paths(content.get("shortcuts", {})),
        zone=_zone(content.get("zone", [])),
    )
