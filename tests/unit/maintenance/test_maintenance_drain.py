"""Sessions are ended only in a drain, after a notice and its time."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gridhub.maintenance import drain, host, operator, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Site:
    """A drain that began an hour ago, and a hub."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(drain_file=str(folder / "drain.json"))
        self.calls: list[str] = []
        self.now = NOW
        self.failed: list[str] = []
        self.set("2026-03-01T11:00:00+00:00", "2026-03-01T18:00:00+00:00", NOW - timedelta(hours=1))

    def set(self, begin: str, end: str, written: datetime) -> None:
        path = Path(self.settings.drain_file)
        path.write_text(json.dumps({"text": "x", "refuse": begin, "end": end}))
        os.utime(path, (written.timestamp(), written.timestamp()))

    def call(self, _settings: Settings, _method: str, what: str, *_: Any) -> dict[str, Any]:
        self.calls.append(what)
        return {"sent": 2, "asked": 2, "failed": self.failed, "sessions": []}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(tmp_path)
    monkeypatch.setattr(host, "now", lambda: site.now)
    monkeypatch.setattr(operator, "call", site.call)
    monkeypatch.setattr(drain, "NOTICE", tmp_path / "notice.json")
    return site


def test_sessions_are_ended_when_the_notice_is_old_enough(site: Site) -> None:
    assert "from 2026-03-01 12:30 UTC on" in drain.send_notice(site.settings, "Save!", 30)
    site.now += timedelta(minutes=29)
    with pytest.raises(MaintenanceError, match="until 2026-03-01 12:30 UTC; until then, none"):
        drain.end_sessions(site.settings)
    assert site.calls == ["notice"]
    site.now += timedelta(minutes=1)
    assert drain.end_sessions(site.settings) == "2 sessions were asked to end."
    # The notice counts once.
    with pytest.raises(MaintenanceError, match="have had no notice"):
        drain.end_sessions(site.settings)


def test_none_is_ended_or_sent_a_notice_without_a_drain(site: Site) -> None:
    drain.send_notice(site.settings, "Save!", 0)
    Path(site.settings.drain_file).unlink()
    for action in (
        lambda: drain.end_sessions(site.settings),
        lambda: drain.send_notice(site.settings, "Save!", 0),
    ):
        with pytest.raises(MaintenanceError, match="no drain applies now"):
            action()
    assert site.calls == ["notice"]


def test_a_notice_of_an_earlier_drain_does_not_count(site: Site) -> None:
    drain.send_notice(site.settings, "Save!", 0)
    site.now += timedelta(hours=1)
    site.set("1970-01-01T12:00:00+00:00", "2026-03-01T18:00:00+00:00", site.now)
    with pytest.raises(MaintenanceError, match="was before this drain began"):
        drain.end_sessions(site.settings)


@pytest.mark.parametrize(
    ("begin", "end"), [("2026-03-01T12:01", "2026-03-01T18:00"), ("2026-03-01", "2026-03-01T12:00")]
)
def test_a_drain_applies_from_its_beginning_to_its_end(site: Site, begin: str, end: str) -> None:
    site.set(f"{begin}+00:00" if "T" in begin else begin, f"{end}+00:00", NOW)
    assert drain.read_drain(site.settings) == {}


def test_sessions_that_do_not_end_are_a_failure(site: Site) -> None:
    site.failed = ["alice (job 7): no answer"]
    with pytest.raises(MaintenanceError, match="not ended: alice"):
        drain.end_now(site.settings)


def test_a_damaged_file_is_named(site: Site) -> None:
    Path(site.settings.drain_file).write_text("{")
    with pytest.raises(MaintenanceError, match=r"drain\.json"):
        drain.read_drain(site.settings)


def test_a_session_counts_as_older_until_the_hub_was_surely_restarted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [
        {"user": "old", "name": "", "job": "1", "started": "2026-03-01T11:59:00+00:00"},
        {"user": "soon", "name": "x", "job": "2", "started": "2026-03-01T12:14:00+00:00"},
        {"user": "new", "name": "", "job": "3", "started": "2026-03-01T12:16:00+00:00"},
        {"user": "unknown", "name": "", "job": "4"},
    ]
    monkeypatch.setattr(drain, "all_sessions", lambda _: sessions)
    found = drain.older_sessions(site.settings, NOW.isoformat())
    assert [each.split()[0] for each in found] == ["old", "soon", "unknown"]
    with pytest.raises(MaintenanceError, match="'then' is no time"):
        drain.older_sessions(site.settings, "then")


def test_without_the_hub_the_sessions_come_from_its_database(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> dict[str, Any]:
        raise MaintenanceError("down")

    monkeypatch.setattr(operator, "call", fail)
    monkeypatch.setattr(probes, "running_sessions", lambda _: [{"user": "alice"}])
    assert drain.all_sessions(site.settings) == [{"user": "alice"}]
