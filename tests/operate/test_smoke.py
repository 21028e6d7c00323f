"""The smoke test uses the service as people do, leaves nothing, and says what is wrong."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator

import pytest
from testinfra.backend.base import CommandResult

from canary_account import PASSWORD, PROGRAM, STATE, VARIABLES, Canary, database, last, run, smoke
from cluster import BASE_URL, PREFIX, host
from hub_client import HubClient, wait_for
from playbooks import output, playbook

TOKEN = "/etc/gridhub/canary-token"  # a path
METRICS = "/var/lib/prometheus/node-exporter/gridhub_smoke.prom"
TOKENS = (
    "SELECT api_tokens.id FROM api_tokens JOIN users ON users.id = api_tokens.user_id"
    " WHERE users.name = 'canary'"
)
SESSIONS = (
    "SELECT spawners.server_id FROM spawners JOIN users ON users.id = spawners.user_id"
    " WHERE users.name = 'canary' AND spawners.server_id IS NOT NULL"
)


def assert_nothing_is_left(canary: Canary, files: str) -> None:
    assert canary.jobs() == ""
    assert canary.files() == files
    assert database(TOKENS) == [] and database(SESSIONS) == []
    assert not host("hub").file(f"{STATE}/running.json").exists


@pytest.fixture
def files(canary: Canary) -> Iterator[str]:
    """What is in the canary's home before the test; afterwards, nothing else is."""
    canary.as_root(f"runuser -u canary -- touch {canary.home}/mine.txt")
    before = canary.files()
    yield before
    assert_nothing_is_left(canary, before)


@contextlib.contextmanager
def broken(break_: str, repair: str, name: str = "hub") -> Iterator[None]:
    host(name).check_output(break_)
    try:
        yield
    finally:
        host(name).check_output(repair)


def test_the_playbook_uses_a_session_and_leaves_nothing(files: str) -> None:
    for _ in range(2):
        done = playbook("smoke.yml", **VARIABLES)
        assert done.returncode == 0, output(done)
        assert "a cell ran after" in output(done) and "changed=0" in output(done)
    assert last()["ok"] and last()["seconds"]["cell"] > 0
    assert "gridhub_smoke_success 1" in run(f"cat {METRICS}")


def test_check_mode_starts_nothing(files: str) -> None:
    run(f"rm -f {STATE}/last.json")
    done = playbook("smoke.yml", "--check", "--diff", **VARIABLES)
    assert done.returncode == 0 and "Check mode: nothing was started" in output(done)
    assert not host("hub").file(f"{STATE}/last.json").exists


def test_a_site_without_a_canary_is_told_so() -> None:
    done = playbook("smoke.yml")
    assert done.returncode != 0 and "set maintenance_canary_user" in output(done)


def test_a_wrong_password_is_named(canary: Canary, files: str) -> None:
    canary.set_password("wrong")
    try:
        done = playbook("smoke.yml", **VARIABLES)
    finally:
        canary.set_password(canary.password)
    assert done.returncode != 0
    assert "failed at the step 'the canary can log in'" in output(done)
    assert "Invalid username or password" in output(done), output(done)
    assert "Look at: on the hub's host: id canary" in output(done)
    assert canary.password not in output(done)
    assert 'gridhub_smoke_step_failed{step="login"} 1' in run(f"cat {METRICS}")


def test_a_password_that_others_may_read_is_refused(canary: Canary, files: str) -> None:
    with broken(
        "chmod 0644 /etc/gridhub/canary-password", "chmod 0600 /etc/gridhub/canary-password"
    ):
        done = smoke()
    assert done.rc == 1 and "others may read this secret" in done.stderr


@pytest.mark.parametrize(
    ("unit", "name", "step"),
    [
        ("nginx", "proxy", "login_page"),
        ("jupyterhub-proxy", "proxy", "login_page"),
        ("jupyterhub", "hub", "login_page"),
        ("jupyterhub-broker.socket", "hub", "start"),
    ],
)
def test_a_service_that_is_down_fails_the_right_step(
    canary: Canary, files: str, unit: str, name: str, step: str
) -> None:
    start = f"systemctl start {unit}"
    if unit == "jupyterhub-broker.socket":
        start = "systemctl start jupyterhub-broker.socket jupyterhub"
    with broken(f"systemctl stop {unit}", start, name):
        if unit == "jupyterhub-broker.socket":
            run("systemctl start jupyterhub --job-mode=ignore-dependencies; sleep 3")
        done = smoke()
    assert done.rc == 1 and last()["failed"] == step, done.stderr
    wait_for("the service is back", lambda: smoke().rc == 0, 60, pause=2)


