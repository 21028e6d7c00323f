"""Each alert fires when what it is about happens, and is over when that is over."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

import faults
import prometheus
from cluster import BASE_URL, host
from faults import run
from hub_client import HubClient, page_text, wait_for
from prometheus import MONITOR, TEXTFILES, fires, wait_until_firing
from sessions import CHOICE, Person, Session


@contextlib.contextmanager
def undone(name: str, cause: str, undo: str) -> Iterator[None]:
    """Run one command on a host, and another one at the end."""
    try:
        run(name, cause)
        yield
    finally:
        run(name, undo)


def textfile(name: str, metric: str, value: str) -> AbstractContextManager[None]:
    """Write a file for node_exporter, as a program of GridHub would."""
    path = f"{TEXTFILES}/gridhub_test.prom"
    return undone(name, f"mkdir -p {TEXTFILES}; echo {metric} {value} > {path}", f"rm -f {path}")


def maintenance(metric: str, value: str) -> AbstractContextManager[None]:
    """Change what the maintenance has written; then let its program write it again."""
    path = f"{TEXTFILES}/gridhub_maintenance.prom"
    change = f"sed -i '/^{metric} /d' {path}; echo {metric} {value} >> {path}"
    return undone("hub", change, "systemctl start jupyterhub-maintenance-notice")


@contextlib.contextmanager
def not_watched() -> Iterator[None]:
    config = "/etc/prometheus/prometheus.yml"
    whole = prometheus.read(config)
    try:
        prometheus.write(config, whole.replace("job_name: gridhub\n", "job_name: other\n") + "\n")
        prometheus.reload()
        yield
    finally:
        prometheus.write(config, f"{whole}\n")
        prometheus.reload()


@contextlib.contextmanager
def short_certificate() -> Iterator[None]:
    """Let the program of the maintenance look at a certificate that expires in five days."""
    settings, path = "/etc/gridhub/maintenance.json", "/run/gridhub-test.crt"
    whole = run("proxy", f"cat {settings}")
    changed = json.loads(whole) | {"watched_certificates": {"edge": path}}
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=proxy"
        f" -days 5 -keyout /dev/null -out {path} 2>/dev/null"
    )
    notice = "systemctl start jupyterhub-maintenance-notice"
    try:
        run("proxy", f"{make} && printf %s {shlex.quote(json.dumps(changed))} > {settings}")
        run("proxy", notice)
        yield
    finally:
        run("proxy", f"printf '%s\\n' {shlex.quote(whole)} > {settings}; {notice}; rm {path}")


@contextlib.contextmanager
def hub_stuttering() -> Iterator[None]:
    """Stop the hub's process for two seconds at a time."""
    pid = run("hub", "systemctl show -P MainPID jupyterhub")
    once = f"kill -STOP {pid}; sleep 2; kill -CONT {pid}; sleep 0.2"
    run("hub", f"nohup sh -c 'for i in 1 2 3 4 5 6 7 8; do {once}; done' >/dev/null 2>&1 &")
    try:
        yield
    finally:
        faults.wait_for_the_hub()


HOSTS: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [
    ("GridHubDown", faults.hub_stopped),
    ("GridHubNotWatched", not_watched),
    (
        "HostDown",
        lambda: faults.stopped("exec2", "prometheus-node-exporter", lambda: None),
    ),
    (
        "ServiceFailed",
        lambda: undone(
            "exec2",
            "systemd-run --quiet --unit=jupyterhub-test /bin/false",
            "systemctl reset-failed jupyterhub-test",
        ),
    ),
    (
        "DiskAlmostFull",
        lambda: undone(
            "exec2",
            "mkdir -p /mnt/small && mount -t tmpfs -o size=1m tmpfs /mnt/small"
            " && head -c 1000000 /dev/zero > /mnt/small/full",
            "umount /mnt/small",
        ),
    ),
    ("TextfileUnreadable", lambda: textfile("exec2", "no", "number")),
    ("HubSlow", hub_stuttering),
    ("CertificateExpires", short_certificate),
    ("MaintenanceFailed", lambda: maintenance("gridhub_maintenance_last_success", "0")),
    ("MaintenanceMissed", lambda: maintenance("gridhub_maintenance_missed", "1")),
    ("SmokeFails", lambda: textfile("exec2", "gridhub_smoke_success", "0")),
    (
        "SmokeTooOld",
        lambda: textfile("exec2", "gridhub_smoke_last_success_timestamp_seconds", "1"),
    ),
    (
        "BackupTooOld",
        lambda: textfile("exec2", "gridhub_backup_last_success_timestamp_seconds", "1"),
    ),
]


