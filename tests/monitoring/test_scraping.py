"""What Prometheus reads, and who else may read it."""

from __future__ import annotations

import re
import time

from cluster import host
from hub_client import wait_for
from playbooks import output, playbook
from prometheus import FOLDER, MONITOR, TEXTFILES, ask, query, value
from sessions import Person

#: A Python program that opens an address with the token for the metrics, and prints the answer.
WITH_TOKEN = f"""
import ssl, sys, urllib.error, urllib.request
token = open("{FOLDER}/hub_token").read().strip()
context = ssl.create_default_context(cafile="{FOLDER}/hub.crt")
request = urllib.request.Request(sys.argv[1], headers={{"Authorization": "token " + token}})
try:
    print(urllib.request.urlopen(request, context=context).read().decode())
except urllib.error.HTTPError as error:
    print("status", error.code)
"""


def read(path: str) -> str:
    """Open an address of the service on the monitoring host, with the token."""
    return str(host(MONITOR).check_output("python3 -c %s %s", WITH_TOKEN, f"https://proxy{path}"))


def test_every_host_is_scraped() -> None:
    def all_up() -> bool:
        targets = ask("targets")["activeTargets"]
        jobs = [each["labels"]["job"] for each in targets]
        assert jobs.count("gridhub-node") == 5, jobs
        return {each["health"] for each in targets} == {"up"}

    wait_for("all targets are up", all_up, 60)


def test_the_hubs_metrics_have_sessions_and_no_names() -> None:
    running = r'^gridhub_sessions{state="running"} 1\.0$'
    wait_for("the session runs", lambda: re.search(running, read("/hub/metrics"), re.MULTILINE))
    text = read("/hub/metrics")
    assert re.search(
        r'^gridhub_requested_items{complex="gpu",state="running"} 1\.0$', text, re.MULTILINE
    )
    assert "jupyterhub_total_users" in text
    for name in ("alice", "bob", "carol", "exec1", "exec2"):
        assert not re.search(rf"\b{name}\b", text), name
    assert (value('scrape_duration_seconds{job="gridhub"}') or 9.0) < 1.0


def test_units_of_single_requests_have_no_series() -> None:
    """Each has a name of its own: Prometheus would keep them all."""
    wait_for(
        "units are scraped", lambda: query('node_systemd_unit_state{name="jupyterhub.service"}')
    )
    assert not query('node_systemd_unit_state{name=~"jupyterhub-broker.*@.*"}')
    # With the services of five hosts, as a whole.
    assert len(query("{__name__=~'.+'}")) < 12_000


def test_only_the_monitoring_hosts_may_ask_node_exporter() -> None:
    program = "import socket; socket.create_connection(('exec1', 9100), 3)"
    assert host(MONITOR).run("python3 -c %s", program).rc == 0
    assert host("hub").run("python3 -c %s", program).rc != 0


def test_the_token_opens_the_metrics_and_nothing_else() -> None:
    for path in ("/hub/api/users", "/hub/api/info", "/hub/api/proxy"):
        assert read(path).strip() == "status 403"


def test_the_metrics_are_closed_elsewhere_and_without_the_token(carol: Person) -> None:
    token = host("hub").check_output("cat /etc/jupyterhub/secrets/metrics_token")
    # This machine is no monitoring host.
    answer = carol.get("/hub/metrics", headers={"Authorization": f"token {token}"})
    assert answer.status_code == 403
    without = WITH_TOKEN.replace('"token " + token', '"x"')
    shown = host(MONITOR).check_output("python3 -c %s https://proxy/hub/metrics", without)
    assert shown.strip() == "status 403"
    assert host(MONITOR).check_output(f"stat -c '%U %a' {FOLDER}/hub_token") == "prometheus 400"


def test_the_maintenance_and_the_certificates_are_scraped() -> None:
    names = {
        "gridhub_maintenance_next_timestamp_seconds",
        "gridhub_maintenance_missed",
        "gridhub_certificate_expiry_timestamp_seconds",
    }
    for name in names:
        wait_for(name, lambda name=name: query(name), 60)
    found = {
        each["metric"]["certificate"]
        for each in query("gridhub_certificate_expiry_timestamp_seconds")
    }
    assert found == {"edge", "hub", "hub_authority", "sessions_authority"}
    shown = host("hub").check_output(f"cat {TEXTFILES}/gridhub_maintenance.prom")
    assert "gridhub_maintenance_missed" in shown


def test_prometheus_gets_a_replaced_token() -> None:
    digest = f"sha256sum {FOLDER}/hub_token"
    before = host(MONITOR).check_output(digest)
    inventory = ("--inventory", "inventories/demo_monitoring")
    done = playbook("rotate_secrets.yml", *inventory, rotate="metrics_token")
    assert done.returncode == 0, output(done)
    assert host(MONITOR).check_output(digest) != before
    now = time.time()
    scraped = 'timestamp(up{job="gridhub"} == 1)'
    wait_for("the hub is scraped with it", lambda: (value(scraped) or 0) > now, 90)
