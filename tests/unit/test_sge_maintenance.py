"""The monthly maintenance: its dates, and what is decided without touching a host."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from dateutil import rrule, tz
from jinja2 import Environment
from jupyterhub import orm
from jupyterhub.utils import subdomain_hook_idna

import sge_maintenance as maintenance
from sge_maintenance import MaintenanceError, Report, Settings

ROLE = Path(__file__).resolve().parents[2] / "roles/maintenance"
NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there"
)
RULES = {"Mon": rrule.MO, "Tue": rrule.TU, "Sun": rrule.SU, "Sat": rrule.SA}


def calendar(weekday: str, week: int | str, time: str, zone: str) -> str:
    """Return what the role writes into the timer."""
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
    """Compute the dates without systemd: those that are skipped by a clock do not exist."""
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
    # Of an hour that comes twice, the first one.
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
        # Clocks change there on that Sunday, over this time: in spring it is skipped, in autumn
        # it comes twice.
        ("Sun", "last", "03:26", "Europe/Helsinki"),
        ("Sun", "last", "03:26", ""),  # by the host's own clock
        ("Sun", "last", "02:26", "Europe/Berlin"),
        ("Sun", "last", "01:26", "Europe/London"),
        ("Sun", 2, "02:26", "America/New_York"),
        ("Sun", 1, "02:26", "Australia/Sydney"),
    ],
)
def test_the_timers_dates_of_twenty_years_are_those_of_the_rule(
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
    found = maintenance.dates(
        expression, datetime(2025, 12, 31, 12, tzinfo=UTC), len(expected) + 12
    )
    assert [date for date in found if date < datetime(2046, 1, 1, tzinfo=UTC)] == expected
    assert len(expected) >= 20 * 12 - 20


@NEEDS_SYSTEMD
def test_a_time_that_is_skipped_is_no_date_and_one_that_comes_twice_is_one() -> None:
    expression = calendar("Sun", "last", "03:26", "Europe/Helsinki")
    spring = maintenance.dates(expression, datetime(2026, 3, 1, tzinfo=UTC), 1)
    assert spring == [datetime(2026, 4, 26, 0, 26, tzinfo=UTC)]  # not 29 March
    autumn = maintenance.dates(expression, datetime(2026, 10, 1, tzinfo=UTC), 1)
    assert autumn == [datetime(2026, 10, 25, 0, 26, tzinfo=UTC)]  # the first 03:26
    # After the first one systemd does not come back for the second; if it did, TOGETHER would.
    again = maintenance.dates(expression, datetime(2026, 10, 25, 0, 27, tzinfo=UTC), 1)
    assert again == [datetime(2026, 11, 29, 1, 26, tzinfo=UTC)]


@pytest.mark.parametrize("iteration", ["Iter. #2", "Iteration #2"], ids=["252", "255"])
def test_dates_are_read_in_utc_whatever_the_hosts_zone_is(iteration: str) -> None:
    shown = f"""
Normalized form: Tue *-*-08..14 03:26:00
    Next elapse: Tue 2026-07-14 03:26:00 CEST
       (in UTC): Tue 2026-07-14 01:26:00 UTC
       From now: 1 month left
       {iteration}: Tue 2026-12-08 03:26:00 CET
       (in UTC): Tue 2026-12-08 02:26:00 UTC
