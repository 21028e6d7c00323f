"""The notice for the hub's pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gridhub.maintenance import notice
from gridhub.maintenance.settings import Settings


def test_the_notice_is_in_the_time_zone_of_the_site() -> None:
    start = datetime(2026, 7, 14, 2, 26, tzinfo=UTC)
    settings = Settings(announce_days=3, refuse_minutes=15, expected_minutes=40)
    content = notice.content(settings, start, ZoneInfo("Europe/London"))
    assert content["begins"] == {"date": "2026-07-14", "time": "03:26 BST"}
    assert content["ends"] == {"date": "2026-07-14", "time": "04:06 BST"}
    moments = {
        name: datetime.fromisoformat(content[name]) for name in ("show", "refuse", "day", "end")
    }
    assert moments == {
        "show": start - timedelta(days=3),
        "refuse": start - timedelta(minutes=15),
        "day": datetime(2026, 7, 13, 23, tzinfo=UTC),
        "end": start + timedelta(minutes=40),
    }
