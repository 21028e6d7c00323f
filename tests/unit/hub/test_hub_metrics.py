"""The hub's metrics: what a scrape shows, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from fake_grid import job
from gridhub.broker.protocol import Answer
from gridhub.contract import Ending
from gridhub.grid.collector import Collector, Watched
from gridhub.grid.command import run
from gridhub.grid.details import Details
from gridhub.grid.engine import GridEngine, GridEngineError
from gridhub.hub import rate_limits
from gridhub.hub.metrics import STATES, USAGE_EVERY, ClusterMetrics, state_of
from gridhub.menu.job import Requested
from gridhub.spawner import metrics
from gridhub.spawner.cluster import Cluster


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"job": None}, "submitted"),
        ({"job": job(letters="qw")}, "waiting"),
        ({"job": job(letters="hqw")}, "held"),
        ({"job": job(letters="Eqw")}, "error"),
        ({"job": job(), "waiting": True}, "starting"),
        ({"job": job(letters="t")}, "running"),
        ({"job": job()}, "running"),
        ({"job": job(letters="s")}, "suspended"),
        ({"job": job(reports=False)}, "unreachable"),
        ({"job": job(letters="dr")}, "ending"),
        ({"job": job(), "wanted": False}, "ending"),
        ({"job": job(letters="?")}, "unknown"),
        ({"job": job(), "gone": True}, ""),
    ],
)
def test_each_session_has_one_state(changes: dict[str, Any], state: str) -> None:
    assert state_of(replace(Watched("alice", 0.0, waiting=False), **changes)) == state
    assert state in (*STATES, "")


def slots(number: int) -> Requested:
    return Requested(
        item="cores", label="Cores", value=number, words="", kind="slots", total=number
    )


GPU = Requested(
    item="gpus", label="GPUs", value=1, words="1", kind="count", complex="gpu", total=1.0
)


class Scraped:
    """A scrape of a cluster that has only what the metrics read."""

    def __init__(self, now: Clock) -> None:
        self.collector = Collector(GridEngine(Path("/")), clock=now)
        self.details = SimpleNamespace(age=None, answer=None, last_answer=None)
        self.requested: dict[str, tuple[Requested, ...]] = {}
        self.metrics = ClusterMetrics(now)
        cluster: Any = SimpleNamespace(
            collector=self.collector,
            requested=self.requested,
            status=SimpleNamespace(details=self.details),
        )
        self.metrics.cluster = cluster
        self.registry = CollectorRegistry()
        self.registry.register(self.metrics)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def scraped(now: Clock) -> Iterator[Scraped]:
    return Scraped(now)  # type: ignore[return-value]


def test_a_scrape_shows_sessions_their_requests_and_the_longest_wait(
    scraped: Scraped, now: Clock
) -> None:
    scraped.collector.watched = {
        "a": Watched("alice", 0.0, waiting=False, job=job("a", number=1)),
        "b": Watched("bob", 940.0, waiting=True, job=job("b", "qw", number=2, owner="bob")),
    }
    scraped.requested.update({"a": (slots(4), GPU), "b": (slots(2),), "over": (slots(9),)})
    scraped.collector.failures = 3
    assert scraped("gridhub_sessions", state="running") == 1
    assert scraped("gridhub_sessions", state="waiting") == 1
    assert scraped("gridhub_sessions", state="held") == 0
    assert scraped("gridhub_requested_slots", state="running") == 4
    assert scraped("gridhub_requested_slots", state="waiting") == 2
    assert scraped("gridhub_requested_items", complex="gpu", state="running") == 1
    assert scraped("gridhub_session_longest_wait_seconds") == now.now - 940
    assert scraped("gridhub_collector_failures_in_a_row") == 3
    assert 1e7 < (scraped("gridhub_hub_memory_bytes") or 0.0) < 1e10
    assert (scraped("gridhub_hub_cpu_seconds_total") or 0.0) > 0.1
    text = generate_latest(scraped.registry).decode()
    assert "alice" not in text
    assert "bob" not in text


def test_processor_time_is_counted_once_also_across_a_restart_of_the_hub(
    scraped: Scraped, now: Clock
) -> None:
    before = value("gridhub_session_cpu_seconds_total")
    old = replace(job("a", number=1), since=now.now - 500)  # an earlier hub has counted it
    new = replace(job("b", number=2), since=now.now + 1)
    scraped.collector.watched = {
        "a": Watched("alice", 0.0, waiting=False, job=old),
        "b": Watched("alice", 0.0, waiting=False, job=new),
    }
    scraped.details.age = 1.0
    for old_cpu, new_cpu in ((100.0, 5.0), (110.0, 7.0), (110.0, 7.0)):
        scraped.details.last_answer = {
            1: Details(1, "alice", cpu=old_cpu, vmem=1e6),
            2: Details(2, "alice", cpu=new_cpu, vmem=2e6, rss=1e6),
        }
        assert scraped("gridhub_used_memory_bytes") == 2e6
    assert value("gridhub_session_cpu_seconds_total") - before == 10 + 7
    scraped.details.last_answer = {1: Details(1, "mallory", cpu=1e9, vmem=1e9)}
    assert scraped("gridhub_used_memory_bytes") == 0, "another owner's job of that number"
    scraped.details.age = 3 * USAGE_EVERY
    scraped.details.last_answer = {1: Details(1, "alice", cpu=1e9, vmem=1e9)}
    assert scraped("gridhub_used_memory_bytes") == 0, "an old answer is not shown as current"


def test_without_a_cluster_a_scrape_shows_nothing() -> None:
    assert list(ClusterMetrics().collect()) == []


def test_the_phases_of_a_start_are_measured_in_their_order() -> None:
    clock = Clock()
    names = ("submit", "queue", "boot", "answer")
    before = {name: value("gridhub_session_start_phase_seconds_sum", phase=name) for name in names}
    start = metrics.StartClock(clock)
    for phase, seconds in (("queue", 1.0), ("answer", 20.0)):  # nobody saw when it began to run
        clock.now += seconds
        assert start.reach(phase)
    assert not start.reach("boot"), "a phase never begins again"
    clock.now += 3.0
    start.finish()
    start.finish()
    after = {name: value("gridhub_session_start_phase_seconds_sum", phase=name) for name in names}
    assert [after[name] - before[name] for name in names] == [1.0, 20.0, 0.0, 3.0]


def test_labels_have_only_values_that_exist_from_the_start() -> None:
    for count, name, label in (
        (metrics.start, "gridhub_session_starts_total", "outcome"),
        (metrics.refusal, "gridhub_refusals_total", "reason"),
        (metrics.ending, "gridhub_session_endings_total", "reason"),
    ):
        before = value(name, **{label: "other"})
        count("a text of a user")
        assert value(name, **{label: "other"}) == before + 1
        assert REGISTRY.get_sample_value(name, {label: "a text of a user"}) is None
    known = {f"limit_{kind}" for kind in rate_limits.rates()} - {"limit_lines"}
    assert known <= set(metrics.REFUSALS)
    assert {each.value for each in Ending} - {"start"} <= set(metrics.ENDINGS)


async def test_commands_of_grid_engine_are_timed(tmp_path: Path) -> None:
    seen = []
    grid = GridEngine(tmp_path, bin_dir=tmp_path, timeout=0.3, observe=lambda *it: seen.append(it))
    script = tmp_path / "qstat"
    for line, result in (
        ("true", "ok"),
        ("exit 1", "failed"),
        ("sleep 9", "timeout"),
        ("echo long", "unreadable"),
    ):
        script.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        script.chmod(0o755)
        with contextlib.suppress(GridEngineError):
            await run(grid, "qstat", limit=3)
        name, seen_result, seconds = seen.pop()
        assert (name, seen_result) == ("qstat", result)
        assert 0 < seconds < 5


async def test_what_ended_sessions_have_requested_is_forgotten(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    cluster.collector._run = lambda: None  # type: ignore[method-assign]
    for number in range(1000):
        name = f"{number:032x}"
        cluster.watch(name, "alice", waiting=False, has_number=True, requested=(slots(1),))
        cluster.collector.watched.clear()
    assert len(cluster.requested) < 150


def make_cluster(folder: Path) -> Cluster:
    return Cluster(
        GridEngine(folder),
        broker=folder / "socket",
        broker_timeout=1.0,
        menu_file=folder,
        short_interval=1.0,
        long_interval=1.0,
    )


async def test_the_brokers_decisions_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Answer | Exception] = [
        Answer(ok=True),
        Answer(ok=False, kind="grid", error="no"),
        TimeoutError(),
    ]

    async def ask(*_: object) -> Answer:
        await asyncio.sleep(0)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("gridhub.broker.client.ask", ask)
    cluster = make_cluster(tmp_path)
    kinds = ("ok", "grid", "no_answer")

    def counts() -> list[float]:
        name = "gridhub_broker_decisions_total"
        return [value(name, action="stop", decision=kind) for kind in kinds]

    before = counts()
    strays = value("gridhub_stray_jobs_deleted_total")
    failed = value("gridhub_job_deletion_failures_total")
    stray = job("jupyterhub-" + "0" * 32)
    await cluster._delete(stray)
    for _ in range(2):
        with pytest.raises(GridEngineError):
            await cluster._delete(stray)
    assert [after - first for after, first in zip(counts(), before, strict=True)] == [1, 1, 1]
    assert value("gridhub_stray_jobs_deleted_total") == strays + 1
    assert value("gridhub_job_deletion_failures_total") == failed + 2
