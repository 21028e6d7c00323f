"""GridHub is removed from its hosts only after a confirmation, and comes back with its data."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import faults
from canary_account import run
from cluster import host
from hub_client import wait_for
from life import user_of
from playbooks import output, playbook
from sessions import Person, Session

HOSTS = ("qmaster", "hub", "proxy", "exec1", "exec2")
#: The second inventory has the monitoring, on the qmaster's host.
WATCHED = ("--inventory", "inventories/demo_monitoring")
MONITORING = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
#: What may be left of GridHub, apart from packages: what its README says.
LEFT = (
    "find /etc /opt /usr/bin /usr/lib /usr/local /usr/sbin /var/lib /run"
    " \\( -iname '*gridhub*' -o -iname '*jupyter*' \\) -print"
)


#: Files of the cluster itself that name the hosts, the account of tests or the group of users.
NAMED = {
    f"/etc/{name}"
    for name in ("hosts", "group", "group-", "gshadow", "gshadow-", "passwd-", "shadow-")
}


def left(name: str) -> list[str]:
    return str(host(name).check_output(LEFT)).split()


@pytest.fixture
def bob() -> Iterator[Person]:
    person = Person("bob")
    person.stop()
    yield person


def test_without_a_confirmation_nothing_is_changed() -> None:
    for answer in ("", "yes", "hub", "mysite"):
        done = playbook("uninstall.yml", uninstall_confirm=answer)
        assert done.returncode != 0 and "-e uninstall_confirm=demo" in output(done), output(done)
    assert host("hub").service("jupyterhub").is_running


def test_while_a_session_runs_nothing_is_changed(computing: Session) -> None:
    for arguments, answer in (((), "demo"), (("--limit", "exec2"), "exec2")):
        done = playbook("uninstall.yml", *arguments, uninstall_confirm=answer)
        assert done.returncode != 0 and "Sessions are running: alice" in output(done), output(done)
    computing.assert_alive()


def test_check_mode_shows_what_would_be_removed() -> None:
    done = playbook("uninstall.yml", "--check", "--diff", uninstall_confirm="demo")
    assert done.returncode == 0, output(done)
    assert "/etc/systemd/system/jupyterhub.service" in output(done)
    assert host("hub").service("jupyterhub").is_running


@pytest.fixture
def monitoring() -> None:
    done = playbook("monitoring.yml", *WATCHED)
    assert done.returncode == 0, output(done)
    for name in MONITORING:
        assert host("qmaster").service(name).is_running


@pytest.mark.usefixtures("monitoring")
def test_everything_is_removed_and_comes_back_with_its_data(bob: Person) -> None:
    token = bob.rest("POST", "/users/bob/tokens", {"note": "kept"}).json()["token"]
    Session(bob).start()
    units = "systemctl list-unit-files --no-legend 'jupyterhub*' 'gridhub*' | wc -l"
    remove: dict[str, object] = {"uninstall_confirm": "demo", "uninstall_running_sessions": "end"}
    done = playbook("uninstall.yml", *WATCHED, "--check", "--diff", **remove)
    assert done.returncode == 0 and host("hub").service("jupyterhub").is_running, output(done)
    done = playbook("uninstall.yml", *WATCHED, **remove)
    assert done.returncode == 0, output(done)
    wait_for("the job is gone", lambda: not faults.jobs("bob"))
    archive = run("ls -t /var/backups/gridhub/uninstalled-*.tar.gz").split()[0]
    assert f"The data is in {archive}" in output(done), output(done)
    try:
        for name in HOSTS:
            assert left(name) == [], name
            named = host(name).run("grep -rliI -e gridhub -e jupyterhub /etc").stdout.split()
            assert set(named) <= NAMED, name
            assert host(name).check_output(units) == "0", name
            for account in ("jupyterhub", "jupyterhub-proxy"):
                assert not host(name).user(account).exists
            rules = host(name).run("nft list tables").stdout
            assert "gridhub" not in rules
            for unit in MONITORING:
                assert not host(name).file(f"/etc/default/{unit}").exists
                assert not host(name).service(unit).is_running
        assert host("exec1").service("gridengine-exec").is_running
        again = playbook("uninstall.yml", *WATCHED, "--diff", uninstall_confirm="demo")
        assert again.returncode == 0 and not re.search(r"changed=[1-9]", output(again)), output(
            again
        )
    finally:
        deployed = playbook("site.yml")
        assert deployed.returncode == 0, output(deployed)
        # As roles/uninstall/README.md describes.
        run("systemctl stop jupyterhub")
        run(f"tar -xzpf {archive} -C / && rm {archive}")
        deployed = playbook("site.yml")
        assert deployed.returncode == 0, output(deployed)
    person = Person("bob")
    assert user_of(token) == "bob"
    Session(person).start().assert_alive()
    person.stop()
