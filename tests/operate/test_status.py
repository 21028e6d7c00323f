"""The state of the site on one page, and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from canary_account import VARIABLES, Canary, run, smoke
from cluster import PREFIX, host
from hub_client import wait_for
from playbooks import output, playbook
from sessions import Session


def status(path: Path, **variables: object) -> tuple[bool, str, dict[str, Any]]:
    """Run the playbook; return whether it succeeded, its page, and its data."""
    done = playbook("status.yml", status_json=str(path), **variables)
    return done.returncode == 0, output(done), json.loads(path.read_text(encoding="utf-8"))


def test_the_page_and_the_data_show_the_whole_site(
    computing: Session, canary: Canary, tmp_path: Path
) -> None:
    assert smoke().rc == 0
    good, page, site = status(tmp_path / "status.json")
    assert good and site["ok"] and site["problems"] == [], page
    assert "changed=1" not in page
    assert site["sessions"] == {"running": 1, "starting": 0, "waiting": 0, "stopping": 0}
    assert "sessions: 1 running, 0 starting, 0 waiting, 0 stopping" in page
    assert site["collector_age"] < 60 and site["waiting_jobs"] == 0
    assert site["versions"]["jupyterhub"] == run(
        "/opt/jupyterhub/current/env/bin/jupyterhub --version"
    )
    assert set(site["services"]) == {"hub", "proxy", "exec1", "exec2"}
    assert site["services"]["hub"]["jupyterhub.service"] == "active"
    for name, path in (("hub", "/opt/jupyterhub"), ("exec1", "/opt/jupyterhub-session")):
        release = Path(host(name).check_output(f"readlink -f {path}/current")).name
        assert release in site["versions"]["releases"][name].values()
    places = {each["name"]: each["place"] for each in site["certificates"]}
    assert places["proxy"] == "edge" and places["hub-internal"] == "inside"
    assert all(each["days"] > 300 for each in site["certificates"])
    assert site["smoke"]["ok"] and "succeeded, ready after" in page
    assert site["maintenance"]["hub"]["next"] and "maintenance: hub: next 20" in page
    assert site["drain"] is None and "No problem." in page


def test_what_fails_is_named_on_the_page_and_in_the_data(canary: Canary, tmp_path: Path) -> None:
    canary.set_password("wrong")
    try:
        smoke()
    finally:
        canary.set_password(canary.password)
    host("proxy").check_output("systemctl stop jupyterhub-proxy")
    try:
        good, page, site = status(tmp_path / "status.json")
    finally:
        host("proxy").check_output("systemctl start jupyterhub-proxy")
    assert not good and not site["ok"]
    (down,) = (each for each in site["problems"] if "jupyterhub-proxy.service is" in each)
    assert any("the smoke test failed at the step login" in each for each in site["problems"])
    assert down.startswith("proxy: ") and f"PROBLEM {down}" in page
    wait_for("the proxy works again", lambda: smoke().rc == 0, 60, pause=2)


def test_a_hub_that_is_down_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    run("systemctl stop jupyterhub")
    try:
        good, page, site = status(tmp_path / "status.json")
    finally:
        run("systemctl start jupyterhub")
    assert not good and site["sessions"] is None
    assert "sessions: not known: the hub does not answer" in page
    assert "hub: jupyterhub.service is inactive" in site["problems"]
    assert any(each["place"] == "edge" for each in site["certificates"])


def test_an_unreachable_host_is_named(tmp_path: Path) -> None:
    subprocess.run(["podman", "pause", f"{PREFIX}-exec1"], check=True, capture_output=True)
    try:
        good, page, site = status(tmp_path / "status.json", ansible_timeout=5)
    finally:
        subprocess.run(["podman", "unpause", f"{PREFIX}-exec1"], check=True, capture_output=True)
    assert not good and site["unreachable"] == ["exec1"], page


def test_the_json_can_be_shown_instead_also_in_check_mode() -> None:
    done = playbook("status.yml", "--check", "--diff", status_json="-")
    assert "changed=1" not in output(done), output(done)
    assert '"collector_age"' in done.stdout.replace("\\", ""), done.stdout


def test_the_timer_of_the_smoke_test_is_among_the_services(tmp_path: Path) -> None:
    _, _, site = status(tmp_path / "status.json", **VARIABLES)
    assert "jupyterhub-smoke.timer" in site["services"]["hub"]
