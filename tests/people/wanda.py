"""The account of the tests about kernels and the first week; the recipes of docs/researchers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cluster import BASE_URL, ROOT, host
from hub_client import HubClient

#: The account of these tests.
NAME, UID, PASSWORD = "wanda", 2914, "wanda-people"
#: Where a person's environments and kernels are, below the home.
MINE = "own .local .ipython .jupyter Untitled*.ipynb hello.*"


def recipe(name: str) -> str:
    """Return the commands of a recipe in docs/researchers: the first block after its heading."""
    for page in sorted((ROOT / "docs/researchers").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if heading := re.search(rf"^#+ {re.escape(name)}\n", text, re.MULTILINE):
            return text[heading.end() :].split("```")[1].partition("\n")[2]
    raise AssertionError(f"docs/researchers has no recipe {name!r}")


@pytest.fixture(scope="module")
def wanda() -> Iterator[HubClient]:
    """Make the account; yield a client that has logged in."""
    hosts = [host(name) for name in ("hub", "exec1", "exec2")]
    for each in hosts:
        each.check_output(
            f"id {NAME} 2>/dev/null || useradd -u {UID} -G jupyter -s /bin/bash"
            f" {'-m' if each is hosts[0] else '-M'} {NAME}"
        )
    hosts[0].check_output(f"echo {NAME}:{PASSWORD} | chpasswd")
    client = HubClient(BASE_URL, NAME)
    client.log_in(PASSWORD)
    client.stop()
    yield client
    client.stop()
    for each in hosts[1:]:
        each.check_output(f"userdel {NAME}")
    hosts[0].check_output(f"userdel -r {NAME} 2>/dev/null; true")


def as_wanda(commands: str) -> str:
    """Run commands as a terminal of the person's session does: in a login shell on the worker."""
    return str(
        host("exec1").check_output(
            "runuser -u %s -- env -i HOME=/home/%s PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
            " bash -lc %s",
            NAME, NAME, f"set -e; cd; {commands}",
        )
    )  # fmt: skip


@pytest.fixture
def at_home(wanda: HubClient) -> Iterator[None]:
    """Leave nothing of one test's environments and kernels in the home."""
    as_wanda(f"rm -rf {MINE}")
    yield
    wanda.stop()
    as_wanda(f"rm -rf {MINE}")
