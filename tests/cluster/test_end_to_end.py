"""Everything that a person does with a session: log in, choose, wait, run a cell, stop."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from cluster import LogIn
from hub_client import HubClient, page_text, wait_for

GB = 1024**3

PROBE = """
import json, os, resource, socket
print(json.dumps({
    "host": socket.gethostname(),
    "user": os.environ["USER"],
    "slots": int(os.environ["NSLOTS"]),
    "address_space": resource.getrlimit(resource.RLIMIT_AS)[0],
    "job": int(os.environ["JOB_ID"]),
}))
"""


def job_details(hub_host: Any, job: int) -> str:
    return str(hub_host.check_output("qstat -j %s", str(job)))


def known_to_grid_engine(hub_host: Any, job: int) -> bool:
    return bool(hub_host.run("qstat -j %s", str(job)).rc == 0)


def jobs_of(hub_host: Any, user: str) -> list[str]:
    return str(hub_host.check_output("qstat -u %s", user)).splitlines()[2:]


def probe(person: HubClient) -> dict[str, Any]:
    person.open_lab()
    return dict(json.loads(person.run(person.start_kernel(), PROBE)))


def test_a_person_gets_the_requested_session_and_can_stop_it(login: LogIn, hub_host: Any) -> None:
    alice = login("alice")
    page = alice.choose(cores=2, memory=4, run_time=1)
    # A session that is ready within a second needs no waiting page.
    assert any(path in page.url for path in ("/hub/spawn-pending/alice", "/user/alice/lab"))
    alice.wait_until_ready()

    seen = probe(alice)
    assert seen["host"] in ("exec1", "exec2"), "the cell ran on a worker"
    assert seen["user"] == "alice"
    assert seen["slots"] == 2
    # Grid Engine adds up the memory of the two slots.
    assert seen["address_space"] == 4 * GB

    details = job_details(hub_host, seen["job"])
    assert "owner:                      alice" in details
    assert "smp range: 2" in details
    assert "h_vmem=2097152K" in details
    assert "h_rt=3600" in details

    alice.stop()
    wait_for("the job is gone", lambda: not known_to_grid_engine(hub_host, seen["job"]))
    assert jobs_of(hub_host, "alice") == []


def test_a_session_with_gpus_runs_on_the_host_with_gpus(login: LogIn, hub_host: Any) -> None:
    carol = login("carol")
    assert "GPUs" in page_text(carol.get("/hub/spawn"))
    carol.choose(cores=2, memory=1, gpus=2, run_time=1)
    carol.wait_until_ready()
    seen = probe(carol)
    assert seen["host"] == "exec2"
    assert "gpu=2" in job_details(hub_host, seen["job"])


def test_gpus_are_neither_offered_nor_given_to_people_outside_the_group(
    login: LogIn, hub_host: Any
) -> None:
    bob = login("bob")
    assert "GPUs" not in page_text(bob.get("/hub/spawn"))
    refusal = bob.choose(cores=1, memory=1, gpus=1, run_time=1)
    words = "GPUs: your account may not ask for “1”; only members of gpu may. Choose 0."
    assert refusal.status_code == 400
    assert words in page_text(refusal)
    answer = bob.rest("POST", "/users/bob/server", {"gpus": 1})
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert jobs_of(hub_host, "bob") == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"memory": 3}, "Memory: “3” is not possible; choose 1, 2, 4 or 8 GB."),
        ({"memory": "2; rm -rf /"}, "is not possible; choose 1, 2, 4 or 8 GB."),
        ({"cores": 5}, "CPU cores: “5” is not possible; choose from 1 to 4."),
        ({"cores": "-q all.q"}, "CPU cores: “-q all.q” is not possible"),
        ({"run_time": 100}, "Run time: “100” is not possible; choose 1, 2, 4 or 8 hours."),
        ({"queue": "secret.q"}, "“queue” is not on the menu"),
        ({"cores": 1, "memory": 8}, "At most 4 GB for each CPU core."),
        (
            {"preset": "gpu"},
            "Preset: “gpu” is not possible; choose “small” (Small) or “teaching” (Teaching), or "
            "leave it empty.",
        ),
    ],
)
def test_a_choice_outside_the_menu_is_refused_by_form_link_and_rest(
    login: LogIn, hub_host: Any, choice: dict[str, object], words: str
) -> None:
    bob = login("bob")
    refusal = bob.choose(**choice)
    assert refusal.status_code == 400
    assert words in page_text(refusal)
    answer = bob.rest("POST", "/users/bob/server", choice)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    # After the form and the REST API, the third way to choose is a link that contains the choice.
    link = bob.get("/hub/spawn", params={f"opt-{name}": value for name, value in choice.items()})
    assert words in page_text(link)
    assert bob.server() is None
    assert jobs_of(hub_host, "bob") == []


def test_a_session_can_be_started_through_the_rest_api(login: LogIn) -> None:
    bob = login("bob")
    answer = bob.rest("POST", "/users/bob/server", {"cores": 1, "memory": 1})
    assert answer.status_code in (201, 202), answer.text
    bob.wait_until_ready()
    assert probe(bob)["address_space"] == 1 * GB


def test_a_wrong_password_is_refused_with_a_message(base_url: str) -> None:
    stranger = HubClient(base_url, "alice")
    page = stranger.log_in("not-her-password")
    assert page.status_code == 403
    assert "Invalid username or password" in page_text(page)
    assert stranger.get("/hub/home", allow_redirects=False).status_code == 302


def test_an_account_outside_the_allowed_group_is_refused_with_the_reason(
    base_url: str, passwords: dict[str, str]
) -> None:
    dave = HubClient(base_url, "dave")
    page = dave.log_in(passwords["dave"])
    assert page.status_code == 403
    assert "the account dave may not use this service" in page_text(page)
    assert dave.get("/hub/home", allow_redirects=False).status_code == 302


def test_a_start_shows_that_the_qmaster_is_unreachable(
    login: LogIn, qmaster_host: Any, hub_host: Any
) -> None:
    bob = login("bob")
    qmaster_host.check_output("systemctl stop gridengine-master")
    try:
        refusal = bob.choose(cores=1, memory=1, run_time=1)
        text = page_text(refusal)
        if "/spawn-pending/" in refusal.url:  # the waiting page came before the refusal
            wait_for("the start has failed", lambda: bob.server() is None)
            text = page_text(bob.get("/hub/spawn-pending/bob"))
        assert "unable to send message to qmaster" in text
    finally:
        qmaster_host.check_output("systemctl start gridengine-master")
    wait_for("the qmaster answers again", lambda: hub_host.run("qstat -u %s", "bob").rc == 0)
    home = "/home/bob/.jupyterhub-sessions"
    secrets = hub_host.check_output(f"find {home} -name '*.json'")
    assert secrets == "", "a session's file is left"


def test_a_cancelled_wait_leaves_no_job_and_no_secret(
    login: LogIn, hub_host: Any, qmaster_host: Any
) -> None:
    bob = login("bob")
    qmaster_host.check_output("qmod -d all.q")
    try:
        bob.choose(cores=1, memory=1, run_time=1)
        wait_for("the job waits in the queue", lambda: jobs_of(hub_host, "bob"))
        bob.stop()
        wait_for("the job is gone", lambda: not jobs_of(hub_host, "bob"))
        left = "find /home/bob/.jupyterhub-sessions -name '*.json'"
        assert hub_host.check_output(left) == ""
    finally:
        qmaster_host.check_output("qmod -e all.q")


def test_a_session_survives_restarts_of_hub_and_proxy(
    login: LogIn, hub_host: Any, proxy_host: Any
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    kernel = alice.start_kernel()
    alice.run(kernel, "kept = 41")
    for host, unit in ((hub_host, "jupyterhub"), (proxy_host, "jupyterhub-proxy")):
        host.check_output("systemctl restart %s", unit)
        wait_for(
            f"the session answers after a restart of {unit}",
            lambda: alice.get(f"{alice.prefix}/api").status_code == 200,
        )
        wait_for(
            f"the hub answers after a restart of {unit}",
            lambda: alice.get("/hub/health").status_code == 200,
        )
    assert alice.run(kernel, "print(kept + 1)") == "42\n"
    assert alice.server() is not None


#: What a session's server has imported before it starts.
IMPORTED = """
import sys
sys.path.insert(0, "/opt/jupyterhub-session/current")
from gridhub.session.left_out import import_server
import_server()
import inspect, jupyterlab.commands
assert "def _yarn_config(" in inspect.getsource(jupyterlab.commands), "it has another name now"
print(*sorted(sys.modules), sep="\\n")
"""


def test_a_session_imports_neither_the_hubs_database_nor_rare_formats(exec1_host: Any) -> None:
    # This saves two thirds of the time that the imports would take.
    python = "/opt/jupyterhub-session/current/env/bin/python"
    imported = exec1_host.check_output(f"{python} -sE -c %s", IMPORTED).splitlines()
    assert "jupyterlab.labapp" in imported
    assert "jupyterhub.singleuser.extension" in imported
    left_out = {"sqlalchemy", "alembic", "jupyterhub.orm", "rfc3987_syntax", "httpx", "IPython"}
    later = {"aiohttp", "jupyterhub.httpclient", "requests"}
    assert not (left_out | later).intersection(imported)


def sent(person: HubClient, path: str) -> tuple[str, int, bytes]:
    """Get a path as a browser does; return the encoding, the bytes on the wire, and the content."""
    headers = {"Accept-Encoding": "gzip, deflate, br"}
    with person.get(path, headers=headers, stream=True) as answer:
        answer.raise_for_status()
        raw = answer.raw.read()
    encoding = answer.headers.get("Content-Encoding", "")
    return encoding, len(raw), gzip.decompress(raw) if encoding == "gzip" else raw


def test_programs_of_pages_are_compressed_and_what_may_hold_a_secret_is_not(login: LogIn) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    page = alice.open_lab().text
    path = re.search(r'src="([^"]*/static/lab/main\.[^"]*\.js[^"]*)"', page)
    assert path, page
    encoding, size, content = sent(alice, path[1])
    assert encoding == "gzip"
    assert size < 0.5 * len(content)
    # A length could reveal a secret in a page, in an answer of the API or in a file of the user.
    alice.session_rest(
        "PUT", "api/contents/big.js", {"type": "file", "format": "text", "content": "x" * 9000}
    )
    for other in (
        f"{alice.prefix}/lab",
        f"{alice.prefix}/api/contents",
        f"{alice.prefix}/files/big.js",
        "/hub/home",
    ):
        encoding, size, content = sent(alice, other)
        assert encoding == "", other
        assert size == len(content)
    alice.stop()


def test_browsers_keep_only_files_whose_content_cannot_change(login: LogIn, base_url: str) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    page = alice.open_lab().text
    main = re.search(r'src="([^"]*/static/lab/main\.[^"]*\.js)', page)
    extension = re.search(
        r'"load": "(static/remoteEntry\.[0-9a-f]+\.js)", "name": "(@[^"]*)"', page
    )
    assert main and extension, page
    kept = "private, max-age=31536000, immutable"
    extensions = f"{alice.prefix}/lab/extensions"
    for path in (main[1], f"{extensions}/{extension[2]}/{extension[1]}"):
        answer = alice.get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, kept), path
        again = alice.get(path, headers={"If-Modified-Since": answer.headers["Last-Modified"]})
        assert (again.status_code, again.headers["Cache-Control"]) == (304, kept), path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    own = alice.get(f"{extensions}/gridhub-status-bar/remoteEntry.js")
    assert own.headers["Cache-Control"] == "no-cache"
    # An error is not kept: the file may be there later.
    missing = f"{alice.prefix}/static/lab/main.0123456789abcdef.js"
    assert alice.get(missing).status_code == 404
    assert "immutable" not in alice.get(missing).headers.get("Cache-Control", "")
    alice.stop()
    ended = alice.get(main[1], allow_redirects=False)
    assert ended.status_code != 200
    assert "immutable" not in ended.headers.get("Cache-Control", "")
