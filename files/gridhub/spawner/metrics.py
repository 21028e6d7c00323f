# SPDX-License-Identifier: BSD-3-Clause
"""The hub's counters and histograms for Prometheus, beside JupyterHub's own (``/hub/metrics``).

No label has a person's name, and each label has few values, which all exist from the start: the
first failure then counts as an increase. :mod:`gridhub.hub.metrics` adds what is true at a scrape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram

from gridhub.contract import Ending

#: The phases of a start: until Grid Engine has the job, until the job is on a worker, until the
#: starter has reported a port, and until the session's server answers.
PHASES = ("submit", "queue", "boot", "answer")

#: The value for everything that is not in one of the lists below.
OTHER = "other"

#: How a start can end: it succeeds, the person cancels it, or it fails for a reason
#: (:attr:`~gridhub.spawner.failures.SessionError.reason`).
OUTCOMES = (
    "ready",
    "cancelled",
    "account",
    "broker",
    "choice",
    "database",
    "deleted",
    "ended",
    "error_state",
    "grid",
    "home",
    "maintenance",
    "menu",
    "no_answer",
    "no_home",
    "refused",
    "request",
    "starter",
    "timeout",
    "unreachable",
    OTHER,
)

#: Why somebody is refused before a start: the reason of a
#: :class:`~gridhub.spawner.failures.SessionError`, or a limit on requests
#: (:mod:`gridhub.hub.rate_limits`).
REFUSALS = (
    "choice",
    "account",
    "maintenance",
    "menu",
    "database",
    "limit_logins",
    "limit_looks",
    "limit_reports",
    "limit_requests",
    "limit_starts",
    "limit_streams",
    "limit_tokens",
    OTHER,
)

#: The value for a session that its own person has stopped.
PERSON = "person"
ENDINGS = (PERSON, *(each.value for each in Ending if each is not Ending.START), OTHER)

#: What the hub asks the broker (:mod:`gridhub.broker.protocol`), and what becomes of it: ``ok``, a
#: kind of refusal, or no answer.
ACTIONS = ("start", "stop", "check", "log", "look", OTHER)
DECISIONS = (
    "ok",
    "broker",
    "choice",
    "grid",
    "home",
    "no_answer",
    "no_home",
    "refused",
    "request",
    OTHER,
)

COMMANDS = ("qstat", OTHER)
RESULTS = ("ok", "failed", "timeout", "unreadable")

#: Bounds in seconds. A start takes seconds, or hours if the cluster is full.
_START_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_COMMAND_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

START_PHASES = Histogram(
    "gridhub_session_start_phase_seconds",
    "How long the phases of starts took.",
    ["phase"],
    buckets=_START_BUCKETS,
)
STARTS = Counter("gridhub_session_starts", "Starts of sessions, by outcome.", ["outcome"])
REFUSED = Counter("gridhub_refusals", "Requests that were refused, by reason.", ["reason"])
ENDED = Counter("gridhub_session_endings", "Sessions that have ended, by reason.", ["reason"])
COMMAND_SECONDS = Histogram(
    "gridhub_grid_engine_command_seconds",
    "How long the hub's commands of Grid Engine took.",
    ["command", "result"],
    buckets=_COMMAND_BUCKETS,
)
DECIDED = Counter(
    "gridhub_broker_decisions",
    "The broker's decisions, by the action that was requested.",
    ["action", "decision"],
)
BROKER_SECONDS = Histogram(
    "gridhub_broker_request_seconds",
    "How long requests to the broker took, without the wait for a turn.",
    ["action"],
    buckets=_COMMAND_BUCKETS,
)
COLLECTOR_SECONDS = Histogram(
    "gridhub_collector_query_seconds",
    "How long the collector's good queries about all sessions took.",
    buckets=_COMMAND_BUCKETS,
)
COLLECTOR_FAILURES = Counter(
    "gridhub_collector_failures", "Queries of the collector without a good answer."
)
STRAYS = Counter(
    "gridhub_stray_jobs_deleted", "Deleted jobs of this hub that belonged to no session."
)
DELETION_FAILURES = Counter(
    "gridhub_job_deletion_failures", "Failed attempts to delete a job that no session wants."
)
CPU_SECONDS = Counter(
    "gridhub_session_cpu_seconds", "Processor time that sessions have used, as far as seen."
)


def _one_of(values: Iterable[str], value: str) -> str:
    return value if value in values else OTHER


for _phase in PHASES:
    START_PHASES.labels(_phase)
for _outcome in OUTCOMES:
    STARTS.labels(_outcome)
for _reason in REFUSALS:
    REFUSED.labels(_reason)
for _ending in ENDINGS:
    ENDED.labels(_ending)
for _result in RESULTS:
    COMMAND_SECONDS.labels("qstat", _result)
for _action in ACTIONS[:-1]:
    BROKER_SECONDS.labels(_action)
    for _decision in DECISIONS:
        DECIDED.labels(_action, _decision)


class StartClock:
    """Measures the phases of one start.

    :param clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        #: The current phase, one of :data:`PHASES`; empty after the end.
        self.phase = PHASES[0]

    def reach(self, phase: str) -> bool:
        """Begin a phase, unless the start is already there or farther.

        A phase that was too short to be noticed counts as taking no time.

        :returns: whether the phase has begun now.
        """
        if not self.phase or PHASES.index(phase) <= PHASES.index(self.phase):
            return False
        while self.phase != phase:
            self._end()
            self.phase = PHASES[PHASES.index(self.phase) + 1]
        return True

    def finish(self) -> None:
        """End the last phase."""
        self.reach(PHASES[-1])
        if self.phase:
            self._end()
            self.phase = ""

    def _end(self) -> None:
        now = self._clock()
        START_PHASES.labels(self.phase).observe(now - self._began)
        self._began = now


def start(outcome: str) -> None:
    """Count a start that has succeeded (``ready``) or not."""
    STARTS.labels(_one_of(OUTCOMES, outcome)).inc()


def refusal(reason: str) -> None:
    """Count a refused request."""
    REFUSED.labels(_one_of(REFUSALS, reason)).inc()


def ending(reason: str) -> None:
    """Count a session that has ended, once its reason is known."""
    ENDED.labels(_one_of(ENDINGS, reason)).inc()


def command(name: str, result: str, seconds: float) -> None:
    """Record a command of Grid Engine; ``result`` is one of :data:`RESULTS`."""
    COMMAND_SECONDS.labels(_one_of(COMMANDS, name), result).observe(seconds)


def decision(action: str, kind: str, seconds: float) -> None:
    """Record an answer of the broker: its kind of refusal, ``ok`` or ``no_answer``."""
    action = _one_of(ACTIONS, action)
    DECIDED.labels(action, _one_of(DECISIONS, kind)).inc()
    BROKER_SECONDS.labels(action).observe(seconds)


def query(seconds: float | None) -> None:
    """Record a query of the collector; ``None`` means that it had no good answer."""
    if seconds is None:
        COLLECTOR_FAILURES.inc()
    else:
        COLLECTOR_SECONDS.observe(seconds)


def deletion(is_stray: bool, is_done: bool) -> None:
    """Record an attempt to delete a job that no session wants."""
    if not is_done:
        DELETION_FAILURES.inc()
    elif is_stray:
        STRAYS.inc()
