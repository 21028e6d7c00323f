"""The Prometheus of the tests: queries, alerts, and rules that need seconds instead of hours."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from cluster import ROOT, host
from hub_client import wait_for

#: The host of the group ``monitoring``.
MONITOR = "qmaster"
ADDRESS = f"http://{os.environ.get('GRIDHUB_NETWORK', '10.213.1')}.10:9090"
FOLDER = "/etc/prometheus/gridhub"
CONFIG, RULES = "/etc/prometheus/prometheus.yml", f"{FOLDER}/gridhub.rules.yml"
REAL_RULES = (ROOT / "roles/monitoring/files/gridhub.rules.yml").read_text(encoding="utf-8")
TEXTFILES = "/var/lib/prometheus/node-exporter"

#: Conditions that the tests cannot make true in seconds, and what they use instead.
SMALLER = {
    "DiskAlmostFull": ("tmpfs|ramfs|overlay", "ramfs|overlay"),
    "HubMemoryHigh": ("3.2e9", "1e7"),
    "JobsCannotBeDeleted": ("> 2", "> 0"),
    "LoginsFail": ("> 20", "> 3"),
    "PeopleHitLimits": ("> 100", "> 20"),
    "SessionsLost": ("> 2", "> 0"),
    "SessionsWaitLong": ("> 300", "> 3"),
    "StartsSlow": ("> 60", "> 0.01"),
}


def ask(path: str, **parameters: Any) -> Any:
    """Call Prometheus' API and return the data of its answer."""
    answer = requests.get(f"{ADDRESS}/api/v1/{path}", params=parameters, timeout=20)
    assert answer.ok, answer.text
    return answer.json()["data"]


def query(expression: str) -> list[dict[str, Any]]:
    """Return the series that an expression has now."""
    return list(ask("query", query=expression)["result"])


def value(expression: str) -> float | None:
    """Return the value of an expression with one series; ``None`` if it has none."""
    found = query(expression)
    assert len(found) < 2, found
    return float(found[0]["value"][1]) if found else None


def firing(alert: str) -> list[dict[str, Any]]:
    """Return the alerts of this name that fire now."""
    return [
        each
        for each in ask("alerts")["alerts"]
        if each["labels"]["alertname"] == alert and each["state"] == "firing"
    ]


def faster(rules: str) -> str:
    """Return the rules with short times, and with conditions that tests can make true."""
    rules = re.sub(r"\bfor: \d+[mh]\b", "for: 2s", rules)
    rules = re.sub(r"\[(5m|10m|15m|30m|1h)\]", "[20s]", rules)
    rules = rules.replace("interval: 5m", "interval: 2s")
    parts = rules.split("- alert: ")
    for index, part in enumerate(parts):
        if change := SMALLER.get(part.split("\n")[0]):
            assert change[0] in part, part
            parts[index] = part.replace(*change)
    return "- alert: ".join(parts)


def write(path: str, text: str) -> None:
    host(MONITOR).check_output(f"printf %s {shlex.quote(text)} > {path}")


def read(path: str) -> str:
    return str(host(MONITOR).check_output(f"cat {path}"))


def reload() -> None:
    """Let Prometheus read its files, and wait until it has."""
    before = value("prometheus_config_last_reload_success_timestamp_seconds")
    host(MONITOR).check_output("systemctl reload prometheus")
    started = "prometheus_config_last_reload_success_timestamp_seconds"
    wait_for("Prometheus has read its files", lambda: value(started) != before, 60)


@contextmanager
def hurried() -> Iterator[None]:
    """Scrape every two seconds, and let alerts fire after two."""
    whole = read(CONFIG)
    quick = re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 2s", whole)
    try:
        write(CONFIG, f"{quick}\n")
        write(RULES, faster(REAL_RULES))
        host(MONITOR).check_output(f"promtool check config {CONFIG}")
        reload()
        yield
    finally:
        write(CONFIG, f"{whole}\n")
        write(RULES, REAL_RULES)
        reload()


def wait_until_quiet(*alerts: str, seconds: float = 120.0) -> None:
    """Wait until none of these alerts fires."""
    for alert in alerts:
        wait_for(f"{alert} does not fire", lambda alert=alert: not firing(alert), seconds)


def wait_until_firing(*alerts: str, seconds: float = 120.0) -> None:
    """Wait until each of these alerts fires."""
    for alert in alerts:
        [found, *_] = wait_for(f"{alert} fires", lambda alert=alert: firing(alert), seconds)
        # The texts of alerts are templates, which promtool does not fill in.
        texts = str(found["annotations"])
        assert "{{" not in texts and "<error" not in texts, texts
