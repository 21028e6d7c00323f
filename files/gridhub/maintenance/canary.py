# SPDX-License-Identifier: BSD-3-Clause
"""The smoke test: as the canary account, use the service as people do, and leave nothing behind.

Only sessions that a smoke test has started are stopped. :data:`RUNNING` says which these are, also
after a smoke test was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gridhub.maintenance import host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.home_files import remove_session_files, session_files
from gridhub.maintenance.person import Person
from gridhub.maintenance.settings import Settings
from gridhub.maintenance.smoke_steps import STEPS
from gridhub.maintenance.tokens import LONGEST, ROUNDING, revoke_tokens, token_ids

STATE = Path("/var/lib/gridhub-smoke")
#: What the smoke test that is running now, or was killed, has begun.
RUNNING = STATE / "running.json"

#: How long each part may take, in seconds.
START_WITHIN, STOP_WITHIN, CELL_WITHIN = 180.0, 120.0, 60.0


class SmokeError(MaintenanceError):
    """A step of the smoke test has failed."""


def read_record(path: Path) -> dict[str, Any]:
    """Return an object of JSON; empty if there is none, or the file cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_ours(session: dict[str, Any], begun: dict[str, Any]) -> bool:
    """Return whether a smoke test started a session.

    :param session: the hub's record of the canary's session.
    :param begun: the content of :data:`RUNNING`.
    """
    try:
        since = datetime.fromisoformat(begun["started"])
        started = datetime.fromisoformat(str(session["started"]).replace("Z", "+00:00"))
    except (KeyError, ValueError, TypeError):
        return False
    # A test that was killed between its request and the answer does not know its session. A session
    # that was started within the time that this start may take counts as the test's.
    return bool(begun.get("asked")) and since - ROUNDING <= started <= since + LONGEST