@pytest.mark.parametrize(("alert", "fault"), HOSTS, ids=[alert for alert, _ in HOSTS])
def test_an_alert_about_a_host_or_a_service(
    alert: str, fault: Callable[[], AbstractContextManager[None]]
) -> None:
    with fires(alert), fault():
        wait_until_firing(alert)


def test_the_hubs_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the tests is below what any hub needs; with the real one, nothing fires."""
    wait_until_firing("HubMemoryHigh")
    rules = prometheus.read(f"{prometheus.FOLDER}/gridhub.rules.yml")
    try:
        prometheus.write(f"{prometheus.FOLDER}/gridhub.rules.yml", rules.replace("1e7", "3.2e9"))
        prometheus.reload()
        wait_for("it no longer fires", lambda: not prometheus.firing("HubMemoryHigh"), 60)
    finally:
        prometheus.write(f"{prometheus.FOLDER}/gridhub.rules.yml", f"{rules}\n")
        prometheus.reload()


def test_grid_engine_does_not_answer() -> None:
    with fires("GridEngineSilent"), faults.replaced("hub", "qstat", "exit 1"):
        wait_until_firing("GridEngineSilent")


def test_grid_engine_is_slow() -> None:
    slow = 'sleep 6; exec "$REAL" "$@"'
    with fires("GridEngineSlow", seconds=120), faults.replaced("hub", "qstat", slow):
        wait_until_firing("GridEngineSlow")


def test_the_broker_does_not_work(alice: Person, bobs: Session) -> None:
    alerts = ("BrokerFails", "StartsFail", "JobsCannotBeDeleted")
    path = "/etc/jupyterhub/broker.json"
    with fires(*alerts), undone("hub", f"mv {path} {path}.away", f"mv {path}.away {path}"):
        bobs.person.rest("DELETE", "/users/bob/server")
        for _ in range(4):
            assert not alice.choose(**CHOICE).ok
        wait_until_firing(*alerts)


def test_somebody_waits_and_a_start_takes_long(alice: Person) -> None:
    with fires("SessionsWaitLong", "StartsSlow"):
        with faults.queue_disabled("all.q"):
            alice.choose(**CHOICE)
            wait_until_firing("SessionsWaitLong")
        alice.wait_until_ready(150)
        wait_until_firing("StartsSlow")


def test_a_worker_is_lost_with_its_session(bobs: Session) -> None:
    with fires("SessionsUnreachable", "SessionsLost"), faults.lost("exec1"):
        wait_until_firing("HostDown", "SessionsUnreachable", seconds=180)
        [job] = faults.jobs("bob")
        run(MONITOR, f"qdel -f {job.id}")
        wait_until_firing("SessionsLost")


def test_people_hit_limits_and_logins_fail(people: dict[str, Person]) -> None:
    def guess(_: int) -> None:
        page = HubClient(BASE_URL, "alice").log_in("guessed")
        assert "wrong" in page_text(page).casefold(), page_text(page)

    with fires("PeopleHitLimits", "LoginsFail"), ThreadPoolExecutor(6) as many:
        list(many.map(guess, range(6)))
        answers = many.map(lambda _: people["bob"].get("/hub/forecast").status_code, range(120))
        assert 429 in set(answers)
        wait_until_firing("PeopleHitLimits", "LoginsFail")


def test_alertmanager_gets_the_alerts() -> None:
    with faults.stopped("exec2", "prometheus-node-exporter", lambda: None):
        wait_until_firing("HostDown")

        def sent() -> bool:
            command = "amtool --alertmanager.url=http://127.0.0.1:9093 alert query -o json"
            alerts = json.loads(host(MONITOR).check_output(command))
            return any(each["labels"]["alertname"] == "HostDown" for each in alerts)

        wait_for("Alertmanager has the alert", sent, 60)
    assert re.fullmatch(r"127\.0\.0\.1:9093\n?", run(MONITOR, LISTENS)), "only on this host"


LISTENS = "ss -Hltn 'sport = :9093' | awk '{print $4}'"
