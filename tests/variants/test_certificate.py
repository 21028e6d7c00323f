"""A deployment gets a certificate that browsers would refuse."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import BASE_URL, ROOT, host
from host_names import PORT
from hub_client import HubClient, wait_for
from playbooks import output, playbook
from web_certificates import NAME, write_certificate

#: The certificate and its key are in one file.
FILE = "/root/certificate-test.pem"
PATHS = {"proxy_tls_certificate": FILE, "proxy_tls_certificate_key": FILE}


@pytest.fixture
def give(tmp_path: Path) -> Iterator[Any]:
    """Put a certificate that ends in some days onto the proxy's host."""

    def write(days: int) -> None:
        content = base64.b64encode(write_certificate(tmp_path, days).read_bytes()).decode()
        host("proxy").check_output("umask 077; echo %s | base64 -d > %s", content, FILE)

    yield write
    host("proxy").check_output("rm -f %s", FILE)


def served() -> str:
    return ssl.get_server_certificate(("127.0.0.1", PORT or 443))


def configuration() -> str:
    content = host("proxy").file("/etc/nginx/nginx.conf").content
    return hashlib.sha256(content).hexdigest()


@pytest.mark.attack(
    "a certificate that has expired",
    outcome="Refused before anything is changed; the proxy's role alone refuses it too.",
)
def test_an_expired_certificate_is_not_deployed(give: Any, tmp_path: Path) -> None:
    give(-1)
    before = served(), configuration()
    values = PATHS | {"jupyterhub_public_url": f"https://{NAME}/"}
    run = playbook("site.yml", "--limit", "hub,proxy,localhost", **values)
    assert run.returncode != 0
    assert "proxy: proxy_tls_certificate cannot be used now: certificate has expired" in output(run)
    assert "changed=0" in output(run)
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"hosts": "proxy", "roles": ["proxy"]}]), encoding="utf-8")
    alone = subprocess.run(
        ["ansible-playbook", "-i", "inventories/demo", str(play), "-e", json.dumps(values)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert alone.returncode != 0
    assert f"The certificate {FILE} (proxy_tls_certificate) cannot be used now" in output(alone)
    assert (served(), configuration()) == before


@pytest.mark.attack(
    "a deployment that is green although nobody could use the service",
    outcome="Its last task fails, with the address and the reason.",
)
def test_a_deployment_that_does_not_serve_fails() -> None:
    site = ("site.yml", "--limit", "proxy,localhost", "--tags", "proxy")
    assert playbook(*site).returncode == 0
    foreign = playbook(*site, proxy_check_address="127.0.0.1:1")
    assert foreign.returncode != 0
    assert "(at 127.0.0.1:1): connection refused" in output(foreign)
    # The hub is down, but all tasks of the proxy succeed.
    hub, browser = host("hub"), HubClient(BASE_URL, "alice")
    hub.check_output("systemctl stop jupyterhub.service")
    try:
        run = playbook(*site)
    finally:
        hub.check_output("systemctl start jupyterhub.service")
        wait_for("the hub is back", lambda: browser.get("/hub/health").status_code == 200)
    assert run.returncode != 0
    assert f"(at 127.0.0.1:{PORT}): status 503 (the hub does not answer)" in output(run)
