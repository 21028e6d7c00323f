# SPDX-License-Identifier: BSD-3-Clause
"""The journal of a restore, an upgrade or a rollback, which survives a reboot.

The journal is one file that is replaced before each step, so its step has at least begun, and no
later step has. While the step is :attr:`Step.CHANGING`, the hub must not start with what is on the
disk; :mod:`.settle` then puts everything back first.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gridhub.maintenance import host, report
from gridhub.maintenance.errors import MaintenanceError

FILE, LAST = "operation.json", "last-operation.json"


class Step(enum.StrEnum):
    """How far an operation is."""

    #: Nothing is changed: copies are made, checked and tried.
    CHECKING = "checking"
    #: The hub is stopped, and what there is is kept; still nothing is changed.
    KEEPING = "keeping"
    #: Database, release or configuration are being replaced.
    CHANGING = "changing"
    #: Everything is replaced, and belongs together.
    CHANGED = "changed"
    #: The hub has answered.
    ANSWERING = "answering"
    #: Everything is being put back.
    UNDOING = "undoing"


#: The steps in which what is on the disk may not belong together.
MIXED = (Step.CHANGING, Step.UNDOING)

#: What to run next, for each kind of operation.
PLAYBOOK = {
    "restore": "playbooks/restore.yml with the same variables",
    "upgrade": "playbooks/upgrade.yml",
    "rollback": "playbooks/rollback.yml with the same variables",
}


@dataclass
class Operation:
    """A restore, an upgrade or a rollback."""

    kind: str
    started: str
    step: Step = Step.CHECKING
    #: The name of the kept state to which an undo returns (:mod:`.kept`); empty before it is kept.
    kept: str = ""
    #: What the operation is about: the backup, or the release.
    about: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def again(self) -> str:
        """What to run after an interruption that left the old state."""
        return f"run {PLAYBOOK[self.kind]} again"

    @property
    def is_open(self) -> bool:
        """Whether anything may have been changed."""
        return self.step is not Step.CHECKING

    def enter(self, step: Step, **changes: Any) -> None:
        """Begin a step; when this returns, the step is on the disk."""
        self.step = step
        for name, value in changes.items():
            setattr(self, name, value)
        host.write(report.STATE / FILE, json.dumps(asdict(self), indent=1), 0o600)

    def close(self, result: str) -> None:
        """End the operation.

        :param result: what it has come to, in words.
        """
        ended = {**asdict(self), "ended": host.now().isoformat(), "result": result}
        try:
            host.write(report.STATE / LAST, json.dumps(ended, indent=1), 0o600)
        except OSError as error:  # a full disk; the operation has ended nevertheless
            print(f"also: {error}", file=sys.stderr)
        (report.STATE / FILE).unlink(missing_ok=True)

    def next(self) -> str:
        """Return what an administrator should run next."""
        article = "An" if self.kind == "upgrade" else "A"
        what = (
            f"{article} {self.kind} ({self.about}) of {self.started} is not finished, at its step "
            f"{self.step}"
        )
        if self.step in (Step.CHECKING, Step.KEEPING):
            return f"{what}. Nothing was changed. To go on, {self.again}"
        if self.step in MIXED:
            return (
                f"{what}. When the hub starts, everything is put back first "
                f"(systemctl start jupyterhub). Then {self.again}"
            )
        return (
            f"{what}: the hub uses the new state. Run {PLAYBOOK[self.kind]} to check and finish "
            "it, or playbooks/rollback.yml to go back"
        )


def load() -> Operation | None:
    """Return the operation that is not finished; ``None`` if there is none.

    :raises MaintenanceError: when the journal cannot be read.
    """
    path = report.STATE / FILE
    try:
        found = json.loads(path.read_bytes())
        return Operation(**{**found, "step": Step(found["step"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MaintenanceError(f"{path}: {error!r}") from error


def last() -> dict[str, Any] | None:
    """Return the operation that ended last, with its ``result``; ``None`` if there is none."""
    try:
        return dict(json.loads((report.STATE / LAST).read_bytes()))
    except (OSError, ValueError):
        return None


def begin(kind: str, about: str) -> Operation:
    """Begin an operation, or take up the same one that has changed everything already.

    :raises MaintenanceError: when another one is not finished.
    """
    found = load()
    if found and found.is_open and found.step not in (Step.KEEPING,):
        same = (found.kind, found.about) == (kind, about)
        if same and found.step in (Step.CHANGED, Step.ANSWERING):
            return found
        raise MaintenanceError(found.next())
    operation = Operation(kind, host.now().isoformat(), about=about)
    try:
        operation.enter(Step.CHECKING)
    except OSError as error:
        raise MaintenanceError(f"The {kind} failed, and nothing was changed: {error}") from error
    return operation


def locked(act: Callable[[], int]) -> int:
    """Call a function while no maintenance and no other operation runs.

    :raises MaintenanceError: when one runs.
    """
    with host.lock(report.STATE) as has_lock:
        if not has_lock:
            raise MaintenanceError(
                "a maintenance, a backup or another operation is running (it holds "
                f"{report.STATE}/lock); try again when it has ended"
            )
        return act()
