# SPDX-License-Identifier: BSD-3-Clause
"""Evaluate a worker's queues, jobs and daemon, and write a report about the worker.

These are pure functions of the results that the role's tasks register. A result has no ``rc`` if
the connection was lost or the task was skipped. The output formats are those of Grid Engine 8.1.9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: The registered result of a task. If the task has a loop, ``results`` has a result for each item.
Result = Mapping[str, Any]

#: How many minutes to wait for a worker's last job to end, if neither a limit nor a window is set.
DRAIN_MINUTES = 60
#: The port of the execution daemon, if ``getent services`` does not list it.
DAEMON_PORT = "6445"

#: Matches the port in the output of ``getent services``: 537 in ``sge-execd 537/tcp sge_execd``.
_PORT = re.compile(r"[0-9]+(?=/)")
#: Matches the daemon's main loop, which ``qping -info`` shows only after the daemon has registered
#: with the qmaster.
_AT_WORK = re.compile(r"info: +[^ ]+: R ")
#: The index of LOAD in the output of ``qhost``: HOSTNAME ARCH NCPU NSOC NCOR NTHR LOAD …
_LOAD_COLUMN = 6

_ENABLED = "; its queues are enabled again"


def _lines(result: Result) -> list[str]:
    return list(result.get("stdout_lines") or ())


def _results(result: Result) -> Sequence[Result]:
    return result.get("results") or ()


def answered(result: Result, codes: Sequence[int] = (0,)) -> bool:
    """Return whether the command has ended with an exit status in ``codes``."""
    return result.get("rc") in codes


def all_answered(result: Result) -> bool:
    """Return whether the command has succeeded for each item of the loop."""
    return all(answered(each) for each in _results(result))


def sort_queues(queues: Result, disabled: Result, noted: Result) -> dict[str, list[str]]:
    """Sort a worker's queues by what the role does with them.

    ``left_over``: queues that a killed run has disabled and noted; they are enabled first.
    ``kept``: queues that an administrator has disabled; they stay disabled.
    ``to_disable``: all queues except those in ``kept``.
    """
    left_over = [queue for queue in _lines(disabled) if queue in _lines(noted)]
    kept = [queue for queue in _lines(disabled) if queue not in left_over]
    to_disable = [queue for queue in _lines(queues) if queue not in kept]
    return {"left_over": left_over, "kept": kept, "to_disable": to_disable}


def drain_limit(drain: float | None, window: float | None, left: float) -> float:
    """Return how many minutes to wait for a worker's last job to end.

    The result is at most ``left``, the number of minutes until the window ends.
    """
    if drain is None:
        drain = DRAIN_MINUTES if window is None else left
    return min(float(drain), float(left))


def retries(minutes: float, pause: float) -> int:
    """Return how many queries fit into these minutes, with ``pause`` seconds after each query."""
    return math.ceil(max(float(minutes) * 60 / float(pause), 0))


def without_jobs(jobs: Result) -> bool:
    """Return whether Grid Engine has answered that the worker has no jobs."""
    return answered(jobs) and not jobs.get("stdout")


def busy(jobs: Result, left: float) -> str:
    """Return why the worker cannot be maintained: its jobs, an error, or the end of the window.

    The result is empty if the worker can be maintained. ``left`` is the number of minutes until the
    window ends.
    """
    if without_jobs(jobs) and float(left) > 0:
        return ""
    return str(jobs.get("stdout") or jobs.get("stderr") or jobs.get("msg") or "the window is over")


def daemon_port(service: Result) -> str:
    """Return the execution daemon's port from the output of ``getent services``, or the default."""
    found = _PORT.search(service.get("stdout") or "")
    return found[0] if found else DAEMON_PORT


def daemon_at_work(daemon: Result) -> bool:
    """Return whether ``qping -info`` shows a daemon that has registered with the qmaster."""
    return answered(daemon) and bool(_AT_WORK.search(daemon.get("stdout") or ""))


def with_load(load: Result) -> bool:
    """Return whether ``qhost -h`` shows a load, and not ``-``."""
    shown = _lines(load)[-1:]
    return answered(load) and bool(shown) and shown[0].split()[_LOAD_COLUMN:][:1] not in ([], ["-"])


def perhaps_disabled(off: Result) -> list[str]:
    """Return the queues to enable again: all queues that are, or may be, disabled."""
    return [each["item"] for each in _results(off) if each.get("rc", 0) == 0 and each.get("item")]


def trouble(failed: Result, task: str) -> str:
    """Return why a worker was not maintained: the failed task and its output."""
    text = failed.get("stdout") or failed.get("stderr") or failed.get("msg") or ""
    return f"{task}: {text}"


def plan(
    jobs: Result,
    queues: Mapping[str, Sequence[str]],
    *,
    worker: str,
    at_once: object,
    together: Sequence[str],
    minutes: float,
    reboot: str,
) -> list[str]:
    """Return what ``--check`` shows for one worker.

    ``queues`` is the result of :func:`sort_queues`.
    """
    others = ", ".join(each for each in together if each != worker)
    known, shown = "stdout" in jobs, _lines(jobs)
    return [
        f"{worker}: {f'together with {others}' if others else 'alone'} (patch_at_once: {at_once})",
        f"takes no new jobs meanwhile: {', '.join(queues['to_disable']) or 'no queue'}",
        *(
            [f"disabled before, and stays so: {', '.join(queues['kept'])}"]
            if queues["kept"]
            else []
        ),
        f"jobs to wait for, up to {math.ceil(float(minutes))} minutes: "
        + ("none" if known and not jobs["stdout"] else ""),
        *(shown if known else ["not known"]),
        f"then: updates, a reboot ({reboot}), and new jobs again",
    ]


def _queue_state(off: Result, now: Result, kept: Sequence[str], admin_host: str) -> str:
    """Return the state of the queues that this run has disabled, or "" if there are none."""
    if not _results(off):
        return ""
    disabled, listed = (*_results(now), {}, {})[:2]
    if not answered(listed) or not answered(disabled, (0, 1)):
        return (
            "; whether its queues are enabled is not known, "
            f"Grid Engine does not answer on {admin_host}"
        )
    still = [queue for queue in _lines(disabled) if queue not in kept]
    if still:
        return f"; still disabled: {', '.join(still)} (qmod -e)"
    return _ENABLED


def report(
    why: str,
    off: Result,
    now: Result,
    *,
    kept: Sequence[str],
    worker: str,
    admin_host: str,
    check_mode: bool,
) -> str:
    """Return the report about a worker, or "" if the worker is maintained and back in service.

    ``why`` is the result of :func:`trouble`. ``off`` is the result of the task that disables the
    queues. ``now`` has the results of two queries at the end of the run. The first query lists the
    disabled queues, and the second lists all queues.
    """
    state = "" if check_mode else _queue_state(off, now, kept, admin_host)
    if not why and state in ("", _ENABLED):
        return ""
    verb = " would not be maintained" if check_mode else " was not maintained"
    return f"{worker}{verb if why else ''}{state}. {why}"


class FilterModule:
    """Offer the functions above to Ansible as filters whose names begin with ``patch_``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions: tuple[Callable[..., Any], ...] = (
            *(answered, all_answered, sort_queues, drain_limit, retries, without_jobs, busy),
            *(daemon_port, daemon_at_work, with_load, perhaps_disabled, trouble, plan, report),
        )
        return {f"patch_{function.__name__}": function for function in functions}
