"""No new session starts in a drain, and sessions are ended only after their notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from canary_account import PROGRAM, run
from cluster import BASE_URL, host
from hub_client import HubClient, page_text, wait_for
from playbooks import output, playbook
from sessions import Person, Session

DRAIN: dict[str, object] = {
    "drain_text": "The file server is replaced.",
    "drain_until": "2099-01-31 18:00",
}
FILE = "/etc/jupyterhub/drain.json"


@pytest.fixture(autouse=True)
def end_the_drain() -> Iterator[None]:
    yield
    run(f"rm -f {FILE} /var/lib/gridhub-maintenance/drain-notice.json")
    visitor = HubClient(BASE_URL, "")
    wait_for(
        "the hub has noticed",
        lambda: "No session can start" not in page_text(visitor.get("/hub/login")),
    )


@pytest.fixture
def bob() -> Iterator[Person]:
    person = Person("bob")
    person.stop()
    yield person
    person.stop()


def shows(person: Person, words: str) -> bool:
    return words in page_text(person.get("/hub/home"))


def test_no_session_starts_until_the_end_and_running_ones_go_on(
    computing: Session, bob: Person
) -> None:
    checked = playbook("drain.yml", "--check", "--diff", **DRAIN)
    assert checked.returncode == 0 and not host("hub").file(FILE).exists, output(checked)
    for count in (1, 0):
        done = playbook("drain.yml", **DRAIN)
        assert done.returncode == 0 and f"changed={count}" in output(done), output(done)
    words = "The file server is replaced. No session can start until 2099-01-31 18:00"
    wait_for("the pages show it", lambda: shows(bob, words))
    assert words in page_text(bob.choose(cores=1, memory=1, run_time=1))
    refused = bob.rest("POST", "/users/bob/server", {"cores": 1, "memory": 1, "run_time": 1})
    assert refused.status_code >= 400 and words in refused.json()["message"]
    computing.assert_alive()
    for count in (1, 0):
        done = playbook("drain.yml")
        assert done.returncode == 0 and f"changed={count}" in output(done), output(done)
    wait_for("sessions start again", lambda: not shows(bob, words))
    bob.choose(cores=1, memory=1, run_time=1)
    bob.wait_until_ready()


def test_a_drain_that_begins_later_is_only_announced(bob: Person) -> None:
    done = playbook("drain.yml", **(DRAIN | {"drain_from": "2099-01-30 18:00"}))
    assert done.returncode == 0, output(done)
    wait_for("the pages announce it", lambda: shows(bob, "From 2099-01-30 18:00"))
    bob.choose(cores=1, memory=1, run_time=1)
    bob.wait_until_ready()


def test_a_mistake_is_refused_and_nothing_is_written() -> None:
    """Others are in tests/playbooks/test_playbooks_alone.py."""
    done = playbook("drain.yml", **(DRAIN | {"drain_until": "tomorrow"}))
    assert done.returncode != 0 and "must be times such as 2030-01-31 18:00" in output(done)
    assert not host("hub").file(FILE).exists


def test_sessions_end_only_after_a_notice_and_its_time(bob: Person) -> None:
    session = Session(bob).start()
    early = playbook("drain.yml", **(DRAIN | {"drain_end_sessions": True}))
    assert early.returncode != 0 and "the sessions have had no notice" in output(early)
    session.assert_alive()
    notice = DRAIN | {"drain_notice": "Save: all ends at 16:00.", "drain_notice_minutes": 60}
    done = playbook("drain.yml", **notice)
    assert done.returncode == 0 and "1 sessions have shown the notice" in output(done), output(done)
    assert any("Save: all ends at 16:00." in each for each in bob.notices())
    soon = playbook("drain.yml", **(DRAIN | {"drain_end_sessions": True}))
    assert soon.returncode != 0 and "until then, none is ended" in output(soon), output(soon)
    session.assert_alive()
    done = playbook("drain.yml", **(notice | {"drain_notice_minutes": 0}))
    assert done.returncode == 0, output(done)
    done = playbook("drain.yml", **(DRAIN | {"drain_end_sessions": True}))
    assert done.returncode == 0 and "1 sessions were asked to end" in output(done), output(done)
    wait_for("the session is gone", bob.has_none)
    assert "an administrator" in bob.reads_on_the_form()


def test_only_root_may_ask_the_hub_to_end_sessions(computing: Session) -> None:
    """Neither a person through the proxy nor a session has the hub's own certificate."""
    person = computing.person
    for what in ("status", "notice", "end"):
        method = "GET" if what == "status" else "POST"
        assert person.rest(method, f"/sge/operator/{what}", {}).status_code in (403, 404)
        answer = person.run(computing.kernel, ASK.format(method=method, what=what)).strip()
        assert answer in ("403", "404"), answer
    assert host("hub").run(f"runuser -u bob -- {PROGRAM} end-sessions-now").rc != 0
    computing.assert_alive()


#: Asks the hub from a session. Without a certificate, there is no connection, so it uses the
#: session's own, which the session's server keeps in memory.
ASK = """
import glob, os, ssl, urllib.error, urllib.request
found = {{}}
for path in glob.glob(f"/proc/{{os.getppid()}}/fd/*"):
    try:
        name = os.readlink(path).removeprefix("/memfd:").split()[0]
    except OSError:
        continue
    found.setdefault(name, path)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(found["certificate"], found["key"])
url = "https://hub:8081/hub/api/sge/operator/{what}"
request = urllib.request.Request(url, method="{method}", data=None if "{method}" == "GET" else b"")
try:
    print(urllib.request.urlopen(request, context=context, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
