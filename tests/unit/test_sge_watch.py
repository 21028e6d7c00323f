# SPDX-License-Identifier: BSD-3-Clause
"""What a session watches over: its run time, with a clock of the test's, and whether it is used."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from fake_grid import until
from gridhub.session import activity, notices
from gridhub.session.activity import Activity, IdleWatch, watch_use
from gridhub.session.notices import Notifier, warn, warn_of_early_end
from gridhub.session.rules import EarlyEnd, Rules, RulesError, read_early_end, read_rules

CONTENT: dict[str, Any] = {
    "run_time": 3600,
    "warnings": [1800, 600],
    "idle_timeout": 1200,
    "idle_notice": 300,
    "idle_report": 300,
    "words": {
        "run_time": "ends {end} in {minutes}",
        "idle": "idle, {end} in {minutes}",
        "left": "{left} left",
    },
}
RULES = read_rules(CONTENT)
TOKEN = "5ec4e7" * 8


class TestRules:
    def test_what_the_broker_wrote_is_read(self) -> None:
        assert Rules(3600, (1800, 600), 1200, 300, 300, CONTENT["words"]) == RULES
        assert read_rules(CONTENT | {"run_time": None, "warnings": []}).run_time is None

    def test_those_of_a_job_that_has_waited_since_before_an_upgrade_are_read_too(self) -> None:
        words = {name: text for name, text in CONTENT["words"].items() if name != "left"}
        assert read_rules(CONTENT | {"words": words}).words == words

    @pytest.mark.parametrize(
        "changes",
        [{name: wrong} for name in ("run_time", "idle_timeout", "idle_notice", "idle_report")
         for wrong in ("60", 60.0, True, -1, [60])]
        + [{name: None} for name in CONTENT if name != "run_time"]
        + [{"warnings": wrong} for wrong in (600, ["600"], [-1], [True], {"600": 1})]
        + [{"words": wrong} for wrong in ({}, {"idle": "x"}, [], "x")]
        + [{"words": CONTENT["words"] | {name: wrong}} for name in ("idle", "left")
         for wrong in ("", 4, None)]
        + [{"words": CONTENT["words"] | {"more": "x"}}, {"more": 1}],
    )  # fmt: skip
    def test_anything_else_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(RulesError):
            read_rules(CONTENT | changes)

    @pytest.mark.parametrize("content", [None, [], "x", 4, {}])
    def test_what_are_no_rules_is_refused(self, content: object) -> None:
        with pytest.raises(RulesError):
            read_rules(content)

    @pytest.mark.parametrize("name", sorted(CONTENT))
    def test_nothing_may_be_missing(self, name: str) -> None:
        with pytest.raises(RulesError):
            read_rules({key: value for key, value in CONTENT.items() if key != name})


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10_000.0
        sleep = asyncio.sleep

        async def pass_time(seconds: float) -> None:
            self.now += seconds
            await sleep(0)

        monkeypatch.setattr(asyncio, "sleep", pass_time)
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Told(Notifier):
    """Notes what it would say, and when; as often as the test says it does not get through."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.failures = 0
        self.person: list[tuple[float, str]] = []
        self.hub: list[tuple[float, datetime]] = []

    def _gets_through(self) -> bool:
        self.failures -= 1
        return self.failures < 0

    async def notify_person(self, message: str) -> bool:
        through = self._gets_through()
        if through:
            self.person.append((self.clock.now, message))
        return through

    async def post_to_hub(self, last: datetime) -> bool:
        through = self._gets_through()
        if through:
            self.hub.append((self.clock.now, last))
        return through


@pytest.fixture
def told(clock: Clock) -> Told:
    return Told(clock)


def at(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(seconds))


