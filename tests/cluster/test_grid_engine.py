"""Grid Engine as the roles sge_qmaster and sge_exec set it up: units, jobs, declared objects."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

# Seconds that a job may take to disappear. After a restart, a daemon checks its old jobs only
# once a minute.
ADOPTED_JOB = 150.0


def until(condition: Callable[[], Any], what: str, deadline: float = 30.0) -> Any:
    """Return the condition's first true value; fail after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {deadline:.0f} seconds: {what}"
        time.sleep(0.2)
    return answer


def pids(host: Any, daemon: str) -> list[int]:
    return [int(pid) for pid in host.run(f"pgrep -x {daemon}").stdout.split()]


def alive(host: Any, pid: int) -> bool:
    return bool(host.run(f"test -e /proc/{pid}").rc == 0)


def workers_known(qmaster: Any) -> None:
    """Wait until all workers have reported to a restarted qmaster. This takes up to a minute."""

    def unreported() -> list[str]:
        shown = qmaster.run("qstat -f -q all.q")
        rows = re.findall(r"^all\.q@.*", shown.stdout, re.MULTILINE)
        return (
            [row for row in rows if "-NA-" in row or "u" in row.split()[5:6]] if rows else ["all"]
        )

    until(lambda: not unreported(), "all workers have reported to the qmaster", 120.0)


class Jobs:
    """Jobs of one person, submitted on the hub's host."""

    def __init__(self, hub: Any, qmaster: Any, user: str) -> None:
        self.hub, self.qmaster, self.user = hub, qmaster, user
        self.ids: list[str] = []

    def run(self, command: str) -> Any:
        return self.hub.run(f"su - {self.user} -c {shlex.quote(command)}")

    def submit(self, script: str, options: str = "") -> str:
        result = self.run(
            f"printf %s {shlex.quote(script)} | qsub -terse -j y -o /dev/null {options}"
        )
        assert result.rc == 0, result.stderr
        assert re.fullmatch(r"\d+\n", result.stdout), result.stdout
        self.ids.append(result.stdout.strip())
        return self.ids[-1]

    def state(self, job: str) -> str:
        """Return the letters of the job's state, or "" if Grid Engine no longer lists the job."""
        rows = [line.split() for line in self.run("qstat").stdout.splitlines()[2:]]
        return next((row[4] for row in rows if row[0] == job), "")

    def started(self, job: str) -> None:
        until(lambda: self.state(job) == "r", f"job {job} runs")

    def record(self, job: str, deadline: float = 5.0) -> dict[str, str]:
        """Return the job's accounting record, which must appear soon after the job has gone."""
        until(lambda: not self.state(job), f"job {job} has gone", ADOPTED_JOB)
        found = until(
            lambda: self.qmaster.run(f"qacct -j {job}").stdout, f"record of {job}", deadline
        )
        return dict(re.findall(r"^(\w+) +(.*?) *$", found, re.MULTILINE))

    def verdict(self, options: str) -> str:
        """Let Grid Engine check a request without submitting a job; return its messages."""
        result = self.run(f"echo true | qsub {options}")
        return str(result.stdout + result.stderr)

    def clear(self) -> None:
        left = [job for job in self.ids if self.state(job)]
        if left:
            self.run(f"qdel {','.join(left)}")
            until(lambda: not any(map(self.state, left)), "the jobs have gone", ADOPTED_JOB)


@pytest.fixture
def jobs(hub_host: Any, qmaster_host: Any) -> Iterator[Jobs]:
    workers_known(qmaster_host)
    mine = Jobs(hub_host, qmaster_host, "alice")
    yield mine
    mine.clear()


@pytest.fixture
def gate(hub_host: Any) -> Iterator[str]:
    """The path of a file for which a job waits: the test creates the file to end the job."""
    path = f"/home/alice/.gate-{uuid4().hex}"
    yield path
    hub_host.run(f"rm -f {path}")


def held_open(gate: str, then: str = "") -> str:
    return f"until test -e {gate}; do sleep 0.2; done\n{then}\n"


# --- The units ------------------------------------------------------------------------------


