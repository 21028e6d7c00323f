# SPDX-License-Identifier: BSD-3-Clause
"""List what GridHub has put on a host, for ``playbooks/uninstall.yml``.

A test compares the list with what the roles write, so that a new unit or file is not forgotten.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: What the roles leave on a host, for each group or program. In ``units``, the first are stopped
#: first. ``data`` cannot be made again: users, tokens, secrets, backups and logs.
PARTS: dict[str, dict[str, list[str]]] = {
    "maintenance": {
        "units": [
            "jupyterhub-smoke.timer",
            "jupyterhub-smoke.service",
            "jupyterhub-backup.timer",
            "jupyterhub-backup.service",
            "jupyterhub-settle.service",
            "jupyterhub-maintenance.timer",
            "jupyterhub-maintenance-notice.timer",
            "jupyterhub-maintenance-check.service",
            "jupyterhub-maintenance-notice.service",
            "jupyterhub-maintenance.service",
        ],
        "files": [
            "/etc/apt/apt.conf.d/52gridhub-maintenance",
            "/usr/local/lib/gridhub",
            "/var/lib/gridhub-maintenance",
            "/var/lib/gridhub-smoke",
        ],
        "data": ["/etc/gridhub", "/var/log/gridhub-maintenance"],
    },
    "hub": {
        "units": [
            "jupyterhub.service",
            "jupyterhub-broker-ready.socket",
            "jupyterhub-broker.socket",
            "jupyterhub-broker-ready@.service",
            "jupyterhub-broker@.service",
        ],
        "files": ["/etc/pam.d/jupyterhub", "/opt/jupyterhub"],
        "data": ["/etc/jupyterhub", "/var/lib/jupyterhub"],
        "accounts": ["jupyterhub"],
    },
    "proxy": {
        "units": ["jupyterhub-proxy.service"],
        "files": [
            "/etc/systemd/system/nginx.service.d/gridhub.conf",
            "/opt/jupyterhub-proxy",
            "/run/nginx-tls",
        ],
        "data": ["/etc/jupyterhub-proxy"],
        "accounts": ["jupyterhub-proxy"],
    },
    "sge_exec": {"files": ["/etc/profile.d/00-gridhub.sh"]},
    # Without our settings, the packages' programs would open their ports to everybody.
    "prometheus": {
        "files": [
            "/etc/default/prometheus",
            "/etc/default/prometheus-alertmanager",
            "/etc/prometheus/alertmanager.yml",
            "/etc/prometheus/prometheus.yml",
        ],
    },
    "node_exporter": {
        "files": [
            "/etc/default/prometheus-node-exporter",
            "/etc/systemd/system/prometheus-node-exporter.service.d/gridhub.conf",
        ],
    },
    "firewall": {"units": ["gridhub-firewall.service"], "files": ["/etc/gridhub.nft"]},
}

#: Services of packages that run with our settings: they are stopped where this file of ours is.
STOPPED = {
    "nginx.service": "/opt/jupyterhub-proxy",
    "prometheus.service": "/etc/default/prometheus",
    "prometheus-alertmanager.service": "/etc/default/prometheus-alertmanager",
    "prometheus-node-exporter.service": PARTS["node_exporter"]["files"][1],
}

_UNITS = "/etc/systemd/system"


def uninstall_plan(
    groups: Collection[str],
    backup_folder: str,
    metrics_file: str,
    monitoring_folder: str,
    *,
    delete_data: bool,
) -> dict[str, Any]:
    """Return what to stop and remove on a host.

    :param groups: the host's groups in the inventory, and ``prometheus`` and ``node_exporter``
        where the role ``monitoring`` has set them up.
    :param backup_folder: the folder of the maintenance's backups.
    :param metrics_file: the maintenance's file for node_exporter; empty if there is none.
    :param monitoring_folder: the folder of rules, dashboards and what is scraped.
    :param delete_data: whether to delete the data as well; if not, it is packed before.
    :returns: ``units`` in the order in which they are stopped; ``files`` and folders to remove;
        ``pack``, the files and folders to pack before; ``accounts``; ``stopped``, the packages'
        services to stop, each with the file that shows that it runs with our settings.
    """
    ours = ("hub", "proxy", "sge_exec", "prometheus", "node_exporter")
    parts = [PARTS[name] for name in ours if name in groups]
    if {"hub", "proxy", "maintenance", "sge_exec"} & set(groups):
        # patch_workers.yml puts the maintenance's program on workers, too.
        parts.insert(0, PARTS["maintenance"])
    parts.append(PARTS["firewall"])

    def all_of(kind: str) -> list[str]:
        return [each for part in parts for each in part.get(kind, [])]

    units, data = all_of("units"), all_of("data")
    metrics = [metrics_file] if metrics_file else []
    if metrics_file and "hub" in groups:
        metrics.append(metrics_file.rpartition("/")[0] + "/gridhub_smoke.prom")
    files = [f"{_UNITS}/{unit}" for unit in units] + all_of("files") + metrics + data
    # systemd notes there when a timer has run.
    timers = [unit for unit in units if unit.endswith(".timer")]
    files += [f"/var/lib/systemd/timers/stamp-{unit}" for unit in timers]
    if "monitoring" in groups:
        files.append(monitoring_folder)
    if delete_data and {"hub", "proxy"} & set(groups):
        files.append(backup_folder)
    return {
        "units": units,
        "files": files,
        "pack": [] if delete_data else data,
        "accounts": all_of("accounts"),
        "stopped": {unit: file for unit, file in STOPPED.items() if file in files},
    }


def confirmed(
    answer: Any, inventory_name: str, hosts: Collection[str], everyone: Collection[str]
) -> bool:
    """Return whether a confirmation names what would be uninstalled.

    :param inventory_name: the name of the inventory's folder or file, which means all its hosts.
    :param hosts: the hosts of this run.
    :param everyone: the hosts of a run without ``--limit``.
    """
    if not isinstance(answer, str) or not answer:
        return False
    if answer == inventory_name:
        return set(hosts) == set(everyone)
    return set(answer.replace(",", " ").split()) == set(hosts)


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"uninstall_plan": uninstall_plan, "uninstall_confirmed": confirmed}