"""
    assert maintenance.parse_dates(shown) == [
        datetime(2026, 7, 14, 1, 26, tzinfo=UTC),
        datetime(2026, 12, 8, 2, 26, tzinfo=UTC),
    ]


def test_the_timer_has_one_date() -> None:
    shown = "TimersCalendar={ OnCalendar=Tue *-*-08..14 03:26:00 Europe/London ; next_elapse=x }"
    assert maintenance.parse_timer(shown) == "Tue *-*-08..14 03:26:00 Europe/London"
    assert maintenance.zone_of(maintenance.parse_timer(shown)) == ZoneInfo("Europe/London")
    assert maintenance.zone_of("Tue *-*-08..14 03:26:00") is None
    with pytest.raises(MaintenanceError, match="must have one OnCalendar and has 2"):
        maintenance.parse_timer(f"{shown}\n{shown}")


@pytest.mark.parametrize(("minutes", "is_due"), [(-1, False), (0, True), (29, True), (30, False)])
def test_it_begins_at_its_time_and_not_in_the_middle_of_the_day(minutes: int, is_due: bool) -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    assert (maintenance.due([date], date + timedelta(minutes=minutes)) == date) is is_due


@pytest.mark.parametrize(
    ("installed", "last", "why"),
    [
        (-60, None, ""),
        (5, None, "This is no time for it"),  # the date is new, and passed before it came
        (-60, 1, "There was one at"),
        (-60, -60 * 24 * 28, ""),
    ],
)
def test_a_date_is_kept_once_and_only_if_the_timer_had_it_in_time(
    installed: int,
    last: int | None,
    why: str,
    report: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    unit = tmp_path / "timer"
    unit.touch()
    moment = (date + timedelta(minutes=installed)).timestamp()
    os.utime(unit, (moment, moment))
    monkeypatch.setattr(maintenance, "INSTALLED", unit)
    monkeypatch.setattr(maintenance, "calendar", lambda: "")
    monkeypatch.setattr(maintenance, "dates", lambda *_: [date])
    monkeypatch.setattr(maintenance, "next_date", lambda _: (date, ""))
    if last is not None:
        report.data["started"] = (date + timedelta(minutes=last)).isoformat()
        report.close(Settings(), "done")
    assert maintenance.untimely(date + timedelta(minutes=10)).startswith(why)
    assert bool(maintenance.untimely(date + timedelta(minutes=10))) is bool(why)


def test_a_hold_has_a_reason_and_an_end() -> None:
    hold = maintenance.parse_hold("Reason: exams: all week\nuntil: 2030-01-31T18:00+00:00\n")
    assert hold == maintenance.Hold("exams: all week", datetime(2030, 1, 31, 18, tzinfo=UTC))
    assert hold.holds(datetime(2030, 1, 31, 17, 59, tzinfo=UTC))
    assert not hold.holds(datetime(2030, 1, 31, 18, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line 'reason: TEXT'"),
        ("reason:\nuntil: 2030-01-31\n", "a line 'reason: TEXT'"),
        ("reason: exams\n", "a line 'until: 2030-01-31 18:00', not None"),
        ("reason: exams\nuntil: next week\n", "not 'next week'"),
    ],
)
def test_a_hold_that_cannot_be_read_says_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(MaintenanceError, match=message):
        maintenance.parse_hold(text)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reboot": "sometimes"}, "'always' or 'when_required', not 'sometimes'"),
        ({"free_mb": "1000"}, "free_mb cannot be '1000'"),
        ({"free_mb": True}, "free_mb cannot be True"),
        ({"backup_keep": -1}, "backup_keep must not be negative"),
        ({"backup_keep": 0}, "backup_keep must be at least 1"),
        ({"speed": 1}, "no setting 'speed'"),
    ],
)
def test_settings_that_are_wrong_are_named(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "maintenance.json"
    file.write_text(json.dumps(changed))
    with pytest.raises(MaintenanceError, match=message):
        maintenance.read_settings(file)


def test_the_notice_is_of_the_place_of_the_site() -> None:
    start = datetime(2026, 7, 14, 2, 26, tzinfo=UTC)
    settings = Settings(announce_days=3, refuse_minutes=15, expected_minutes=40)
    told = maintenance.notice(settings, start, ZoneInfo("Europe/London"))
    assert told["begins"] == {"date": "2026-07-14", "time": "03:26 BST"}
    assert told["ends"] == {"date": "2026-07-14", "time": "04:06 BST"}
    moments = {
        name: datetime.fromisoformat(told[name]) for name in ("show", "refuse", "day", "end")
    }
    assert moments == {
        "show": start - timedelta(days=3),
        "refuse": start - timedelta(minutes=15),
        "day": datetime(2026, 7, 13, 23, tzinfo=UTC),
        "end": start + timedelta(minutes=40),
    }


def test_a_date_without_a_report_is_missed() -> None:
    date = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)
    before, after = date - timedelta(days=30), date + timedelta(minutes=1)
    assert maintenance.is_missed([date], before, None)
    assert maintenance.is_missed([date], before, before)
    assert not maintenance.is_missed([date], before, after)
    assert not maintenance.is_missed([date], after, None)  # the timer was not there yet
    assert not maintenance.is_missed([], before, None)


def test_a_maintenance_that_still_runs_is_told_since_when_and_misses_no_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = datetime.fromisoformat(report.data["started"])
    monkeypatch.setattr(maintenance, "now", lambda: date + timedelta(hours=2))
    monkeypatch.setattr(maintenance, "calendar", lambda: "")
    monkeypatch.setattr(maintenance, "dates", lambda *_: [date])
    monkeypatch.setattr(maintenance, "installed", lambda: date - timedelta(days=30))
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (None, ""))
    missed = "the last date passed without a maintenance: the host was off, or asleep"
    assert maintenance.status(Settings())["problems"] == [missed]

    def told() -> tuple[str, list[str]]:
        found = maintenance.status(Settings())
        return found["running"], found["problems"]

    report.phase("updating")
    assert told() == (report.data["started"], []) and not maintenance.missed(maintenance.now())
    # Until the host is up again and at its checks, nobody is at it.
    report.data |= {"boot": "the last one", "process": -1}
    report.phase("rebooting")
    assert told() == (report.data["started"], [])

    # The checks after the boot are another process.
    seen = []
    monkeypatch.setattr(maintenance, "check_services", lambda *_: seen.append(told()))
    monkeypatch.setattr(Report, "close", lambda *_: None)
    maintenance.finish(Settings(), report)
    assert seen == [(report.data["started"], [])]

    # One that was killed, or whose reboot does not come, is judged as any other.
    report.data["process"] = -1
    report.phase("checking")
    assert told() == ("", [missed, "a maintenance is not finished: checking"])
    report.phase("rebooting")
    monkeypatch.setattr(maintenance, "now", lambda: date + timedelta(hours=2, minutes=31))
    assert told() == ("", [missed, "a maintenance is not finished: rebooting"])


def test_one_by_hand_that_was_under_way_at_the_date_is_the_one_of_that_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = datetime.fromisoformat(report.data["started"])
    report.data["started"] = (date - timedelta(minutes=6)).isoformat()
    monkeypatch.setattr(maintenance, "calendar", lambda: "")
    monkeypatch.setattr(maintenance, "dates", lambda *_: [date])
    monkeypatch.setattr(maintenance, "installed", lambda: date - timedelta(days=30))
    for ended, is_missed in ((9, False), (-1, True)):
        monkeypatch.setattr(maintenance, "now", lambda end=ended: date + timedelta(minutes=end))
        report.close(Settings(), "done")
        assert maintenance.missed(date + timedelta(hours=2)) is is_missed


def test_a_host_that_is_maintained_by_playbook_only_misses_no_date(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (None, "the timer is not active"))
    monkeypatch.setattr(maintenance, "missed", lambda _moment: True)
    report.close(Settings(), "done")
    assert maintenance.status(Settings(timer=False))["problems"] == []
    problems = maintenance.status(Settings())["problems"]
    assert problems[0] == "the timer is not active" and "without a maintenance" in problems[1]


@pytest.mark.parametrize(
    ("reboot", "asked_for", "reboots"),
    [
        ("always", False, True),
        ("always", True, True),
        ("when_required", False, False),
        ("when_required", True, True),
    ],
)
def test_it_reboots_always_or_when_an_update_asks_for_it(
    report: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reboot: str,
    asked_for: bool,
    reboots: bool,
) -> None:
    required = tmp_path / "reboot-required"
    monkeypatch.setattr(maintenance, "REBOOT_REQUIRED", required)
    if asked_for:
        required.touch()
    commands: list[list[str]] = []
    monkeypatch.setattr(maintenance, "run", commands.append)
    monkeypatch.setattr(maintenance, "finish", lambda *_: 0)
    assert maintenance.reboot(Settings(reboot=reboot), report, reboots=True) == 0
    assert (commands == [["systemctl", "reboot", "--no-block"]]) is reboots


def test_changed_packages_are_named() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert maintenance.changes(before, after) == [
        "b: 1 -> 2",
        "c: 1 -> removed",
        "d: not there -> 1",
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("INFO Packages that will be upgraded: a", []),
        ("WARNING package b upgradable but fails to be marked for upgrade", ["fails to be marked"]),
        ("INFO Package c is kept back because a related package is", ["c is kept back"]),
        ("WARNING Package d has conffile prompt and needs", ["d has conffile", "--force-confold"]),
    ],
)
def test_a_package_that_is_left_as_it_is_is_named(
    said: str, words: list[str], report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        maintenance, "run", lambda command, **_: said if "unattended" in command[0] else ""
    )
    monkeypatch.setattr(maintenance, "lock_holder", lambda: "")
    with report.step("updates") as notes:
        maintenance.update(Settings(), notes)
    lines = report.data["steps"][0]["words"].splitlines()
    assert lines[0] == "nothing was updated" and len(lines) == 1 + len(words)
    assert all(word in line for word, line in zip(words, lines[1:], strict=True))
    assert report.ok is ("conffile" not in said)


def test_updates_are_installed_where_another_source_cannot_be_read(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(command: list[str], **_: object) -> str:
        ran.append(command[0])
        if command[:2] == ["apt-get", "update"]:
            raise MaintenanceError("apt-get update: the key of that archive is over")
        return ""

    monkeypatch.setattr(maintenance, "run", run)
    monkeypatch.setattr(maintenance, "lock_holder", lambda: "")
    with report.step("updates") as notes:
        maintenance.update(Settings(), notes)
    assert "unattended-upgrade" in ran
    assert not report.ok
    assert "the key of that archive is over" in report.data["steps"][0]["words"]


def test_an_update_that_has_begun_during_the_backup_is_waited_for(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(maintenance, "run", lambda command, **_: ran.append(command[0]) or "")
    monkeypatch.setattr(maintenance, "lock_holder", lambda: "/var/lib/apt/lists/lock")
    with pytest.raises(MaintenanceError, match="another program holds /var/lib/apt/lists/lock"):
        maintenance.update(Settings(lock_wait=0), [])
    assert ran == []


def test_a_command_that_fails_or_is_too_slow_is_named() -> None:
    with pytest.raises(MaintenanceError, match="(?s)sh -c .*: exit status 3\nno such thing"):
        maintenance.run(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(MaintenanceError, match="sleep 60: not done within 0.1 s"):
        maintenance.run(["sleep", "60"], seconds=0.1)
    with pytest.raises(MaintenanceError, match="/no/such/program: "):
        maintenance.run(["/no/such/program"])


def test_a_file_for_others_can_be_read_by_them_whatever_roots_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        maintenance.write(tmp_path / "notice", "words", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "notice").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["notice"]


# -- backup ---------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "hub.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as link:
        link.executescript(
            "CREATE TABLE users (id INTEGER, name TEXT);"
            "INSERT INTO users VALUES (1, 'alice'), (2, 'bob');"
        )
    return path


def test_a_backup_holds_what_is_there_and_only_root_reads_it(
    database: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "etc"
    kept.mkdir()
    (kept / "secret").write_text("token")
    settings = Settings(
        backup_folder=str(tmp_path / "backup"),
        backup_keep=2,
        database=str(database),
        backup_paths=[str(kept), str(tmp_path / "missing")],
    )
    for day in (1, 2, 3):
        made = maintenance.back_up(settings, datetime(2026, 12, day, tzinfo=UTC))
    assert "(1 files)" in made
    copies = sorted((tmp_path / "backup").iterdir())
    assert [copy.name for copy in copies] == [
        "2026-12-02T000000.sqlite",
        "2026-12-02T000000.tar.gz",
        "2026-12-03T000000.sqlite",
        "2026-12-03T000000.tar.gz",
    ]
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700
    with contextlib.closing(sqlite3.connect(copies[-2])) as link:
        assert link.execute("SELECT name FROM users").fetchall() == [("alice",), ("bob",)]


def test_a_backup_that_is_not_whole_leaves_nothing_behind(database: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(os.urandom(10_000))
    empty = tmp_path / "empty.sqlite"
    sqlite3.connect(empty).close()
    for wrong in (broken, empty, tmp_path / "missing.sqlite"):
        settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(wrong))
        with pytest.raises((MaintenanceError, sqlite3.Error)):
            maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
        assert list((tmp_path / "backup").iterdir()) == []


def test_a_database_that_stays_locked_ends_the_backup_in_time(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "COPY", 2.0)
    settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(database))
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as link:
        link.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MaintenanceError, match="copying .*hub.sqlite: not done within 2 s"):
            maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert list((tmp_path / "backup").iterdir()) == []


@pytest.mark.parametrize("what", ["database", "file"])
def test_a_pipe_in_place_of_a_file_ends_the_backup_in_time(
    what: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is the hub's own may be anything, where the hub is somebody else's."""
    monkeypatch.setattr(maintenance, "COPY", 2.0)
    database.unlink()
    (kept := tmp_path / "kept").mkdir()
    (kept / "file").write_text("this")
    monkeypatch.setattr(maintenance, "PROGRAM", (*maintenance.PROGRAM[:2], str(tmp_path / "run")))
    # The pipe comes between the packing and the comparison.
    (tmp_path / "run").write_text(
        f"import os, sys; sys.path.insert(0, {str(Path(maintenance.__file__).parent)!r})\n"
        "import sge_maintenance as m\n"
        "open = m.tarfile.open\n"
        "def opened(*names, **how):\n"
        f"    if names: os.unlink({str(kept / 'file')!r}); os.mkfifo({str(kept / 'file')!r})\n"
        "    return open(*names, **how)\n"
        "m.tarfile.open = opened\n"
        "sys.exit(m.main(sys.argv[1:]))\n"
    )
    os.mkfifo(database)
    settings = Settings(
        backup_folder=str(tmp_path / "backup"),
        database=str(database) if what == "database" else "",
        backup_paths=[str(kept)] if what == "file" else [],
    )
    with pytest.raises(MaintenanceError, match=r"(copying|packing) .*: not done within 2 s"):
        maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert list((tmp_path / "backup").iterdir()) == []


