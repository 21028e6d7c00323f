"""The canary: no other session may be stopped, and a failure has a reason."""

from __future__ import annotations

from typing import Any

import pytest

from gridhub.maintenance import canary, host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

SETTINGS = Settings(canary_user="canary", hub_api="https://127.0.0.1:1/hub/api")
READY = {"servers": {"": {"ready": True}}}
WAITING = {"servers": {"": {"ready": False}}}


class Hub:
    """Answers calls of the hub's API."""

    def __init__(self, state: dict[str, Any], started: tuple[int, dict[str, Any]]) -> None:
        self.state: dict[str, Any] = {"servers": {}}
        self.next, self.started = state, started
        self.calls: list[str] = []

    def call(self, _settings: Settings, method: str, path: str) -> tuple[int, dict[str, Any]]:
        self.calls.append(method)
        if method == "POST" and self.started[0] == 201:
            self.state = self.next
        if method == "DELETE":
            self.state = {"servers": {}}
        return self.started if method == "POST" else (200, self.state)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(READY, (201, {}))
    monkeypatch.setattr(canary, "call_hub", hub.call)
    monkeypatch.setattr(canary, "_reach_problem", lambda _: "")
    monkeypatch.setattr(host, "wait_until_clear", lambda problem, *_: problem())
    return hub


def test_a_session_is_started_and_stopped(hub: Hub) -> None:
    assert canary.try_session(SETTINGS) == "ready after 0 s"
    assert hub.calls.count("POST") == hub.calls.count("DELETE") == 1


def test_a_session_that_is_there_already_is_left_alone(hub: Hub) -> None:
    hub.state = READY
    with pytest.raises(MaintenanceError, match="canary: canary has a session already"):
        canary.try_session(SETTINGS)
    assert set(hub.calls) == {"GET"}


def test_a_session_that_somebody_starts_in_between_is_left_alone(hub: Hub) -> None:
    hub.started = (400, {"message": "it is running"})
    with pytest.raises(MaintenanceError, match="it does not start: 400 it is running"):
        canary.try_session(SETTINGS)
    assert "DELETE" not in hub.calls


def test_what_a_session_waits_for_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.next = WAITING
    monkeypatch.setattr(canary, "_progress", lambda _: "Job 7 is waiting.")
    with pytest.raises(MaintenanceError, match=r"not ready within 180 s\. Job 7 is waiting\."):
        canary.try_session(SETTINGS)
    assert hub.calls[-1] == "DELETE"


def test_a_session_that_cannot_be_reached_is_a_failure(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "_reach_problem", lambda _: "through https://proxy: status 404")
    with pytest.raises(MaintenanceError, match="cannot be reached: through https://proxy"):
        canary.try_session(SETTINGS)
    assert hub.calls[-1] == "DELETE"


def test_a_hub_that_does_not_answer_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "internal_tls", lambda *_: None)
    token = tmp_path / "token"
    settings = Settings(
        canary_user="canary", hub_api="http://127.0.0.1:1/hub/api", canary_token=str(token)
    )
    with pytest.raises(MaintenanceError, match=f"No such file or directory: '{token}'"):
        canary.call_hub(settings, "GET", "/users/canary")
    token.write_text("x")
    with pytest.raises(MaintenanceError, match="/hub/api/users/canary: .*Connection refused"):
        canary.call_hub(settings, "GET", "/users/canary")
