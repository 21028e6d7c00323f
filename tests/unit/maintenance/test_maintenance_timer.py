"""The timer's dates, compared with dates that are computed without systemd."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml
from dateutil import rrule, tz
from jinja2 import Environment

from folders import ROOT
from gridhub.maintenance import timer
from gridhub.maintenance.errors import MaintenanceError

ROLE = ROOT / "roles/maintenance"


NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there"
)


RULES = {"Mon": rrule.MO, "Tue": rrule.TU, "Sun": rrule.SU, "Sat": rrule.SA}


def calendar(weekday: str, week: int | str, time: str, zone: str) -> str:
    """Return the calendar expression that the role writes into the timer."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    return (
        Environment()
        .from_string(variables["__maintenance_calendar"])
        .render(
            __maintenance_days=variables["__maintenance_days"],
            maintenance_weekday=weekday,
            maintenance_week=week,
            maintenance_time=time,
            maintenance_time_zone=zone,
        )
    )


def rule(weekday: str, week: int | str, time: str, zone: str, years: int) -> list[datetime]:
    """Compute the dates without systemd, leaving out times that a clock change skips."""
    hour, minute = map(int, time.split(":"))
    place = tz.gettz(zone)
    found = rrule.rrule(
        rrule.MONTHLY,
        byweekday=RULES[weekday](-1 if week == "last" else int(week)),
        byhour=hour,
        byminute=minute,
        bysecond=0,
        dtstart=datetime(2026, 1, 1),
        until=datetime(2026 + years, 1, 1),
    )
    local = [moment.replace(tzinfo=place) for moment in found]
    # If a clock change repeats a time, the first occurrence counts.
    return [moment.astimezone(UTC) for moment in local if tz.datetime_exists(moment)]


def test_the_default_is_the_second_tuesday_at_three_twenty_six() -> None:
    assert calendar("Tue", 2, "03:26", "") == "Tue *-*-08..14 03:26:00"


@NEEDS_SYSTEMD
@pytest.mark.parametrize("host_zone", ["UTC", "America/New_York", "Europe/Helsinki"])
@pytest.mark.parametrize(
    ("weekday", "week", "time", "zone"),
    [
        ("Tue", 2, "03:26", "UTC"),
        ("Tue", 2, "03:26", "Europe/London"),
        ("Mon", 1, "00:00", "Asia/Kolkata"),
        ("Sat", 4, "23:59", "Pacific/Auckland"),
        # Clock changes skip some of the times below, and repeat others.
        ("Sun", "last", "03:26", "Europe/Helsinki"),
        ("Sun", "last", "03:26", ""),  # in the host's own time zone
        ("Sun", "last", "02:26", "Europe/Berlin"),
        ("Sun", "last", "01:26", "Europe/London"),
        ("Sun", 2, "02:26", "America/New_York"),
        ("Sun", 1, "02:26", "Australia/Sydney"),
    ],
)
def test_the_timers_dates_follow_the_rule_for_twenty_years(
    weekday: str,
    week: int | str,
    time: str,
    zone: str,
    host_zone: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", host_zone)
    expected = rule(weekday, week, time, zone or host_zone, 20)
    expression = calendar(weekday, week, time, zone)
    found = timer.dates(expression, datetime(2025, 12, 31, 12, tzinfo=UTC), len(expected) + 12)
    assert [date for date in found if date < datetime(2046, 1, 1, tzinfo=UTC)] == expected
    assert len(expected) >= 20 * 12 - 20


@NEEDS_SYSTEMD
def test_a_skipped_time_is_no_date_and_a_repeated_time_is_one_date() -> None:
    expression = calendar("Sun", "last", "03:26", "Europe/Helsinki")
    spring = timer.dates(expression, datetime(2026, 3, 1, tzinfo=UTC), 1)
    assert spring == [datetime(2026, 4, 26, 0, 26, tzinfo=UTC)]  # not 29 March
    autumn = timer.dates(expression, datetime(2026, 10, 1, tzinfo=UTC), 1)
    assert autumn == [datetime(2026, 10, 25, 0, 26, tzinfo=UTC)]  # the first 03:26
    # systemd does not return the second 03:26.
    again = timer.dates(expression, datetime(2026, 10, 25, 0, 27, tzinfo=UTC), 1)
    assert again == [datetime(2026, 11, 29, 1, 26, tzinfo=UTC)]


@pytest.mark.parametrize("iteration", ["Iter. #2", "Iteration #2"], ids=["252", "255"])
def test_dates_are_parsed_in_utc_in_any_zone_of_the_host(iteration: str) -> None:
    shown = f"""
Normalized form: Tue *-*-08..14 03:26:00
    Next elapse: Tue 2026-07-14 03:26:00 CEST
       (in UTC): Tue 2026-07-14 01:26:00 UTC
       From now: 1 month left
       {iteration}: Tue 2026-12-08 03:26:00 CET
       (in UTC): Tue 2026-12-08 02:26:00 UTC
"""
    assert timer.parse_dates(shown) == [
        datetime(2026, 7, 14, 1, 26, tzinfo=UTC),
        datetime(2026, 12, 8, 2, 26, tzinfo=UTC),
    ]


def test_the_timer_must_have_one_calendar_expression() -> None:
    shown = "TimersCalendar={ OnCalendar=Tue *-*-08..14 03:26:00 Europe/London ; next_elapse=x }"
    assert timer.parse_expression(shown) == "Tue *-*-08..14 03:26:00 Europe/London"
    assert timer.zone_of(timer.parse_expression(shown)) == ZoneInfo("Europe/London")
    assert timer.zone_of("Tue *-*-08..14 03:26:00") is None
    with pytest.raises(MaintenanceError, match="must have one OnCalendar and has 2"):
        timer.parse_expression(f"{shown}\n{shown}")


@pytest.mark.parametrize(("minutes", "is_due"), [(-1, False), (0, True), (29, True), (30, False)])
def test_a_maintenance_is_due_for_half_an_hour_from_its_date(minutes: int, is_due: bool) -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    assert (timer.due([date], date + timedelta(minutes=minutes)) == date) is is_due
