# SPDX-License-Identifier: BSD-3-Clause
"""Notices in a user's session."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gridhub.session import notices
from gridhub.session.notices import Notifier

TOKEN = "5ec4e7" * 8


class TestNotifier:
    @pytest.fixture
    def posts(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
        seen: list[tuple[str, str, Any]] = []

        def post(url: str, token: str, body: Any, context: Any) -> tuple[int, bytes]:
            seen.append((url, token, body))
            return 503 if len(seen) == 1 else 200, b""

        monkeypatch.setattr("gridhub.session.notices.post", post)
        return seen

    ENVIRONMENT = {
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/gpu/",
        "JUPYTERHUB_SERVER_NAME": "gpu",
        "JUPYTERHUB_ACTIVITY_URL": "http://hub:8081/hub/api/users/alice/activity",
    }

    async def test_the_user_is_notified_through_the_sessions_own_address(
        self, posts: list[tuple[str, str, Any]]
    ) -> None:
        notifier = Notifier(self.ENVIRONMENT, 40123)
        assert [await notifier.notify_person("x") for _ in range(2)] == [False, True]
        url, token, body = posts[1]
        assert url == f"http://127.0.0.1:40123/user/alice/gpu/{notices.NOTICES}/ingest"
        assert token == TOKEN
        assert (body["message"], body["autoClose"], body["immediate"]) == ("x", False, True)

    async def test_the_hub_gets_a_report_on_this_server(
        self, posts: list[tuple[str, str, Any]]
    ) -> None:
        notifier = Notifier(self.ENVIRONMENT, 40123)
        last = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert [await notifier.post_to_hub(last) for _ in range(2)] == [False, True]
        url, token, body = posts[1]
        assert (url, token) == (self.ENVIRONMENT["JUPYTERHUB_ACTIVITY_URL"], TOKEN)
        assert body["servers"] == {"gpu": {"last_activity": "2026-01-02T03:04:05+00:00"}}
