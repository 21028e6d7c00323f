# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that the hub leaves alone, although no session in its database has them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

log = logging.getLogger("jupyterhub.sge")


class LeftSessions:
    """The names of the jobs to leave alone, in a file that is read at each question.

    The hub asks only about a job that it would delete.

    :param path: :data:`gridhub.contract.LEFT_SESSIONS`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, name: object) -> bool:
        """Return whether to leave a job alone; true for all jobs if the file cannot be read."""
        try:
            return name in json.loads(self._path.read_bytes())["left"]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s: %r; no job without a session is deleted", self._path, error)
            return True
