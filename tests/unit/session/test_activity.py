# SPDX-License-Identifier: BSD-3-Clause
"""When a session counts as in use."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from fake_grid import until
from gridhub.session import activity, notices
from gridhub.session.activity import Activity, IdleWatch, watch_use
from gridhub.session.rules import Rules
from watching import RULES, Clock, RecordingNotifier, at, moment


class TestIdleWatch:
    @pytest.mark.parametrize(
        ("idle", "due"), [(0, ""), (599, ""), (600, ""), (899, ""), (900, "notice")]
    )
    def test_the_notice_is_due_before_the_end(self, idle: float, due: str) -> None:
        assert IdleWatch(RULES).look(idle) == due

    def test_the_notice_is_due_until_it_is_given(self) -> None:
        watch = IdleWatch(RULES)
        assert [watch.look(900), watch.look(902)] == ["notice", "notice"]
        watch.notified = True
        assert watch.look(904) == ""

    def test_the_notice_is_due_again_after_use(self) -> None:
        watch = IdleWatch(RULES)
        watch.look(900)
        watch.notified = True
        assert [watch.look(0), watch.look(2), watch.look(900)] == ["back", "", "notice"]

    def test_the_hub_learns_of_use_long_before_it_would_end_the_session(self) -> None:
        watch = IdleWatch(RULES)
        assert [watch.look(599), watch.look(0)] == ["", ""]
        assert [watch.look(600), watch.look(0), watch.look(0)] == ["", "back", ""]

    @pytest.mark.parametrize("notice", [0, 1, 600, 1199])
    def test_use_after_half_the_time_is_reported_with_any_notice(self, notice: int) -> None:
        watch = IdleWatch(RULES._replace(idle_notice=notice))
        watch.look(600)
        watch.notified = True
        assert watch.look(0) == "back"

    def test_no_notice_is_due_if_the_rules_have_none(self) -> None:
        assert IdleWatch(RULES._replace(idle_notice=0)).look(5000) == ""


class Use:
    """A stand-in for ``Activity`` that the test controls."""

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


async def watched(rules: Rules, use: Any, notifier: RecordingNotifier, seconds: float) -> None:
    task = asyncio.create_task(watch_use(rules, use, notifier))
    end = notifier.clock.now + seconds
    await until(lambda: task.done() or notifier.clock.now >= end)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class TestWatchingUse:
    async def test_the_user_is_notified_once_before_the_end(
        self, use: Use, notifier: RecordingNotifier
    ) -> None:
        await watched(RULES, use, notifier, 1190)
        ((moment, message),) = notifier.to_person
        assert 0 <= moment - 10_900 <= notices.LOOK_INTERVAL
        assert message == f"idle, {at(11_200)} in 5"
        assert notifier.to_hub == []

    async def test_an_undelivered_notice_is_sent_again(
        self, use: Use, notifier: RecordingNotifier
    ) -> None:
        notifier.failures = 30
        await watched(RULES, use, notifier, 1190)
        assert [message[-4:] for _, message in notifier.to_person] == ["in 4"]

    async def test_the_hub_learns_at_once_that_the_session_is_in_use_again(
        self, use: Use, notifier: RecordingNotifier
    ) -> None:
        use.again = 10_950.0
        await watched(RULES, use, notifier, 1500)
        ((moment, last),) = notifier.to_hub
        assert 0 <= moment - 10_950 <= notices.LOOK_INTERVAL
        assert last == datetime.fromtimestamp(10_950, UTC)
        assert len(notifier.to_person) == 1

    async def test_an_unavailable_hub_gets_the_report_when_it_is_back(
        self, use: Use, notifier: RecordingNotifier
    ) -> None:
        use.again = 10_700.0
        notifier.failures = 20
        await watched(RULES, use, notifier, 1000)
        assert [last.timestamp() for _, last in notifier.to_hub] == [10_700.0]
        assert 10_740 <= notifier.to_hub[0][0] < 10_750

    async def test_without_an_idle_timeout_there_are_no_notices(
        self, use: Use, notifier: RecordingNotifier
    ) -> None:
        await asyncio.wait_for(watch_use(RULES._replace(idle_timeout=0), use, notifier), 5)  # type: ignore[arg-type]
        assert notifier.to_person == notifier.to_hub == []


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

    def test_the_last_use_is_the_last_output_of_a_kernel_or_terminal(self) -> None:
        app = web_app("idle")
        activity = Activity(app)
        assert activity.last() == app.settings["kernel_manager"].last_kernel_activity
        app.settings["terminal_last_activity"] = moment(40)
        assert activity.last() == app.settings["terminal_last_activity"]

    def test_the_server_reports_the_same_time_of_use(self) -> None:
        app = web_app("busy")
        Activity(app)
        assert is_now(app.last_activity())

    @pytest.mark.parametrize(
        ("handler", "used"),
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
    def test_changes_and_opened_pages_are_use_and_polling_is_not(
        self, handler: Any, used: bool
    ) -> None:
        app = web_app("idle")
        logged: list[Any] = []
        app.settings["log_function"] = logged.append
        activity = Activity(app)
        app.settings["log_function"](handler)
        assert is_now(activity.last()) is used
        assert logged == [handler]

    def test_other_activity_that_jupyter_server_counts_is_not_use(self) -> None:
        app = web_app("idle", api_last_activity=datetime.now(UTC))
        assert not is_now(Activity(app).last())


class Shell:
    """An interactive shell in a terminal, as in Jupyter."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # A shell passes on that its own parent ignores Ctrl-C, as a job in the background does.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(str(shutil.which("bash")), ["bash", "--norc", "-i"])
        self.seen = b""
        self.ptyproc = self

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def reads(self, text: bytes) -> None:
        """Wait until the shell has printed a text."""
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
    async def test_a_shell_at_its_prompt_is_not_use(self, shell: Shell) -> None:
        await until(lambda: os.tcgetpgrp(shell.fd) == shell.pid)
        assert not activity.runs_a_program(shell)

    async def test_a_program_in_the_foreground_is_use_until_it_ends(self, shell: Shell) -> None:
        app = web_app("idle", terminal_manager=SimpleNamespace(terminals={"1": shell}))
        activity = Activity(app)
        # Press Ctrl-C only after the program has printed its text. An earlier Ctrl-C may reach the
        # fork of the shell, which ignores Ctrl-C.
        shell.types("sh -c 'echo run\"\"ning; exec sleep 1000'\n")
        shell.reads(b"running")
        await until(activity.in_use)
        assert is_now(activity.last())
        shell.types("\x03")
        await until(lambda: not activity.in_use())

    async def test_a_program_in_the_background_is_not_use(self, shell: Shell) -> None:
        shell.types("sleep 1000 & echo star''ted\n")
        shell.reads(b"started")
        await until(lambda: not activity.runs_a_program(shell))
        shell.types("kill %1\n")

    def test_a_closed_terminal_is_not_use(self, shell: Shell) -> None:
        shell.close()
        shell.fd = -1
        assert not activity.runs_a_program(shell)
