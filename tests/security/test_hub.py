"""People, administrators and the hub's own process try to exceed their rights."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from cluster import AS_HUB, LogIn
from conftest import restart_hub
from hub_client import HubClient, page_text, wait_for
from person import start_with_secrets
from playbooks import output, playbook

DATABASE = "/var/lib/jupyterhub/jupyterhub.sqlite"

#: A program that sends a request directly to the hub, as a worker can. Its arguments are
#: METHOD PATH TOKEN [BODY].
ASK = f"""{AS_HUB}
method, path, token, body = (*sys.argv[1:], "")[:4]
request = urllib.request.Request(
    "https://127.0.0.1:8081/hub/api" + path, body.encode() or None, method=method,
    headers={{"Authorization": "token " + token, "Content-Type": "application/json"}})
try:
    print(urllib.request.urlopen(request, timeout=20, context=context).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask_inside(hub_host: Any, method: str, path: str, token: str, body: str = "") -> int:
    return int(hub_host.check_output("python3 -c %s %s %s %s %s", ASK, method, path, token, body))


@pytest.mark.attack(
    "the hub's process: files, sudo, accounts, devices",
    outcome="No root, no sudo, no capability; all but its own state is read-only or hidden.",
)
def test_the_hubs_user_can_reach_only_its_own_state(hub_host: Any) -> None:
    for path in (
        "/etc/jupyterhub/secrets/hub.env",
        "/etc/jupyterhub/secrets/proxy_auth_token",
        "/home/alice/.bashrc",
    ):
        assert hub_host.run(f"runuser -u jupyterhub -- cat {path}").rc != 0, path
    for path in (
        "/etc/jupyterhub/menu.json",
        "/etc/jupyterhub/broker.json",
        "/etc/jupyterhub/session.sh",
        "/etc/jupyterhub/jupyterhub_config.py",
        "/opt/jupyterhub/current/sge_broker.py",
        "/opt/jupyterhub/current/env/bin/python",
    ):
        assert hub_host.run(f"runuser -u jupyterhub -- test -w {path}").rc != 0, path
    assert hub_host.run("runuser -u jupyterhub -- sudo -n true").rc != 0
    owned = hub_host.check_output(
        "find /etc /opt /usr /run /srv -xdev"
        " ! -name jupyterhub-broker.sock ! -name jupyterhub-broker-ready.sock"
        " \\( -user jupyterhub -o -group jupyterhub -perm -020 \\)"
    )
    assert owned == ""


@pytest.mark.attack(
    "a link to one of root's files, in place of a key that the deployment hands to the proxy",
    outcome="The deployment reads it as the hub, so it fails; the proxy keeps its key.",
)
def test_root_reads_no_file_for_the_hub(hub_host: Any, proxy_host: Any) -> None:
    key = "/var/lib/jupyterhub/internal-ssl/proxy-api/proxy-api.key"
    handed = "cat /etc/jupyterhub-proxy/internal-tls/api.key"
    before = proxy_host.check_output(handed)
    assert "PRIVATE KEY" in before
    hub_host.check_output(f"mv {key} {key}.aside")
    try:
        hub_host.check_output(
            f"runuser -u jupyterhub -- ln -s /etc/jupyterhub/secrets/proxy_auth_token {key}"
        )
        run = playbook("site.yml", "--limit", "proxy,localhost")
        assert run.returncode != 0
        assert "Read the certificates of configurable-http-proxy on the hub's host" in run.stdout
        assert proxy_host.check_output(handed) == before
    finally:
        hub_host.check_output(f"mv {key}.aside {key}")


@pytest.mark.attack(
    "a link to one of root's files, in place of a certificate that the hub writes when it starts",
    outcome="A deployment tests the configuration as the hub and with other certificates: the file"
    " is unchanged.",
)
def test_root_writes_no_file_for_the_hub(hub_host: Any) -> None:
    bundle, precious = "/var/lib/jupyterhub/internal-ssl/hub-ca_trust.crt", "/root/precious"
    hub_host.check_output(f"echo precious > {precious} && mv {bundle} {bundle}.aside")
    try:
        hub_host.check_output(f"runuser -u jupyterhub -- ln -s {precious} {bundle}")
        # The playbook tests the configuration with JupyterHub. JupyterHub handles the certificates,
        # and the link among them, before it finds this error. So the playbook fails before it
        # restarts the hub.
        wrong = "c.JupyterHub.load_roles.append({'name': 'x'})"
        run = playbook("site.yml", "--limit", "hub,localhost", jupyterhub_extra_config=wrong)
        assert run.returncode != 0
        assert "Invalid role name" in output(run)
        assert hub_host.check_output(f"cat {precious}") == "precious"
    finally:
        hub_host.check_output(f"mv {bundle}.aside {bundle} && rm {precious}")


@pytest.mark.attack(
    "a person in another person's session or on the administrators' pages", outcome="403 or 404."
)
def test_people_can_reach_only_their_own_sessions(login: LogIn) -> None:
    bob = login("bob")
    for method, path, body in (
        ("GET", "/users", None),
        ("GET", "/users/alice", None),
        ("POST", "/users/alice/server", {}),
        ("DELETE", "/users/alice/server", None),
        ("POST", "/users/alice/tokens", {}),
        ("POST", "/users", {"usernames": ["mallory"]}),
        ("PATCH", "/users/bob", {"admin": True}),
        ("PATCH", "/users/bob", {"name": "alice"}),
        ("PUT", "/groups/x", {}),
    ):
        answer = bob.rest(method, path, body)
        assert answer.status_code in (403, 404, 405), (method, path, answer.status_code)
    assert bob.get("/hub/admin").status_code == 403
    assert bob.get("/hub/spawn/alice").status_code in (403, 404)


@pytest.mark.attack(
    "an administrator in other people's sessions",
    outcome="Can see and stop them, not use, start or impersonate them (jupyterhub_admin_access).",
)
def test_administrators_can_only_see_and_stop_sessions(login: LogIn, hub_host: Any) -> None:
    login("alice")
    admin = login("admin")
    assert admin.get("/hub/admin").status_code == 200
    assert admin.rest("GET", "/users").status_code == 200
    for method, path, body in (
        ("POST", "/users/alice/tokens", {}),
        ("POST", "/users/alice/server", {}),
        ("POST", "/users", {"usernames": ["mallory"]}),
        ("PATCH", "/users/admin", {"admin": True}),
        ("DELETE", "/users/alice", None),
    ):
        assert admin.rest(method, path, body).status_code in (403, 404), (method, path)
    # Inside the cluster, such requests do not pass through nginx, so the hub must refuse them
    # itself.
    made = admin.rest("POST", "/users/admin/tokens", {"expires_in": 300})
    token = made.json()["token"]
    for path in ("/shutdown", "/proxy"):
        assert ask_inside(hub_host, "POST", path, token, "{}") == 403, path
    assert ask_inside(hub_host, "GET", "/users", token) == 200


@pytest.mark.attack("sharing a session with another user", outcome="Off: 403.")
def test_sharing_is_off(login: LogIn, hub_host: Any) -> None:
    alice = login("alice")
    token = alice.rest("POST", "/users/alice/tokens", {"expires_in": 300}).json()["token"]
    body = json.dumps({"user": "bob"})
    assert ask_inside(hub_host, "POST", "/shares/alice/", token, body) in (403, 404)
    assert ask_inside(hub_host, "POST", "/share-codes/alice/", token, "{}") in (403, 404)


@pytest.mark.attack(
    "rights of an administrator who is not, or no longer, in the inventory",
    outcome="Removed when the hub starts; a deployment starts it.",
)
def test_only_the_inventory_makes_administrators(
    passwords: dict[str, str], base_url: str, hub_host: Any
) -> None:
    bob = HubClient(base_url, "bob")
    bob.log_in(passwords["bob"])
    grant = (
        "import sqlite3; d = sqlite3.connect('/var/lib/jupyterhub/jupyterhub.sqlite'); "
        "u, = d.execute('select id from users where name=\"bob\"').fetchone()\n"
        "for name in ('admin', 'administrators'):\n"
        "    r, = d.execute('select id from roles where name=?', (name,)).fetchone()\n"
        "    d.execute('insert into user_role_map (user_id, role_id, managed_by_auth)"
        " values (?, ?, 0)', (u, r))\n"
        "d.execute('update users set admin=1 where id=?', (u,)); d.commit()"
    )
    restart_hub(hub_host, f"python3 -c {shlex.quote(grant)}")
    wait_for("the pages are back", lambda: bob.get("/hub/home").status_code == 200)
    assert bob.get("/hub/admin").status_code == 403
    assert bob.rest("GET", "/users").status_code == 403
    admin = (
        "import sqlite3; print(*sqlite3.connect(%r).execute('select name from users where admin'))"
    )
    assert hub_host.check_output("python3 -c %s", admin % DATABASE) == ""


@pytest.mark.attack(
    "a session's token after its end", outcome="Invalid, also after a restart of the hub."
)
def test_a_sessions_token_ends_with_it(login: LogIn, hub_host: Any) -> None:
    alice = login("alice")
    token = start_with_secrets(alice)["environment"]["JUPYTERHUB_API_TOKEN"]
    assert ask_inside(hub_host, "GET", "/user", token) == 200
    # The session's token allows only what a session needs: to send reports and to log people in.
    assert ask_inside(hub_host, "POST", "/users/alice/tokens", token, "{}") in (403, 404)
    assert ask_inside(hub_host, "POST", "/users/alice/servers/x", token, "{}") in (403, 404)
    assert ask_inside(hub_host, "GET", "/users", token) == 403
    restart_hub(hub_host)
    wait_for("the session is known", lambda: alice.get("/hub/home").status_code == 200)
    alice.wait_until_ready()
    assert ask_inside(hub_host, "GET", "/user", token) == 200
    alice.stop()
    assert ask_inside(hub_host, "GET", "/user", token) == 403


@pytest.mark.attack(
    "a person who may no longer use the hub, with cookies and tokens that are still valid",
    outcome="Cannot start; logged out within 5 minutes, but not if the directory service fails. "
    "The session runs on.",
)
def test_people_who_lose_their_access_are_logged_out(login: LogIn, hub_host: Any) -> None:
    alice, bob = login("alice"), login("bob")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    made = alice.rest("POST", "/users/alice/tokens", {"expires_in": 300}).json()["token"]
    assert ask_inside(hub_host, "GET", "/user", made) == 200
    jobs = hub_host.check_output("qstat -u alice")
    assert jobs
    try:
        hub_host.check_output("gpasswd -d alice jupyter && gpasswd -d bob jupyter")
        refused = bob.choose(cores=1, memory=1, run_time=1)
        assert "may not have sessions here" in page_text(refused)
        # The hub checks the groups every 5 minutes, and also after a restart.
        restart_hub(hub_host)
        wait_for("the pages are back", lambda: alice.get("/hub/login").status_code == 200)
        # The session's server accepts its own cookie for up to 5 minutes more: ask without it.
        for cookie in [one for one in alice.http.cookies if one.path.startswith("/user/")]:
            alice.http.cookies.clear(cookie.domain, cookie.path, cookie.name)
        for path in ("/hub/home", "/hub/spawn", "/user/alice/lab"):
            assert urlsplit(alice.get(path).url).path == "/hub/login", path
        assert alice.rest("GET", "/users/alice").status_code == 403
        assert ask_inside(hub_host, "GET", "/user", made) == 403
        assert hub_host.check_output("qstat -u alice") == jobs
    finally:
        hub_host.check_output("gpasswd -a alice jupyter && gpasswd -a bob jupyter")
    # Once the people have access again, the same cookies are valid again.
    assert urlsplit(alice.get("/hub/home").url).path == "/hub/home"
    alice.open_lab()
    assert alice.run(alice.start_kernel(), "print(6 * 7)").strip() == "42"


@pytest.mark.attack(
    "cookies read in transit or sent from other sites", outcome="Secure, HttpOnly, SameSite."
)
def test_cookies_are_for_this_site_and_https(login: LogIn) -> None:
    cookies = list(login("alice").http.cookies)
    assert {cookie.name for cookie in cookies} >= {"_xsrf", "jupyterhub-hub-login"}
    for cookie in cookies:
        assert cookie.secure, cookie.name
        if cookie.name != "_xsrf":  # the pages' script must read this cookie
            assert cookie.has_nonstandard_attr("HttpOnly"), cookie.name
        if cookie.name == "jupyterhub-hub-login":  # this cookie is as good as the password
            assert cookie.get_nonstandard_attr("SameSite") == "Lax"


HOSTILE = [
    "x\n[I 2026-01-01 00:00:00 GridHub] FORGED",
    "\x1b[2Jx",
    "<script>alert(1)</script>",
    "$(touch /tmp/pwned)`id`;id|id",
    "-u root",
    "a" * 50_000,
    "\u202eevil\u2028FORGED",
]


@pytest.mark.attack(
    "line breaks, control characters, HTML, shell and long texts in names, forms and REST",
    outcome="Refused with a message; no forged line in a log, no tag in a page, no job.",
)
@pytest.mark.usefixtures("nothing_starts")
def test_hostile_texts_do_no_harm(
    login: LogIn, hub_host: Any, proxy_host: Any, base_url: str
) -> None:
    since = hub_host.check_output("date +%s")
    alice = login("alice")
    pages = []
    for word in HOSTILE:
        stranger = HubClient(base_url, word)
        pages.append(stranger.log_in("wrong"))
        pages.append(alice.choose(cores=word, memory=word, run_time=word))
        pages.append(alice.choose(**{word[:200]: 1}))
        pages.append(alice.rest("POST", "/users/alice/server", {"cores": word, word: word}))
        quoted = quote(word[:2000], safe="")
        pages.append(alice.rest("POST", f"/users/alice/servers/{quoted}", {}))
        pages.append(alice.get(f"/hub/spawn/alice/{quoted}"))
        pages.append(alice.get(f"/hub/forecast?cores={quoted}&{quoted}=1"))
        pages.append(alice.get(f"/hub/{quoted}"))
    for page in pages:
        assert page.status_code < 500 or page.status_code == 503, (page.url, page.text[:300])
        if "html" in page.headers["Content-Type"]:
            assert "<script>alert" not in page.text
    journal = hub_host.check_output(f"journalctl --quiet -o json --since @{since}")
    for line in journal.splitlines():
        message = json.loads(line).get("MESSAGE") or ""
        assert isinstance(message, str), "journald shows control characters as bytes"
        assert not message.lstrip().startswith(("[I 2026-01-01", "FORGED")), message
        assert len(message) < 20_000
    access = proxy_host.check_output("tail -n 2000 /var/log/nginx/access.log")
    assert all(line.isprintable() for line in access.split("\n"))
    assert hub_host.run("ls /tmp/pwned").rc != 0
