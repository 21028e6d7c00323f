"""Fixtures of the scenario existing_cluster: a site's own cluster, with other host names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import ROOT, base_url, host, login, passwords

__all__ = ["base_url", "login", "passwords"]

SCRIPT = ROOT / "molecule/existing_cluster/grid_engine.sh"


class Site:
    """The site's administrators: they use Grid Engine's commands on its scheduler's host."""

    def __init__(self) -> None:
        self.head = host("head")

    def run(self, command: str) -> Any:
        return self.head.run(f"bash -c '. /opt/sge/site/common/settings.sh; {command}'")

    def output(self, command: str) -> str:
        done = self.run(command)
        assert done.rc == 0, done.stdout + done.stderr
        return str(done.stdout)

    def state(self) -> str:
        """Return Grid Engine's whole configuration."""
        script = SCRIPT.read_text(encoding="utf-8")
        done = self.head.run("bash -eu -c %s script state", script)
        assert done.rc == 0, done.stderr
        return str(done.stdout)


@pytest.fixture(scope="session")
def site() -> Site:
    return Site()


@pytest.fixture(scope="session")
def hub_host() -> Any:
    return host("jupyter")


@pytest.fixture
def production_job(site: Site) -> Iterator[Any]:
    """Submit the site's own work to a node, which suspends the sessions there."""
    jobs: list[str] = []

    def submit(node: str) -> str:
        of_the_site = f"-P production -q prod.q@{node} -o /dev/null -b y sleep 3600"
        number = site.output(f"cd /; runuser -u alice -- qsub -terse {of_the_site}").strip()
        jobs.append(number)
        return number

    yield submit
    for number in jobs:
        site.run(f"qdel {number}")