def test_unit_stops_and_starts_the_qmaster(qmaster_host: Any) -> None:
    first = pids(qmaster_host, "sge_qmaster")
    assert len(first) == 1
    try:
        assert qmaster_host.run("systemctl stop gridengine-master").rc == 0
        assert pids(qmaster_host, "sge_qmaster") == []
        # The qmaster writes this file only when it ends cleanly, not when it is killed.
        assert qmaster_host.file("/var/spool/gridengine/qmaster/lock").exists
    finally:
        assert qmaster_host.run("systemctl start gridengine-master").rc == 0
    second = pids(qmaster_host, "sge_qmaster")
    assert len(second) == 1
    assert second != first
    until(lambda: qmaster_host.run("qconf -sss").rc == 0, "the scheduler answers")
    workers_known(qmaster_host)


def test_qmaster_comes_back_when_it_is_killed(qmaster_host: Any) -> None:
    (first,) = pids(qmaster_host, "sge_qmaster")
    assert qmaster_host.run(f"kill -9 {first}").rc == 0
    until(lambda: qmaster_host.run("qconf -sss").rc == 0, "the scheduler answers")
    assert pids(qmaster_host, "sge_qmaster") not in ([], [first])
    workers_known(qmaster_host)


def test_unit_stops_and_starts_the_execution_daemon(exec1_host: Any) -> None:
    first = pids(exec1_host, "sge_execd")
    assert len(first) == 1
    try:
        assert exec1_host.run("systemctl stop gridengine-exec").rc == 0
        assert pids(exec1_host, "sge_execd") == []
    finally:
        assert exec1_host.run("systemctl start gridengine-exec").rc == 0
    second = until(lambda: pids(exec1_host, "sge_execd"), "sge_execd runs")
    assert len(second) == 1
    assert second != first


@pytest.mark.parametrize("unit", ["gridengine-master", "gridengine-exec"])
def test_native_unit_replaces_the_sysv_script(
    unit: str, qmaster_host: Any, exec1_host: Any
) -> None:
    host = qmaster_host if unit == "gridengine-master" else exec1_host
    assert host.file(f"/etc/init.d/{unit}").exists, (
        "there is no script to replace: the test proves nothing"
    )
    shown = host.run(f"systemctl show -P FragmentPath {unit}").stdout.strip()
    assert shown == f"/etc/systemd/system/{unit}.service"
    assert host.service(unit).is_enabled
    verified = host.run(f"systemd-analyze verify --man=no {shown}")
    assert (verified.rc, verified.stderr) == (0, "")


# --- Jobs -----------------------------------------------------------------------------------


def test_job_survives_a_restart_and_a_kill_of_the_execution_daemon(
    jobs: Jobs, gate: str, exec1_host: Any, hub_host: Any
) -> None:
    job = jobs.submit(held_open(gate, "exit 7"), "-l h=exec1")
    jobs.started(job)
    script = until(lambda: exec1_host.run(f"pgrep -f job_scripts/{job}$").stdout, "the job's shell")
    shell = int(script.split()[0])
    (daemon,) = pids(exec1_host, "sge_execd")

    assert exec1_host.run("systemctl restart gridengine-exec").rc == 0
    restarted = until(lambda: pids(exec1_host, "sge_execd"), "sge_execd runs")
    assert restarted != [daemon]
    assert alive(exec1_host, shell)
    assert jobs.state(job) == "r"

    assert exec1_host.run("systemctl kill --kill-whom=main --signal=KILL gridengine-exec").rc == 0
    until(lambda: pids(exec1_host, "sge_execd") not in ([], restarted), "sge_execd runs again")
    assert alive(exec1_host, shell)
    assert jobs.state(job) == "r"

    assert hub_host.run(f"touch {gate}").rc == 0
    record = jobs.record(job)
    assert (record["exit_status"], record["failed"]) == ("7", "0")


def test_job_without_a_memory_request_gets_the_default(jobs: Jobs) -> None:
    # With a default of 0, the job would get 10 MB and be killed within two seconds.
    record = jobs.record(jobs.submit('test "$(ulimit -v)" = 1048576 && exit 3'))
    assert (record["exit_status"], record["failed"]) == ("3", "0")


