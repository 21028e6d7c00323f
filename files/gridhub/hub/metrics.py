# SPDX-License-Identifier: BSD-3-Clause
"""What is true at a scrape of the hub's metrics: sessions by state, their requests, the collector.

All of it is in memory. A scrape never waits for Grid Engine or for the database. It may start a
query about the use of resources, of which the next scrape shows the answer.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from jupyterhub.metrics import LOGIN_DURATION_SECONDS, LoginStatus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from gridhub.grid.collector import Watched
from gridhub.grid.jobs import Job, State
from gridhub.spawner.cluster import Cluster
from gridhub.spawner.metrics import CPU_SECONDS

#: The states of sessions. ``submitted``: Grid Engine has not listed the job yet; ``starting``: the
#: job runs, but the session's server is not up; ``unreachable``: the worker does not report.
STATES = (
    "submitted",
    "waiting",
    "held",
    "error",
    "starting",
    "running",
    "suspended",
    "unreachable",
    "ending",
    "unknown",
)
_PLAIN = {
    State.QUEUED: "waiting",
    State.HELD: "held",
    State.ERROR: "error",
    State.SUSPENDED: "suspended",
    State.DELETING: "ending",
    State.UNKNOWN: "unknown",
}

#: Ask Grid Engine about the use of resources at most this often, in seconds, for the metrics alone.
USAGE_EVERY = 300.0


def state_of(watched: Watched) -> str:
    """Return one of :data:`STATES`; empty for a session whose job is gone."""
    if watched.gone:
        return ""
    if not watched.wanted:
        return "ending"
    job = watched.job
    if job is None:
        return "submitted"
    if name := _PLAIN.get(job.state, ""):
        return name
    if not job.reports:
        return "unreachable"
    return "starting" if watched.waiting else "running"


class ClusterMetrics(Collector):
    """The metrics of a hub's cluster; without a cluster, there are none."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.cluster: Cluster | None = None
        self._now = now
        self._began = now()
        #: The processor time of each job when it was last counted, in seconds.
        self._counted: dict[int, float] = {}

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the metrics need a cluster."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as of now."""
        if self.cluster is None:
            return
        watched = dict(self.cluster.collector.watched)
        states = {name: state_of(each) for name, each in watched.items()}
        yield self._sessions(states)
        yield from self._requests(states)
        yield from self._collector(watched, states)
        yield from self._usage(watched)
        yield from self._process()

    @staticmethod
    def _process() -> Iterator[Metric]:
        """Yield what the hub's process uses.

        The client library has such metrics too, but not in the hub's sandbox: it looks for files
        in /proc that ``ProcSubset=pid`` hides.
        """
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        size = pages * os.sysconf("SC_PAGE_SIZE")
        yield GaugeMetricFamily("gridhub_hub_memory_bytes", "Memory of the hub.", value=size)
        yield CounterMetricFamily(
            "gridhub_hub_cpu_seconds", "Processor time of the hub.", value=time.process_time()
        )

    @staticmethod
    def _sessions(states: dict[str, str]) -> Metric:
        family = GaugeMetricFamily("gridhub_sessions", "Sessions by state.", labels=["state"])
        counts = Counter(states.values())
        for state in STATES:
            family.add_metric([state], counts[state])
        return family

    def _requests(self, states: dict[str, str]) -> Iterator[Metric]:
        assert self.cluster is not None
        families = {
            kind: GaugeMetricFamily(f"gridhub_requested_{name}", text, labels=labels)
            for kind, name, text, labels in (
                ("slots", "slots", "Slots that sessions have requested.", ["state"]),
                ("memory", "memory_bytes", "Memory that sessions have requested.", ["state"]),
                (
                    "count",
                    "items",
                    "Other consumables that sessions have requested, such as GPUs.",
                    ["complex", "state"],
                ),
            )
        }
        totals: dict[tuple[str, str, str], float] = defaultdict(float)
        for state in ("running", "waiting"):
            totals["slots", "", state] = totals["memory", "", state] = 0.0
        for name, state in states.items():
            if state not in ("running", "waiting"):
                continue
            for each in self.cluster.requested.get(name, ()):
                if each.kind in families:
                    label = each.complex if each.kind == "count" else ""
                    totals[each.kind, label, state] += each.total
        for (kind, label, state), total in totals.items():
            families[kind].add_metric([label, state] if label else [state], total)
        yield from families.values()

    def _collector(self, watched: dict[str, Watched], states: dict[str, str]) -> Iterator[Metric]:
        assert self.cluster is not None
        collector = self.cluster.collector
        now = collector.clock()
        queued = [
            now - each.since
            for name, each in watched.items()
            if states[name] in ("submitted", "waiting", "held")
        ]
        age = collector.age
        for name, text, value in (
            (
                "gridhub_session_longest_wait_seconds",
                "How long the session that has waited longest has been in the queue.",
                max(queued, default=0.0),
            ),
            (
                "gridhub_collector_age_seconds",
                "Age of the collector's last good answer; not a number before the first.",
                math.nan if age is None else age,
            ),
            (
                "gridhub_collector_failures_in_a_row",
                "How many of the collector's last queries had no good answer.",
                collector.failures,
            ),
            (
                "gridhub_jobs_in_deletion",
                "Jobs that no session wants and that are being deleted.",
                len(collector.deletions),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _usage(self, watched: dict[str, Watched]) -> Iterator[Metric]:
        assert self.cluster is not None
        details = self.cluster.status.details
        if watched and (details.age is None or details.age > USAGE_EVERY):
            _ = details.answer  # starts a query, if the last one is long enough ago
        jobs: dict[int, Job] = {
            each.job.id: each.job for each in watched.values() if each.job and each.job.host
        }
        is_recent = details.age is not None and details.age < 2 * USAGE_EVERY
        found = (details.last_answer or {}) if is_recent else {}
        memory = 0.0
        for number, job in jobs.items():
            each = found.get(number)
            if each is None or each.owner != job.owner:
                continue
            memory += (each.vmem if each.rss is None else each.rss) or 0.0
            cpu = each.cpu or 0.0
            # An earlier process of the hub may have counted the time of a job that is older.
            is_ours = job.since is not None and job.since >= self._began
            before = self._counted.get(number, 0.0 if is_ours else cpu)
            CPU_SECONDS.inc(max(cpu - before, 0.0))
            self._counted[number] = max(cpu, before)
        for number in self._counted.keys() - jobs.keys():
            del self._counted[number]
        yield GaugeMetricFamily(
            "gridhub_used_memory_bytes",
            "Memory that sessions use, as Grid Engine has reported it in the last minutes.",
            value=memory,
        )


# JupyterHub makes them at the first login, so that Prometheus would not see the first failures.
for _status in LoginStatus:
    LOGIN_DURATION_SECONDS.labels(status=_status)

#: The metrics of this process; :mod:`gridhub.hub.app` sets the cluster when the hub starts.
CLUSTER_METRICS = ClusterMetrics()
REGISTRY.register(CLUSTER_METRICS)
