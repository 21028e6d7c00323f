# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine commands: their time limit, their output, and how they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from collecting import Recorded
from fake_grid import alive, until
from folders import QSTAT
from gridhub.grid.command import run
from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError

Fake = Callable[[str, str], Path]

#: A command that writes the process ID of its child to a file and then waits for the child.
WITH_A_CHILD = "sleep 1000 & echo $! > {child}.new; mv {child}.new {child}; wait"


class TestRun:
    async def test_output_is_returned_and_arguments_arrive_as_they_are(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", 'printf "%s|" "$@"')
        assert await run(grid, "qstat", "-u", "a b", "$HOME", "*", "") == b"-u|a b|$HOME|*||"

    async def test_the_command_does_not_get_our_environment(
        self, grid: GridEngine, fake: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
        monkeypatch.setenv("SGE_ROOT", "/elsewhere")
        fake("qstat", "env")
        found = dict(
            line.split("=", 1) for line in (await run(grid, "qstat")).decode().splitlines()
        )
        for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(shells_own, None)
        # Grid Engine prints times in UTC, whatever the hub's zone is.
        assert found == grid.environment() | {"TZ": "UTC0"}
        assert found["SGE_ROOT"] == str(grid.root)

    async def test_a_failure_has_the_message_of_grid_engine(
        self, grid: GridEngine, fake: Fake, recorded: Recorded
    ) -> None:
        fake("qstat", f"cat {QSTAT / 'qmaster_down.err.txt'} >&2; exit 1")
        with pytest.raises(GridEngineError) as caught:
            await run(grid, "qstat")
        assert recorded("qmaster_down.err.txt").strip() in str(caught.value)

    async def test_a_failure_without_a_message_has_the_exit_status(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "echo no list; exit 3")
        with pytest.raises(GridEngineError, match="qstat: exit status 3"):
            await run(grid, "qstat")

    async def test_warnings_of_a_successful_command_are_not_output(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "echo warning >&2; echo list")
        assert await run(grid, "qstat") == b"list\n"

    async def test_a_message_that_is_not_utf8_is_kept(self, grid: GridEngine, fake: Fake) -> None:
        fake("qstat", r"printf '\377' >&2; exit 1")
        with pytest.raises(GridEngineError, match="\N{REPLACEMENT CHARACTER}"):
            await run(grid, "qstat")

    async def test_a_missing_command_is_named(self, grid: GridEngine) -> None:
        with pytest.raises(GridEngineError, match="qstat cannot be started: .*No such file"):
            await run(grid, "qstat")

    async def test_a_command_that_may_not_be_run_is_named(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "").chmod(0o644)
        with pytest.raises(GridEngineError, match="qstat cannot be started"):
            await run(grid, "qstat")

    async def test_more_output_than_a_pipe_holds_is_read(
        self, grid: GridEngine, fake: Fake
    ) -> None:
        fake("qstat", "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2")
        assert len(await run(grid, "qstat")) == 3_000_000

    @pytest.mark.parametrize("stream", ["", ">&2"])
    async def test_no_more_than_the_limit_is_read(
        self, grid: GridEngine, fake: Fake, tmp_path: Path, stream: str
    ) -> None:
        fake("qstat", f"head -c 5000 /dev/zero {stream}")
        await run(grid, "qstat", limit=5000)
        with pytest.raises(AnswerError, match="qstat: the answer has more than 4999 bytes"):
            await run(grid, "qstat", limit=4999)
        fake("qstat", f"echo $$ > {tmp_path}/pid; exec cat /dev/zero {stream}")
        for limit in range(0, 2**20, 2**16):
            async with asyncio.timeout(5):
                with pytest.raises(AnswerError, match="more than"):
                    await run(grid, "qstat", limit=limit)
            assert not alive(int((tmp_path / "pid").read_text("utf-8")))

    @pytest.mark.parametrize(
        "script",
        [
            "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > parent; wait",
            "sleep 1000 & echo $! > child; echo $$ > parent; exit 0",
        ],
        ids=["wrapper waits", "wrapper has ended"],
    )
    async def test_the_time_limit_kills_everything_the_command_started(
        self, grid: GridEngine, fake: Fake, tmp_path: Path, script: str
    ) -> None:
        fake("qstat", f"cd {tmp_path}\n{script}")
        with pytest.raises(GridEngineError, match="qstat gave no answer within 1 s"):
            await run(replace(grid, timeout=1.0), "qstat")
        for name in ("child", "parent"):
            pid = int((tmp_path / name).read_text(encoding="utf-8"))
            await until(lambda pid=pid: not alive(pid))

    async def test_cancelling_kills_everything_the_command_started(
        self, grid: GridEngine, fake: Fake, tmp_path: Path
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", WITH_A_CHILD.format(child=child))
        running = asyncio.create_task(run(grid, "qstat"))
        await until(child.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        pid = int(child.read_text(encoding="utf-8"))
        await until(lambda: not alive(pid))

    @pytest.mark.parametrize("turns", [1, 2, 3, 4])
    def test_a_process_that_stops_kills_a_command_it_just_started(
        self, grid: GridEngine, fake: Fake, tmp_path: Path, turns: int
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", WITH_A_CHILD.format(child=child))

        async def main() -> None:
            running = asyncio.create_task(run(grid, "qstat"))
            for _ in range(turns):
                await asyncio.sleep(0)
            # Block the loop until the command has a child.
            deadline = time.monotonic() + 10
            while not child.exists() and time.monotonic() < deadline:
                time.sleep(0.005)  # noqa: ASYNC251  # awaiting would let the start finish
            assert not running.done()

        # When main() has returned, asyncio.run cancels all other tasks and waits for them.
        thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
        thread.start()
        thread.join(20)
        pid = int(child.read_text(encoding="utf-8"))
        try:
            assert not thread.is_alive()
            asyncio.run(until(lambda: not alive(pid)))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def test_repeated_cancellation_still_kills_everything(
        self, grid: GridEngine, fake: Fake, tmp_path: Path
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", WITH_A_CHILD.format(child=child))
        running = asyncio.create_task(run(grid, "qstat"))
        await until(child.exists)
        for _ in range(3):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
        pid = int(child.read_text(encoding="utf-8"))
        await until(lambda: not alive(pid))

    async def test_a_child_in_its_own_session_does_not_delay_the_time_limit(
        self, grid: GridEngine, fake: Fake, tmp_path: Path
    ) -> None:
        child = tmp_path / "child"
        fake("qstat", f"setsid sh -c 'echo $$ > {child}; exec sleep 1000' &")
        with pytest.raises(GridEngineError, match="qstat gave no answer within 1 s"):
            async with asyncio.timeout(10):
                await run(replace(grid, timeout=1.0), "qstat")
        os.kill(int(child.read_text(encoding="utf-8")), signal.SIGKILL)
