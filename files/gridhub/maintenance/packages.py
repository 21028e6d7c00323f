# SPDX-License-Identifier: BSD-3-Clause
"""The host's packages: their state, their repair, and the updates, with apt or with dnf."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Mapping
from pathlib import Path

from gridhub.maintenance import dnf, host
from gridhub.maintenance.errors import MaintenanceError

REBOOT_REQUIRED = Path("/run/reboot-required")
_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
#: A pattern for unattended-upgrade's messages about packages that it does not update.
_LEFT_OUT = re.compile(r"conffile prompt|kept back|\b(WARNING|ERROR)\b")


def installed_versions() -> dict[str, str]:
    """Return the version of every installed package, keyed by the package's name."""
    if dnf.is_used():
        return dnf.installed_versions()
    shown = host.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${binary:Package} ${Version}\n"]
    )
    rows = (line.split() for line in shown.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return a line for each package whose version has changed."""
    return [
        f"{name}: {before.get(name, 'not there')} -> {after.get(name, 'removed')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def problem() -> str:
    """Return what is wrong with the installed packages; empty if all are fully installed."""
    if dnf.is_used():
        return dnf.problem()
    if any(path.name.isdigit() for path in Path("/var/lib/dpkg/updates").iterdir()):
        return "dpkg was interrupted"
    if found := host.run(["dpkg", "--audit"], check=False).strip():
        return found
    try:
        host.run(["apt-get", "check", "-qq"])
    except MaintenanceError as error:
        return str(error)
    return ""


def repair(notes: list[str]) -> None:
    """Finish an interrupted installation.

    :raises MaintenanceError: when packages are still broken; in that case the host must not reboot.
    """
    if not (found := problem()):
        return
    notes.append(f"repaired: {found}")
    keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    failures = []
    apt = (
        ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"],
        ["apt-get", "-y", "-qq", "--no-remove", *keep, "install", "--fix-broken"],
    )
    for command in dnf.REPAIR if dnf.is_used() else apt:
        try:
            host.run(command, seconds=host.LONG)
        except MaintenanceError as error:
            failures.append(str(error))
    if found := problem():
        notes.pop()
        raise MaintenanceError("\n".join(["the packages cannot be repaired", found, *failures]))


def lock_holder() -> str:
    """Return the path of a package manager's lock that another program holds; empty if free."""
    for name in dnf.LOCKS if dnf.is_used() else _LOCKS:
        try:
            with Path(name).open("rb+") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return name
    return ""


def update(lock_wait: int, time_limit: int, notes: list[str]) -> None:
    """Install the updates that the configuration of unattended-upgrades or dnf-automatic allows.

    :param lock_wait: minutes to wait for another update to end.
    :param time_limit: seconds that the updates may take.
    :raises MaintenanceError: when another program holds a lock, when a source of packages cannot be
        read, or when a package cannot be installed.
    """
    # Another update may have begun during the backup.
    if found := host.wait_until_clear(lock_holder, lock_wait * 60):
        raise MaintenanceError(f"another program holds {found}")
    if dnf.is_used():
        read, install = dnf.READ, dnf.UPDATE
    else:
        read = ["apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"]
        install = ["unattended-upgrade", "--verbose"]
    unread: MaintenanceError | None = None
    try:
        host.run(read, seconds=600)
    except MaintenanceError as error:
        unread = error  # install updates from the other sources anyway
    before, output = installed_versions(), ""
    try:
        output = host.run(install, seconds=time_limit)
    finally:
        notes += changes(before, installed_versions()) or ["nothing was updated"]
        notes += [str(unread)] if unread else []
    if not dnf.is_used():
        _check_left_out(output, notes)
    if unread:
        raise MaintenanceError("not every source of packages could be read")


def _check_left_out(output: str, notes: list[str]) -> None:
    """Note the packages that unattended-upgrade has left out: it succeeds all the same.

    :raises MaintenanceError: when a package is left out because of a changed file.
    """
    notes += [line for line in output.splitlines() if _LEFT_OUT.search(line)]
    if "conffile prompt" in output:
        raise MaintenanceError(
            "a package is kept back because one of its files was changed: Dpkg::Options must have"
            " --force-confold (/etc/apt/apt.conf.d/52gridhub-maintenance)"
        )


def planned() -> list[str]:
    """Return lines about the updates that would be installed; empty if that is not known."""
    if dnf.is_used():
        return dnf.planned() or ["none"]
    shown = host.run(["unattended-upgrade", "--dry-run", "--verbose"], seconds=600, check=False)
    wanted = ("Packages that will be upgraded", "No packages found")
    lines = [line for line in shown.splitlines() if any(text in line for text in wanted)]
    return [line.partition(" INFO ")[2] or line for line in lines]


def needs_reboot() -> bool:
    """Return whether an updated package takes effect only after a reboot."""
    return dnf.needs_reboot() if dnf.is_used() else REBOOT_REQUIRED.exists()
