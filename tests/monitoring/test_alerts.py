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
from canary_account import PROGRAM, Canary
from cluster import BASE_URL, host
from faults import run
from hub_client import HubClient, page_text, wait_for
from prometheus import (
    CONFIG,
    MONITOR,
    REAL_RULES,
    RULES,
    TEXTFILES,
    wait_until_firing,
    wait_until_quiet,
)
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
    path = f"{TEXTFILES}/{metric}_test.prom"
    return undone(name, f"mkdir -p {TEXTFILES}; echo {metric} {value} > {path}", f"rm -f {path}")


def maintenance(metric: str, value: str) -> AbstractContextManager[None]:
    """Change what the maintenance has written; then let its program write it again."""
    path, unit = f"{TEXTFILES}/gridhub_maintenance.prom", "jupyterhub-maintenance-notice"
    # Its timer would write the file again, every five minutes.
    change = f"systemctl stop {unit}.timer; sed -i '/^{metric} /d' {path}"
    change += f"; echo {metric} {value} >> {path}"
    return undone("hub", change, f"systemctl start {unit}.timer {unit}.service")


@contextlib.contextmanager
def not_watched() -> Iterator[None]:
    """Take the hub out of its scrape job. Without the job, Prometheus shows the last value on."""
    whole = prometheus.read(CONFIG)
    nothing = whole.replace('targets: ["proxy:443"]', "targets: []")
    assert nothing != whole
    try:
        prometheus.write(CONFIG, f"{nothing}\n")
        prometheus.reload()
        yield
    finally:
        prometheus.write(CONFIG, f"{whole}\n")
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


def lost_exporter(name: str) -> AbstractContextManager[None]:
    return faults.stopped(name, "prometheus-node-exporter", lambda: None)


def failed_unit() -> AbstractContextManager[None]:
    start = "systemd-run --quiet --unit=jupyterhub-test /bin/false"
    return undone("exec1", start, "systemctl reset-failed jupyterhub-test")


def full_disk() -> AbstractContextManager[None]:
    fill = "mkdir -p /srv/small && mount -t tmpfs -o size=1m tmpfs /srv/small"
    fill += " && head -c 1000000 /dev/zero > /srv/small/full"
    return undone("exec1", fill, "umount /srv/small")


SMOKE, BACKUP = (f"gridhub_{each}_last_success_timestamp_seconds" for each in ("smoke", "backup"))
#: What happens at the same time, on several hosts.
ON_HOSTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "HostDown": lambda: lost_exporter("exec2"),
    "ServiceFailed": failed_unit,
    "DiskAlmostFull": full_disk,
    "TextfileUnreadable": lambda: textfile("exec1", "no", "number"),
    "CertificateExpires": short_certificate,
    "MaintenanceFailed": lambda: maintenance("gridhub_maintenance_last_success", "0"),
    "MaintenanceMissed": lambda: maintenance("gridhub_maintenance_missed", "1"),
    "SmokeFails": lambda: textfile("proxy", "gridhub_smoke_success", "0"),
    "SmokeTooOld": lambda: textfile("proxy", SMOKE, "1"),
    "BackupTooOld": lambda: textfile("proxy", BACKUP, "1"),
}


def test_alerts_about_hosts_and_timers() -> None:
    wait_until_quiet(*ON_HOSTS)
    with contextlib.ExitStack() as stack:
        for fault in ON_HOSTS.values():
            stack.enter_context(fault())
        wait_until_firing(*ON_HOSTS)
    wait_until_quiet(*ON_HOSTS)


@contextlib.contextmanager
def old_backups() -> Iterator[None]:
    """Replace the hub's backups with one of three days ago."""
    folder, away = "/var/backups/gridhub", "/var/backups/gridhub.away"
    put_aside = f"mkdir -p {folder} && mv {folder} {away} && mkdir -m 0700 {folder}"
    old = f"touch {folder}/$(date -u -d '3 days ago' +%FT%H%M%S).tar"
    notice = "systemctl start jupyterhub-maintenance-notice"
    undo = f"rm -r {folder}; mv {away} {folder}; {notice}"
    with undone("hub", f"{put_aside} && {old} && {notice}", undo):
        yield


def test_a_real_backup_clears_the_alert_about_old_ones() -> None:
    wait_until_quiet("BackupTooOld")
    with old_backups():
        wait_until_firing("BackupTooOld")
        run("hub", "systemctl start jupyterhub-backup")
        wait_until_quiet("BackupTooOld")


