# SPDX-License-Identifier: BSD-3-Clause
"""The rules of a session: its run time, its warnings and a possible early end."""

from __future__ import annotations

import json
from typing import NamedTuple

from gridhub.contract import STATUS_WORDS


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
    #: The sentences of the notices, with the placeholders ``{end}`` and ``{minutes}``, and those of
    #: the status bar (``STATUS_WORDS``).
    words: dict[str, str]


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


def read_rules(content: object) -> Rules:
    """Parse the rules of a session as the broker writes them.

    :raises RulesError: if the rules have any other form.
    """
    if not isinstance(content, dict) or content.keys() != set(Rules._fields):
        raise RulesError("not the rules of a session")
    run_time, warnings, words = (content[name] for name in ("run_time", "warnings", "words"))
    if not isinstance(warnings, list):
        raise RulesError("the warnings are not a list")
    # If a job was submitted before an upgrade, its rules may lack sentences of the status bar.
    if not isinstance(words, dict) or words.keys() - STATUS_WORDS != {"run_time", "idle"}:
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
    )
