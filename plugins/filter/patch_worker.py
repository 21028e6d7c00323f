# SPDX-License-Identifier: BSD-3-Clause
"""Evaluate a worker's queues, jobs and daemon, and write a report about the worker.

These are pure functions of the results that the role's tasks register. A result has no ``rc`` if
the connection was lost or the task was skipped. The output formats are those of Grid Engine 8.1.9;
:mod:`gridhub.grid.dialect` knows where those of other Grid Engines differ.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "files"))

from gridhub.grid.dialect import Dialect

#: The registered result of a task. If the task has a loop, ``results`` has a result for each item.
Result = Mapping[str, Any]

#: How many minutes to wait for a worker's last job to end, if neither a limit nor a window is set.
DRAIN_MINUTES = 60
#: The port of the execution daemon, if neither the cell's settings nor ``getent services`` have it.
DAEMON_PORT = "6445"

#: Matches the port in the output of ``getent services``: 537 in ``sge-execd 537/tcp sge_execd``.
_PORT = re.compile(r"[0-9]+(?=/)")
#: The index of LOAD in the output of ``qhost``: HOSTNAME ARCH NCPU NSOC NCOR NTHR LOAD …
_LOAD_COLUMN = 6

_ENABLED = "; its queues are enabled again"

#: The phase of a maintenance that has changed nothing yet (``gridhub/maintenance/procedure.py``).
_BEFORE = "before"


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

    ``left_over``: queues that an earlier run has disabled and noted. They stay disabled until the
    worker is maintained, because that run may have left the worker broken.
    ``kept``: queues that an administrator has disabled; they stay disabled.
    ``ours``: all queues except those in ``kept``.
    ``to_disable``: the queues in ``ours`` that are still enabled.
    """
    left_over = [queue for queue in _lines(disabled) if queue in _lines(noted)]
    kept = [queue for queue in _lines(disabled) if queue not in left_over]
    ours = [queue for queue in _lines(queues) if queue not in kept]
    to_disable = [queue for queue in ours if queue not in left_over]
    return {"left_over": left_over, "kept": kept, "ours": ours, "to_disable": to_disable}


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


def daemon_port(service: Result, ports: Mapping[str, object]) -> str:
    """Return the execution daemon's port.

    :param ports: ``sge_common_ports``. What they lack is in ``service``, the output of ``getent
        services``.
    """
    if own := ports.get("SGE_EXECD_PORT"):
        return str(own)
    found = _PORT.search(service.get("stdout") or "")
    return found[0] if found else DAEMON_PORT


def daemon_at_work(daemon: Result, dialect: str) -> bool:
    """Return whether ``qping -info`` shows a daemon that has registered with the qmaster.

    :param dialect: ``sge_common_dialect``.
    """
    return answered(daemon) and Dialect(dialect).is_execd_at_work(daemon.get("stdout") or "")


def with_load(load: Result) -> bool:
    """Return whether ``qhost -h`` shows a load, and not ``-``."""
    shown = _lines(load)[-1:]
    return answered(load) and bool(shown) and shown[0].split()[_LOAD_COLUMN:][:1] not in ([], ["-"])


def _last_maintenance(status: Result) -> Mapping[str, Any]:
    """Return the last maintenance that ``sge_maintenance.py status`` shows, or {}."""
    try:
        shown = json.loads(status.get("stdout") or "{}")
    except ValueError:
        return {}
    return {} if shown.get("unfinished") else shown.get("last") or {}


def has_changed(before: Result, after: Result) -> bool:
    """Return whether a maintenance that failed may have changed the worker.

    It has not if it ended with the checks that precede the updates.

    :param before, after: the worker's maintenance status before and after.
    """
    last = _last_maintenance(after)
    is_new = last.get("started", "") != _last_maintenance(before).get("started", "")
    return not (is_new and last.get("phase") == _BEFORE)


def to_enable(off: Result, queues: Mapping[str, Sequence[str]], *, maintained: bool) -> list[str]:
    """Return the queues to enable: all that this run has disabled, or may have disabled.

    Those that an earlier run left disabled are included if the worker is maintained now.
    """
    own = [each["item"] for each in _results(off) if each.get("rc", 0) == 0 and each.get("item")]
    return [*(queues["left_over"] if maintained else []), *own]


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
        f"takes no new jobs meanwhile: {', '.join(queues['ours']) or 'no queue'}",
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


def _queue_state(now: Result, queues: Mapping[str, Sequence[str]], admin_host: str) -> str:
    """Return the state of the queues that the playbook has disabled."""
    disabled, listed = (*_results(now), {}, {})[:2]
    if not answered(listed) or not answered(disabled, (0, 1)):
        return (
            "; whether its queues are enabled is not known, "
            f"Grid Engine does not answer on {admin_host}"
        )
    still = [queue for queue in _lines(disabled) if queue not in queues["kept"]]
    if still:
        return f"; still disabled: {', '.join(still)} (qmod -e)"
    return _ENABLED


def report(
    why: str,
    now: Result,
    queues: Mapping[str, Sequence[str]],
    *,
    failed: bool,
    unfinished: Sequence[str],
    worker: str,
    admin_host: str,
    check_mode: bool,
) -> str:
    """Return the report about a worker, or "" if the worker is maintained and back in service.

    :param why: the result of :func:`trouble`.
    :param now: the results of two queries at the end of the run. The first lists the disabled
        queues, and the second all queues. Empty if the run has not come to the worker's queues.
    :param queues: the result of :func:`sort_queues`.
    :param failed: whether the worker failed after its maintenance had begun.
    :param unfinished: all workers that were not maintained.
    """
    state = _queue_state(now, queues, admin_host) if now and not check_mode else ""
    if not why and state in ("", _ENABLED):
        return ""
    if failed and why:
        return (
            f"{worker} failed after its maintenance had begun, so it gets no new jobs, and no "
            f"further worker was begun{state}. {why}. Repair {worker}. Then run the playbook again "
            f"for the rest, with --limit {','.join(unfinished)}; it enables the queues as soon as "
            f"{worker} is maintained"
        )
    verb = " would not be maintained" if check_mode else " was not maintained"
    return f"{worker}{verb if why else ''}{state}. {why}"


class FilterModule:
    """Offer the functions above to Ansible as filters whose names begin with ``patch_``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions: tuple[Callable[..., Any], ...] = (
            *(answered, all_answered, sort_queues, drain_limit, retries, without_jobs, busy),
            *(daemon_port, daemon_at_work, with_load, has_changed, to_enable, trouble, plan),
            report,
        )
        return {f"patch_{function.__name__}": function for function in functions}
