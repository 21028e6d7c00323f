# SPDX-License-Identifier: BSD-3-Clause
"""Compare ``sge_common_dialect`` with the cluster's Grid Engine, and explain what differs there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gridhub.grid.dialect import Dialect, read_product
from gridhub.menu.kinds import Memory
from gridhub.menu.menu import Menu

#: The exit status of a command that gave no answer in time (``site_facts``).
NO_ANSWER = 124

#: The complexes whose meaning depends on how Grid Engine starts jobs.
_ADDRESS_SPACE = frozenset({"h_vmem", "s_vmem"})

#: The first version of Open Cluster Scheduler that puts jobs into systemd's scopes.
_WITH_SYSTEMD = (9, 1)

_VERSION = re.compile(r"(\d+)\.(\d+)", re.ASCII)
_SYSTEMD_OFF = re.compile(r"\bENABLE_SYSTEMD=(false|no|n|0)\b", re.ASCII | re.IGNORECASE)


def dialect_problems(dialect: Dialect, shown: str) -> Iterator[str]:
    """Yield why the setting is wrong.

    :param shown: the output of ``qstat -help`` on the hub's host; empty if it is not known.
    """
    line, found = read_product(shown)
    if found and found is not dialect:
        yield (
            f"sge_common_dialect is {dialect} ({dialect.products}), but qstat -help names "
            f"{line!r}: set sge_common_dialect: {found} in group_vars/all. If that is not the "
            "cluster's own Grid Engine, set sge_common_bin_dir to the folder of its commands"
        )


def no_answer(hub: str, dialect: Dialect, shown: str, answer: Mapping[str, object]) -> str:
    """Return a sentence for a qmaster that the hub's host cannot ask.

    :param answer: ``rc`` and ``err`` of ``qstat``.
    """
    words = (
        f"{hub} cannot ask the cluster's qmaster: {str(answer['err']).strip()}. Check that the "
        "qmaster runs, and that sge_common_root, sge_common_cell and sge_common_bin_dir in the "
        "inventory match the site's Grid Engine. The hub's host must be a submit host of the "
        f"cluster (qconf -as {hub})"
    )
    if answer["rc"] != NO_ANSWER:
        return words
    line, _ = read_product(shown)
    return (
        f"{words}. Commands of another Grid Engine get no answer at all, as those of 8.1.9 from "
        f"Open Cluster Scheduler. These are of {line or 'an unknown Grid Engine'}, and "
        f"sge_common_dialect is {dialect} ({dialect.products}): sge_common_bin_dir must be the "
        "folder of the cluster's own commands"
    )


def managed_problems(dialect: object) -> Iterator[str]:
    """Yield why GridHub cannot install the dialect's Grid Engine on the hosts of the inventory."""
    if dialect not in (None, Dialect.SGE):
        yield (
            f"sge_common_dialect is {dialect}, but the inventory has a host in sge_qmaster: "
            f"GridHub installs {Dialect.SGE.products} there. Set sge_common_dialect: "
            f"{Dialect.SGE}, or empty the group for a cluster of your own"
        )


def dialect_notes(
    dialect: Dialect,
    shown: str,
    menu: Menu | None,
    settings: Mapping[str, str],
    scheduler: Mapping[str, str],
) -> Iterator[str]:
    """Yield what may surprise with this Grid Engine, and what is not known of it.

    :param shown: the output of ``qstat -help``.
    :param settings: the cluster's global configuration; empty if it is not known.
    :param scheduler: the scheduler's configuration; empty if it is not known.
    """
    line, found = read_product(shown)
    if line and found is None:
        yield (
            f"qstat -help names {line!r}, which GridHub does not know: sge_common_dialect is "
            f"{dialect} ({dialect.products}). Check that reasons for the end of a session appear"
        )
    if dialect is Dialect.AGE:
        yield (
            "Altair and Univa Grid Engine were never tried with GridHub: it reads their answers as "
            "public documents describe them "
            '(docs/administrators/grid-engine.md, "Other Grid Engines")'
        )
    if dialect is Dialect.OCS:
        if line.upper().startswith("GCS"):
            yield (
                f"{line}: the hub's account, jupyterhub, must see the jobs of all users. If a "
                "department view or a role (RBAC) hides a job from it, the hub takes the session "
                "for ended"
            )
        if not scheduler:
            yield (
                "Whether pages can show why a session waits is not known: Open Cluster Scheduler "
                "gives no reasons unless schedd_job_info is true (qconf -msconf)"
            )
        yield from _memory_notes(line, menu, settings)


def _memory_notes(line: str, menu: Menu | None, settings: Mapping[str, str]) -> Iterator[str]:
    version = _VERSION.search(line)
    if not version or (int(version[1]), int(version[2])) < _WITH_SYSTEMD:
        return
    if _SYSTEMD_OFF.search(settings.get("execd_params", "")):
        return
    names = [
        item.name
        for item in (menu.items if menu else ())
        if isinstance(item.request, Memory) and item.request.complex in _ADDRESS_SPACE
    ]
    if names:
        yield (
            f"jupyterhub_resource_menu, item {names[0]!r}: on workers with systemd, {line} limits "
            "with h_vmem the address space of each single program and, with MemoryMax of the "
            "job's scope, the memory in use of all programs together with their page cache. Pages "
            "show the latter. With execd_params ENABLE_SYSTEMD=FALSE (qconf -mconf) the address "
            'space of all programs together counts (docs/menu.md, "What h_vmem means")'
        )
