"""The checks after the reboot."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from gridhub.maintenance import checks, host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


@pytest.mark.parametrize(
    ("jobs", "known", "trouble"),
    [
        # Each entry of ``jobs`` contains the jobs that are in Grid Engine at one check. The last
        # entry also applies to all later checks.
        (["42 43"], "42 43", "Connection refused"),
        (["42 43"], "43", "the hub has forgotten it"),
        (["43"], "43", ""),
        (["42 43", "43"], "42 43", ""),  # job 42 ended during the check
        ([""], "", "more than half"),
    ],
)
def test_a_session_is_lost_if_its_job_exists_but_the_session_does_not(
    jobs: list[str],
    known: str,
    trouble: str,
    session: probes.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = session | {"scheme": "http", "host": "127.0.0.1", "port": 1}
    before = [lost, session | {"user": "bob", "job": "43"}]
    looks = iter(jobs)
    shown = [jobs[-1]]
    monkeypatch.setattr(probes, "grid_engine_jobs", lambda _: set(next(looks, shown[0]).split()))
    monkeypatch.setattr(
        probes, "running_sessions", lambda _: [{"job": job} for job in known.split()]
    )
    monkeypatch.setattr(host, "wait_until_clear", lambda what, _seconds: what())
    monkeypatch.setattr(probes, "internal_tls", lambda *_: None)
    reached = probes.http_status

    def status_of(url: str, *rest: Any) -> int:
        return 200 if "exec1" in url else reached(url, *rest)

    monkeypatch.setattr(probes, "http_status", status_of)
    notes: list[str] = []
    settings = Settings(qstat=["qstat"])
    if not trouble:
        checks.check_sessions(settings, before, notes)
        assert notes == ["2 sessions ran before, and 1 still do", "ended meanwhile: jobs 42"]
        return
    with pytest.raises(MaintenanceError, match=re.escape(trouble)) as raised:
        checks.check_sessions(settings, before, notes)
    assert "bob" not in str(raised.value)


class Proxy(BaseHTTPRequestHandler):
    """A proxy that has a route to only one session.

    It redirects all other requests, as the hub does behind a real proxy.
    """

    def do_GET(self) -> None:
        target = self.headers["Host"], self.path
        self.send_response(200 if target == ("alice.hub.test:8443", "/user/alice/api") else 302)
        self.send_header("Location", f"/hub{self.path}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("user", "subdomains", "trouble"),
    [
        ("alice", True, ""),
        ("carol", True, "as carol.hub.test:8443: status 302, which is not the session's own"),
        ("alice", False, "as hub.test:8443: status 302"),
    ],
)
def test_a_session_is_reached_through_the_proxy_by_its_public_name(
    user: str,
    subdomains: bool,
    trouble: str,
    session: probes.Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session |= {"user": user, "label": user, "path": f"/user/{user}/"}
    monkeypatch.setattr(probes, "session_problem", lambda *_: "")
    monkeypatch.setattr(probes, "running_sessions", lambda _: [session])
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        settings = Settings(
            proxy=f"http://{place}", names={place: "hub.test:8443"}, user_subdomains=subdomains
        )
        found = ""
        try:
            checks.check_sessions(settings, [session], [], 0)
        except MaintenanceError as error:
            found = str(error)
        server.shutdown()
    assert found.startswith(f"{user} (job 42) through http://{place} as" if trouble else "")
    assert trouble in found and bool(found) is bool(trouble)


def test_a_service_that_does_not_answer_is_named_and_the_rest_is_checked(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = "http://127.0.0.1:1/hub/login"
    settings = Settings(check_minutes=0, urls=[lost], qstat=["false"], units=["hub.service"])
    monkeypatch.setattr(probes, "units_problem", lambda _units: "")
    checks.check_services(settings, report)
    assert {step["name"]: step["words"] for step in report.failed_steps()} == {
        f"{lost} answers": f"{lost}: [Errno 111] Connection refused",
        "Grid Engine answers": "false: exit status 1",
    }
    assert len(report.data["steps"]) == 3