def test_a_real_smoke_test_raises_and_clears_the_alert(canary: Canary) -> None:
    wait_until_quiet("SmokeFails")
    canary.set_password("wrong")
    assert host("hub").run(f"{PROGRAM} smoke-timer").rc == 1
    wait_until_firing("SmokeFails")
    canary.set_password(canary.password)
    run("hub", f"{PROGRAM} smoke-timer")
    wait_until_quiet("SmokeFails")
    wait_for("the last success is scraped", lambda: prometheus.query(f"time() - {SMOKE} < 120"))
    # A site without the smoke test has no alert about its age.
    canary.set(canary_user="")
    run("hub", "systemctl start jupyterhub-maintenance-notice")
    wait_for("the result is gone", lambda: not prometheus.query(SMOKE), 60)


ON_HUB: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "GridHubDown": faults.hub_stopped,
    "GridHubNotWatched": not_watched,
    "HubSlow": hub_stuttering,
    "GridEngineSilent": lambda: faults.replaced("hub", "qstat", "exit 1"),
    "GridEngineSlow": lambda: faults.replaced("hub", "qstat", 'sleep 6; exec "$REAL" "$@"'),
}


@pytest.mark.parametrize("alert", ON_HUB)
def test_an_alert_about_the_hub_or_grid_engine(alert: str) -> None:
    wait_until_quiet(alert)
    with ON_HUB[alert]():
        wait_until_firing(alert)
    wait_until_quiet(alert)


def test_the_hubs_memory() -> None:
    """The limit of the tests is below what any hub needs; with the real one, nothing fires."""
    wait_until_firing("HubMemoryHigh")
    quick = prometheus.faster(REAL_RULES)
    try:
        prometheus.write(RULES, quick.replace("1e7", "3.2e9"))
        prometheus.reload()
        wait_until_quiet("HubMemoryHigh")
    finally:
        prometheus.write(RULES, quick)
        prometheus.reload()


def test_the_broker_does_not_work(alice: Person, bobs: Session) -> None:
    alerts = ("BrokerFails", "StartsFail", "JobsCannotBeDeleted")
    path = "/etc/jupyterhub/broker.json"
    wait_until_quiet(*alerts)
    with undone("hub", f"mv {path} {path}.away", f"mv {path}.away {path}"):
        bobs.person.rest("DELETE", "/users/bob/server")
        for _ in range(4):
            alice.choose(**CHOICE)
            wait_for("the start has failed", alice.has_none)
        wait_until_firing(*alerts)
    wait_until_quiet(*alerts)


def test_somebody_waits_and_a_start_takes_long(alice: Person) -> None:
    alerts = ("SessionsWaitLong", "StartsSlow")
    wait_until_quiet(*alerts)
    with faults.queue_disabled("all.q"):
        alice.choose(**CHOICE)
        wait_until_firing("SessionsWaitLong")
    alice.wait_until_ready(150)
    wait_until_firing("StartsSlow")
    wait_until_quiet(*alerts)


def test_a_worker_is_lost_with_its_session(bobs: Session) -> None:
    alerts = ("SessionsUnreachable", "SessionsLost")
    wait_until_quiet(*alerts)
    with faults.lost("exec1"):
        wait_until_firing("HostDown", "SessionsUnreachable", seconds=180)
        [job] = faults.jobs("bob")
        run("hub", f"qdel -f {job.id}")
        wait_until_firing("SessionsLost")
    wait_until_quiet(*alerts)


def test_people_hit_limits_and_logins_fail(people: dict[str, Person]) -> None:
    def guess(_: int) -> None:
        page = HubClient(BASE_URL, "alice").log_in("guessed")
        assert "Invalid username or password" in page_text(page)

    alerts = ("PeopleHitLimits", "LoginsFail")
    wait_until_quiet(*alerts)
    with ThreadPoolExecutor(6) as many:
        list(many.map(guess, range(6)))
        answers = many.map(lambda _: people["bob"].get("/hub/forecast").status_code, range(120))
        assert 429 in set(answers)
    wait_until_firing(*alerts)
    wait_until_quiet(*alerts)


def test_alertmanager_gets_the_alerts() -> None:
    with lost_exporter("exec2"):
        wait_until_firing("HostDown")

        def sent() -> bool:
            command = "amtool --alertmanager.url=http://127.0.0.1:9093 alert query -o json"
            alerts = json.loads(host(MONITOR).check_output(command))
            return any(each["labels"]["alertname"] == "HostDown" for each in alerts)

        wait_for("Alertmanager has the alert", sent, 60)
    assert re.fullmatch(r"127\.0\.0\.1:9093\n?", run(MONITOR, LISTENS)), "only on this host"


LISTENS = "ss -Hltn 'sport = :9093' | awk '{print $4}'"