class SmokeTest:
    """One smoke test.

    :param seconds: how long the session may take to become ready.
    """

    def __init__(self, settings: Settings, seconds: float = START_WITHIN) -> None:
        self.settings, self.seconds = settings, seconds
        self.result: dict[str, Any] = {
            "user": settings.canary_user,
            "started": host.now().isoformat(),
            "ok": False,
            "failed": "",
            "reason": "",
            "look_at": "",
            "seconds": {},
            "notes": [],
        }
        #: The job of the session; unknown until the session is in the hub's database.
        self.job = ""
        self._asked = False
        self._files: list[str] = []
        self._tokens: set[str] = set()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step, and record how long it took, or that it failed.

        :raises SmokeError: when the step fails.
        """
        begun = time.monotonic()
        try:
            yield
        except (MaintenanceError, OSError, ValueError, KeyError) as error:
            self.result |= {
                "failed": name,
                "reason": str(error) or repr(error),
                "look_at": STEPS[name][1].format(user=self.settings.canary_user),
            }
            raise SmokeError(self.sentence()) from error
        finally:
            self.result["seconds"][name] = round(time.monotonic() - begun, 3)

    def sentence(self) -> str:
        """Return the result in words."""
        if self.result["failed"]:
            return (
                f"The smoke test as {self.result['user']} failed at the step "
                f"'{STEPS[self.result['failed']][0]}': {self.result['reason']}\n"
                f"Look at: {self.result['look_at']}"
            )
        took = self.result["seconds"]
        return "\n".join(
            [
                f"ready after {took.get('start', 0):.0f} s, and a cell ran after "
                f"{sum(took.get(name, 0) for name in ('start', 'open', 'kernel', 'cell')):.0f} s",
                *self.result["notes"],
            ]
        )

    def _note(self) -> None:
        """Record what has begun, for a later smoke test if this one is killed."""
        begun = {
            "started": self.result["started"],
            "asked": self._asked,
            "files": self._files,
            "tokens": sorted(self._tokens),
        }
        host.write(RUNNING, json.dumps(begun), 0o600)

    def run(self) -> None:
        """Do all steps.

        :raises SmokeError: when one fails; what was begun is ended all the same, if possible.
        """
        with self.step("prepare"):
            person = Person(self.settings)
            choice = smallest_choice(self.settings)
        with self.step("login_page"):
            person.open_login_page()
        with self.step("login"):
            person.log_in()
        try:
            with self.step("leftover"):
                self._remove_leftover(person)
                self._files = session_files(self.settings)
                self._tokens = token_ids(person)
            try:
                self._use(person, choice)
            except SmokeError:
                # The first failure is the one to report.
                failure = dict(self.result)
                with contextlib.suppress(SmokeError):
                    self._end(person)
                self.result |= {name: failure[name] for name in ("failed", "reason", "look_at")}
                raise
            self._end(person)
        finally:
            with contextlib.suppress(MaintenanceError):
                person.log_out()
        self.result["ok"] = True

    def _remove_leftover(self, person: Person) -> None:
        session, begun = person.session(), read_record(RUNNING)
        if session:
            if not is_ours(session, begun):
                raise MaintenanceError(
                    f"{person.name} has a session already, which no smoke test has started, so it "
                    "is left alone; use an account that has no sessions of its own"
                )
            self._stop(person)
            self.result["notes"].append(
                f"A session that an earlier smoke test left (begun {begun['started']}) was stopped."
            )
        if begun.get("asked"):
            remove_session_files(self.settings, begun.get("files", []))
            revoke_tokens(person, set(begun.get("tokens", [])), begun["started"])
        RUNNING.unlink(missing_ok=True)

    def _use(self, person: Person, choice: dict[str, Any]) -> None:
        path = f"/users/{quote(person.name)}/server"

        def refused() -> str:
            status, body = person.hub_api("POST", path, choice)
            return "" if status in (201, 202) else f"{status} {body.get('message', '')}"

        with self.step("start"):
            self._asked = True
            self._note()
            if found := host.wait_until_clear(refused, 10):
                # The hub has started nothing for this test.
                self._asked = bool(is_ours(person.session(), read_record(RUNNING)))
                raise MaintenanceError(f"the hub refuses it: {found}")
            if host.wait_until_clear(
                lambda: "" if person.session().get("ready") else "not ready", self.seconds, 0.5
            ):
                reason = person.progress()
                raise MaintenanceError(
                    f"it was not ready within {self.seconds:.0f} s. {reason}".strip()
                )
            self.job = job_of(self.settings)
        with self.step("open"):
            if found := host.wait_until_clear(lambda: problem_of(person.open_session), 30):
                raise MaintenanceError(found)
        with self.step("kernel"):
            kernel = person.start_kernel()
        with self.step("cell"):
            number = int.from_bytes(os.urandom(3), "big")
            printed = person.run_cell(kernel, f"print({number} * 3)", CELL_WITHIN).strip()
            if printed != str(number * 3):
                raise MaintenanceError(f"print({number} * 3) printed {printed!r}")

    def _stop(self, person: Person) -> None:
        path = f"/users/{quote(person.name)}/server"

        def remaining() -> str:
            session = person.session()
            if session and session.get("pending") in (None, "spawn"):
                person.hub_api("DELETE", path)
            return "not gone" if session else ""

        if host.wait_until_clear(remaining, STOP_WITHIN, 0.5):
            raise MaintenanceError(f"it does not stop within {STOP_WITHIN:.0f} s")

    def _end(self, person: Person) -> None:
        """Stop the session, and remove what it has left."""
        if not self._asked:
            RUNNING.unlink(missing_ok=True)
            return
        with self.step("stop"):
            self._stop(person)
            if self.job and self.settings.qstat:
                found = host.wait_until_clear(lambda: job_problem(self.settings, self.job), 60)
                if found:
                    raise MaintenanceError(found)
        with self.step("clean"):
            removed = remove_session_files(self.settings, self._files)
            revoked = revoke_tokens(person, self._tokens, self.result["started"])
            if not self.result["failed"]:
                self.result["files"], self.result["tokens"] = len(removed), len(revoked)
            RUNNING.unlink(missing_ok=True)


def problem_of(action: Callable[[], object]) -> str:
    """Return why an action fails; empty if it succeeds."""
    try:
        action()
    except MaintenanceError as error:
        return str(error)
    return ""


def smallest_choice(settings: Settings) -> dict[str, Any]:
    """Return the smallest choice of the menu, as the hub's API takes it.

    :raises MaintenanceError: when the menu cannot be read.
    """
    shown = host.run(settings.smallest_choice, named="the smallest choice of the menu")
    try:
        return dict(json.loads(shown))
    except (ValueError, TypeError) as error:
        raise MaintenanceError(f"the smallest choice of the menu is {shown!r}") from error


def job_of(settings: Settings) -> str:
    """Return the number of the canary's job; empty if it is not known."""
    try:
        sessions = probes.running_sessions(settings.sessions)
    except MaintenanceError:
        return ""
    mine = [each for each in sessions if (each["user"], each["name"]) == (settings.canary_user, "")]
    return str(mine[0]["job"]) if mine else ""


def job_problem(settings: Settings, job: str) -> str:
    """Return that a job is still in Grid Engine, or why this is not known; empty if it is gone."""
    try:
        return f"job {job} is still there" if job in probes.grid_engine_jobs(settings) else ""
    except MaintenanceError as error:
        return str(error)
