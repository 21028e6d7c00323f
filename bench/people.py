"""People who press Start and wait as the hubs' own pages do, and a bare server without a hub."""

from __future__ import annotations

import json

from bench.demo import BASE_URL, read_passwords, wait_for
from hub_client import HubClient

#: The choice on our form. The stock hub has the same request in its configuration.
CHOICE = {"cores": 1, "memory": 1, "run_time": 1}


class Jupyter(HubClient):
    """Someone who uses a JupyterLab."""

    def run_first_cell(self) -> None:
        """Start a kernel and run a cell."""
        assert self.run(self.start_kernel(), "print(6 * 7)") == "42\n"


class Person(Jupyter):
    """A person who has logged in at our hub, or at the stock hub."""

    def __init__(self, base_url: str, name: str, password: str = "") -> None:
        super().__init__(base_url, name)
        password = password or read_passwords()[name]
        # Our proxy limits the logins from one address: log in again until it lets this one through.
        wait_for(f"{name} is logged in", lambda: self.log_in(password).ok, 300, pause=1)
        self.stop()

    def open_form(self) -> None:
        """Open the form for a new session."""
        self.get("/hub/spawn").raise_for_status()

    def start(self, seconds: float = 300.0) -> None:
        """Press Start; wait for the event on which the waiting page of both hubs moves on."""
        self.press_start(**(CHOICE if self.base_url == BASE_URL else {})).raise_for_status()
        path = f"/hub/api/users/{self.name}/server/progress"
        headers = {"Accept": "text/event-stream"}
        with self.get(path, headers=headers, stream=True, timeout=seconds) as events:
            events.raise_for_status()
            # One byte at a time, or the last event would wait for more.
            for line in events.iter_lines(chunk_size=1, decode_unicode=True):
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    if event.get("ready"):
                        return
                    if event.get("failed"):
                        raise RuntimeError(f"{self.name} at {self.base_url}: {event}")
        raise RuntimeError(f"{self.name} at {self.base_url}: the events ended")


class Bare(Jupyter):
    """The browser of someone who has started ``jupyter lab`` by hand."""

    @property
    def prefix(self) -> str:
        """Return what comes before the paths of the server: nothing."""
        return ""

    def log_in_with(self, token: str) -> None:
        """Open JupyterLab's page with the token that the server was started with."""
        self.get(f"/lab?token={token}").raise_for_status()
