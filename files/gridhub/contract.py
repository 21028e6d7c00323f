# SPDX-License-Identifier: BSD-3-Clause
"""Values that the hub, the broker and the session must agree on, each defined once.

This module imports no other module of GridHub, because all three programs use it, each on its own
host.
"""

from __future__ import annotations

import enum

#: Folder for session files in the person's home.
SESSION_FOLDER = ".jupyterhub-sessions"

#: Largest request to the broker, and largest session file written from a request, in bytes.
MAX_MESSAGE = 65_536

#: Longest reason that a starter may give the hub, in characters.
MAX_REASON = 500

#: The reason a starter gives when every session port is in use. The hub replaces it with a sentence
#: of ``words.toml``, and shows all other reasons unchanged.
NO_PORT = "no_port"

#: Exit status of a session that the hub refuses (sysexits.h, EX_NOPERM).
EXIT_REFUSED = 77

#: Exit status of a session that ends early for maintenance of its worker (EX_TEMPFAIL). The hub
#: reads it in the accounting record.
EXIT_EARLY_END = 75


class Ending(enum.StrEnum):
    """Every way a session can end. ``words.toml`` has a sentence for each, ``ended.NAME``."""

    #: Its processes exited normally, for example after a shutdown in JupyterLab.
    ITSELF = "itself"
    #: Its processes exited with an error, for example because its starter gave up.
    FAILED = "failed"
    RUN_TIME = "run_time"
    MEMORY = "memory"
    #: It exceeded another limit, such as one of the queue. Grid Engine does not report which.
    LIMIT = "limit"
    #: It was deleted with qdel or killed on its worker; both look the same.
    DELETED = "deleted"
    #: Its worker failed.
    WORKER = "worker"
    #: It ended early for maintenance of its worker.
    MAINTENANCE = "maintenance"
    #: It was idle for too long.
    IDLE = "idle"
    #: An administrator stopped it.
    ADMINISTRATOR = "administrator"
    #: It never started; the reason is stored as text.
    START = "start"
    #: It was stopped, but its job still exists.
    LINGERS = "lingers"
    #: Its accounting record does not exist yet.
    UNKNOWN = "unknown"
