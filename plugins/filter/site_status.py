# SPDX-License-Identifier: BSD-3-Clause
"""Compose the state of the whole site, as one page and as data, for ``playbooks/status.yml``.

These are pure functions of what the playbook has read on each host (:func:`site_status`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: In which order the page lists states of sessions.
STATES = ("running", "starting", "waiting", "stopping")


def site_status(hosts: Mapping[str, Mapping[str, Any]], everyone: Sequence[str]) -> dict[str, Any]:
    """Return the state of the site, as data.

    :param hosts: by host: ``units`` (state by unit), ``releases`` (by path), ``seen`` (what the
        maintenance program reports, empty if it does not), ``disabled`` queues and ``problems``.
    :param everyone: all hosts of the run. Those that are not in ``hosts`` could not be reached.
    """
    unreachable = sorted(set(everyone) - set(hosts))
    seen = {name: host.get("seen") or {} for name, host in hosts.items()}
    hub = next((each for each in seen.values() if "hub" in each), {})
    answer = hub.get("hub") or {}
    sessions = [each["state"] for each in answer.get("sessions", [])]
    problems = [f"{name}: {each}" for name, host in hosts.items() for each in host["problems"]]
    return {
        "ok": not (problems or unreachable),
        "problems": problems + [f"{name}: unreachable" for name in unreachable],
        "unreachable": unreachable,
        "services": {name: dict(host["units"]) for name, host in hosts.items()},
        "versions": {
            "jupyterhub": answer.get("version"),
            "releases": {name: dict(host["releases"]) for name, host in hosts.items()},
        },
        "certificates": hub.get("certificates", []),
        # Since when replaced authorities are still trusted; empty if none is.
        "authorities_replaced": hub.get("rotated", ""),
        # None: the hub has not answered.
        "sessions": {state: Counter(sessions)[state] for state in STATES} if answer else None,
        "waiting_jobs": answer.get("waiting_jobs"),
        "collector_age": answer.get("collector_age"),
        "drain": hub.get("drain"),
        "smoke": hub.get("smoke"),
        # The last restore, upgrade or rollback that has ended.
        "operation": hub.get("last_operation"),
        "backups": {
            name: each["last_backup"] for name, each in seen.items() if each.get("last_backup")
        },
        "maintenance": {
            name: {
                "next": each.get("next"),
                "held": each.get("held", ""),
                "running": each.get("running", ""),
                "phase": each.get("phase", ""),
                "last": each["last"]["ended"] if each.get("last") else None,
                "result": each["last"]["result"] if each.get("last") else None,
            }
            for name, each in seen.items()
            if each
        },
        "disabled_queues": sorted({each for host in hosts.values() for each in host["disabled"]}),
    }


def _sessions(site: Mapping[str, Any]) -> str:
    if site["sessions"] is None:
        return "not known: the hub does not answer"
    counts = [f"{site['sessions'][state]} {state}" for state in STATES]
    return ", ".join(counts)


def _collector(site: Mapping[str, Any]) -> str:
    waiting, age = site["waiting_jobs"], site["collector_age"]
    jobs = "not known" if waiting is None else f"{waiting} jobs wait in the cluster"
    return f"{jobs}; Grid Engine answered the hub " + (
        "not yet" if age is None else f"{age:.0f} s ago"
    )


def _certificates(site: Mapping[str, Any]) -> str:
    days: dict[str, list[int]] = {"edge": [], "inside": []}
    for each in site["certificates"]:
        if each["days"] is not None:
            days[each["place"]].append(each["days"])
    shown = [f"{place} {min(each)} days" for place, each in days.items() if each]
    return "; ".join(shown) + " (the first to expire)" if shown else "not known"


def _smoke(site: Mapping[str, Any]) -> str:
    last = site["smoke"]
    if not last:
        return "none"
    if last["ok"]:
        return f"{last['ended']} succeeded, ready after {last['seconds'].get('start', 0):.0f} s"
    return f"{last['ended']} failed at the step {last['failed']}"


def _maintenance(each: Mapping[str, Any]) -> str:
    last = f"last {each['last']} {each['result']}" if each["last"] else "last none"
    now = f"; running since {each['running']}, {each['phase']}" if each["running"] else ""
    return f"next {each['next'] or each['held'] or 'none'}; {last}{now}"


def status_page(site: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page about a site (:func:`site_status`)."""
    drain = site["drain"]
    lines = [
        f"sessions:     {_sessions(site)}",
        f"queue:        {_collector(site)}",
        f"certificates: {_certificates(site)}",
        *(
            f"authorities:  replaced at {each}; the old ones are still trusted "
            "(rotate_secrets.yml -e rotate=finish)"
            for each in [site["authorities_replaced"]]
            if each
        ),
        f"smoke test:   {_smoke(site)}",
        *(f"drain:        until {each['until']}: {each['text']}" for each in [drain] if each),
        f"JupyterHub:   {site['versions']['jupyterhub'] or 'not known'}",
    ]
    lines += [
        f"last {last['kind']}: {last['about']}, {last['ended']}: {last['result']}"
        for last in [site["operation"]]
        if last
    ]
    backups = [f"{name} {each}" for name, each in site["backups"].items()]
    lines += [f"last backup:  {each}" for each in backups or ["none"]]
    lines += [
        f"maintenance:  {name}: {_maintenance(each)}" for name, each in site["maintenance"].items()
    ]
    queues = ", ".join(site["disabled_queues"]) or "none seen from here"
    lines.append(f"queues that are disabled: {queues}")
    for name, units in site["services"].items():
        down = [f"{unit} is {state}" for unit, state in units.items() if state != "active"]
        releases = site["versions"]["releases"].get(name, {}).values()
        words = ", ".join(down) or f"{len(units)} units active"
        lines.append(f"{name}: {words}" + "".join(f"; release {each}" for each in releases))
    lines += [f"{name}: unreachable" for name in site["unreachable"]]
    return [*lines, *([f"PROBLEM {each}" for each in site["problems"]] or ["No problem."])]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"site_status": site_status, "status_page": status_page}
