"""Times for people: in the hub's zone, with its name, on whatever host they are shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from gridhub.clock import HORIZON, Change, changes, clock, zone_name

Zone = Callable[[str], None]

#: Before the clocks of Berlin change, on 2026-03-29 at 01:00 UTC.
EVENING = datetime(2026, 3, 28, 22, 30, tzinfo=UTC).timestamp()
CHANGE = datetime(2026, 3, 29, 1, 0, tzinfo=UTC).timestamp()


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    """Set this process's time zone, as if the program ran on another host."""

    def put(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("worker", ["Asia/Kolkata", "America/New_York", "UTC0", "Nowhere/Nothing"])
def test_a_worker_shows_the_hubs_time(zone: Zone, worker: str) -> None:
    zone("Europe/Berlin")
    hub = changes(EVENING, EVENING + HORIZON)
    on_hub = clock(EVENING, EVENING), clock(CHANGE, EVENING)
    zone(worker)
    assert (clock(EVENING, EVENING, hub), clock(CHANGE, EVENING, hub)) == on_hub
    assert on_hub == ("23:30 CET", "2026-03-29 03:00 CEST")


def test_a_clock_that_changes_before_the_end_is_known(zone: Zone) -> None:
    zone("Europe/Berlin")
    first, spring, autumn = changes(EVENING, EVENING + HORIZON)[:3]
    assert first == Change(EVENING, 3600, "CET")
    assert spring == Change(CHANGE, 7200, "CEST")
    assert (autumn.begin, autumn.name) == (datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp(), "CET")
    # The hour that occurs twice: the name tells the two apart.
    for minutes, shown in ((-30, "02:30 CEST"), (30, "02:30 CET")):
        moment = autumn.begin + 60 * minutes
        assert clock(moment, moment, (first, spring, autumn)) == shown == clock(moment, moment)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("America/Sao_Paulo", "19:30 UTC-03:00"),  # its abbreviation is "-03"
        ("Asia/Kathmandu", "04:15 UTC+05:45"),
        ("Asia/Kolkata", "04:00 IST"),
        ("UTC0", "22:30 UTC"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "23:30 CET"),
    ],
)
def test_a_time_always_names_its_zone(zone: Zone, name: str, shown: str) -> None:
    zone(name)
    assert clock(EVENING, EVENING) == shown
    assert clock(EVENING, EVENING, changes(EVENING, EVENING)) == shown
    assert zone_name(datetime.fromtimestamp(EVENING, UTC).astimezone()) == shown[6:]


def test_a_moment_outside_the_known_changes_has_the_nearest_offset() -> None:
    known = (Change(EVENING, 3600, "CET"),)
    assert clock(EVENING - 60, EVENING - 60, known) == "23:29 CET"
    assert clock(EVENING + 2 * HORIZON, EVENING + 2 * HORIZON, known).endswith("CET")


def test_a_session_gets_few_changes(zone: Zone) -> None:
    for name in ("Europe/Berlin", "Africa/Casablanca", "Australia/Lord_Howe"):
        zone(name)
        found = changes(EVENING, EVENING + HORIZON)
        assert 3 <= len(found) <= 5
        assert [each.begin for each in found] == sorted(each.begin for each in found)
