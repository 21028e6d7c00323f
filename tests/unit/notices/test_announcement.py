"""The announcement: a correct file is accepted, and a wrong file does not break the pages."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from folders import FILES
from gridhub.notices.announcement import (
    Announcement,
    AnnouncementError,
    WatchedFile,
    parse_announcement,
)

CHECK = str(FILES / "sge_check.py")


def test_an_announcement_has_a_text_a_level_and_an_end() -> None:
    text = json.dumps({"text": " Hello ", "level": "warning", "until": "2030-01-31T18:00+00:00"})
    assert parse_announcement(text) == Announcement(
        "Hello", "warning", datetime(2030, 1, 31, 18, tzinfo=UTC)
    )
    assert parse_announcement('{"text": "Hello", "until": ""}') == Announcement("Hello")


def test_a_time_without_a_zone_is_in_the_hosts_time_zone() -> None:
    until = parse_announcement('{"text": "x", "until": "2030-07-31 18:00"}').until
    assert until == datetime(2030, 7, 31, 18).astimezone()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "in a dictionary"),
        ('{"text": "x", "colour": "red"}', "not 'colour'"),
        ("{}", "text must have 1 to 1000 characters"),
        ('{"text": "  "}', "text must have"),
        ('{"text": 4}', "text must have"),
        (json.dumps({"text": "x" * 1001}), "text must have"),
        ('{"text": "x", "level": "loud"}', "level must be info or warning, not 'loud'"),
        ('{"text": "x", "level": ["info"]}', "level must be"),
        ('{"text": "x", "until": "tomorrow"}', "until must be a time such as"),
        ('{"text": "x", "until": 4}', "until must be a time such as"),
        ('{"text": "x", "until": "0001-01-01T00:00+23:59"}', "until must be a time such as"),
    ],
)
def test_a_wrong_announcement_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(AnnouncementError) as refused:
        parse_announcement(text)
    assert words in str(refused.value)


def test_an_expired_announcement_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "announcement.json"
    over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    file.write_text(json.dumps({"text": "x", "until": over}), encoding="utf-8")
    assert WatchedFile(file, parse_announcement).current() is None
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    file.write_text(json.dumps({"text": "x", "until": ahead}), encoding="utf-8")
    assert WatchedFile(file, parse_announcement).current() is not None


def test_the_file_is_read_again_only_when_the_last_reading_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "announcement.json"
    watched = WatchedFile(file, parse_announcement)
    assert watched.current() is None
    file.write_text('{"text": "x"}', encoding="utf-8")
    assert watched.current() is None
    monkeypatch.setattr("gridhub.notices.announcement.FRESH", -1.0)
    assert watched.current() == Announcement("x")
    file.unlink()
    assert watched.current() is None


def test_a_broken_file_shows_nothing_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gridhub.notices.announcement.FRESH", -1.0)
    file = tmp_path / "announcement.json"
    file.write_bytes(b"\xff{")
    watched = WatchedFile(file, parse_announcement)
    assert watched.current() is None
    assert watched.current() is None
    assert len(caplog.records) == 1
    file.unlink()
    file.mkdir()
    assert watched.current() is None
    assert len(caplog.records) == 2


@pytest.mark.parametrize(("text", "status"), [('{"text": "x"}', 0), ('{"text": ""}', 1)])
def test_the_checker_reports_by_its_exit_status(tmp_path: Path, text: str, status: int) -> None:
    file = tmp_path / "announcement.json"
    file.write_text(text, encoding="utf-8")
    command = [sys.executable, CHECK, "announcement", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == status
    assert bool(run.stderr) == bool(status)
