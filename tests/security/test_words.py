"""A person puts text into a job, to make the text appear on another person's page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import LogIn
from hub_client import HubClient, page_text, wait_for

FORGED = "WORDS OF BOB"
#: The reason that Grid Engine gives for starting no job.
REASON = "dropped because it is disabled"

#: Text that looks like what `qstat -j` and `qstat -xml -j` print about another job.
WRITTEN = f"""x
==============================================================
job_number:                 NUMBER
owner:                      alice
scheduling info:            {FORGED}
error reason          1:      {FORGED}
, MARKUP=</VA_value></job_sublist></JB_env_list></element><element><JB_job_number>NUMBER\
</JB_job_number><JB_owner>alice</JB_owner></element></djob_info><messages><element>\
<SME_global_message_list><element><MES_message>{FORGED}</MES_message>"""

#: A program for bob. It puts a text and characters that XML forbids into bob's job, and holds the
#: job. Grid Engine then gives the hold as the reason why the job waits.
WRITE = r"""
import subprocess, sys
job, words = sys.argv[1:]
characters = "CHARACTERS=\x01\x1b[2J\udcff"
subprocess.run(["qalter", "-v", "TEXT=" + words + "," + characters, job], check=True)
subprocess.run(["qhold", job], check=True)
"""


@pytest.fixture
def full_cluster(qmaster_host: Any) -> Iterator[None]:
    """Disable the queue, so that all sessions wait."""
    qmaster_host.check_output("qmod -d all.q")
    yield
    qmaster_host.check_output("qmod -e all.q")


def waiting(person: HubClient, hub_host: Any) -> str:
    """Start a session that has to wait; return the number of its job."""

    def number() -> str | None:
        lines = hub_host.check_output("qstat -s p -u %s", person.name).splitlines()[2:]
        return str(lines[0].split()[0]) if lines else None

    person.choose(cores=1, memory=1, run_time=1)
    return str(wait_for(f"the session of {person.name} waits", number))


def home(person: HubClient) -> str:
    """Return the text of a person's home page."""
    return page_text(person.get("/hub/home"))


def progress(person: HubClient) -> str:
    """Return the first progress message that contains Grid Engine's output."""
    path = f"/hub/api/users/{person.name}/server/progress"
    headers = {"Referer": person.url(f"/hub/spawn-pending/{person.name}")}
    deadline = time.monotonic() + 20
    with person.http.get(person.url(path), headers=headers, stream=True, timeout=20) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines(decode_unicode=True):
            assert time.monotonic() < deadline, "no message about the job"
            if line and line.startswith("data:") and "raw" in (event := json.loads(line[5:])):
                return f"{event['message']}\n{event['raw']}"
    raise AssertionError("the stream has ended")


@pytest.mark.attack(
    "text in one's own job (-v) that looks like Grid Engine's about another job, or breaks its XML",
    outcome="Never on the other person's page: a job's messages are read only from its own part, by"
    " number and owner. The real reasons are shown.",
)
@pytest.mark.usefixtures("full_cluster")
def test_text_of_one_person_is_never_on_anothers_page(login: LogIn, hub_host: Any) -> None:
    alice, bob = login("alice"), login("bob")
    hers = waiting(alice, hub_host)
    his = waiting(bob, hub_host)
    assert int(his) > int(hers), "the later one would win"
    words = WRITTEN.replace("NUMBER", hers)
    hub_host.check_output("runuser -u bob -- python3 -c %s %s %s", WRITE, his, words)
    printed = hub_host.check_output(
        "qstat -xml -j %s | grep --text --only-matching %s", f"{hers},{his}", FORGED
    )
    assert printed.splitlines() == [FORGED] * 3, "Grid Engine does not print the text"

    def read() -> bool:
        """Return whether both pages give the reason; if they do, the hub has read bob's text."""
        page = home(alice)
        assert FORGED not in page
        return "hold state" in home(bob) and REASON in page

    wait_for("both pages show why the session waits", read)
    words = progress(alice)
    assert REASON in words
    assert FORGED not in words
