"""People whose sessions compute, and what the hub's pages show them."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Any

import requests
import websocket

from cluster import BASE_URL, read_passwords
from faults import queue_disabled
from hub_client import HubClient, page_text, wait_for

CHOICE: dict[str, object] = {"cores": 1, "memory": 1, "run_time": 1}

#: Code for the kernel: it starts a computation of up to ten steps a second, and prints the job's
#: number.
COMPUTE = """
import os, threading, time
value, steps = {value!r}, 0
def _compute():
    global steps
    while True:
        steps += 1
        time.sleep(0.1)
threading.Thread(target=_compute, daemon=True).start()
print(os.environ["JOB_ID"])
"""

#: Errors that a browser may meet while a service is down.
AWAY = (requests.RequestException, websocket.WebSocketException, OSError, AssertionError)


class Person(HubClient):
    """A person who stays logged in."""

    def __init__(self, name: str) -> None:
        super().__init__(BASE_URL, name)
        page = self.log_in(read_passwords()[name])
        assert page.ok, page_text(page)

    def record(self) -> dict[str, Any] | None:
        """Return the hub's record of the session; ``None`` if there is no session or answer."""
        try:
            return self.server()
        except AWAY:
            return None

    def is_ready(self) -> bool:
        record = self.record()
        return bool(record and record["ready"] and not record["pending"])

    def is_waiting(self) -> bool:
        record = self.record()
        return bool(record and record["pending"] == "spawn")

    def has_none(self) -> bool:
        with contextlib.suppress(*AWAY):
            return self.server() is None
        return False

    def reads_after_failure(self, page: requests.Response, seconds: float = 60.0) -> str:
        """Wait until a start has failed; return the text of the page that shows the failure."""
        if "/hub/spawn-pending/" not in page.url or page.status_code >= 400:
            return page_text(page)
        wait_for(f"the start of {self.name} has failed", self.has_none, seconds)
        return page_text(self.get(f"/hub/spawn-pending/{self.name}"))

    def reads_on_the_form(self) -> str:
        """Return the text of the form that starts the next session."""
        return page_text(self.get("/hub/spawn"))

    def progress(self) -> str:
        """Return the events that the waiting page receives, joined into one line."""
        lines = []
        with (
            contextlib.suppress(*AWAY),
            self.http.get(
                self.url(f"/hub/api/users/{self.name}/server/progress"),
                params={"_xsrf": self._xsrf()},
                headers={"Referer": self.url("/hub/home")},
                stream=True,
                timeout=3,
            ) as answer,
        ):
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                lines.append(str(line))
        return " ".join(lines)


class Session:
    """A person's session, whose kernel holds a random value and keeps counting."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.kernel = ""
        self.value = ""
        self.job = 0
        self._steps = 0
        self._looked = 0.0

    def start(self, *, not_on: str = "", seconds: float = 150.0) -> Session:
        """Start the session through the pages, then start the computation in its kernel.

        The session must be ready within ``seconds``. The default includes the time that workers
        take to report to a restarted qmaster.
        """
        elsewhere = queue_disabled(f"all.q@{not_on}") if not_on else contextlib.nullcontext()
        with elsewhere:
            page = self.person.choose(**CHOICE)
            assert page.ok, page_text(page)
            self.person.wait_until_ready(seconds)
        self.compute()
        return self

    def compute(self) -> None:
        """Open JupyterLab, start a kernel, and start the computation in it."""
        self.person.open_lab()
        self.kernel = self.person.start_kernel()
        self.value = uuid.uuid4().hex
        self.job = int(self.person.run(self.kernel, COMPUTE.format(value=self.value)))
        self._steps, self._looked = 0, time.monotonic()

    def look(self) -> tuple[str, int]:
        """Return the kernel's value and its count of steps."""
        value, steps = self.person.run(self.kernel, "print(value, steps)", seconds=20).split()
        return value, int(steps)

    def assert_alive(self, seconds: float = 60.0) -> None:
        """Check that the hub lists the session as ready and that its kernel has never paused."""
        wait_for(f"the hub lists {self.person.name}'s session", self.person.is_ready, seconds)
        errors: list[BaseException] = []

        def look() -> tuple[str, int] | None:
            try:
                return self.look()
            except AWAY as error:
                errors[:] = [error]
                return None

        try:
            value, steps = wait_for(f"{self.person.name}'s kernel answers", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {errors}") from None
        assert value == self.value
        elapsed = time.monotonic() - self._looked
        # Half of the full pace is enough, since the kernel shares this machine with other programs.
        assert steps - self._steps >= elapsed * 10 / 2 - 10, "the kernel paused"
        self._steps, self._looked = steps, time.monotonic()

    def is_alive(self) -> bool:
        if not self.kernel:
            return False
        try:
            self.assert_alive(10)
        except AWAY:
            return False
        return True
