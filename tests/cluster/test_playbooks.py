"""Playbook runs with a changed or broken menu, a missing variable, or a stopped qmaster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from cluster import ROOT, LogIn
from hub_client import page_text, wait_for
from playbooks import menu, output, playbook


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
    before = hub_host.file("/etc/jupyterhub/broker.json").content_string
    run = playbook("site.yml", "--limit", "hub", jupyterhub_session_ports=[41000, 40000])
    assert run.returncode != 0
    assert "the first port, 41000, is above the last, 40000" in output(run)
    assert hub_host.file("/etc/jupyterhub/broker.json").content_string == before


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
    assert "group sge_exec has 0 hosts; it needs at least 1" in output(run)


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