class TestRunTime:
    async def test_the_person_is_warned_when_it_is_due(self, clock: Clock, told: Told) -> None:
        await warn(RULES, 9_000.0, told)
        end = 9_000 + 3600
        assert told.person == [
            (end - 1800, f"ends {at(end)} in 30"),
            (end - 600, f"ends {at(end)} in 10"),
        ]

    async def test_of_an_earlier_end_the_person_hears_at_once_and_again_until_it_has_come(
        self, clock: Clock, told: Told
    ) -> None:
        end = clock.now + 1000
        await warn_of_early_end(EarlyEnd(end, "cut at {end}, in {minutes}"), RULES, told)
        assert told.person == [
            (end - 1000, f"cut at {at(end)}, in 17"),
            (end - 600, f"cut at {at(end)}, in 10"),
        ]
        assert clock.now == end

    async def test_an_earlier_end_that_nobody_can_be_told_of_comes_all_the_same(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = 10**9
        end = clock.now + 100
        await warn_of_early_end(EarlyEnd(end, "cut"), RULES, told)
        assert told.person == [] and end <= clock.now < end + 2 * notices.LOOK_INTERVAL

    def test_the_hubs_answer_is_an_end_or_nothing(self) -> None:
        assert read_early_end(b"") is None
        assert read_early_end(b'{"end": 5, "words": "cut"}') == EarlyEnd(5.0, "cut")
        for wrong in (b"x", b"[]", b"4", b'{"end": 5}', b'{"end": null, "words": "cut"}'):
            with pytest.raises(RulesError, match="not the end of a session"):
                read_early_end(wrong)

    async def test_warnings_not_below_the_run_time_are_left_out(
        self, clock: Clock, told: Told
    ) -> None:
        await warn(RULES._replace(run_time=600), 10_000.0, told)
        await warn(RULES._replace(run_time=601), clock.now, told)
        assert [message[-2:] for _, message in told.person] == ["10"]

    async def test_without_a_run_time_nobody_is_warned(self, clock: Clock, told: Told) -> None:
        await warn(RULES._replace(run_time=None), 10_000.0, told)
        assert told.person == []

    async def test_a_warning_that_does_not_get_through_is_given_later_and_is_right_then(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = int(240 / notices.LOOK_INTERVAL)
        await warn(RULES, 10_000.0, told)
        assert [message[-2:] for _, message in told.person] == ["26", "10"]
        assert [round(13_600 - moment) for moment, _ in told.person] == [1560, 600]

    async def test_it_is_not_given_after_the_next_one_is_due_nor_after_the_end(
        self, clock: Clock, told: Told
    ) -> None:
        told.failures = 10**9
        await warn(RULES, 10_000.0, told)
        assert told.person == []
        assert clock.now < 13_600 + 2 * notices.LOOK_INTERVAL

    async def test_a_start_that_took_long_is_warned_at_once_of_what_is_past(
        self, clock: Clock, told: Told
    ) -> None:
        await warn(RULES, 10_000.0 - 3600 + 60, told)
        assert [message[-4:] for _, message in told.person][-1:] == ["in 1"]

    def test_the_job_began_when_its_process_did(self) -> None:
        elapsed = int(subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())]))
        assert abs(time.time() - notices.started() - elapsed) < 2


class TestIdleWatch:
    @pytest.mark.parametrize(
        ("idle", "due"), [(0, ""), (599, ""), (600, ""), (899, ""), (900, "notice")]
    )
    def test_the_notice_is_due_before_the_end(self, idle: float, due: str) -> None:
        assert IdleWatch(RULES).look(idle) == due

    def test_it_is_due_until_it_is_given_and_then_no_more(self) -> None:
        watch = IdleWatch(RULES)
        assert [watch.look(900), watch.look(902)] == ["notice", "notice"]
        watch.told = True
        assert watch.look(904) == ""

    def test_after_use_it_is_due_again(self) -> None:
        watch = IdleWatch(RULES)
        watch.look(900)
        watch.told = True
        assert [watch.look(0), watch.look(2), watch.look(900)] == ["back", "", "notice"]

    def test_the_hub_hears_of_use_long_before_it_would_end_the_session(self) -> None:
        watch = IdleWatch(RULES)
        assert [watch.look(599), watch.look(0)] == ["", ""]
        assert [watch.look(600), watch.look(0), watch.look(0)] == ["", "back", ""]

    @pytest.mark.parametrize("notice", [0, 1, 600, 1199])
    def test_whatever_the_notice_use_after_half_the_time_is_told(self, notice: int) -> None:
        watch = IdleWatch(RULES._replace(idle_notice=notice))
        watch.look(600)
        watch.told = True
        assert watch.look(0) == "back"

    def test_without_a_notice_none_is_due(self) -> None:
        assert IdleWatch(RULES._replace(idle_notice=0)).look(5000) == ""