def test_no_process_outlives_its_job(jobs: Jobs, gate: str, exec1_host: Any, hub_host: Any) -> None:
    # setsid puts the process into its own process group, as a notebook server does with a kernel.
    mark = f"4{int(gate[-6:], 16):08d}"
    job = jobs.submit(f"setsid sleep {mark} &\n{held_open(gate)}", "-l h=exec1")
    until(lambda: exec1_host.run(f"pgrep -x -f 'sleep {mark}'").rc == 0, "the process runs")
    assert hub_host.run(f"touch {gate}").rc == 0
    jobs.record(job)
    until(lambda: exec1_host.run(f"pgrep -x -f 'sleep {mark}'").rc == 1, "the process has ended")


def test_gpus_are_counted_per_job_not_per_slot(jobs: Jobs, gate: str) -> None:
    assert "found suitable queue" in jobs.verdict("-w v -pe smp 4 -l gpu=2")
    assert "found suitable queue" not in jobs.verdict("-w v -l gpu=3")

    job = jobs.submit(held_open(gate), "-pe smp 2 -l gpu=2")
    jobs.started(job)
    # -w p asks whether a job could start now. The first job has all GPUs, but slots are free, so
    # only a job without GPUs could start.
    assert "found suitable queue" not in jobs.verdict("-w p -l gpu=1")
    assert "found suitable queue" in jobs.verdict("-w p")


def test_only_the_hub_may_submit_and_only_the_qmaster_may_administer(
    jobs: Jobs, exec1_host: Any, qmaster_host: Any
) -> None:
    assert qmaster_host.check_output("qconf -sh") == "qmaster"
    assert exec1_host.run("qconf -sh").rc != 0
    jobs.submit("true")
    refused = exec1_host.run("su - alice -c 'echo true | qsub'")
    assert refused.rc != 0
    assert "is not a submit host" in refused.stderr


# --- The objects that the inventory declares ------------------------------------------------


def attributes(host: Any, command: str) -> dict[str, str]:
    shown = host.run(command)
    assert shown.rc == 0, shown.stderr
    joined = re.sub(r"\\\n\s*", "", shown.stdout)
    return {
        name: value.strip() for name, _, value in (x.partition(" ") for x in joined.splitlines())
    }


@pytest.mark.parametrize(
    ("command", "declared"),
    [
        ("qconf -se exec1", {"complex_values": "h_vmem=8G"}),
        ("qconf -se exec2", {"complex_values": "h_vmem=8G,gpu=2"}),
        ("qconf -shgrp @jupyter", {"hostlist": "exec1 exec2"}),
        ("qconf -sp smp", {"slots": "999", "allocation_rule": "$pe_slots"}),
        (
            "qconf -sq all.q",
            {
                "hostlist": "@jupyter",
                "slots": "1,[exec1=4],[exec2=4]",
                "pe_list": "smp",
                "shell": "/bin/bash",
                "qtype": "BATCH INTERACTIVE",
                "load_thresholds": "NONE",
            },
        ),
        (
            "qconf -ssconf",
            {"flush_submit_sec": "1", "flush_finish_sec": "1", "schedd_job_info": "true"},
        ),
    ],
    ids=["exec1", "exec2", "host group", "parallel environment", "queue", "scheduler"],
)
def test_object_is_as_declared(command: str, declared: dict[str, str], qmaster_host: Any) -> None:
    found = attributes(qmaster_host, command)
    assert {name: found.get(name) for name in declared} == declared


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("h_vmem", ["h_vmem", "MEMORY", "<=", "YES", "YES", "1G", "0"]),
        ("gpu", ["gpu", "INT", "<=", "YES", "JOB", "0", "0"]),
    ],
)
def test_complex_is_as_declared(name: str, declared: list[str], qmaster_host: Any) -> None:
    table = [line.split() for line in qmaster_host.run("qconf -sc").stdout.splitlines()]
    assert [name, *declared] in table
