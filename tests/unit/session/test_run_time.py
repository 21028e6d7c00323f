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
from watching import RULES, Clock, RecordingNotifier, at


class TestRunTime:
    async def test_the_user_is_warned_at_the_times_in_the_rules(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        await warn(RULES, 9_000.0, notifier)
        end = 9_000 + 3600
        assert notifier.to_person == [
            (end - 1800, f"ends {at(end)} in 30"),
            (end - 600, f"ends {at(end)} in 10"),
        ]

    async def test_the_user_is_warned_of_an_earlier_end_at_once_and_again_later(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        end = clock.now + 1000
        await warn_of_early_end(EarlyEnd(end, "cut at {end}, in {minutes}"), RULES, notifier)
        assert notifier.to_person == [
            (end - 1000, f"cut at {at(end)}, in 17"),
            (end - 600, f"cut at {at(end)}, in 10"),
        ]
        assert clock.now == end

    async def test_an_earlier_end_comes_even_if_no_warning_is_delivered(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        notifier.failures = 10**9
        end = clock.now + 100
        await warn_of_early_end(EarlyEnd(end, "cut"), RULES, notifier)
        assert notifier.to_person == [] and end <= clock.now < end + 2 * notices.LOOK_INTERVAL

    def test_the_hubs_answer_is_an_end_or_empty(self) -> None:
        assert read_early_end(b"") is None
        assert read_early_end(b'{"end": 5, "words": "cut"}') == EarlyEnd(5.0, "cut")
        for wrong in (b"x", b"[]", b"4", b'{"end": 5}', b'{"end": null, "words": "cut"}'):
            with pytest.raises(RulesError, match="not the end of a session"):
                read_early_end(wrong)

    async def test_warnings_not_shorter_than_the_run_time_are_left_out(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        await warn(RULES._replace(run_time=600), 10_000.0, notifier)
        await warn(RULES._replace(run_time=601), clock.now, notifier)
        assert [message[-2:] for _, message in notifier.to_person] == ["10"]

    async def test_without_a_run_time_there_are_no_warnings(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        await warn(RULES._replace(run_time=None), 10_000.0, notifier)
        assert notifier.to_person == []

    async def test_an_undelivered_warning_is_sent_later_with_the_time_left_then(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        notifier.failures = int(240 / notices.LOOK_INTERVAL)
        await warn(RULES, 10_000.0, notifier)
        assert [message[-2:] for _, message in notifier.to_person] == ["26", "10"]
        assert [round(13_600 - moment) for moment, _ in notifier.to_person] == [1560, 600]

    async def test_an_undelivered_warning_is_dropped_when_the_next_is_due_and_at_the_end(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        notifier.failures = 10**9
        await warn(RULES, 10_000.0, notifier)
        assert notifier.to_person == []
        assert clock.now < 13_600 + 2 * notices.LOOK_INTERVAL

    async def test_after_a_slow_start_an_overdue_warning_is_given_at_once(
        self, clock: Clock, notifier: RecordingNotifier
    ) -> None:
        await warn(RULES, 10_000.0 - 3600 + 60, notifier)
        assert [message[-4:] for _, message in notifier.to_person][-1:] == ["in 1"]

    def test_the_job_began_when_its_process_did(self) -> None:
        elapsed = int(subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())]))
        assert abs(time.time() - notices.started() - elapsed) < 2