class Use:
    """An activity as the test says it is."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.used = clock.now
        self.again: float | None = None

    def last(self) -> datetime:
        if self.again is not None and self.clock.now >= self.again:
            self.used, self.again = self.again, None
        return datetime.fromtimestamp(self.used, UTC)


@pytest.fixture
def use(clock: Clock) -> Use:
    return Use(clock)


async def watched(rules: Rules, use: Any, told: Told, seconds: float) -> None:
    task = asyncio.create_task(watch_use(rules, use, told))
    until_then = told.clock.now + seconds
    await until(lambda: task.done() or told.clock.now >= until_then)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class TestWatchingUse:
    async def test_the_person_is_told_once_before_the_end(self, use: Use, told: Told) -> None:
        await watched(RULES, use, told, 1190)
        ((moment, message),) = told.person
        assert 0 <= moment - 10_900 <= notices.LOOK_INTERVAL
        assert message == f"idle, {at(11_200)} in 5"
        assert told.hub == []

    async def test_a_notice_that_does_not_get_through_is_tried_again(
        self, use: Use, told: Told
    ) -> None:
        told.failures = 30
        await watched(RULES, use, told, 1190)
        assert [message[-4:] for _, message in told.person] == ["in 4"]

    async def test_the_hub_is_told_at_once_that_the_session_is_in_use_again(
        self, use: Use, told: Told
    ) -> None:
        use.again = 10_950.0
        await watched(RULES, use, told, 1500)
        ((moment, last),) = told.hub
        assert 0 <= moment - 10_950 <= notices.LOOK_INTERVAL
        assert last == datetime.fromtimestamp(10_950, UTC)
        assert len(told.person) == 1

    async def test_a_hub_that_is_away_is_told_when_it_is_back(self, use: Use, told: Told) -> None:
        use.again = 10_700.0
        told.failures = 20
        await watched(RULES, use, told, 1000)
        assert [last.timestamp() for _, last in told.hub] == [10_700.0]
        assert 10_740 <= told.hub[0][0] < 10_750

    async def test_where_nothing_is_ended_nothing_is_said(self, use: Use, told: Told) -> None:
        await asyncio.wait_for(watch_use(RULES._replace(idle_timeout=0), use, told), 5)  # type: ignore[arg-type]
        assert told.person == told.hub == []


def moment(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


class Kernels:
    def __init__(self, *states: str) -> None:
        self.states = states
        self.last_kernel_activity = moment(50)

    def list_kernels(self) -> list[dict[str, str]]:
        return [{"execution_state": state} for state in self.states]


def web_app(*states: str, **settings: Any) -> Any:
    kernels = Kernels(*states)
    started = {"started": moment(60), "kernel_manager": kernels}
    return SimpleNamespace(settings=started | settings)


def is_now(found: datetime) -> bool:
    return datetime.now(UTC) - found < timedelta(seconds=5)


def request(method: str, path: str = "/", status: int = 200, kind: str = "application/json") -> Any:
    return SimpleNamespace(
        request=SimpleNamespace(method=method, path=path),
        get_status=lambda: status,
        _headers={"Content-Type": kind},
    )


class TestActivity:
    @pytest.mark.parametrize(
        ("states", "busy"),
        [
            ((), False),
            (("idle",), False),
            (("starting", "dead", "unknown"), False),
            (("busy",), True),
            (("idle", "busy"), True),
        ],
    )
    def test_a_session_is_in_use_while_a_kernel_is_busy(
        self, states: tuple[str, ...], busy: bool
    ) -> None:
        activity = Activity(web_app(*states))
        assert activity.in_use() is busy
        assert is_now(activity.last()) is busy

    def test_it_was_last_in_use_when_a_kernel_or_a_terminal_said_something(self) -> None:
        app = web_app("idle")
        activity = Activity(app)
        assert activity.last() == app.settings["kernel_manager"].last_kernel_activity
        app.settings["terminal_last_activity"] = moment(40)
        assert activity.last() == app.settings["terminal_last_activity"]

    def test_the_server_says_what_we_say(self) -> None:
        app = web_app("busy")
        Activity(app)
        assert is_now(app.last_activity())

    @pytest.mark.parametrize(
        ("asked", "used"),
        [
            (request("PUT", "/user/a/api/contents/x.ipynb"), True),
            (request("POST", "/user/a/api/kernels"), True),
            (request("DELETE", "/user/a/api/terminals/1", 204), True),
            (request("GET", "/user/a/lab", kind="text/html; charset=UTF-8"), True),
            (request("GET", "/user/a/api/contents"), False),
            (request("HEAD", "/user/a/api"), False),
            (request("GET", "/user/a/lab", 302), False),
            (request("PUT", "/user/a/api/contents/x.ipynb", 403), False),
            (request("GET", "/user/a/lab", 403, "text/html"), False),
            (request("PUT", "/user/a/lab/api/workspaces/default", 204), False),
            (request("POST", f"/user/a/{notices.NOTICES}/ingest"), False),
        ],
    )
    def test_what_changes_something_or_opens_a_page_is_use_and_asking_for_news_is_not(
        self, asked: Any, used: bool
    ) -> None:
        app = web_app("idle")
        logged: list[Any] = []
        app.settings["log_function"] = logged.append
        activity = Activity(app)
        app.settings["log_function"](asked)
        assert is_now(activity.last()) is used
        assert logged == [asked]

    def test_what_jupyter_server_counts_besides_is_no_use(self) -> None:
        app = web_app("idle", api_last_activity=datetime.now(UTC))
        assert not is_now(Activity(app).last())


class Shell:
    """An interactive shell in a terminal, as Jupyter starts one."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(str(shutil.which("bash")), ["bash", "--norc", "-i"])
        self.seen = b""
        self.ptyproc = self

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def reads(self, text: bytes) -> None:
        """Wait until it has printed this."""
        while text not in self.seen:
            assert select.select([self.fd], [], [], 10)[0], self.seen
            self.seen += os.read(self.fd, 1000)

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell()
    shell.types("echo rea''dy\n")
    shell.reads(b"ready")
    yield shell
    if shell.fd >= 0:
        shell.close()


