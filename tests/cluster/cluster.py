"""Hosts and fixtures of the running cluster of containers (the demo or a Molecule scenario)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
import testinfra.host
import yaml
from testinfra.backend.base import BaseBackend, CommandResult

from hub_client import HubClient

ROOT = Path(__file__).resolve().parents[2]
#: The folder of the inventory, as in ``ansible-playbook --inventory``.
INVENTORY = os.environ.get("GRIDHUB_INVENTORY", "inventories/demo")
PREFIX = os.environ.get("GRIDHUB_PREFIX", "gridhub")
#: The first lines of a Python program that runs on the hub's host. They define `context` with the
#: TLS settings that the hub uses inside the cluster.
AS_HUB = """
import ssl, sys, urllib.error, urllib.request
folder = "/var/lib/jupyterhub/internal-ssl"
context = ssl.create_default_context(cafile=folder + "/hub-ca_trust.crt")
pair = folder + "/hub-internal/hub-internal"
context.load_cert_chain(pair + ".crt", pair + ".key")
"""
#: What journalctl shows of hub and broker on the hub's host. With -u and -t together, it would show
#: only lines that match both, so none.
HUB_LOGS = "_SYSTEMD_UNIT=jupyterhub.service + SYSLOG_IDENTIFIER=jupyterhub-broker"
BASE_URL = f"https://127.0.0.1:{os.environ.get('GRIDHUB_PORT', '8443')}"


class Container(BaseBackend):
    """Runs commands in a container as ``podman exec`` does, but in a quarter of its time.

    The tests run thousands of commands. This class calls podman's runtime, which only root can do.
    A command ends when nobody holds its output any more, so one that leaves a program running must
    send that program's output to a file.
    """

    NAME = "runc"

    def __init__(self, name: str) -> None:
        self._id = ""
        super().__init__(name)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run a shell command."""
        if not self._id:
            found = self.run_local("podman inspect --format {{.Id}} %s", self.hostname)
            assert found.rc == 0, found.stderr
            self._id = found.stdout.strip()
        line = self.get_command(command, *args)
        result = self.run_local("runc exec %s /bin/sh -c %s", self._id, line)
        result.command = self.encode(line)
        return result


@functools.cache
def host(name: str) -> Any:
    """Return the host with this name in the inventory."""
    if os.geteuid() == 0:
        return testinfra.host.Host(Container(f"{PREFIX}-{name}"))
    return testinfra.get_host(f"podman://{PREFIX}-{name}")


@pytest.fixture(scope="session")
def base_url() -> str:
    """The address that people type into the browser."""
    return BASE_URL


@pytest.fixture(scope="session")
def qmaster_host() -> Any:
    return host("qmaster")


@pytest.fixture(scope="session")
def hub_host() -> Any:
    return host("hub")


@pytest.fixture(scope="session")
def proxy_host() -> Any:
    return host("proxy")


@pytest.fixture(scope="session")
def exec1_host() -> Any:
    return host("exec1")


@pytest.fixture(scope="session")
def exec2_host() -> Any:
    return host("exec2")


def read_passwords() -> dict[str, str]:
    """Return the passwords of the demo's users, keyed by user name."""
    text = (ROOT / INVENTORY / "group_vars/all/users.yml").read_text(encoding="utf-8")
    return {user["name"]: user["password"] for user in yaml.safe_load(text)["demo_users"]}


@pytest.fixture(scope="session")
def passwords() -> dict[str, str]:
    return read_passwords()


@pytest.fixture
def login(passwords: dict[str, str]) -> Any:
    """Log people in; stop their sessions before and after the test."""
    clients: list[HubClient] = []

    def log_in(name: str) -> HubClient:
        client = HubClient(BASE_URL, name)
        client.log_in(passwords[name])
        client.stop()
        clients.append(client)
        return client

    yield log_in
    for client in clients:
        client.stop()


LogIn = Callable[[str], HubClient]
