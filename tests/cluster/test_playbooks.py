"""Playbook runs with a changed or broken menu, a missing variable, or a stopped qmaster."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster import ROOT, LogIn
from hub_client import page_text, wait_for
from playbooks import menu, output, playbook

#: Actions that run on the controller.
ON_THE_CONTROLLER = {
    f"ansible.builtin.{name}"
    for name in (
        *("assert", "debug", "fail", "include_role", "include_vars", "set_fact"),
        "validate_argument_spec",
    )
}
#: Actions that call the host twice, even if nothing changes.
TWICE = {"ansible.builtin.copy", "ansible.builtin.template"}


def calls(run: subprocess.CompletedProcess[str]) -> Counter[str]:
    """Return how many modules a run has called for each host."""
    found: Counter[str] = Counter()
    for line in run.stdout.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        for host, result in event.get("hosts", {}).items():
            action = result.get("action", "")
            if event["_event"] == "v2_runner_on_ok" and action not in ON_THE_CONTROLLER:
                done = [each for each in result.get("results", [{}]) if not each.get("skipped")]
                found[host] += len(done) * (2 if action in TWICE else 1)
    return found


#: The most calls for each host in a run that changes nothing: today's number and one more.
CALLS = {"localhost": 2, "qmaster": 12, "exec1": 14, "exec2": 14, "hub": 36, "proxy": 37}


def test_a_run_that_changes_nothing_calls_few_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds depend on the machine, but most of them are for these calls."""
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.jsonl")
    run = playbook("site.yml")
    assert run.returncode == 0, output(run)
    assert '"changed":true' not in run.stdout.replace(" ", "")
    found = calls(run)
    assert found.keys() == CALLS.keys()
    assert found <= Counter(CALLS), found


def test_a_run_for_the_menu_only_checks_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.jsonl")
    run = playbook("site.yml", "--tags", "menu")
    assert run.returncode == 0, output(run)
    assert calls(run) == {"localhost": 1, "hub": 2}


def test_a_changed_menu_takes_effect_without_a_restart(login: LogIn, hub_host: Any) -> None:
    started = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    changed = menu()
    changed[1] |= {"choices": [1, 2, 3], "label": "Main memory"}
    bob = login("bob")
    try:
        run = playbook("site.yml", "--tags", "menu", jupyterhub_resource_menu=changed)
        assert run.returncode == 0, output(run)
        assert "Main memory" in page_text(bob.get("/hub/spawn"))
        bob.choose(cores=1, memory=3, run_time=1)
        bob.wait_until_ready()
    finally:
        assert playbook("site.yml", "--tags", "menu").returncode == 0
    again = hub_host.check_output("systemctl show -P ActiveEnterTimestampMonotonic jupyterhub")
    assert again == started


def test_an_error_in_the_menu_is_shown_and_the_menu_stays(hub_host: Any) -> None:
    before = hub_host.file("/etc/jupyterhub/menu.json").content_string
    broken = menu()
    broken[1]["default"] = 3
    run = playbook("site.yml", "--tags", "menu", jupyterhub_resource_menu=broken)
    assert run.returncode != 0
    assert "item 'memory': default 3 is not allowed: choose 1, 2, 4 or 8 GB" in output(run)
    assert hub_host.file("/etc/jupyterhub/menu.json").content_string == before


def test_a_broken_menu_is_refused_without_the_check_on_the_controller_too(hub_host: Any) -> None:
    before = hub_host.file("/etc/jupyterhub/menu.json").content_string
    # With --limit hub, Ansible skips the play in which the controller checks the inventory.
    run = playbook(
        "site.yml", "--tags", "menu", "--limit", "hub", jupyterhub_resource_menu=[{"name": "cores"}]
    )
    assert run.returncode != 0
    assert "item 'cores', label: Field required" in output(run)
    assert hub_host.file("/etc/jupyterhub/menu.json").content_string == before


def test_a_wrong_port_range_is_shown_and_the_configuration_stays(hub_host: Any) -> None:
    files = "find /etc/jupyterhub -type f | sort | xargs sha256sum"
    before = hub_host.check_output(files)
    run = playbook("site.yml", "--limit", "hub", jupyterhub_session_ports=[41000, 40000])
    assert run.returncode != 0
    assert "the first port, 41000, is above the last, 40000" in output(run)
    assert hub_host.check_output(files) == before


