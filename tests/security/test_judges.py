"""External tools rate the hosts; a test fails if a rating gets worse than its bound."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cluster import host

#: The highest exposure that systemd may find for each unit; docs/security.md explains the numbers.
EXPOSURE = {
    ("hub", "jupyterhub.service"): 2.0,
    ("hub", "jupyterhub-broker@x.service"): 2.2,
    ("hub", "jupyterhub-broker-ready@1.service"): 2.2,
    ("proxy", "jupyterhub-proxy.service"): 2.0,
    ("proxy", "nginx.service"): 1.4,
}

#: The lowest hardening index that lynis may give to the hub's host, which is a bare container.
HARDENING = 58


def install(hub_host: Any, package: str, program: str) -> None:
    """Install a tool from the distribution's packages on the hub's host."""
    hub_host.check_output(
        f"command -v {program} >/dev/null || (apt-get update -qq && "
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {package})"
    )


@pytest.mark.attack(
    "a service that has been broken into (systemd-analyze security)",
    outcome="jupyterhub 1.4, jupyterhub-proxy 1.3, broker 2.2, nginx 1.4.",
)
@pytest.mark.parametrize(("name", "unit"), EXPOSURE)
def test_systemd_rates_each_unit_as_well_confined(name: str, unit: str) -> None:
    report = host(name).check_output(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    assert float(found[1]) <= EXPOSURE[name, unit], report


@pytest.mark.attack(
    "TLS that can be broken (testssl)",
    outcome="Mozilla's intermediate profile is met, and no known attack works.",
)
def test_testssl_finds_nothing(hub_host: Any) -> None:
    install(hub_host, "testssl.sh", "testssl")
    report = "/tmp/gridhub-testssl.json"
    hub_host.run(
        f"rm -f {report}; timeout 300 testssl --quiet --color 0 --warnings off --jsonfile {report}"
        " -p -s -f -U --connect-timeout 5 proxy:443"
    )
    findings = {each["id"]: each for each in json.loads(hub_host.file(report).content_string)}
    assert "scanTime" in findings, "testssl did not finish"
    # Findings of the severity WARN are about testssl's own OpenSSL, not about nginx.
    bad = [each for each in findings.values() if each["severity"] not in ("OK", "INFO", "WARN")]
    assert bad == []
    offered = {name for name, each in findings.items() if each["finding"].startswith("offered")}
    assert offered == {"TLS1_2", "TLS1_3", "cipherlist_STRONG", "PFS"}
    suites = [name for name in findings["PFS_ciphers"]["finding"].split() if name]
    assert suites
    for suite in suites:
        assert re.fullmatch(
            r"TLS_(AES|CHACHA20)\S+|ECDHE-(ECDSA|RSA)-(AES\d+-GCM|CHACHA20)\S+", suite
        )


@pytest.mark.attack(
    "a badly kept host (lynis)",
    outcome="Hardening index 61 for the hub's bare container; no warning about GridHub.",
)
def test_lynis_has_no_warning_about_gridhub(hub_host: Any) -> None:
    install(hub_host, "lynis", "lynis")
    hub_host.run("lynis audit system --quick --no-colors --quiet")
    report = hub_host.check_output("cat /var/log/lynis-report.dat")
    index = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert index and int(index[1]) >= HARDENING, report[-3000:]
    warnings = re.findall(r"^warning\[\]=(.*)$", report, re.MULTILINE)
    assert not [line for line in warnings if "jupyter" in line.lower()], warnings