class TestTerminal:
    async def test_a_shell_at_its_prompt_is_no_use(self, shell: Shell) -> None:
        await until(lambda: os.tcgetpgrp(shell.fd) == shell.pid)
        assert not activity.runs_a_program(shell)

    async def test_a_program_in_the_foreground_is_use_until_it_ends(self, shell: Shell) -> None:
        app = web_app("idle", terminal_manager=SimpleNamespace(terminals={"1": shell}))
        activity = Activity(app)
        # A program that says so runs; before that, Ctrl-C may meet the shell's own fork, which
        # takes no notice of it.
        shell.types("sh -c 'echo run\"\"ning; exec sleep 1000'\n")
        shell.reads(b"running")
        await until(activity.in_use)
        assert is_now(activity.last())
        shell.types("\x03")
        await until(lambda: not activity.in_use())

    async def test_a_program_in_the_background_is_none(self, shell: Shell) -> None:
        shell.types("sleep 1000 & echo star''ted\n")
        shell.reads(b"started")
        await until(lambda: not activity.runs_a_program(shell))
        shell.types("kill %1\n")

    def test_a_terminal_that_is_closed_is_none(self, shell: Shell) -> None:
        shell.close()
        shell.fd = -1
        assert not activity.runs_a_program(shell)


class TestTeller:
    @pytest.fixture
    def posts(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
        seen: list[tuple[str, str, Any]] = []

        def note(url: str, token: str, body: Any, context: Any) -> tuple[int, bytes]:
            seen.append((url, token, body))
            return 503 if len(seen) == 1 else 200, b""

        monkeypatch.setattr("gridhub.session.hub_api.ask", note)
        return seen

    ENVIRONMENT = {
        "JUPYTERHUB_API_TOKEN": TOKEN,
        "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/gpu/",
        "JUPYTERHUB_SERVER_NAME": "gpu",
        "JUPYTERHUB_ACTIVITY_URL": "http://hub:8081/hub/api/users/alice/activity",
    }

    async def test_the_person_is_told_through_the_sessions_own_address(
        self, posts: list[tuple[str, str, Any]]
    ) -> None:
        teller = Notifier(self.ENVIRONMENT, 40123)
        assert [await teller.notify_person("x") for _ in range(2)] == [False, True]
        url, token, body = posts[1]
        assert url == f"http://127.0.0.1:40123/user/alice/gpu/{notices.NOTICES}/ingest"
        assert token == TOKEN
        assert (body["message"], body["autoClose"], body["immediate"]) == ("x", False, True)

    async def test_the_hub_is_told_of_this_server(self, posts: list[tuple[str, str, Any]]) -> None:
        teller = Notifier(self.ENVIRONMENT, 40123)
        last = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert [await teller.post_to_hub(last) for _ in range(2)] == [False, True]
        url, token, body = posts[1]
        assert (url, token) == (self.ENVIRONMENT["JUPYTERHUB_ACTIVITY_URL"], TOKEN)
        assert body["servers"] == {"gpu": {"last_activity": "2026-01-02T03:04:05+00:00"}}
