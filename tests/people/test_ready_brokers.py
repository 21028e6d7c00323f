"""The hub without brokers that wait: systemd starts one for each request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import LogIn
from hub_client import wait_for
from playbooks import output, playbook

WAITING = "systemctl list-units --no-legend --state=active 'jupyterhub-broker-ready*'"


def deploy(number: int) -> None:
    run = playbook("site.yml", "--limit", "hub", jupyterhub_ready_brokers=number)
    assert run.returncode == 0, output(run)


@pytest.fixture
def none_wait() -> Iterator[None]:
    deploy(0)
    yield
    deploy(4)


@pytest.mark.usefixtures("none_wait")
def test_a_session_starts_without_a_broker_that_waits(hub_host: Any, login: LogIn) -> None:
    assert hub_host.check_output(WAITING) == ""
    assert not hub_host.file("/run/jupyterhub-broker-ready.sock").exists
    alice = login("alice")
    alice.choose(memory=1)
    alice.wait_until_ready()
    alice.stop()


def test_brokers_wait_again(hub_host: Any) -> None:
    wait_for("four brokers wait", lambda: len(hub_host.check_output(WAITING).splitlines()) == 5)
