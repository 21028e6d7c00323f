"""Checks of individual addresses and sessions."""

from __future__ import annotations

import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.utils import subdomain_hook_idna

from folders import FILES
from gridhub.maintenance import probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings
from web_certificates import NAME, write_certificate


def test_the_running_sessions_are_read_through_the_hubs_own_configuration(
    session: probes.Session, tmp_path: Path
) -> None:
    """``sge_sessions.py`` uses SQLAlchemy, so it can read any database that SQLAlchemy supports."""
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    database = orm.new_session_factory(url)()
    alice, bob = orm.User(name="alice"), orm.User(name="bob.b")
    bobs = orm.Server(proto="https", ip="exec1", port=40002, base_url="/user/bob.b/")
    server = orm.Server(proto="https", ip="exec1", port=40001, base_url="/user/alice/")
    unstarted = orm.Server(proto="http", ip="", port=0, base_url="/x/")
    database.add_all(
        [
            orm.Spawner(user=alice, name="", server=server, state={"job_id": 42}),
            orm.Spawner(user=bob, name="", state={}),
            orm.Spawner(user=bob, name="m", server=bobs),
            orm.Spawner(user=bob, name="n", server=unstarted),
        ]
    )
    database.commit()
    database.close()
    config = tmp_path / "jupyterhub_config.py"
    lines = ["c = get_config()", "c.JupyterHub.db_url = 'sqlite://'", "c.JupyterHub.port = 1"]
    # The site's own lines come last and override earlier lines.
    config.write_text("\n".join([*lines, f"c.JupyterHub.db_url = {url!r}\n"]))
    command = [sys.executable, "-sE", str(FILES / "sge_sessions.py"), str(config)]
    found, of_bob = probes.running_sessions(command)
    assert found == session
    # JupyterHub uses the same label in the user's host name.
    assert f"{of_bob['label']}.hub.test" == subdomain_hook_idna("bob.b", "hub.test", "user")
    config.write_text("c = get_config()\nc.JupyterHub.db_url = 'sqlite:////no/such/database'\n")
    with pytest.raises(MaintenanceError, match="unable to open database file"):
        probes.running_sessions(command)
    for wrong, why in (("no python", "SyntaxError"), ("c = 1", "has no line c.JupyterHub.db_url")):
        config.write_text(wrong)
        with pytest.raises(MaintenanceError, match=why):
            probes.running_sessions(command)


@pytest.mark.parametrize("output", ["", "nothing", "[}"])
def test_output_without_a_list_of_sessions_is_an_error(output: str) -> None:
    with pytest.raises(MaintenanceError, match="printed no list of sessions"):
        probes.running_sessions(["echo", output])


def test_an_unavailable_proxy_is_reported_for_its_sessions(session: probes.Session) -> None:
    settings = Settings(proxy="http://127.0.0.1:1")
    problem = "alice (job 42) through http://127.0.0.1:1: [Errno 111] Connection refused"
    assert probes.route_problem(settings, session) == problem
    assert probes.route_problem(Settings(), session) == ""


def test_a_host_is_queried_by_the_name_it_answers_to() -> None:
    """A server may refuse other host names. For example, nginx accepts only its public name."""

    class Strict(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Host"] == "hub.example.org:8443" else 421)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Strict) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_port}"
        url = f"http://{place}/hub/login"
        named = Settings(names={place: "hub.example.org:8443"})
        assert probes.url_problem(named, url) == ""
        assert probes.url_problem(Settings(), url) == f"{url}: status 421"
        server.shutdown()


def test_the_certificate_is_checked_for_the_name_that_people_type(tmp_path: Path) -> None:
    """The maintenance connects to the proxy at its own name, which may be in no certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Host"] == f"{NAME}:8443" else 421)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    certificate = write_certificate(tmp_path, 30)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate)
    server.socket = own.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    url = f"https://127.0.0.1:{server.server_port}/"
    try:
        assert probes.http_status(url, context, f"{NAME}:8443") == 200
        with pytest.raises(OSError, match="not valid for '127.0.0.1'"):
            probes.http_status(url, context)
    finally:
        server.shutdown()
        server.server_close()
