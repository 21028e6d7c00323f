# SPDX-License-Identifier: BSD-3-Clause
"""Why a session ended, or never started."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from jupyterhub.spawner import SpawnException

from gridhub.contract import NO_PORT, SESSION_FOLDER
from gridhub.menu.job import Requested
from gridhub.spawner.waiting import above
from gridhub.words import text

_NO_PORT_REPORT = re.compile(
    NO_PORT + r"(?: (?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,253})(?: (?P<holders>\S{1,400}))?)?"
)


@dataclass(frozen=True)
class SessionEnd:
    """What a person should know about the last session here, which ended without their doing."""

    job: str
    #: A :class:`~sge_accounting.Ending`; ``unknown``; ``start``: it never came up; ``idle`` or
    #: ``administrator``: who has ended it; or ``lingers``: told to end, and it has not.
    why: str
    #: The job's name, by which its accounting record is found.
    name: str = ""
    host: str = ""
    #: When the hub noticed, in seconds since the epoch.
    ended: float = 0.0
    #: The largest memory in use, in bytes.
    used: float = 0.0
    status: int = 0
    had: tuple[Requested, ...] = ()
    #: What was said when it could not start.
    text: str = ""

    @property
    def words(self) -> str:
        """The sentence for the person."""
        if self.text:
            return text("start.last", reason=self.text)
        had = {each.kind: each.words for each in self.had}
        limit = next((each.total for each in self.had if each.kind == "memory"), 0.0)
        used, memory = above(self.used, limit)
        return text(
            f"ended.{self.why}",
            job=self.job,
            host=self.host,
            used=used,
            status=self.status,
            memory=memory,
            run_time=had.get("run_time", ""),
            log=f"~/{SESSION_FOLDER}/{self.job}.log",
        )

    @property
    def short_of(self) -> tuple[str, ...]:
        """The items of the menu of which it had too little."""
        return tuple(each.item for each in self.had if each.kind == self.why)

    def dump(self) -> dict[str, Any]:
        """Return it for the database; :meth:`load` reads it again."""
        return asdict(self) | {"had": [each.model_dump() for each in self.had]}

    @staticmethod
    def load(data: dict[str, Any]) -> SessionEnd:
        """Read what :meth:`dump` has written."""
        return SessionEnd(**data | {"had": tuple(Requested.model_validate(each) for each in data["had"])})


class SessionError(SpawnException):
    """A session cannot start; the message is for the person, and is shown as it is."""

    @property
    def jupyterhub_message(self) -> str:
        """What JupyterHub's pages show."""
        return str(self.message)


class NoPort(SessionError):
    """A session has found every port of its worker taken; empty where it has not said of which."""

    host = ""


class Holders(NamedTuple):
    """Who holds the ports of a worker, as a starter tells it, which is a program of a person's."""

    host: str
    #: How many each account holds; the kernel does not tell about all.
    accounts: dict[str, int]


def read_no_port(reason: str) -> Holders | None:
    """Return what a starter tells of ports that are taken; ``None`` if its reason is another."""
    found = _NO_PORT_REPORT.fullmatch(reason)
    if not found:
        return None
    pairs = (each.rpartition("=") for each in (found["holders"] or "").split(","))
    return Holders(
        found["host"] or "",
        {name: int(count) for name, _, count in pairs if name and count.isdecimal()},
    )
