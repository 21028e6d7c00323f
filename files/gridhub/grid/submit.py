# SPDX-License-Identifier: BSD-3-Clause
"""Build the qsub arguments that all sessions share, and read the answers of qsub and qdel.

The broker imports this module while it still runs as root, so the module is small.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gridhub.grid.engine import AnswerError

#: Grid Engine starts the job script with this program, which in turn runs the interpreter that the
#: first line of the script names. A shell here would be a login shell (``login_shells`` of
#: sge_conf(5)), which would run ``~/.bash_profile`` before the session.
JOB_SHELL = "/usr/bin/env"

#: Part of the message that ``qsub -w e`` prints if a request cannot run even on an empty cluster.
NO_QUEUE = "no suitable queues"

#: Parts of the messages that a command prints if it cannot reach the qmaster. The exit status is
#: no help: a command that the qmaster refuses has the same status.
_AWAY = ("unable to send message to qmaster", "unable to contact qmaster")

_TERSE_JOB_ID = re.compile(r"[1-9]\d{0,9}", re.ASCII)


def session_arguments(
    name: str, *, home: str, log: str, context: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the qsub arguments that every session gets, whatever its user chose.

    :param log: the file for the job's output; Grid Engine fills in ``$JOB_ID``.
    :param context: entries for administrators, who can read them with ``qstat -j``.
    """
    return (
        "-terse",
        "-N", name,
        "-S", JOB_SHELL,
        "-wd", home,
        "-j", "y",
        "-o", log,
        "-r", "n",
        "-w", "e",
        "-ac", ",".join(f"jupyterhub_{key}={value}" for key, value in context.items()),
    )  # fmt: skip


def parse_job_id(output: str) -> int:
    """Return the job number that ``qsub -terse`` printed.

    Submit verifiers and warnings about request files come before the number (qsub(1)), so only the
    last line counts, and that line must contain only the number.

    :raises AnswerError: when the last line is not a job number.
    """
    lines = output.strip().splitlines()
    if not lines or not _TERSE_JOB_ID.fullmatch(lines[-1].strip()):
        raise AnswerError(f"qsub did not print a job number: {output.strip()[:200]!r}")
    return int(lines[-1].strip())


def is_qmaster_away(message: str) -> bool:
    """Return whether a command failed because it could not reach the qmaster."""
    return any(words in message for words in _AWAY)


def is_unknown_job(message: str) -> bool:
    """Return whether qdel failed because the job does not exist or has ended."""
    return "does not exist" in message


def avoid_hosts(avoid: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the qsub arguments that keep a job away from some hosts.

    Grid Engine uses only a job's last request for hosts (seen with 8.1.9). So the returned request
    repeats the host that the other arguments request.

    :param arguments: the other arguments of qsub for the job.
    """
    if not avoid:
        return []
    pairs = (
        pair.partition("=")
        for option, value in pairwise(arguments)
        if option == "-l"
        for pair in value.split(",")
    )
    hosts = [value for name, _, value in pairs if name in ("h", "hostname")]
    others = f"!({'|'.join(avoid)})"
    return ["-l", f"h=({hosts[-1]})&{others}" if hosts else f"h={others}"]
