# SPDX-License-Identifier: BSD-3-Clause
"""The status bar's figures, read from real processes in /proc."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gridhub.contract import STATUS_WORDS
from gridhub.session import status
from gridhub.session.rules import read_rules
from gridhub.session.status import Meter, Status, job_processes, job_scope, limits
from gridhub.words import read_own
from started import RULES

MIB = 2**20
WORDS = {name: read_own()[f"status.{name}"] for name in STATUS_WORDS}
#: A group that only the processes of one test have, as Grid Engine gives one to each job.
JOB = 54_321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give processes a group")


@contextmanager
def run(code: str, groups: list[int]) -> Iterator[int]:
    """Run Python code as a process in groups until the code says that it is ready."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True, extra_groups=groups
    ) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


WAIT = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
#: A program in the background, whose parent has ended.
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        print(os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(60)
"""


@as_root
class TestProcesses:
    def test_only_processes_of_the_job_count(self) -> None:
        with run(WAIT, [JOB, 4]) as own, run(WAIT, [JOB + 1, 4]) as other_job:
            found = {int(folder.name) for folder in job_processes({JOB, 4})}
            assert own in found
            assert other_job not in found

    def test_programs_in_the_background_count(self) -> None:
        with run(DAEMON, [JOB]) as daemon:
            try:
                assert daemon in {int(folder.name) for folder in job_processes({JOB})}
            finally:
                os.kill(daemon, signal.SIGKILL)


class TestScope:
    """Open Cluster Scheduler 9.1 names scopes so, as its public source shows; it was not seen."""

    @pytest.mark.parametrize(
        ("cgroups", "scope"),
        [
            (
                "0::/ocs6444.slice/ocs6444-jobs.slice/ocs6444.12.scope\n",
                "/ocs6444.slice/ocs6444-jobs.slice/ocs6444.12.scope",
            ),
            (
                "5:memory:/user.slice\n1:name=systemd:/ocs1.slice/ocs1.12.3.scope/kernel\n",
                "/ocs1.slice/ocs1.12.3.scope",
            ),
            ("0::/user.slice/user-1000.slice/session-12.scope\n", ""),
            ("0::/system.slice/gridengine-exec.service\n", ""),
            ("0::/\n", ""),
            ("", ""),
        ],
    )
    def test_the_scope_of_a_job_is_found(self, cgroups: str, scope: str) -> None:
        assert job_scope(cgroups) == scope

    def test_only_processes_in_the_scope_count(self) -> None:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1].split(":")[-1]
        with run(WAIT, []) as pid:
            assert pid in {int(folder.name) for folder in job_processes(set(), own)}
            others = {int(folder.name) for folder in job_processes(set(), f"{own}/ocs1.12.scope")}
            assert pid not in others


class TestMeter:
    @pytest.fixture
    def meter(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Meter]:
        """Make a meter for some processes only, which reads again whenever it is asked."""

        def make(*pids: int) -> Meter:
            folders = [Path(f"/proc/{pid}") for pid in pids]
            monkeypatch.setattr(status, "READ_EVERY", 0.0)
            monkeypatch.setattr(status, "REST", 0)
            monkeypatch.setattr(status, "job_processes", lambda groups, scope: iter(folders))
            return Meter()

        return make

    def test_memory_that_is_only_reserved_is_not_in_use(self, meter: Callable[..., Meter]) -> None:
        code = f"import mmap; kept = mmap.mmap(-1, {300 * MIB}); {WAIT}"
        with run(code, []) as pid, run(WAIT, []) as other:
            usage = meter(other, pid).read()
            assert 300 * MIB < usage.reserved < 500 * MIB
            assert 2 * MIB < usage.memory < 100 * MIB

    def test_memory_that_processes_share_counts_once(self, meter: Callable[..., Meter]) -> None:
        fork = "if os.fork() == 0: time.sleep(60)"
        code = f"import os, time; kept = b'x' * {100 * MIB}\n{fork}\n{WAIT}"
        with run(code, []) as pid:
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            try:
                assert 100 * MIB < meter(pid, int(child)).read().memory < 150 * MIB
            finally:
                os.kill(int(child), signal.SIGKILL)

    def test_processor_time_is_the_use_since_the_last_reading(
        self, meter: Callable[..., Meter]
    ) -> None:
        with run("import os; print(os.getpid(), flush=True)\nwhile True: pass", []) as pid:
            busy = meter(pid)
            deadline = time.monotonic() + 30
            while not (cores := busy.read().cores) and time.monotonic() < deadline:
                time.sleep(1.0)
            assert 0 < cores < 1.5

    def test_the_meter_reads_seldom_and_survives_the_end_of_a_process(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = [Path("/proc/self"), Path("/proc/4999999")]
        calls: list[object] = []

        def processes(groups: set[int], scope: str) -> Iterator[Path]:
            calls.append(groups)
            return iter(folders)

        monkeypatch.setattr(status, "job_processes", processes)
        meter = Meter()
        assert meter.read().memory > MIB
        assert len(calls) == 1

    def test_the_sessions_own_process_counts_although_it_belongs_to_root(self) -> None:
        """It has switched off core dumps, so smaps_rollup cannot be read; statm can."""
        code = """
import ctypes, os
from pathlib import Path
from gridhub.session.status import Meter, job_processes
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
print(os.getpid() in {int(each.name) for each in job_processes(set(os.getgroups()))})
print(Meter().read().memory > 2**20)
"""
        environment = {"PYTHONPATH": str(Path(status.__file__).parents[2])}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            **({"user": 65534, "extra_groups": [JOB]} if os.getuid() == 0 else {}),
        )
        assert run.stdout.split() == ["True", "True"]


class TestLimits:
    def test_grid_engines_limit_counts_before_the_users_choice(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit = [resource.RLIM_INFINITY]
        monkeypatch.setattr(resource, "getrlimit", lambda which: (limit[0], limit[0]))
        monkeypatch.setenv("NSLOTS", "3")
        monkeypatch.delenv("MEM_LIMIT", raising=False)
        assert limits() == (None, False, 3)
        monkeypatch.setenv("MEM_LIMIT", "4000")
        assert limits() == (4000, False, 3)
        limit[0] = 2000
        assert limits() == (2000, True, 3)
        monkeypatch.delenv("NSLOTS")
        assert limits()[2] == len(os.sched_getaffinity(0))


class TestStatus:
    def test_the_pages_get_the_time_left_the_memory_and_the_cores(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NSLOTS", "2")
        monkeypatch.setenv("MEM_LIMIT", str(4 * 2**30))
        answer = Status(read_rules(RULES), time.time() - 1000).read()
        assert 2590 <= answer["left"] <= 2600
        assert answer["memory"]["used"] > MIB
        assert answer["memory"]["limit"] == 4 * 2**30
        assert answer["memory"]["reserved"] is None
        assert answer["cpu"]["limit"] == 2
        assert Status(read_rules(RULES), 0.0).read()["left"] == 0
        assert Status(read_rules(RULES | {"run_time": None}), 0.0).read()["left"] is None

    def test_the_pages_save_before_the_end_and_whenever_they_are_told_to(self) -> None:
        def saves(left: float) -> int:
            return int(Status(read_rules(RULES), time.time() - 3600 + left).read()["saves"])

        assert [saves(left) for left in (100, 80, 10, 0)] == [0, 1, 2, 2]
        status = Status(read_rules(RULES | {"run_time": None}), 0.0)
        assert not status.is_watched()
        assert status.read()["saves"] == 0
        assert status.is_watched()
        status.save()
        assert status.read()["saves"] == 1

    @pytest.mark.parametrize(
        ("changes", "soon"),
        [
            ({}, 1800),
            # The run time is only 1800 s, so the warning 1800 s before the end is left out.
            ({"run_time": 1800}, 600),
            ({"warnings": []}, 300),
            ({"run_time": None}, 300),
        ],
    )
    def test_the_pages_get_the_words_and_when_the_time_stands_out(
        self, changes: dict[str, Any], soon: int
    ) -> None:
        rules = read_rules(RULES | {"words": RULES["words"] | WORDS} | changes)
        assert Status(rules, 0.0).page_settings() == {
            "gridhubStatus": {"words": WORDS, "soon": soon}
        }

    def test_a_job_from_before_an_upgrade_shows_no_status(self) -> None:
        words = {"run_time": "x", "idle": "x", "left": "{left}"}
        assert Status(read_rules(RULES | {"words": words}), 0.0).page_settings() == {}

    def test_the_page_fills_in_all_that_the_words_name(self) -> None:
        program = (Path(status.__file__).parents[2] / "status_bar/remoteEntry.js").read_text()
        for name in STATUS_WORDS:
            assert f"words.{name}" in program, name
