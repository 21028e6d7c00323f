"""How token buckets limit a user's requests, tested without a hub and without waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.hub.rate_limits import SWEEP_AT, Limits, Rate, rates, whole_wait

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


def test_after_a_burst_each_pause_allows_one_more(limits: Limits, clock: Clock) -> None:
    assert [limits.take("alice", "starts") for _ in range(3)] == [0, 0, 0]
    assert limits.take("alice", "starts") == pytest.approx(10)
    clock.now += 4
    assert limits.take("alice", "starts") == pytest.approx(6)
    clock.now += 6
    assert limits.take("alice", "starts") == 0
    assert limits.take("alice", "starts") == pytest.approx(10)


def test_waiting_restores_only_the_burst(limits: Limits, clock: Clock) -> None:
    for _ in range(3):
        limits.take("alice", "starts")
    clock.now += 10_000
    assert [limits.take("alice", "starts") == 0 for _ in range(4)] == [True] * 3 + [False]


def test_each_user_kind_and_subkind_has_its_own_bucket(limits: Limits) -> None:
    assert limits.take("alice", "looks") == 0
    assert limits.take("alice", "looks") > 0
    assert limits.take("bob", "looks") == 0
    assert limits.take("alice", "starts") == 0
    assert limits.take("alice", "lines", "looks") == 0
    assert limits.take("alice", "lines", "starts") == 0
    assert limits.take("alice", "lines", "looks") > 0


@given(st.integers(1, 20), st.floats(0.1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_no_pattern_of_requests_exceeds_the_rate(
    burst: int, per_minute: float, pauses: list[float]
) -> None:
    clock = Clock()
    limits = Limits({"x": Rate(burst, per_minute)}, clock=clock)
    allowed = 0
    began = clock.now
    for pause in pauses:
        clock.now += pause
        wait = limits.take("alice", "x")
        allowed += wait == 0
        assert 0 <= wait <= 60 / per_minute + 1e-6
    assert allowed <= burst + (clock.now - began) * per_minute / 60 + 1e-3


def test_inactive_users_are_forgotten(limits: Limits, clock: Clock) -> None:
    for each in range(5 * SWEEP_AT):
        limits.take(f"person{each}", "starts")
        clock.now += 1
    # Each bucket is full again 10 s after its only request. Sweeps remove the full buckets.
    assert len(limits) <= SWEEP_AT


def test_active_users_are_not_forgotten(limits: Limits) -> None:
    for each in range(3 * SWEEP_AT):
        assert limits.take(f"person{each}", "looks") == 0
    assert all(limits.take(f"person{each}", "looks") > 0 for each in range(3 * SWEEP_AT))


@pytest.mark.parametrize(("burst", "per_minute"), [(0, 1), (1, 0), (-1, 1), (1, -1)])
def test_a_rate_must_allow_something(burst: int, per_minute: float) -> None:
    with pytest.raises(ValueError, match="allows nothing"):
        Rate(burst, per_minute)


def test_the_site_sets_the_rate_of_starts() -> None:
    assert rates()["starts"] == Rate(30, 6)
    assert rates(starts=5)["starts"] == Rate(5, 1)


def test_no_other_request_empties_the_bucket_of_reports() -> None:
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
