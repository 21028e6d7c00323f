"""How often one person may ask: the token buckets, without a hub and without waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.hub.limits import SWEEP_AT, Limits, Rate, rates, whole_wait

SLOW = {"starts": Rate(3, 6), "looks": Rate(1, 60), "lines": Rate(1, 1)}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(SLOW, clock=clock)


def test_after_a_burst_one_more_is_let_in_in_each_pause(limits: Limits, clock: Clock) -> None:
    assert [limits.take("alice", "starts") for _ in range(3)] == [0, 0, 0]
    assert limits.take("alice", "starts") == pytest.approx(10)
    clock.now += 4
    assert limits.take("alice", "starts") == pytest.approx(6)
    clock.now += 6
    assert limits.take("alice", "starts") == 0
    assert limits.take("alice", "starts") == pytest.approx(10)


def test_whoever_waits_gets_the_burst_back_and_no_more(limits: Limits, clock: Clock) -> None:
    for _ in range(3):
        limits.take("alice", "starts")
    clock.now += 10_000
    assert [limits.take("alice", "starts") == 0 for _ in range(4)] == [True] * 3 + [False]


def test_people_kinds_and_what_is_told_apart_have_buckets_of_their_own(limits: Limits) -> None:
    assert limits.take("alice", "looks") == 0
    assert limits.take("alice", "looks") > 0
    assert limits.take("bob", "looks") == 0
    assert limits.take("alice", "starts") == 0
    assert limits.take("alice", "lines", "looks") == 0
    assert limits.take("alice", "lines", "starts") == 0
    assert limits.take("alice", "lines", "looks") > 0


@given(st.integers(1, 20), st.floats(0.1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_however_they_come_no_more_get_in_than_the_rate_says(
    burst: int, per_minute: float, pauses: list[float]
) -> None:
    clock = Clock()
    limits = Limits({"x": Rate(burst, per_minute)}, clock=clock)
    let_in = 0
    began = clock.now
    for pause in pauses:
        clock.now += pause
        wait = limits.take("alice", "x")
        let_in += wait == 0
        assert 0 <= wait <= 60 / per_minute + 1e-6
    assert let_in <= burst + (clock.now - began) * per_minute / 60 + 1e-3


def test_whoever_is_quiet_is_forgotten(limits: Limits, clock: Clock) -> None:
    for each in range(5 * SWEEP_AT):
        limits.take(f"person{each}", "starts")
        clock.now += 1
    # 10 s after their only request a bucket is full again: the rest has gone at some sweep.
    assert len(limits) <= SWEEP_AT


def test_those_who_are_not_quiet_are_not(limits: Limits) -> None:
    for each in range(3 * SWEEP_AT):
        assert limits.take(f"person{each}", "looks") == 0
    assert all(limits.take(f"person{each}", "looks") > 0 for each in range(3 * SWEEP_AT))


@pytest.mark.parametrize(("burst", "per_minute"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_rate_lets_something_in(burst: int, per_minute: float) -> None:
    with pytest.raises(ValueError, match="allows nothing"):
        Rate(burst, per_minute)


def test_the_site_says_how_many_starts() -> None:
    assert rates()["starts"] == Rate(30, 6)
    assert rates(starts=5)["starts"] == Rate(5, 1)


def test_reports_have_a_bucket_that_no_other_request_empties() -> None:
    clock = Clock()
    limits = Limits(rates(), clock=clock)
    while not limits.take("alice", "requests"):
        pass
    assert limits.take("alice", "reports") == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.001, (1, "seconds")),
        (9.2, (10, "seconds")),
        (90, (90, "seconds")),
        (91, (2, "minutes")),
        (300.5, (6, "minutes")),
    ],
)
def test_a_wait_is_rounded_up(seconds: float, words: tuple[int, str]) -> None:
    assert whole_wait(seconds) == words
