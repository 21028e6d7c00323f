# SPDX-License-Identifier: BSD-3-Clause
"""Packages of dnf and rpm, for :mod:`gridhub.maintenance.packages`.

The formats are those of dnf 4: dnf-automatic(8), dnf(8) and rpm(8).
"""

from __future__ import annotations

from pathlib import Path

from gridhub.maintenance import host
from gridhub.maintenance.errors import MaintenanceError

#: The role ``maintenance`` writes it: which updates are installed.
CONFIGURATION = "/etc/gridhub/dnf-automatic.conf"

#: rpm holds a lock on this file while it installs packages; its place depends on the release.
LOCKS = ("/usr/lib/sysimage/rpm/.rpm.lock", "/var/lib/rpm/.rpm.lock")

#: The commands that finish an interrupted installation: it leaves the old package beside the new.
REPAIR = (["dnf", "--assumeyes", "--quiet", "remove", "--duplicates"],)

#: The command that reads all sources of packages, and fails if one does not answer.
READ = ["dnf", "--quiet", "--refresh", "--setopt=*.skip_if_unavailable=False", "makecache"]

#: The command that installs the updates.
UPDATE = ["dnf-automatic", CONFIGURATION]


def is_used() -> bool:
    """Return whether this host has dnf's packages. A host with apt may have dnf as well."""
    return Path("/usr/bin/dnf").exists() and not Path("/usr/bin/apt-get").exists()


def parse_versions(shown: str) -> dict[str, str]:
    """Return the versions in the output of rpm: ``NAME.ARCHITECTURE VERSION`` in each line.

    A host has several kernels; their versions are joined.
    """
    found: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, _, version = line.partition(" ")
        found.setdefault(name, []).append(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def installed_versions() -> dict[str, str]:
    """Return the version of every installed package, keyed by name and architecture."""
    form = "%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n"
    return parse_versions(host.run(["rpm", "--query", "--all", f"--queryformat={form}"]))


def problem() -> str:
    """Return which packages an interrupted installation has left twice; empty if there are none."""
    command = ["dnf", "--quiet", "--cacheonly", "check", "--duplicates"]
    try:
        host.run(command)
    except MaintenanceError as error:
        # The packages are in the output, and only their number in the message of the error.
        return host.run(command, check=False).strip() or str(error)
    return ""


def planned() -> list[str]:
    """Return the updates that could be installed, as dnf lists them.

    Its exit status is 100 if there are any. Whether only security updates are installed is in
    CONFIGURATION.
    """
    shown = host.run(["dnf", "--quiet", "check-update"], seconds=600, check=False)
    return [line for line in shown.splitlines() if line.strip()]


def needs_reboot() -> bool:
    """Return whether an updated package takes effect only after a reboot.

    If dnf does not answer, the result is true: a needless reboot is better than an old kernel.
    """
    try:
        host.run(["dnf", "--quiet", "needs-restarting", "--reboothint"])
    except MaintenanceError:
        return True
    return False