def test_the_hubs_database_is_read_with_the_hubs_rights(database: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    as_hub = ["sh", "-c", f'echo "$4" >> {log}; exec "$@"', "sh"]
    settings = Settings(
        backup_folder=str(tmp_path / "backup"), database=str(database), as_hub=as_hub
    )
    maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert log.read_text().split() == ["print-database", "check-database"]


def test_a_database_that_is_written_to_by_a_log_of_its_own_is_copied(
    database: Path, tmp_path: Path
) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as link:
        assert link.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        link.execute("INSERT INTO users VALUES (3, 'carol')")
        settings = Settings(backup_folder=str(tmp_path / "backup"), database=str(database))
        maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    (copy,) = (tmp_path / "backup").iterdir()
    with contextlib.closing(sqlite3.connect(copy)) as link:
        assert link.execute("SELECT count(*) FROM users").fetchone() == (3,)


def test_no_name_is_a_backups_before_it_has_been_read_again(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the program: nothing is cleared away here."""
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / f"2026-11-01T000000.sqlite{maintenance.UNFINISHED_COPY}").touch()
    settings = Settings(
        backup_folder=str(folder), database=str(database), backup_paths=[str(database)]
    )
    seen: list[str] = []
    real = maintenance.run

    def run(command: list[str], **more: Any) -> str:
        seen.extend(path.name for path in folder.iterdir())
        return real(command, **more)

    monkeypatch.setattr(maintenance, "run", run)
    maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert set(seen) == {"2026-12-01T000000.sqlite.unfinished"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "2026-12-01T000000.sqlite",
        "2026-12-01T000000.tar.gz",
    ]


def test_the_notice_that_is_renewed_meanwhile_is_in_no_pack(tmp_path: Path) -> None:
    kept = tmp_path / "etc"
    kept.mkdir()
    for name in ("maintenance.json", ".maintenance.json.42", "jupyterhub_config.py"):
        (kept / name).write_text("x")
    pack = tmp_path / "pack.tar.gz"
    # The program's own settings have the same name, in another folder.
    (tmp_path / "gridhub").mkdir()
    (tmp_path / "gridhub/maintenance.json").write_text("x")
    paths = [kept, tmp_path / "gridhub"]
    assert maintenance.copy_files(paths, pack, str(kept / "maintenance.json")) == 2


def test_a_file_that_is_not_in_the_pack_as_on_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("this")
    hashes = iter(["one", "other"])
    monkeypatch.setattr(maintenance, "_hash", lambda _file: next(hashes))
    with pytest.raises(MaintenanceError, match="file is not in .* as it is on disk"):
        maintenance.copy_files([tmp_path / "file"], tmp_path / "pack.tar.gz")


def test_a_database_that_is_not_sqlite_is_backed_up_by_the_sites_command(tmp_path: Path) -> None:
    copy = tmp_path / "dump"
    settings = Settings(
        backup_folder=str(tmp_path / "backup"), backup_command=["sh", "-c", f"echo rows > {copy}"]
    )
    made = maintenance.back_up(settings, datetime(2026, 12, 1, tzinfo=UTC))
    assert copy.read_text() == "rows\n"
    assert made == "sh succeeded; its copy is not read again here"
    fails = ["sh", "-c", "echo no database >&2; exit 3", "--password=5ec4e7"]
    wrong = Settings(backup_folder=str(tmp_path), backup_command=fails)
    # Its arguments are in no report, log or mail.
    with pytest.raises(MaintenanceError, match="^sh: exit status 3\nno database$"):
        maintenance.back_up(wrong, datetime(2026, 12, 1, tzinfo=UTC))


SESSION = {
    "user": "alice",
    "label": "alice",
    "name": "",
    "job": "42",
    "scheme": "https",
    "host": "exec1",
    "port": 40001,
    "path": "/user/alice/",
}


def test_the_running_sessions_are_read_through_the_hubs_own_configuration(tmp_path: Path) -> None:
    """Whichever database it names: SQLAlchemy opens it."""
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    database = orm.new_session_factory(url)()
    alice, bob = orm.User(name="alice"), orm.User(name="bob.b")
    bobs = orm.Server(proto="https", ip="exec1", port=40002, base_url="/user/bob.b/")
    server = orm.Server(proto="https", ip="exec1", port=40001, base_url="/user/alice/")
    unborn = orm.Server(proto="http", ip="", port=0, base_url="/x/")
    database.add_all(
        [
            orm.Spawner(user=alice, name="", server=server, state={"job_id": 42}),
            orm.Spawner(user=bob, name="", state={}),
            orm.Spawner(user=bob, name="m", server=bobs),
            orm.Spawner(user=bob, name="n", server=unborn),
        ]
    )
    database.commit()
    database.close()
    config = tmp_path / "jupyterhub_config.py"
    lines = ["c = get_config()", "c.JupyterHub.db_url = 'sqlite://'", "c.JupyterHub.port = 1"]
    # The site's own lines come last, and count.
    config.write_text("\n".join([*lines, f"c.JupyterHub.db_url = {url!r}\n"]))
    command = [
        sys.executable,
        "-sE",
        str(Path(__file__).resolve().parents[2] / "files" / "sge_sessions.py"),
        str(config),
    ]
    found, of_bob = maintenance.running_sessions(Settings(sessions=command))
    assert found == SESSION
    # As JupyterHub names the person's host.
    assert f"{of_bob['label']}.hub.test" == subdomain_hook_idna("bob.b", "hub.test", "user")
    config.write_text("c = get_config()\nc.JupyterHub.db_url = 'sqlite:////no/such/database'\n")
    with pytest.raises(MaintenanceError, match="unable to open database file"):
        maintenance.running_sessions(Settings(sessions=command))
    for wrong, why in (("no python", "SyntaxError"), ("c = 1", "has no line c.JupyterHub.db_url")):
        config.write_text(wrong)
        with pytest.raises(MaintenanceError, match=why):
            maintenance.running_sessions(Settings(sessions=command))


@pytest.mark.parametrize("said", ["", "nothing", "[}"])
def test_what_are_no_sessions_is_no_answer(said: str) -> None:
    with pytest.raises(MaintenanceError, match="says no sessions"):
        maintenance.running_sessions(Settings(sessions=["echo", said]))


# -- the report -----------------------------------------------------------------------------------


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Report]:
    monkeypatch.setattr(maintenance, "STATE", tmp_path / "state")
    monkeypatch.setattr(maintenance, "LOGS", tmp_path / "log")
    yield Report(datetime(2026, 12, 8, 3, 26, tzinfo=UTC), by_hand=False)


def test_a_step_that_fails_does_not_end_the_rest(report: Report) -> None:
    with report.step("one") as notes:
        notes.append("said")
        raise MaintenanceError("broken")
    with report.step("two"):
        pass
    assert not report.ok
    assert report.failed() == [{"name": "one", "ok": False, "words": "said\nbroken"}]
    assert maintenance.words(report.data).splitlines()[-4:] == [
        "FAILED: one",
        "  said",
        "  broken",
        "ok: two",
    ]


def test_a_report_goes_on_after_a_boot_and_ends_for_good(report: Report) -> None:
    report.phase("rebooting")
    again = Report.load(Report.UNFINISHED)
    assert again is not None and again.data == report.data
    again.close(Settings(), "done")
    assert Report.load(Report.UNFINISHED) is None
    last = Report.load(Report.LAST)
    assert last is not None and last.data["result"] == "done"
    # Steps tell what the site's own commands have said.
    assert (maintenance.STATE / Report.LAST).stat().st_mode & 0o777 == 0o600


def test_a_report_of_trouble_is_sent_and_one_of_success_only_where_it_is_wanted(
    report: Report,
) -> None:
    received: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def take_one() -> None:
        link, _ = server.accept()
        with link, link.makefile("rw", encoding="utf-8", newline="\r\n") as talk:

            def answer(words: str) -> None:
                talk.write(f"{words}\n")
                talk.flush()

            answer("220 here")
            body = False
            for line in talk:
                received.append(line.strip())
                if body and line.strip() == ".":
                    body = False
                    answer("250 taken")
                elif not body:
                    command = line.strip().lower()
                    body = command == "data"
                    answer({"data": "354 go on", "quit": "221 bye"}.get(command, "250 ok"))

    settings = Settings(
        mail_to="admins@example.org",
        mail_from="hub@example.org",
        mail_server=f"127.0.0.1:{server.getsockname()[1]}",
    )
    with server:
        report.close(settings, "done")  # nobody listens, and nothing is said of that
        with report.step("the hub answers"):
            raise MaintenanceError("it does not")
        taker = threading.Thread(target=take_one)
        taker.start()
        report.close(settings, "failed in part")
        taker.join(10)
    assert "To: admins@example.org" in received
    assert any(line.startswith("Subject: Maintenance of") for line in received)
    assert "FAILED: the hub answers" in received and "it does not" in received
    log = Path(report.data["log"]).read_text()
    assert "mail to" not in log
    report.close(settings, "failed in part")  # the server is gone: said, and no reason to fail
    assert "FAILED: mail to admins@example.org" in Path(report.data["log"]).read_text()


@pytest.mark.parametrize(
    ("always", "result", "sent"),
    [(False, "done", 0), (True, "done", 1), (False, "held", 1), (True, "failed", 1)],
)
def test_a_report_of_success_is_sent_where_the_site_wants_it(
    always: bool, result: str, sent: int, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails: list[Report] = []
    monkeypatch.setattr(maintenance, "mail", lambda _settings, mailed: mails.append(mailed))
    report.close(Settings(mail_to="admins@example.org", mail_always=always), result)
    assert mails == [report] * sent


@pytest.mark.parametrize("folder", ["/", "/usr", "/var/log", "/var/lib/dpkg"])
def test_a_file_system_that_is_full_is_named(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=(5 if str(path) == folder else 10_000) << 20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(MaintenanceError, match=f"^{folder} has 5 MB free; maintenance_free_mb"):
        maintenance.check_disk(Settings())


def test_the_metrics_are_what_node_exporter_reads() -> None:
    report = {
        "ended": "2026-12-08T03:40:00+00:00",
        "result": "failed",
        "steps": [{"ok": True}, {"ok": False}],
    }
    text = maintenance.metrics(report, datetime(2027, 1, 12, 3, 26, tzinfo=UTC), False)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        "gridhub_maintenance_next_timestamp_seconds 1799724360",
        "gridhub_maintenance_missed 0",
        "gridhub_maintenance_last_timestamp_seconds 1796701200",
        "gridhub_maintenance_last_success 0",
        "gridhub_maintenance_last_failed_steps 1",
    ]
    assert "gridhub_maintenance_next_timestamp_seconds 0" in maintenance.metrics(None, None, True)


LOST = SESSION | {"scheme": "http", "host": "127.0.0.1", "port": 1}


@pytest.mark.parametrize(
    ("jobs", "known", "trouble"),
    [
        # Jobs at each look of Grid Engine's; the last one lasts.
        (["42 43"], "42 43", "Connection refused"),
        (["42 43"], "43", "the hub has forgotten it"),
        (["43"], "43", ""),
        (["42 43", "43"], "42 43", ""),  # it ended while it was looked for
        ([""], "", "more than half"),
    ],
)
def test_a_session_is_lost_if_its_job_is_there_and_it_is_not(
    jobs: list[str], known: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [LOST, SESSION | {"user": "bob", "job": "43"}]
    looks = iter(jobs)
    shown = [jobs[-1]]
    monkeypatch.setattr(
        maintenance, "ask_grid_engine", lambda _: set(next(looks, shown[0]).split())
    )
    monkeypatch.setattr(
        maintenance, "running_sessions", lambda _: [{"job": job} for job in known.split()]
    )
    monkeypatch.setattr(maintenance, "wait_for", lambda what, _seconds: what())
    monkeypatch.setattr(maintenance, "inside", lambda *_: None)
    reached = maintenance.status_of

    def status_of(url: str, *rest: Any) -> int:
        return 200 if "exec1" in url else reached(url, *rest)

    monkeypatch.setattr(maintenance, "status_of", status_of)
    notes: list[str] = []
    settings = Settings(qstat=["qstat"])
    if not trouble:
        maintenance.check_sessions(settings, before, notes)
        assert notes == ["2 sessions ran before, and 1 still do", "ended meanwhile: jobs 42"]
        return
    with pytest.raises(MaintenanceError, match=re.escape(trouble)) as raised:
        maintenance.check_sessions(settings, before, notes)
    assert "bob" not in str(raised.value)


class Proxy(BaseHTTPRequestHandler):
    """A route to one session; whatever else is asked, the hub answers, as it does that."""

    def do_GET(self) -> None:
        asked = self.headers["Host"], self.path
        self.send_response(200 if asked == ("alice.hub.test:8443", "/user/alice/api") else 302)
        self.send_header("Location", f"/hub{self.path}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("user", "subdomains", "trouble"),
    [
        ("alice", True, ""),
        ("carol", True, "as carol.hub.test:8443: status 302, which is not the session's own"),
        ("alice", False, "as hub.test:8443: status 302"),
    ],
)
def test_a_session_is_reached_through_the_proxy_by_the_name_that_people_use(
    user: str, subdomains: bool, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SESSION | {"user": user, "label": user, "path": f"/user/{user}/"}
    monkeypatch.setattr(maintenance, "trouble_with_session", lambda *_: "")
    monkeypatch.setattr(maintenance, "running_sessions", lambda _: [session])
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        settings = Settings(
            proxy=f"http://{place}", names={place: "hub.test:8443"}, user_subdomains=subdomains
        )
        found = ""
        try:
            maintenance.check_sessions(settings, [session], [], 0)
        except MaintenanceError as error:
            found = str(error)
        server.shutdown()
    assert found.startswith(f"{user} (job 42) through http://{place} as" if trouble else "")
    assert trouble in found and bool(found) is bool(trouble)


def test_a_proxy_that_is_away_is_said_of_its_sessions() -> None:
    settings = Settings(proxy="http://127.0.0.1:1")
    said = "alice (job 42) through http://127.0.0.1:1: [Errno 111] Connection refused"
    assert maintenance.trouble_with_route(settings, SESSION) == said
    assert maintenance.trouble_with_route(Settings(), SESSION) == ""


def test_what_does_not_answer_is_named_and_the_rest_is_looked_at(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "http://127.0.0.1:1/hub/login"
    settings = Settings(check_minutes=0, urls=[lost], qstat=["false"], units=["hub.service"])
    monkeypatch.setattr(maintenance, "trouble_with_units", lambda _units: "")
    maintenance.check_services(settings, report)
    assert {step["name"]: step["words"] for step in report.failed()} == {
        f"{lost} answers": f"{lost}: [Errno 111] Connection refused",
        "Grid Engine answers": "false: exit status 1",
    }
    assert len(report.data["steps"]) == 3


@pytest.fixture
def hub(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a host whose notice can be looked at."""
    monkeypatch.setattr(maintenance, "HOLD", tmp_path / "hold")
    monkeypatch.setattr(maintenance, "calendar", lambda: "Tue *-*-08..14 03:26:00 UTC")
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (None, ""))
    (tmp_path / "state").mkdir()
    return Settings(notice_file=str(tmp_path / "notice.json"))


def test_no_session_starts_until_the_reboot_however_long_the_updates_take(
    hub: Settings, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = report.data["started"].replace("03:26", "04:30")
    monkeypatch.setattr(maintenance, "now", lambda: datetime.fromisoformat(later))

    def refuses() -> bool:
        with contextlib.suppress(FileNotFoundError):
            told = Path(hub.notice_file).read_text("utf-8")
            return bool(maintenance.parse_maintenance(told).refusal(maintenance.now()))
        return False

    maintenance.tell(hub, datetime.fromisoformat(report.data["started"]))
    assert not refuses()
    report.phase("updating")
    maintenance.announce(hub)
    assert refuses()

    # At the reboot it counts from there on, and the sessions are those of then.
    maintenance.tell(hub, datetime.fromisoformat(report.data["started"]))
    monkeypatch.setattr(maintenance, "running_sessions", lambda _: [SESSION])
    settings = dataclasses.replace(hub, sessions=["ask"])
    assert maintenance.reboot(settings, report, reboots=False) == 0
    assert refuses() and report.data["sessions"] == [SESSION]


@pytest.mark.parametrize(
    ("phase", "minutes", "process", "is_over"),
    [
        ("updating", 0, "gone", True),
        ("updating", 0, "another", True),  # its number came again
        ("updating", 60, "there", False),
        ("updating", 181, "there", True),  # it hangs
        ("rebooting", 19, "gone", False),
        ("rebooting", 21, "gone", True),  # nobody has rebooted it
        ("checking", 0, "gone", True),
    ],
)
def test_one_that_was_cut_off_keeps_nobody_out_and_the_next_one_is_announced(
    phase: str,
    minutes: int,
    process: str,
    is_over: bool,
    hub: Settings,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = datetime.fromisoformat(report.data["started"])
    moment = began
    monkeypatch.setattr(maintenance, "now", lambda: moment)
    coming = datetime(2027, 1, 12, 3, 26, tzinfo=UTC)
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (coming, ""))
    maintenance.tell(hub, began)
    if process == "another":
        report.data["process"] = 1
    elif process == "gone":
        child = subprocess.Popen(["true"])
        child.wait()
        report.data["process"] = child.pid
    report.phase(phase)

    moment += timedelta(minutes=minutes)
    maintenance.announce(hub)
    told = maintenance.parse_maintenance(Path(hub.notice_file).read_text("utf-8"))
    assert (told.begins["date"] == "2027-01-12") is is_over
    assert bool(told.refusal(moment)) is not is_over


def test_the_next_one_is_announced_where_no_report_can_be_written(
    hub: Settings, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.phase("updating")
    written = maintenance.write

    def full(path: Path, text: str, mode: int) -> None:
        if path.parent == maintenance.STATE:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, text, mode)

    monkeypatch.setattr(maintenance, "write", full)
    coming = datetime(2027, 1, 12, 3, 26, tzinfo=UTC)
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (coming, ""))
    assert maintenance.end(hub, report, "failed") == 1
    assert json.loads(Path(hub.notice_file).read_text("utf-8"))["begins"]["date"] == "2027-01-12"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "2026-12-08 03:26:00,000 INFO Packages that will be upgraded: a b",
            "  Packages that will",
        ),
        ("Lock could not be acquired", "  not known: unattended-upgrade --dry-run does not say"),
    ],
)
def test_a_plan_tells_of_a_hold_and_of_what_it_does_not_know(
    hub: Settings,
    said: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    maintenance.HOLD.write_text("reason: exams\nuntil: 2126-01-31 18:00+00:00\n")
    monkeypatch.setattr(maintenance, "dates", lambda *_: [])
    for name in ("lock_holder", "trouble_with_packages"):
        monkeypatch.setattr(maintenance, name, lambda: "")
    monkeypatch.setattr(maintenance, "check_disk", lambda _: None)
    monkeypatch.setattr(maintenance, "run", lambda *_, **_kw: said)
    assert maintenance.plan(hub) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Now it is not done, by hand neither: held until 2126-01-31 18:00 UTC: exams" in lines
    assert any(line.startswith(shown) for line in lines)


def test_a_plan_names_no_dates_of_a_timer_that_is_off(
    hub: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lock_holder", "trouble_with_packages"):
        monkeypatch.setattr(maintenance, name, lambda: "")
    monkeypatch.setattr(maintenance, "check_disk", lambda _: None)
    monkeypatch.setattr(maintenance, "run", lambda *_, **_kw: "")
    monkeypatch.setattr(maintenance, "dates", lambda *_: [datetime(2026, 12, 8, tzinfo=UTC)])
    assert maintenance.plan(dataclasses.replace(hub, timer=False)) == 0
    shown = capsys.readouterr().out
    assert "2026" not in shown and shown.startswith("No timer: it is maintained by playbook only.")


def test_a_full_disk_is_reported_by_mail_even_where_no_report_can_be_written(
    hub: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sent: list[str] = []
    monkeypatch.setattr(maintenance, "write", full)
    monkeypatch.setattr(
        maintenance, "mail", lambda _, report: sent.append(maintenance.words(report.data))
    )
    settings = dataclasses.replace(hub, mail_to="admins@example.org")
    assert maintenance.maintain(settings, by_hand=True) == 1
    assert len(sent) == 1 and "No space left on device" in sent[0]


@pytest.mark.parametrize(
    ("act", "code"), [("run", 0), ("after", 0), ("now", 1), ("update", 1)], ids=str
)
def test_a_second_one_by_hand_fails_and_the_timers_own_does_not(
    act: str, code: int, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "read_settings", Settings)
    with maintenance.alone() as first:
        assert first
        assert maintenance.main([act]) == code


def test_the_status_says_how_far_it_is(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "next_date", lambda _moment: (None, ""))
    monkeypatch.setattr(maintenance, "missed", lambda _moment: False)
    phases = []
    monkeypatch.setattr(
        maintenance,
        "check_services",
        lambda *_: phases.append(maintenance.status(Settings())["phase"]),
    )
    report.phase("updating")
    assert maintenance.status(Settings())["phase"] == "updating"
    assert maintenance.status(Settings())["held"] == ""
    assert maintenance.finish(Settings(), report) == 0
    assert phases == ["checking"] and maintenance.status(Settings())["phase"] == ""


def test_the_program_needs_no_more_than_python() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-sEI", maintenance.__file__, "check", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "/dev/null: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_is_asked_by_the_name_it_answers_to() -> None:
    """As nginx does, which refuses whoever asks for another name than the public one."""

    class Strict(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Host"] == "hub.example.org:8443" else 421)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Strict) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        url = f"http://{place}/hub/login"
        named = Settings(names={place: "hub.example.org:8443"})
        assert maintenance.trouble_with_url(named, url) == ""
        assert maintenance.trouble_with_url(Settings(), url) == f"{url}: status 421"
        server.shutdown()