def test_the_session_of_a_killed_smoke_test_is_removed_by_the_next(
    canary: Canary, files: str
) -> None:
    process = subprocess.Popen(
        ["podman", "exec", f"{PREFIX}-hub", "sh", "-c", f"exec {PROGRAM} smoke"],
        stdout=subprocess.DEVNULL,
    )
    wait_for("its session has a job", canary.jobs)
    run("pkill -KILL -f 'sge_maintenance.py smoke$'")
    process.wait()
    wait_for("the session is up", lambda: database(SESSIONS))
    done = smoke()
    assert done.rc == 0 and "that an earlier smoke test left" in done.stdout, done.stderr


def test_a_session_of_the_account_itself_is_left_alone(canary: Canary) -> None:
    person = HubClient(BASE_URL, canary.name)
    person.log_in(canary.password)
    person.choose(cores=1, memory=1, run_time=1)
    try:
        person.wait_until_ready()
        done = smoke()
        assert done.rc == 1 and "which no smoke test has started" in done.stderr
        assert person.server()["ready"]
    finally:
        person.stop()
        person.get("/hub/logout")
        canary.as_root(f"rm -rf {canary.home}/.[a-z]*")


def test_two_smoke_tests_never_run_at_a_time(canary: Canary, files: str) -> None:
    results: list[CommandResult] = []
    threads = [threading.Thread(target=lambda: results.append(smoke())) for _ in range(2)]
    most = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, canary.jobs().count(" canary "))
    assert [done.rc for done in results] == [0, 0], [done.stderr for done in results]
    assert most == 1


@pytest.fixture
def timer(canary: Canary) -> Iterator[None]:
    """Deploy the timer, as for a site with a canary account."""
    arguments = ("site.yml", "--limit", "hub", "--tags", "maintenance")
    done = playbook(*arguments, **VARIABLES)
    assert done.returncode == 0, output(done)
    yield
    done = playbook(*arguments)
    assert done.returncode == 0, output(done)
    canary.set(canary_user=canary.name, smoke_minutes=15)


@pytest.mark.usefixtures("timer")
def test_the_timer_runs_it_and_keeps_quiet_in_a_drain(canary: Canary, files: str) -> None:
    run(f"rm -f {STATE}/last.json; systemctl start jupyterhub-smoke.service")
    assert last()["ok"]
    run(f"rm -f {STATE}/last.json")
    done = playbook("drain.yml", drain_text="Test.", drain_until="2099-01-01 00:00")
    assert done.returncode == 0, output(done)
    try:
        run("systemctl start jupyterhub-smoke.service")
        assert not host("hub").file(f"{STATE}/last.json").exists
    finally:
        assert playbook("drain.yml").returncode == 0


def test_without_a_password_a_token_is_used(canary: Canary, files: str) -> None:
    """Where people log in with OpenID Connect."""
    person = HubClient(BASE_URL, canary.name)
    person.log_in(canary.password)
    scopes = ["servers!user", "read:users!user"]
    path = f"/users/{canary.name}/tokens"
    try:
        run(f"rm {PASSWORD}")
        for more in ([], ["access:servers!user"]):
            body = {"scopes": [*scopes, *more], "expires_in": 600}
            token = person.rest("POST", path, body).json()["token"]
            run(f"umask 077; echo {token} > {TOKEN}")
            done = smoke()
            if more:
                assert done.rc == 0, done.stderr
            else:
                assert done.rc == 1 and "needs the scope access:servers!user" in done.stderr
        run(f"rm {TOKEN}")
        done = smoke()
        assert done.rc == 1 and f"neither {PASSWORD} nor {TOKEN} is there" in done.stderr
    finally:
        run(f"rm -f {TOKEN}")
        canary.set_password(canary.password)
        for each in person.rest("GET", path).json()["api_tokens"]:
            person.rest("DELETE", f"{path}/{each['id']}")
        person.get("/hub/logout")


def test_a_full_cluster_is_named(canary: Canary, files: str) -> None:
    with broken("qmod -d '*'", "qmod -e '*'", "qmaster"):
        code = (
            "import sys; sys.path.insert(0, '/usr/local/lib/gridhub');"
            "from gridhub.maintenance import settings, smoke;"
            "smoke.smoke_test(settings.read_settings(), 4)"
        )
        done = host("hub").run(f'/usr/bin/python3 -sE -c "{code}"')
    assert done.rc == 1 and "it was not ready within 4 s. Job" in done.stderr, done.stderr
