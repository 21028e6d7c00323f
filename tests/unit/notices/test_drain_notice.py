"""A time in which no session may start."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gridhub.notices.announcement import AnnouncementError
from gridhub.notices.drain import parse_drain

GOOD = {"text": "Moved.", "refuse": "2030-01-31 16:00+00:00", "end": "2030-01-31 18:00+00:00"}


def at(hour: int) -> datetime:
    return datetime(2030, 1, 31, hour, tzinfo=UTC)


def test_it_refuses_from_its_beginning_to_its_end() -> None:
    drain = parse_drain(json.dumps(GOOD))
    assert not drain.refusal(at(15)) and not drain.refusal(at(18))
    assert drain.refusal(at(16)).startswith("Moved. No session can start until")
    assert drain.applies(at(17)) and not drain.applies(at(18))
    assert "Moved. From 2030-01-31" in drain.announcement(at(15)).text
    assert drain.announcement(at(17)).text == drain.refusal(at(17))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": " "}, "drain_text must have 1 to"),
        ({"text": 1}, "drain_text must have 1 to"),
        ({"text": "x" * 1001}, "drain_text must have 1 to"),
        ({"end": "soon"}, "must be times such as"),
        ({"end": 5}, "must be times such as"),
        ({"end": "2030-01-31 16:00+00:00"}, "must be after drain_from"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AnnouncementError, match=words):
        parse_drain(json.dumps(GOOD | changes))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"text": "x"}'])
def test_another_form_is_refused(content: str) -> None:
    with pytest.raises(AnnouncementError, match="text, refuse and end"):
        parse_drain(content)
