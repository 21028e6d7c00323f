"""Warnings before a session ends, and the end of idle sessions.

One test covers both, with short limits: two minutes of idleness and four minutes of run time.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cluster import AS_HUB, LogIn, host
from hub_client import HubClient, page_text, wait_for

FOLDER = "/etc/jupyterhub"
RULES = {"run_time_warnings": [2], "idle_timeout": 2, "idle_notice": 1, "idle_report": 15}
CONFIG = {
    "--timeout=[0-9]+": "--timeout=120",
    "--cull-every=[0-9]+": "--cull-every=5",
    '"timeout": [0-9]+, "report": [0-9]+': '"timeout": 120, "report": 15',
}


@pytest.fixture
def short_rules(hub_host: Any) -> Iterator[None]:
    """Shorten the limits of hub and broker to a few minutes during the test."""

    def write(name: str, text: str) -> None:
        # Writing with cat keeps the file's owner and mode.
        hub_host.check_output(f"printf %s {shlex.quote(text)} | cat > {FOLDER}/{name}")

    def restart() -> None:
        hub_host.check_output("systemctl restart jupyterhub")
        url = "https://127.0.0.1:8081/hub/health"
        health = f"{AS_HUB}urllib.request.urlopen({url!r}, context=context)"
        wait_for("the hub is back", lambda: hub_host.run("python3 -c %s", health).rc == 0)

    names = ("broker.json", "menu.json", "jupyterhub_config.py")
    whole = {name: hub_host.check_output(f"cat {FOLDER}/{name}") + "\n" for name in names}
    config = whole["jupyterhub_config.py"]
    for pattern, text in CONFIG.items():
        config, count = re.subn(pattern, text, config)
        assert count == 1, pattern
    items = json.loads(whole["menu.json"])["items"]
    run_time = next(item for item in items if item["name"] == "run_time")
    run_time.update(unit="minutes", choices=[4], default=4)
    try:
        write("broker.json", json.dumps(json.loads(whole["broker.json"]) | RULES))
        write("menu.json", json.dumps({"items": items}))
        write("jupyterhub_config.py", config)
        restart()
        yield
    finally:
        for name, text in whole.items():
            write(name, text)
        restart()


def lives(person: HubClient) -> bool:
    server = person.server()
    assert server and server["ready"], f"{person.name}'s session was in use but has ended"
    return True


def warned(person: HubClient) -> list[str]:
    return person.notices() if lives(person) else []


def test_people_are_warned_and_only_idle_sessions_are_ended(
    login: LogIn, short_rules: None
) -> None:
    idle, computing, in_a_terminal = people = [login(name) for name in ("alice", "bob", "carol")]
    for person in people:
        page = person.choose(cores=1, memory=1, run_time=4)
        assert page.ok, page_text(page)
    for person in people:
        person.wait_until_ready()
        person.open_lab()
    used = time.time()
    assert idle.notices() == []
    in_a_terminal.type_in_a_terminal("sleep 1000\n")
    kernel = computing.start_kernel()
    with ThreadPoolExecutor(1) as background:
        cell = background.submit(
            computing.run, kernel, "import time; time.sleep(150); print(7)", 200
        )

        (notice,) = wait_for("the idle person gets a notice", idle.notices, 90)
        assert "This session is idle" in notice
        dates = [f"date -d @{used + 120 + late:.0f} '+%H:%M %Z'" for late in (-5, 5)]
        expected = {host("hub").check_output(date) for date in dates}
        assert re.findall(r"\d\d:\d\d \w+", notice)[0] in expected

        # An open page fetches notices again and again, but these requests do not count as use.
        wait_for("the idle session is ended", lambda: idle.server() is None, 120)
        assert time.time() - used >= 115
        assert "was ended because it was idle" in page_text(idle.get("/hub/spawn"))

        (warning,) = wait_for(
            "another person is warned of the end", lambda: warned(in_a_terminal), 60
        )
        assert re.search(
            r"This session ends at \d\d:\d\d \w+, in about 2 min, when its run time", warning
        )
        assert wait_for("so is the third", lambda: warned(computing), 60)

        assert cell.result() == "7\n"
    assert lives(computing)
    assert lives(in_a_terminal)
    sleeping = [host(name).run("pgrep -u carol -x sleep").rc for name in ("exec1", "exec2")]
    assert sorted(sleeping) == [0, 1], "the program in the terminal has ended"
