# SPDX-License-Identifier: BSD-3-Clause
"""The rules of a session: its run time, its warnings, and an end that comes earlier."""

from __future__ import annotations

import json
from typing import NamedTuple


class Rules(NamedTuple):
    """What the site and the choice say of this session; all times in seconds."""

    #: None where the menu has none.
    run_time: int | None
    #: How long before the end of the run time to warn.
    warnings: tuple[int, ...]
    #: After how long without use it is ended; 0 for never.
    idle_timeout: int
    #: How long before that to say so; 0 for not at all.
    idle_notice: int
    #: How often to tell the hub when it was last in use; 0 for JupyterHub's own interval.
    idle_report: int
    #: The sentences, with ``{end}`` and ``{minutes}`` to be filled in; ``left`` with ``{left}``.
    words: dict[str, str]


class RulesError(ValueError):
    """The rules are not what the broker writes."""


class EarlyEnd(NamedTuple):
    """What ends a session before its run time is over: its worker is to be free by then."""

    #: In seconds since the epoch.
    end: float
    #: The sentence, with ``{end}`` and ``{minutes}`` to be filled in.
    words: str


def read_early_end(answer: bytes) -> EarlyEnd | None:
    """Read what the hub has answered to the session's port; nothing is no cut.

    :raises RulesError: where it is anything else.
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
    """Read what the broker wrote of a session's rules, and take nothing else for it.

    :raises RulesError: where it is anything else.
    """
    if not isinstance(content, dict) or content.keys() != set(Rules._fields):
        raise RulesError("not the rules of a session")
    run_time, warnings, words = (content[name] for name in ("run_time", "warnings", "words"))
    if not isinstance(warnings, list):
        raise RulesError("the warnings are not a list")
    # A job that has waited since before an upgrade has no words for the time left.
    if not isinstance(words, dict) or words.keys() - {"left"} != {"run_time", "idle"}:
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
