# SPDX-License-Identifier: BSD-3-Clause
"""Values that the hub, the broker and the session must agree on, each defined once.

This module imports no other module of GridHub, so that each of these programs can use the module
without the other programs' code.
"""

from __future__ import annotations

import enum

#: Folder for session files in the person's home.
SESSION_FOLDER = ".jupyterhub-sessions"

#: Largest size of a request to the broker, in bytes. The same limit applies to the session file
#: that the broker writes from a request.
MAX_MESSAGE = 65_536

#: What a waiting broker sends as soon as it has accepted a connection. In front of the answer, a
#: blank has no meaning (RFC 8259, 2).
BROKER_IS_READY = b" "

#: Longest reason, in characters, that a starter may give the hub for a failed start.
MAX_REASON = 500

#: The reason that a starter gives when every session port is in use. Instead of this reason, the
#: hub shows a sentence of ``words.toml``; it shows all other reasons unchanged.
NO_PORT = "no_port"

#: Exit status of the job script on a worker that has no notebook environment, or may not use it
#: (sysexits.h, EX_UNAVAILABLE). The hub reads this status in the accounting record.
EXIT_NO_ENVIRONMENT = 69

#: Exit status of a session that the hub refuses (sysexits.h, EX_NOPERM).
EXIT_REFUSED = 77

#: Exit status of a session that ends early for maintenance of its worker (EX_TEMPFAIL). The hub
#: reads this status in the accounting record.
EXIT_EARLY_END = 75

#: Exit status of a session that ends because Grid Engine has announced its end with SIGUSR2, as the
#: shell reports it for a program without a handler.
EXIT_ANNOUNCED = 128 + 12

#: The sentences ``status.NAME`` in ``words.toml``, which the broker writes to the session file and
#: the session's pages show.
STATUS_WORDS = frozenset(
    {"left", "left_minutes", "memory", "memory_of", "memory_help", "reserved_help", "cpu"}
)


#: The file with the names of jobs that the hub leaves alone although no session in its database has
#: them: after the database of an earlier time was restored. The maintenance program writes it:
#: ``{"left": [NAME, …]}``.
LEFT_SESSIONS = "/var/lib/gridhub-maintenance/left-sessions.json"


class Ending(enum.StrEnum):
    """Every way a session can end. Each has a sentence ``ended.NAME`` in ``words.toml``."""

    #: The session's processes exited normally, for example after a shutdown in JupyterLab.
    ITSELF = "itself"
    #: The session's processes exited with an error, for example because its starter gave up.
    FAILED = "failed"
    RUN_TIME = "run_time"
    MEMORY = "memory"
    #: The session exceeded another limit, such as one set on its queue; Grid Engine does not report
    #: which.
    LIMIT = "limit"
    #: The job was deleted with qdel or killed on its worker; the accounting record does not say
    #: which.
    DELETED = "deleted"
    #: A signal ended the session's processes.
    SIGNAL = "signal"
    #: The worker failed.
    WORKER = "worker"
    #: The worker could not open the session's log or folder in the person's home.
    HOME = "home"
    #: The worker could not start the job for another reason, such as a script of the cluster.
    SETUP = "setup"
    #: Grid Engine has put the job back into its queue, which ends the session.
    RESCHEDULED = "rescheduled"
    #: Grid Engine has removed the job by force, without an answer of its worker.
    REMOVED = "removed"
    #: The session ended early for maintenance of its worker.
    MAINTENANCE = "maintenance"
    #: The worker has no notebook environment, or may not use it.
    ENVIRONMENT = "environment"
    #: The session was idle for too long.
    IDLE = "idle"
    #: An administrator stopped the session.
    ADMINISTRATOR = "administrator"
    #: The session never started; the reason is stored as text.
    START = "start"
    #: The session was stopped, but its job still exists.
    LINGERS = "lingers"
    #: The session's accounting record does not exist yet.
    UNKNOWN = "unknown"
