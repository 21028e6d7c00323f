"""Attacks from the cluster's network on the ports between hub, proxy and workers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import BASE_URL, ROOT, LogIn, host
from hub_client import HubClient, wait_for
from playbooks import output, playbook

#: A program that succeeds if it can open a TCP connection. Its arguments are HOST PORT.
KNOCK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
#: Like ``KNOCK``, but the program connects from a given port. The kernel could choose this port by
#: chance. The arguments are FROM HOST PORT.
KNOCK_FROM = (
    "import socket, sys; "
    "socket.create_connection((sys.argv[2], int(sys.argv[3])), 3, ('', int(sys.argv[1])))"
)
DOORS = {("hub", 8081): "exec1", ("proxy", 8001): "hub", ("exec1", 28999): "proxy"}


def deploy(enabled: bool) -> str:
    run = playbook("firewall.yml", firewall_enabled=enabled)
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


def rules(name: str) -> str:
    return str(host(name).check_output("nft list table inet gridhub"))


def is_closed(name: str) -> bool:
    return bool(host(name).run("nft list table inet gridhub").rc == 0)


def reaches(name: str, target: str, port: int) -> bool:
    return bool(host(name).run("python3 -c %s %s %s", KNOCK, target, str(port)).rc == 0)


@pytest.fixture
def listening(exec1_host: Any) -> Iterator[None]:
    """Run a server on the worker's last port for sessions."""
    server = (
        "import http.server as h; "
        "h.HTTPServer(('', 28999), h.BaseHTTPRequestHandler).serve_forever()"
    )
    exec1_host.check_output(
        "systemd-run --quiet --collect --unit=firewall-test python3 -c %s", server
    )
    yield
    exec1_host.check_output("systemctl stop firewall-test")


@pytest.mark.usefixtures("listening")
@pytest.mark.attack(
    "the hub, CHP's API or a session, from other hosts of the network",
    outcome="With `firewall_enabled`, only the hosts that need a port get in. Connections that a "
    "host opens itself go on. Rules that nft refuses replace nothing, and ours come back after the "
    "site's own rules have been loaded again and have flushed them.",
)
def test_only_hosts_that_need_a_port_reach_it(login: LogIn, exec1_host: Any) -> None:
    for (target, port), friend in DOORS.items():
        assert reaches("qmaster", target, port), "the firewall is off by default"
        assert reaches(friend, target, port)
    try:
        deploy(enabled=True)
        for (target, port), friend in DOORS.items():
            assert not reaches("qmaster", target, port), (target, port)
            assert reaches(friend, target, port), (friend, target, port)
        assert re.findall(r"changed=(\d+)", deploy(enabled=True)) == ["0"] * 4
        # The first load of the site's own rules deletes GridHub's rules until the next deployment.
        for target, _ in DOORS:
            host(target).check_output("systemctl start nftables")
            assert not is_closed(target), "nothing is flushed"
        assert sorted(re.findall(r"changed=(\d+)", deploy(enabled=True))) == ["0", "1", "1", "1"]
        # After later loads of the site's own rules, GridHub's rules come back by themselves.
        for (target, port), friend in DOORS.items():
            host(target).check_output("systemctl reload nftables")
            wait_for("the rules are back", lambda target=target: is_closed(target))
            assert not reaches("qmaster", target, port), (target, port)
            assert reaches(friend, target, port), (friend, target, port)
        # The qmaster cannot connect to a worker's ports for sessions. But if the worker opens a
        # connection from such a port, the qmaster's answers must arrive.
        reached = exec1_host.run("python3 -c %s 28500 qmaster 6444", KNOCK_FROM)
        assert reached.rc == 0, reached.stderr
        before = rules("exec1")
        run = playbook("firewall.yml", firewall_enabled=True, firewall_more_sources=["x y"])
        assert run.returncode != 0
        assert "x y" in output(run)
        assert rules("exec1") == before
        assert "changed=0" in run.stdout
        alice = login("alice")
        alice.choose(cores=1, memory=1, run_time=1)
        alice.wait_until_ready()
        alice.open_lab()
        assert alice.run(alice.start_kernel(), "print(6 * 7)").strip() == "42"
    finally:
        for target, _ in DOORS:
            host(target).check_output("systemctl stop nftables")
        deploy(enabled=False)
    assert reaches("qmaster", "hub", 8081)
    # Only the rules that limit connections to the proxy are left.
    assert [is_closed(target) for target, _ in DOORS] == [False, True, False]
    assert "dport { 80, 443 }" in rules("proxy") and "8001" not in rules("proxy")


@pytest.fixture
def inventory_without(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return a function that makes a copy of the demo's inventory without one host."""

    def copy(name: str) -> str:
        folder = tmp_path / "inventory"
        shutil.copytree(ROOT / "inventories/demo", folder)
        hosts = folder / "hosts.yml"
        lines = hosts.read_text(encoding="utf-8").splitlines(keepends=True)
        hosts.write_text("".join(line for line in lines if f" {name}: " not in line))
        return str(folder)

    yield copy
    deploy(enabled=False)


@pytest.mark.attack(
    "a session whose worker is no longer in the inventory, behind the firewall",
    outcome="The hub's port stays open to its worker until the session has ended. Its page works.",
)
def test_sessions_on_a_worker_that_was_taken_out_of_the_inventory_reach_the_hub(
    login: LogIn, passwords: dict[str, str], inventory_without: Callable[[str], str]
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    worker = re.findall(r"@(exec[12])", host("hub").check_output("qstat -u alice"))[0]
    (other,) = {"exec1", "exec2"} - {worker}
    inventory = inventory_without(worker)

    def firewall() -> None:
        # On a command line, the variable is a text.
        run = playbook("firewall.yml", "-e", "firewall_enabled=true", inventory=inventory)
        assert run.returncode == 0, output(run)

    firewall()
    assert not reaches("qmaster", "hub", 8081)
    assert reaches(worker, "hub", 8081) and reaches(other, "hub", 8081)
    # To let a person in, the session asks the hub.
    again = HubClient(BASE_URL, "alice")
    again.log_in(passwords["alice"])
    again.open_lab()
    assert again.run(again.start_kernel(), "print(6 * 7)").strip() == "42"
    again.stop()
    wait_for("the session has ended", lambda: again.server() is None)
    firewall()
    assert not reaches(worker, "hub", 8081) and reaches(other, "hub", 8081)
