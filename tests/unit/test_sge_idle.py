# SPDX-License-Identifier: BSD-3-Clause
"""When a session may be ended as idle; test_sge_spawner.py has the culler and a whole hub."""

from __future__ import annotations

import pytest

from gridhub.hub import idle


@pytest.mark.parametrize(
    ("silent", "unused", "reason"),
    [
        (None, 10_000, "not heard"),
        (481, 10_000, "not heard"),
        (480, 10_000, ""),
        (0, 3600, ""),
        (0, 3599, "used meanwhile"),
    ],
)
def test_a_session_is_ended_as_idle_only_where_the_hub_knows_that_it_is(
    silent: float | None, unused: float, reason: str
) -> None:
    said = idle.why_not({"timeout": 3600, "report": 300}, silent, unused)
    assert reason in said
    assert bool(said) is bool(reason)
