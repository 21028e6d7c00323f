# SPDX-License-Identifier: BSD-3-Clause
"""The page of ``playbooks/status.yml``, from what the hosts have answered."""

from __future__ import annotations

import importlib.util
from typing import Any

from folders import ROOT


def load_plugin() -> Any:
    path = ROOT / "plugins/filter/site_status.py"
    spec = importlib.util.spec_from_file_location("site_status", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLUGIN = load_plugin()
HUB = {
    "hub": {
        "version": "6.1.1",
        "collector_age": 4.2,
        "waiting_jobs": 3,
        "sessions": [{"state": "running"}, {"state": "running"}, {"state": "waiting"}],
    },
    "certificates": [
        {"name": "proxy", "place": "edge", "days": 80, "problem": ""},
        {"name": "hub-ca", "place": "inside", "days": 900, "problem": ""},
        {"name": "proxy-api", "place": "inside", "days": 400, "problem": ""},
    ],
    "drain": {"until": "2030-01-31T18:00:00+00:00", "text": "Moved."},
    "smoke": {"ok": True, "ended": "2026-03-01T12:00:00+00:00", "seconds": {"start": 2.4}},
    "last_backup": "/b/2026-02-10T032600.tar",
    "last_operation": {
        "kind": "upgrade",
        "about": "abc",
        "ended": "2026-02-11T12:00:00+00:00",
        "result": "interrupted, and nothing was changed: run playbooks/upgrade.yml again",
    },
    "next": "2026-03-10T03:26:00+00:00",
    "last": {"ended": "2026-02-10T03:40:00+00:00", "result": "done"},
}


def host(seen: Any = None, problems: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "units": {"a.service": "active"},
        "releases": {"/opt/x": "abc"},
        "seen": seen or {},
        "disabled": [],
        "problems": list(problems),
    }


def page(hosts: dict[str, Any], everyone: list[str] | None = None) -> tuple[Any, str]:
    site = PLUGIN.site_status(hosts, everyone or list(hosts))
    return site, "\n".join(PLUGIN.status_page(site))


def test_a_good_site_is_shown_whole() -> None:
    site, shown = page({"hub": host(HUB), "exec1": host()})
    assert site["ok"] and "No problem." in shown
    for words in (
        "2 running, 0 starting, 1 waiting, 0 stopping",
        "3 jobs wait in the cluster; Grid Engine answered the hub 4 s ago",
        "edge 80 days; inside 400 days (the first to expire)",
        "2026-03-01T12:00:00+00:00 succeeded, ready after 2 s",
        "until 2030-01-31T18:00:00+00:00: Moved.",
        "hub /b/2026-02-10T032600.tar",
        "last upgrade: abc, 2026-02-11T12:00:00+00:00: interrupted, and nothing was changed: run",
        "hub: next 2026-03-10T03:26:00+00:00; last 2026-02-10T03:40:00+00:00 done",
        "JupyterHub:   6.1.1",
        "exec1: 1 units active; release abc",
    ):
        assert words in shown


def test_what_is_not_known_is_not_shown_as_none() -> None:
    site, shown = page({"hub": host({**HUB, "hub": None, "smoke": None, "last_backup": ""})})
    assert site["sessions"] is None and "not known: the hub does not answer" in shown
    assert "smoke test:   none" in shown and "last backup:  none" in shown


def test_problems_and_unreachable_hosts_are_named() -> None:
    broken = host(problems=("a.service is failed",)) | {"units": {"a.service": "failed"}}
    site, shown = page({"hub": host(HUB), "exec1": broken}, ["hub", "exec1", "exec2"])
    assert not site["ok"]
    assert site["problems"] == ["exec1: a.service is failed", "exec2: unreachable"]
    assert "PROBLEM exec1: a.service is failed" in shown and "exec2: unreachable" in shown


def test_authorities_that_are_still_trusted_are_named() -> None:
    _, shown = page({"hub": host({**HUB, "rotated": "2026-03-01T12:00:00+00:00"})})
    assert "authorities:  replaced at 2026-03-01T12:00:00+00:00; the old ones are still" in shown
    assert "authorities" not in page({"hub": host(HUB)})[1]


def test_a_failed_smoke_test_is_named_with_its_step() -> None:
    failed = {"ok": False, "ended": "2026-03-01T12:00:00+00:00", "failed": "login"}
    _, shown = page({"hub": host({**HUB, "smoke": failed})})
    assert "2026-03-01T12:00:00+00:00 failed at the step login" in shown
