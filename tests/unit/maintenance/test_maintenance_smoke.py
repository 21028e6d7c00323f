"""The smoke test: no other session may be stopped, nothing may be left, a failure has a reason."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gridhub.maintenance import canary as canaries
from gridhub.maintenance import home_files, host, smoke
from gridhub.maintenance.canary import is_ours
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.home_files import list_home, remove_new
from gridhub.maintenance.settings import Settings
from gridhub.maintenance.smoke_steps import STEPS, metrics_text

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(canary_user="canary", hub_api="https://127.0.0.1:1/hub/api")


class Canary:
    """Answers as the hub and the session would; each attribute can be made to fail."""

    uses_password = True
    name = "canary"

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.started = NOW.isoformat()
        self.refusal: tuple[int, dict[str, Any]] = (201, {})
        self.ready = True
        self.fails: dict[str, str] = {}
        self.stops = True
        self.tokens: list[dict[str, str]] = []
        self.calls: list[str] = []

    def _do(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise MaintenanceError(self.fails[name])

    def open_login_page(self) -> None:
        self._do("login page")

    def log_in(self) -> None:
        self._do("log in")

    def log_out(self) -> None:
        self._do("log out")

    def open_session(self) -> None:
        self._do("open")

    def start_kernel(self) -> str:
        self._do("kernel")
        return "k"

    def run_cell(self, _kernel: str, code: str, _seconds: float) -> str:
        self._do("cell")
        return str(eval(code[6:-1]))

    def progress(self) -> str:
        return "Job 7 is waiting."

    def session(self) -> dict[str, Any]:
        return self.state

    def hub_api(self, method: str, path: str, _body: Any = None) -> tuple[int, dict[str, Any]]:
        self.calls.append(f"{method} {path}")
        if path.endswith("/server"):
            if method == "POST" and self.refusal[0] == 201:
                self.state = {"ready": self.ready, "started": self.started, "pending": None}
                self.tokens.append({"id": "new", "created": NOW.isoformat()})
            if method == "DELETE" and self.stops:
                self.state = {}
            return self.refusal if method == "POST" else (204, {})
        if path.endswith("/tokens"):
            return 200, {"api_tokens": list(self.tokens)}
        number = path.rpartition("/")[2]
        self.tokens = [each for each in self.tokens if each["id"] != number]
        return 204, {}


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Canary:
    canary = Canary()
    monkeypatch.setattr(canaries, "STATE", tmp_path)
    monkeypatch.setattr(canaries, "RUNNING", tmp_path / "running.json")
    monkeypatch.setattr(smoke, "LAST", tmp_path / "last.json")
    monkeypatch.setattr(canaries, "Person", lambda _: canary)
    monkeypatch.setattr(canaries, "smallest_choice", lambda _: {"cores": 1})
    monkeypatch.setattr(canaries, "session_files", lambda _: ["old"])
    monkeypatch.setattr(canaries, "remove_session_files", lambda *_: ["new"])
    monkeypatch.setattr(canaries, "job_of", lambda _: "7")
    monkeypatch.setattr(host, "now", lambda: NOW)
    monkeypatch.setattr(host, "wait_until_clear", lambda problem, *_: problem() and problem())
    return canary


def last() -> dict[str, Any]:
    return dict(json.loads(smoke.LAST.read_text()))


def test_a_session_is_used_and_stopped_and_nothing_is_left(canary: Canary) -> None:
    assert smoke.smoke_test(SETTINGS).startswith("ready after 0 s")
    assert canary.state == {} and canary.tokens == [] and not canaries.RUNNING.exists()
    assert canary.calls[-1] == "log out"
    assert last()["ok"] and set(last()["seconds"]) == set(STEPS)


def test_a_session_that_no_smoke_test_started_is_left_alone(canary: Canary) -> None:
    canary.state = {"ready": True, "started": NOW.isoformat()}
    with pytest.raises(MaintenanceError, match="canary has a session already"):
        smoke.smoke_test(SETTINGS)
    assert not any("DELETE" in call or "POST" in call for call in canary.calls)


def test_a_session_that_a_killed_smoke_test_left_is_stopped(canary: Canary) -> None:
    earlier = NOW - timedelta(hours=1)
    begun = {"started": earlier.isoformat(), "asked": True, "files": [], "tokens": []}
    canaries.RUNNING.write_text(json.dumps(begun))
    canary.state = {"ready": True, "started": (earlier + timedelta(seconds=3)).isoformat()}
    assert "that an earlier smoke test left" in smoke.smoke_test(SETTINGS)
    assert canary.state == {}


@pytest.mark.parametrize(
    ("started", "asked", "expected"),
    [
        (NOW, True, True),
        (NOW + timedelta(seconds=200), True, True),
        # Somebody has started this one later, after the smoke test was killed.
        (NOW + timedelta(hours=1), True, False),
        (NOW - timedelta(minutes=1), True, False),
        # The smoke test had not asked for a session yet.
        (NOW, False, False),
    ],
)
def test_only_a_session_of_the_time_of_a_smoke_test_is_its_own(
    started: datetime, asked: bool, expected: bool
) -> None:
    session = {"started": started.isoformat().replace("+00:00", "Z")}
    assert is_ours(session, {"started": NOW.isoformat(), "asked": asked}) is expected
    assert not is_ours(session, {})


def test_a_refused_start_stops_nothing_and_has_the_hubs_words(canary: Canary) -> None:
    canary.refusal = (400, {"message": "the menu has no such choice"})
    with pytest.raises(MaintenanceError, match="the hub refuses it: 400 the menu has no such"):
        smoke.smoke_test(SETTINGS)
    assert not any(call.startswith("DELETE") and "server" in call for call in canary.calls)
    assert last()["failed"] == "start"


@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("login page", "login_page"),
        ("log in", "login"),
        ("open", "open"),
        ("kernel", "kernel"),
        ("cell", "cell"),
    ],
)
def test_the_step_that_fails_is_named_and_the_session_is_stopped(
    canary: Canary, call: str, step: str
) -> None:
    canary.fails = {call: "broken"}
    with pytest.raises(MaintenanceError, match="broken\nLook at: "):
        smoke.smoke_test(SETTINGS)
    assert last()["failed"] == step and canary.state == {} and not canaries.RUNNING.exists()
    assert f'gridhub_smoke_step_failed{{step="{step}"}} 1' in metrics_text(last(), has_timer=True)


def test_no_hint_asks_the_journal_for_what_matches_two_names_at_once() -> None:
    """``journalctl -u A -t B`` shows only lines that match both, so none."""
    for step, (_, look_at) in STEPS.items():
        for command in look_at.split(";"):
            assert not (" -u " in command and " -t " in command), step


def test_a_failure_keeps_the_time_of_the_last_success(canary: Canary, tmp_path: Path) -> None:
    metrics = tmp_path / "gridhub_smoke.prom"
    settings = replace(SETTINGS, metrics_file=str(tmp_path / "m.prom"), smoke_minutes=15)
    time = f"gridhub_smoke_last_success_timestamp_seconds {NOW.timestamp():.0f}\n"
    canary.fails = {"open": "broken"}
    assert smoke.by_timer(settings) == 1
    # There was no success yet.
    assert "gridhub_smoke_success 0\n" in metrics.read_text() and time not in metrics.read_text()
    canary.fails = {}
    assert smoke.by_timer(settings) == 0
    assert "gridhub_smoke_success 1\n" in metrics.read_text() and time in metrics.read_text()
    canary.fails = {"open": "broken"}
    assert smoke.by_timer(settings) == 1
    assert "gridhub_smoke_success 0\n" in metrics.read_text() and time in metrics.read_text()
    # Without the timer, the age of the last success is no problem.
    smoke.by_timer(replace(settings, smoke_minutes=0))
    assert time not in metrics.read_text()


def test_what_a_session_waits_for_is_named(canary: Canary) -> None:
    canary.ready = False
    with pytest.raises(MaintenanceError, match=r"not ready within 180 s\. Job 7 is waiting\."):
        smoke.smoke_test(SETTINGS)
    assert canary.state == {}


def test_a_session_that_does_not_stop_is_noted_for_the_next_smoke_test(canary: Canary) -> None:
    canary.stops = False
    with pytest.raises(MaintenanceError, match="does not stop"):
        smoke.smoke_test(SETTINGS)
    assert json.loads(canaries.RUNNING.read_text())["asked"]
    canary.stops = True
    smoke.smoke_test(SETTINGS)
    assert canary.state == {}


def test_the_first_failure_is_reported_not_that_of_the_cleaning(canary: Canary) -> None:
    canary.fails, canary.stops = {"kernel": "no kernel"}, False
    with pytest.raises(MaintenanceError, match="no kernel"):
        smoke.smoke_test(SETTINGS)


def test_two_smoke_tests_never_run_at_a_time(
    canary: Canary, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def start_kernel() -> str:
        inside.set()
        assert go_on.wait(10)
        return "k"

    monkeypatch.setattr(canary, "start_kernel", start_kernel)
    first = threading.Thread(target=smoke.smoke_test, args=(SETTINGS,))
    first.start()
    assert inside.wait(10)
    assert smoke.by_timer(SETTINGS) == 0
    assert "Another smoke test is running" in capsys.readouterr().out
    go_on.set()
    first.join()
    assert canary.calls.count("POST /users/canary/server") == 1


def test_the_timer_does_nothing_while_no_session_may_start(canary: Canary, tmp_path: Path) -> None:
    drain = tmp_path / "drain.json"
    settings = Settings(canary_user="canary", drain_file=str(drain))
    window = {"refuse": NOW.isoformat(), "end": (NOW + timedelta(hours=1)).isoformat()}
    drain.write_text(json.dumps(window))
    assert smoke.by_timer(settings) == 0 and not canary.calls
    drain.write_text(json.dumps(window | {"end": NOW.isoformat()}))
    assert smoke.by_timer(settings) == 0 and canary.calls


def test_a_site_without_a_canary_is_told_the_variable() -> None:
    with pytest.raises(MaintenanceError, match="set maintenance_canary_user"):
        smoke.smoke_test(Settings())


def make(home: Path, *names: str) -> None:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("")


def test_only_new_files_where_sessions_write_are_removed(tmp_path: Path) -> None:
    make(tmp_path, ".ipython/old", "work.txt")
    before = list_home(tmp_path)
    make(tmp_path, ".ipython/new/a", ".local/share/jupyter/runtime/x", "mine.txt", ".bashrc")
    (tmp_path / ".jupyter").symlink_to("/etc")
    remove_new(tmp_path, before)
    left = sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*"))
    assert left == [".bashrc", ".ipython", ".ipython/old", ".jupyter", "mine.txt", "work.txt"]


def test_a_home_with_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_files, "MAX_FILES", 3)
    make(tmp_path, *(f".cache/{number}" for number in range(5)))
    with pytest.raises(MaintenanceError, match="more than 3 files"):
        list_home(tmp_path)