def test_a_missing_variable_is_shown_before_any_change(hub_host: Any) -> None:
    for variable in ("jupyterhub_allowed_groups", "jupyterhub_resource_menu"):
        run = playbook("site.yml", **{variable: []})
        assert run.returncode != 0
        assert f"set {variable}" in output(run) or f"or {variable}" in output(run)
        assert "changed=0" in run.stdout
        assert "Grid Engine's scheduler" not in run.stdout


def test_an_inventory_without_workers_is_refused(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("hub: {hosts: {a: }}\nproxy: {hosts: {a: }}\n", encoding="utf-8")
    run = subprocess.run(
        ["ansible-playbook", "--inventory", str(hosts), "playbooks/validate.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "group sge_exec has no hosts" in output(run)


def test_all_problems_of_a_sites_own_cluster_are_reported_at_once(proxy_host: Any) -> None:
    proxy_host.check_output(
        "cd /root && openssl genrsa -out bad.key 2>/dev/null &&"
        " openssl req -new -key bad.key -subj /CN=x |"
        " openssl x509 -req -signkey bad.key -days -1 -out bad.pem 2>/dev/null"
    )
    gpus = next(item for item in menu() if item["name"] == "gpus")
    wrong = gpus | {"request": gpus["request"] | {"complex": "gpux"}}
    run = playbook(
        "validate.yml",
        sge_common_managed=False,
        jupyterhub_idle_timout=30,
        jupyterhub_port="80x",
        jupyterhub_connect_host="nowhere.invalid",
        jupyterhub_allowed_users=["alice", "nosuch"],
        jupyterhub_home_paths=["/users"],
        jupyterhub_qsub_arguments=["-P", "nosuch-project"],
        proxy_tls_certificate="/root/bad.pem",
        proxy_tls_certificate_key="/etc/hostname",
        jupyterhub_resource_menu=[item for item in menu() if item["name"] != "gpus"] + [wrong],
        jupyterhub_resource_presets=[],
    )
    assert run.returncode != 0
    assert "changed=1" not in run.stdout
    shown = output(run)
    for words in (
        "jupyterhub_idle_timout is no variable of GridHub; write jupyterhub_idle_timeout",
        "jupyterhub_port: ",
        "the name nowhere.invalid has no address here",
        "There is no account nosuch",
        "the folder /users is missing",
        "the home of alice is /home/alice, but jupyterhub_home_paths is /users; add /home",
        "proxy_tls_certificate cannot be used now",
        "proxy_tls_certificate_key is not the key of proxy_tls_certificate",
        'unknown resource "gpux"',
        'the requested project "nosuch-project" does not exist',
    ):
        assert words in shown, words


def test_a_port_that_another_program_holds_is_named(proxy_host: Any) -> None:
    proxy_host.check_output("systemctl stop nginx")
    holder = "python3 -m http.server 443 >/dev/null 2>&1 </dev/null & echo $!"
    number = proxy_host.check_output(holder)
    taken = "import socket; socket.create_connection(('127.0.0.1', 443))"
    try:
        wait_for("the port is taken", lambda: proxy_host.run("python3 -c %s", taken).rc == 0)
        run = playbook("validate.yml")
        assert run.returncode != 0
        assert re.search(rf"port 443 of \S+ is taken by python3 \(process {number}\b", output(run))
    finally:
        proxy_host.check_output(f"kill {number}; systemctl start nginx")
    assert playbook("validate.yml").returncode == 0


def test_the_playbooks_work_from_any_folder_without_our_settings(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *("ansible-playbook", "--inventory", str(ROOT / "inventories/example")),
            *(str(ROOT / "playbooks/validate.yml"), "--tags", "menu"),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, output(run)


def test_an_unreachable_qmaster_of_the_site_is_reported(qmaster_host: Any, hub_host: Any) -> None:
    # sge_common_managed=False means that the site manages the cluster itself.
    assert playbook("validate.yml", sge_common_managed=False).returncode == 0
    qmaster_host.check_output("systemctl stop gridengine-master")
    try:
        run = playbook("validate.yml", sge_common_managed=False)
        assert run.returncode != 0
        assert "hub cannot ask the cluster's qmaster" in output(run)
        assert "sge_common_root" in output(run)
    finally:
        qmaster_host.check_output("systemctl start gridengine-master")
        wait_for("the qmaster answers", lambda: hub_host.run("qstat -u root").rc == 0)
