# SPDX-License-Identifier: BSD-3-Clause
"""What ``playbooks/uninstall.yml`` removes, and that it forgets nothing that the roles write."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest

from folders import ROOT

ROLES = ROOT / "roles"
#: Files that others may use too, and that stay or are restored (roles/uninstall/README.md).
KEPT = {
    "/etc/nginx/nginx.conf": "gets its old content",
    "/etc/systemd/system/nginx.service.d": "removed if it is empty",
    "/etc/systemd/system/prometheus-node-exporter.service.d": "removed if it is empty",
    "/var/lib/prometheus/node-exporter": "the folder of others' metrics",
    "/etc/ipython": "our lines are removed",
    "/etc/ipython/ipython_kernel_config.py": "our lines are removed",
    "/etc/systemd/system/gridengine-exec.service": "Grid Engine stays",
    "/etc/systemd/system/gridengine-master.service": "Grid Engine stays",
    "/etc/gridhub-database": "the database stays",
}


def load_plugin() -> Any:
    path = ROOT / "plugins/filter/uninstall_plan.py"
    spec = importlib.util.spec_from_file_location("uninstall_plan", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLUGIN = load_plugin()
EVERYWHERE = {
    *("hub", "proxy", "sge_exec", "maintenance"),
    *("monitoring", "prometheus", "node_exporter"),
}
METRICS = "/var/lib/prometheus/node-exporter/gridhub_maintenance.prom"


def plan(groups: set[str] = EVERYWHERE, *, delete: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = PLUGIN.uninstall_plan(
        groups, "/var/backups/gridhub", METRICS, "/etc/prometheus/gridhub", delete_data=delete
    )
    return found


def written() -> set[str]:
    """Return the absolute paths that tasks and variables of the roles name."""
    named = re.compile(
        r"(?:path|dest|_(?:path|folder|dir|file)): [\"']?(/(?:etc|opt|usr/local|var)/[\w@./-]+)"
    )
    return {
        path
        for file in ROLES.glob("*/*/*.yml")
        if file.parts[-3] not in ("uninstall", "validate", "sge_common", "sge_qmaster")
        for path in named.findall(
            file.read_text(encoding="utf-8").replace("{{ __monitoring_arguments }}", "/etc/default")
        )
    }


def test_everything_that_the_roles_write_is_removed() -> None:
    paths = written()
    assert "/etc/systemd/system/jupyterhub.service" in paths and len(paths) > 25
    removed = [*plan(delete=True)["files"], *KEPT]
    forgotten = {
        path
        for path in paths
        if not any(path == each or path.startswith(f"{each}/") for each in removed)
    }
    assert "/etc/default/prometheus-node-exporter" in paths
    assert forgotten == set()


def test_every_unit_is_stopped_before_its_file_is_removed() -> None:
    templates = {
        path.name.removesuffix(".j2")
        for path in ROLES.glob("*/templates/*.j2")
        if re.search(r"\.(service|socket|timer)\.j2$", path.name)
    }
    assert {each for each in templates if not each.startswith("gridengine")} == set(plan()["units"])


def test_what_systemd_notes_of_a_timer_is_removed() -> None:
    assert "/var/lib/systemd/timers/stamp-jupyterhub-backup.timer" in plan()["files"]


def test_data_is_packed_unless_it_is_to_be_deleted() -> None:
    kept = plan()
    assert {"/var/lib/jupyterhub", "/etc/jupyterhub"} <= set(kept["pack"]) <= set(kept["files"])
    assert "/var/backups/gridhub" not in kept["files"]
    deleted = plan(delete=True)
    assert deleted["pack"] == [] and "/var/backups/gridhub" in deleted["files"]


def test_a_worker_loses_only_what_it_has() -> None:
    found = plan({"sge_exec"})
    assert found["accounts"] == [] and "/etc/profile.d/00-gridhub.sh" in found["files"]
    assert not any("/var/lib/jupyterhub" in each for each in found["files"])


def test_a_prometheus_of_the_site_keeps_its_settings_and_runs_on() -> None:
    found = plan({"monitoring"})
    assert "/etc/prometheus/gridhub" in found["files"] and found["stopped"] == {}
    assert not any(each.endswith(("prometheus.yml", "node-exporter")) for each in found["files"])


def test_a_service_is_stopped_where_its_settings_are_removed() -> None:
    found = plan()
    assert len(found["stopped"]) == 4 and set(found["stopped"].values()) <= set(found["files"])
    assert list(plan({"sge_exec", "node_exporter"})["stopped"]) == [
        "prometheus-node-exporter.service"
    ]


@pytest.mark.parametrize(
    ("answer", "hosts", "expected"),
    [
        ("mysite", {"hub", "exec1"}, True),
        ("mysite", {"hub"}, False),  # with --limit, the hosts must be named
        ("hub", {"hub"}, True),
        ("hub, exec1", {"hub", "exec1"}, True),
        ("exec1", {"hub"}, False),
        ("", {"hub"}, False),
        ("yes", {"hub", "exec1"}, False),
        (True, {"hub"}, False),
    ],
)
def test_the_confirmation_must_name_what_is_removed(
    answer: Any, hosts: set[str], expected: bool
) -> None:
    assert PLUGIN.confirmed(answer, "mysite", hosts, {"hub", "exec1"}) is expected


def test_our_lines_in_a_file_of_others_are_found_by_their_marks() -> None:
    written_by = (ROLES / "sge_exec/tasks/kernels.yml").read_text(encoding="utf-8")
    removed_by = (ROLES / "uninstall/tasks/main.yml").read_text(encoding="utf-8")
    assert 'marker: "# {mark} of what GridHub' in written_by
    assert "/^# BEGIN of what GridHub/,/^# END of what GridHub/d" in removed_by
