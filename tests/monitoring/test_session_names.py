"""From the one string on a person's page to what happened, over all logs."""

from __future__ import annotations

import re

from cluster import HUB_LOGS, host
from hub_client import wait_for
from sessions import CHOICE, Person

NAME = re.compile(r'<code class="session-name" id="name-">([0-9a-f]{32})</code>')


def journal(name: str) -> str:
    """Run the command of docs/watching.md."""
    command = f"journalctl --output cat --since -1h --grep %s {HUB_LOGS}"
    return str(host("hub").run(command, name).stdout)


def test_a_session_is_found_in_all_logs_by_the_name_on_its_page(alice: Person) -> None:
    alice.choose(**CHOICE)
    alice.wait_until_ready()
    page = alice.get("/hub/home").text
    [name] = NAME.findall(page)
    assert 'data-copy="name-"' in page
    text = journal(name)
    for event in (
        rf"Session of alice \({name}\) is requested",
        rf"start for alice, session {name}: job \d+",
        rf"Session of alice \({name}\) is job \d+",
        rf"Session of alice \({name}\) has reported port \d+",
        rf"Session of alice \({name}\) answers at exec\d:\d+",
    ):
        assert re.search(event, text), event
    assert "jupyterhub_user=alice" in host("hub").check_output(
        f"qstat -j jupyterhub-{name}"
    ).replace(" ", "")
    alice.open_lab()
    alice.shut_down()
    ended = rf"Session of alice \({name}\) has ended: itself, job \d+ on exec\d"
    wait_for("the end is in the log", lambda: re.search(ended, journal(name)), 90)
    # The accounting file is the qmaster's.
    assert "jupyterhub" in host("qmaster").check_output(f"qacct -j jupyterhub-{name}")


def test_a_failed_start_shows_the_name_too(alice: Person) -> None:
    # More memory than any worker has: Grid Engine refuses the job.
    path = "/etc/jupyterhub/session.sh"
    host("hub").check_output(
        f"cp -p {path} {path}.whole && echo 'exit 3' | sed -i '1r /dev/stdin' {path}"
    )
    try:
        page = alice.choose(**CHOICE)
        alice.reads_after_failure(page)
        shown = alice.get("/hub/spawn-pending/alice").text
        [name] = NAME.findall(shown)
        assert re.search(rf"Session of alice \({name}\) did not start \(ended\)", journal(name))
    finally:
        host("hub").check_output(f"mv {path}.whole {path}")
