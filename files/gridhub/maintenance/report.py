# SPDX-License-Identifier: BSD-3-Clause
"""The report of a maintenance run.

After a reboot, the program reads the report and continues the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import tarfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError

STATE = Path("/var/lib/gridhub-maintenance")
LOGS = Path("/var/log/gridhub-maintenance")

#: How long a reboot may take, from the command to the checks. After that time, the reboot counts as
#: failed.
MAX_REBOOT = timedelta(minutes=30)

#: How long all steps of a run except the updates may take. A run that takes longer counts as stuck,
#: and no longer keeps sessions from starting.
MAX_OTHER_STEPS = timedelta(hours=3)


class Report:
    """The record of one maintenance run; its data is stored as JSON to survive the reboot."""

    UNFINISHED = "unfinished.json"
    LAST = "report.json"

    def __init__(
        self, started: datetime, *, by_hand: bool, longest: timedelta = MAX_OTHER_STEPS
    ) -> None:
        self.data: dict[str, Any] = {
            "host": socket.gethostname(),
            "started": started.isoformat(),
            "by_hand": by_hand,
            "boot": host.boot_id(),
            "process": os.getpid(),
            "phase": "before",
            "reached": started.isoformat(),
            "overdue": (started + longest).isoformat(),
            "result": "",
            "steps": [],
            "sessions": [],
            "log": str(LOGS / f"{started:%Y-%m-%dT%H%M%S}.log"),
        }

    @classmethod
    def load(cls, name: str) -> Report | None:
        """Load the report of an earlier run; return ``None`` if there is none."""
        try:
            data = json.loads((STATE / name).read_bytes())
        except (OSError, ValueError):
            return None
        report = cls.__new__(cls)
        report.data = data
        return report

    def log(self, text: str) -> None:
        """Write ``text`` to the journal and to the log file."""
        print(text, flush=True)
        # If the disk is full, the journal is enough.
        with contextlib.suppress(OSError):
            LOGS.mkdir(mode=0o750, exist_ok=True)
            with Path(self.data["log"]).open("a", encoding="utf-8") as file:
                for line in text.splitlines():
                    file.write(f"{host.now():%Y-%m-%d %H:%M:%S} UTC  {line}\n")

    def enter_phase(self, name: str) -> None:
        """Enter a phase and save the report, so that the program can continue after a reboot."""
        self.data["phase"], self.data["reached"] = name, host.now().isoformat()
        self.data["process_start"] = host.process_start(os.getpid())
        host.write(STATE / self.UNFINISHED, json.dumps(self.data, indent=1), 0o600)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Run a step and record its result; record an expected error instead of raising it.

        Yields a list to which the step adds its notes.
        """
        notes: list[str] = []
        step: dict[str, Any] = {"name": name, "ok": True, "words": ""}
        try:
            yield notes
        except (MaintenanceError, OSError, ValueError, sqlite3.Error, tarfile.TarError) as error:
            step["ok"] = False
            notes.append(str(error))
        step["words"] = "\n".join(notes)
        self.data["steps"].append(step)
        mark = "ok" if step["ok"] else "FAILED"
        self.log("\n  ".join([f"{mark}: {name}", *step["words"].splitlines()]))

    @property
    def ok(self) -> bool:
        """Whether all steps have succeeded."""
        return all(step["ok"] for step in self.data["steps"])

    def failed_steps(self) -> list[dict[str, Any]]:
        """Return the steps that failed."""
        return [step for step in self.data["steps"] if not step["ok"]]

    def is_before_reboot(self) -> bool:
        """Return whether the run is still at work, in a phase before the reboot."""
        return (
            self.data["boot"] == host.boot_id()
            and self.data["phase"] in ("before", "updating")
            and self._is_at_work()
        )

    def awaits_reboot(self, minutes: int) -> bool:
        """Return whether the run has waited for its reboot for less than ``minutes``."""
        since = datetime.fromisoformat(self.data["reached"])
        return (
            self.data["boot"] == host.boot_id()
            and self.data["phase"] == "rebooting"
            and host.now() < since + timedelta(minutes=minutes)
        )

    def is_running(self) -> bool:
        """Return whether the run is in progress; a killed or stuck run is not in progress."""
        if self.data["phase"] == "rebooting":
            return host.now() < datetime.fromisoformat(self.data["reached"]) + MAX_REBOOT
        return self.is_before_reboot() or (self.data["phase"] == "checking" and self._is_at_work())

    def _is_at_work(self) -> bool:
        # Check the process instead of trying to take the lock: taking the lock could block a
        # maintenance run that begins at the same moment.
        start = host.process_start(self.data["process"])
        has_process = start == str(self.data["process_start"])
        return has_process and host.now() < datetime.fromisoformat(self.data["overdue"])
