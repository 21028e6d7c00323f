"""The hold file."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gridhub.maintenance import hold
from gridhub.maintenance.errors import MaintenanceError


def test_a_hold_has_a_reason_and_an_end() -> None:
    found = hold.parse("Reason: exams: all week\nuntil: 2030-01-31T18:00+00:00\n")
    assert found == hold.Hold("exams: all week", datetime(2030, 1, 31, 18, tzinfo=UTC))
    assert found.applies(datetime(2030, 1, 31, 17, 59, tzinfo=UTC))
    assert not found.applies(datetime(2030, 1, 31, 18, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line 'reason: TEXT'"),
        ("reason:\nuntil: 2030-01-31\n", "a line 'reason: TEXT'"),
        ("reason: exams\n", "a line 'until: 2030-01-31 18:00', not None"),
        ("reason: exams\nuntil: next week\n", "not 'next week'"),
    ],
)
def test_the_error_of_an_invalid_hold_names_the_right_form(text: str, message: str) -> None:
    with pytest.raises(MaintenanceError, match=message):
        hold.parse(text)
