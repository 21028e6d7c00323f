"""How the hub's pages announce the next maintenance, and when no session may start."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from folders import FILES
from gridhub.maintenance.notice import content
from gridhub.maintenance.settings import Settings
from gridhub.notices import next_maintenance
from gridhub.notices.announcement import (
    Announcement,
    AnnouncementError,
    WatchedFile,
    parse_announcement,
)
from gridhub.notices.next_maintenance import parse_maintenance, parse_window

START = datetime(2026, 12, 8, 3, 26, tzinfo=UTC)

CHECK = str(FILES / "sge_check.py")


def written(start: datetime) -> str:
    """Return the text of the notice that the maintenance program writes."""
    return json.dumps(content(Settings(), start, None))


@pytest.mark.parametrize(
    ("before", "level", "words"),
    [
        (timedelta(days=7, seconds=1), None, ""),
        (timedelta(days=7), "info", "Maintenance on 2026-12-08 at 03:26"),
        (timedelta(hours=3), "warning", "Maintenance today, 2026-12-08, at 03:26"),
        (timedelta(minutes=10), "warning", "Maintenance, until about 03:46"),
        (timedelta(minutes=-19), "warning", "Maintenance, until about 03:46"),
        (timedelta(minutes=-20), None, ""),
    ],
)
def test_the_pages_announce_it_days_before_and_on_the_day(
    before: timedelta, level: str | None, words: str
) -> None:
    maintenance = parse_maintenance(written(START))
    now = START - before
    assert maintenance.applies(now) is (level is not None)
    if level:
        shown = maintenance.announcement(now)
        assert shown.level == level and shown.text.startswith(words)


def test_no_session_starts_in_the_minutes_before_it() -> None:
    maintenance = parse_maintenance(written(START))
    assert maintenance.refusal(START - timedelta(minutes=11)) == ""
    assert "Come back at 03:46" in maintenance.refusal(START - timedelta(minutes=10))
    assert maintenance.refusal(START + timedelta(minutes=20)) == ""


def test_the_administrators_announcement_is_shown_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "announcement.json", tmp_path / "maintenance.json"
    monkeypatch.setattr(
        "gridhub.notices.next_maintenance.maintenance_file", WatchedFile(ours, parse_maintenance)
    )
    site = WatchedFile(theirs, parse_announcement)
    assert next_maintenance.announcements(site) == []
    assert next_maintenance.refusal() == ""
    theirs.write_text('{"text": "Hello"}')
    ours.write_text(written(datetime.now(UTC)))
    monkeypatch.setattr(
        "gridhub.notices.next_maintenance.maintenance_file", WatchedFile(ours, parse_maintenance)
    )
    first, second = next_maintenance.announcements(WatchedFile(theirs, parse_announcement))
    assert first == Announcement("Hello")
    assert second.level == "warning"
    assert "Come back at" in next_maintenance.refusal()


def window(**changed: object) -> str:
    begin = datetime.now(UTC) + timedelta(hours=1)
    whole = {"begin": begin.isoformat(), "end": (begin + timedelta(hours=2)).isoformat()}
    return json.dumps({**whole, "rule": "cap", **changed})


def test_the_window_of_the_workers_is_shown_on_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "window.json"
    file.write_text(window())
    monkeypatch.setattr(
        "gridhub.notices.next_maintenance.window_file", WatchedFile(file, parse_window)
    )
    (shown,) = next_maintenance.announcements(WatchedFile(tmp_path / "none", parse_announcement))
    assert shown.text.startswith("The workers are maintained from 20")
    file.write_text(window(begin="2020-01-31 18:00", end="2020-01-31 20:00"))
    monkeypatch.setattr(
        "gridhub.notices.next_maintenance.window_file", WatchedFile(file, parse_window)
    )
    assert next_maintenance.window_file.current() is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"begin": "soon"}, "must be times such as 2030-01-31 18:00"),
        ({"begin": ""}, "must be times"),
        ({"end": "2020-01-31 18:00"}, "must be after window_begin"),
        ({"rule": "maybe"}, "refuse or cap, not 'maybe'"),
    ],
)
def test_a_wrong_window_is_refused_with_the_reason(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "window.json"
    file.write_text(window(**changed))
    done = subprocess.run(
        [sys.executable, CHECK, "window", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"show": 1}', '{"show": "soon"}'])
def test_a_file_without_a_maintenance_date_is_refused(text: str) -> None:
    with pytest.raises(AnnouncementError, match="this is not a maintenance date"):
        parse_maintenance(text)
