# SPDX-License-Identifier: BSD-3-Clause
"""What the hub, the broker and the session must agree on. Each value is here once.

The module imports nothing of ours: each of the three programs has it, on its own host.
"""

from __future__ import annotations

import enum

#: Folder in the person's home for the files of their sessions.
SESSION_FOLDER = ".jupyterhub-sessions"

#: Largest request to the broker, and largest file of a session that follows from one, in bytes.
MAX_MESSAGE = 65_536

#: Longest reason that a starter may give the hub, in characters.
MAX_REASON = 500

#: A starter's reason when every port of a session is taken. The hub has words of its own for it;
#: it shows all other reasons as they are.
NO_PORT = "no_port"

#: Exit status of a session that the hub refuses (sysexits.h, EX_NOPERM).
EXIT_REFUSED = 77

#: Exit status of a session that ends early because its worker is maintained (EX_TEMPFAIL). The hub
#: reads it in the accounting record.
EXIT_EARLY_END = 75


class Ending(enum.StrEnum):
    """Every way a session can end. ``words.toml`` has the sentence of each as ``ended.NAME``."""

    #: Its processes ended on their own: shut down in JupyterLab, ...
    ITSELF = "itself"
    #: ... or given up by its starter.
    FAILED = "failed"
    RUN_TIME = "run_time"
    MEMORY = "memory"
    #: Another limit, such as one of the queue: Grid Engine does not report which.
    LIMIT = "limit"
    #: By qdel; or killed on its worker, which looks the same.
    DELETED = "deleted"
    #: Its worker failed.
    WORKER = "worker"
    #: Its worker is maintained.
    MAINTENANCE = "maintenance"
    #: It was idle for too long.
    IDLE = "idle"
    #: An administrator stopped it.
    ADMINISTRATOR = "administrator"
    #: It never came up; the reason is kept beside it.
    START = "start"
    #: It was stopped, and its job is still there.
    LINGERS = "lingers"
    #: The accounting record is not there yet.
    UNKNOWN = "unknown"
