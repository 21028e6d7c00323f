# SPDX-License-Identifier: BSD-3-Clause
"""Warnings before the run time is over."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from gridhub.session import notices
from gridhub.session.notices import warn, warn_of_early_end
from gridhub.session.rules import EarlyEnd, RulesError, read_early_end
from watching import RULES, Clock, Told, at


class TestRunTime:
    async def test_the_person_is_warned_when_it_is_due(self, clock: Clock, told: Told) -> None:
        await warn(RULES, 9_000.0, told)
        end = 9_000 + 3600
        assert told.person == [
            (end - 1800, f"ends {at(end)} in 30"),
            (end - 600, f"ends {at(end)} in 10"),
        ]

    async def test_of_an_earlier_end_the_person_hears_at_once_and_again_until_it_has_come(
        self, clock: Clock, told: Told
    ) -> None:
        end = clock.now + 1000
        await warn_of_early_end(EarlyEnd(end, "cut at {end}, in {minutes}"), RULES, told)
        assert told.person == [
            (end - 1000, f"cut at {at(end)}, in 17"),
            (end - 600, f"cut at {at(end)}, in 10"),
        ]
        assert clock.now == end

    async def test_an_earlier_end_that_nobody_can_be_told_of_comes_all_the_same(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = 10**9
        end = clock.now + 100
        await warn_of_early_end(EarlyEnd(end, "cut"), RULES, told)
        assert told.person == [] and end <= clock.now < end + 2 * notices.LOOK_INTERVAL

    def test_the_hubs_answer_is_an_end_or_nothing(self) -> None:
        assert read_early_end(b"") is None
        assert read_early_end(b'{"end": 5, "words": "cut"}') == EarlyEnd(5.0, "cut")
        for wrong in (b"x", b"[]", b"4", b'{"end": 5}', b'{"end": null, "words": "cut"}'):
            with pytest.raises(RulesError, match="not the end of a session"):
                read_early_end(wrong)

    async def test_warnings_not_below_the_run_time_are_left_out(
        self, clock: Clock, told: Told
    ) -> None:
        await warn(RULES._replace(run_time=600), 10_000.0, told)
        await warn(RULES._replace(run_time=601), clock.now, told)
        assert [message[-2:] for _, message in told.person] == ["10"]

    async def test_without_a_run_time_nobody_is_warned(self, clock: Clock, told: Told) -> None:
        await warn(RULES._replace(run_time=None), 10_000.0, told)
        assert told.person == []

    async def test_a_warning_that_does_not_get_through_is_given_later_and_is_right_then(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = int(240 / notices.LOOK_INTERVAL)
        await warn(RULES, 10_000.0, told)
        assert [message[-2:] for _, message in told.person] == ["26", "10"]
        assert [round(13_600 - moment) for moment, _ in told.person] == [1560, 600]

    async def test_it_is_not_given_after_the_next_one_is_due_nor_after_the_end(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = 10**9
        await warn(RULES, 10_000.0, told)
        assert told.person == []
        assert clock.now < 13_600 + 2 * notices.LOOK_INTERVAL

    async def test_a_start_that_took_long_is_warned_at_once_of_what_is_past(
        self, clock: Clock, told: Told
    ) -> None:
        await warn(RULES, 10_000.0 - 3600 + 60, told)
        assert [message[-4:] for _, message in told.person][-1:] == ["in 1"]

    def test_the_job_began_when_its_process_did(self) -> None:
        elapsed = int(subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())]))
        assert abs(time.time() - notices.started() - elapsed) < 2
