"""Secrets are replaced one at a time while a kernel computes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from canary_account import PROGRAM, run
from cluster import AS_HUB, host, read_passwords
from playbooks import output, playbook
from sessions import Person, Session

FOLDER = "/var/lib/jupyterhub/internal-ssl"
COOKIES = "/var/lib/jupyterhub/cookie_secret"
TOKEN = "/etc/jupyterhub/secrets/proxy_auth_token"  # a path
METRICS = "/etc/jupyterhub/secrets/metrics_token"  # a path

#: Reads the hub's metrics with the token in a file, and prints the status.
READ_METRICS = (
    AS_HUB
    + """
request = urllib.request.Request("https://hub:8081/hub/metrics")
request.add_header("Authorization", "token " + open(sys.argv[1]).read().strip())
try:
    print(urllib.request.urlopen(request, context=context).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
)


def digest(path: str, name: str = "hub") -> str:
    """Return a hash of a secret, so that no secret is in the tests' output."""
    return str(host(name).check_output(f"sha256sum < {path}"))


def rotate(what: str, *arguments: str) -> str:
    done = playbook("rotate_secrets.yml", *arguments, rotate=what)
    assert done.returncode == 0, output(done)
    return output(done)


@pytest.fixture
def bob() -> Iterator[Person]:
    person = Person("bob")
    person.stop()
    yield person
    person.stop()


def starts_and_computes(person: Person) -> None:
    """Start a session, run a cell, stop it."""
    session = Session(person).start()
    session.assert_alive()
    person.stop()


def test_an_unknown_secret_is_refused() -> None:
    for what in ("", "everything"):
        done = playbook("rotate_secrets.yml", rotate=what)
        assert done.returncode != 0 and "One is replaced at a time" in output(done), output(done)


@pytest.mark.parametrize(
    "what", ["cookie_secret", "proxy_token", "metrics_token", "certificates", "authorities"]
)
def test_check_mode_changes_nothing(what: str) -> None:
    certificates = [f"{FOLDER}/{name}/{name}.crt" for name in ("hub-ca", "hub-internal")]
    paths = (COOKIES, TOKEN, METRICS, *certificates)
    before = [digest(path) for path in paths]
    assert not re.search(r"changed=[1-9]", rotate(what, "--check", "--diff"))
    assert [digest(path) for path in paths] == before


def test_another_cookie_secret_ends_logins_on_the_hub_but_no_session(
    computing: Session, bob: Person
) -> None:
    before = digest(COOKIES)
    rotate("cookie_secret")
    assert digest(COOKIES) != before
    assert run(f"stat -c '%U %a' {COOKIES}") == "jupyterhub 600"
    # The session that is open stays open; on the hub's pages, the person logs in again.
    assert computing.look()[0] == computing.value
    for person in (bob, computing.person):
        assert "/hub/login" in person.get("/hub/home").url
        assert person.log_in(read_passwords()[person.name]).ok
    computing.assert_alive()
    starts_and_computes(bob)


def test_another_token_for_hub_and_proxy(computing: Session, bob: Person) -> None:
    before = digest(TOKEN)
    rotate("proxy_token")
    assert digest(TOKEN) != before
    computing.assert_alive()
    starts_and_computes(bob)


def test_another_token_for_the_metrics(computing: Session) -> None:
    def status(path: str) -> str:
        return str(host("hub").check_output("python3 -c %s %s", READ_METRICS, path)).strip()

    old = f"{METRICS}.old"
    run(f"cp -p {METRICS} {old}")
    try:
        assert status(METRICS) == "200"
        rotate("metrics_token")
        assert digest(METRICS) != digest(old)
        assert (
            run(f"stat -c '%U %a' {METRICS} /etc/jupyterhub/secrets/metrics.env").split("\n")
            == ["root 600"] * 2
        )
        assert (status(METRICS), status(old)) == ("200", "403")
    finally:
        run(f"rm {old}")
    computing.assert_alive()


def test_other_certificates_of_hub_and_proxy(computing: Session, bob: Person) -> None:
    names = ("hub-internal", "proxy-api", "proxy-client")
    paths = [f"{FOLDER}/{name}/{name}.key" for name in names]
    before = [digest(path) for path in paths]
    authority = digest(f"{FOLDER}/hub-ca/hub-ca.crt")
    rotate("certificates")
    assert all(old != digest(path) for old, path in zip(before, paths, strict=True))
    assert digest(f"{FOLDER}/hub-ca/hub-ca.crt") == authority
    computing.assert_alive()
    starts_and_computes(bob)


def test_other_authorities_while_sessions_run(computing: Session, bob: Person) -> None:
    names = ("hub-ca", "proxy-api-ca", "proxy-client-ca", "notebooks-ca")
    before = [digest(f"{FOLDER}/{name}/{name}.key") for name in names]
    rotate("authorities")
    after = [digest(f"{FOLDER}/{name}/{name}.key") for name in names]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert run(f"find {FOLDER} -name '*.key' | grep -c retired || true") == "0"
    computing.assert_alive()
    new = Session(bob).start()
    # A restart of the hub and a deployment change nothing.
    run("systemctl restart jupyterhub")
    for session in (computing, new):
        session.assert_alive()
    for each in (computing, new):
        assert each.person.get(f"{each.person.prefix}/api/status").ok

    shown = output(playbook("status.yml"))
    assert "the old ones are still trusted (rotate_secrets.yml -e rotate=finish)" in shown, shown
    refused = playbook("rotate_secrets.yml", rotate="authorities")
    assert refused.returncode != 0 and "Finish that first" in output(refused)
    refused = playbook("rotate_secrets.yml", rotate="finish")
    assert refused.returncode != 0 and "would be lost: alice" in output(refused), output(refused)
    for session in (computing, new):
        session.assert_alive()
    # A deployment meanwhile keeps the trust in both.
    deployed = playbook("site.yml", "--tags", "proxy,jupyterhub")
    assert deployed.returncode == 0, output(deployed)
    assert not re.search(r"changed=[1-9]", output(deployed)), output(deployed)
    computing.assert_alive()

    for session in (computing, new):
        session.person.stop()
    rotate("finish")
    assert run(f"ls {FOLDER}/retired 2>/dev/null | wc -l") == "0"
    assert (
        host("proxy").check_output(
            "grep -c BEGIN /etc/jupyterhub-proxy/internal-tls/client-trusts.crt"
        )
        == "2"
    )
    computing.start()
    starts_and_computes(bob)


def test_the_maintenance_reaches_sessions_of_both_authorities(computing: Session) -> None:
    rotate("authorities")
    code = (
        "import sys; sys.path.insert(0, '/usr/local/lib/gridhub');"
        "from gridhub.maintenance import probes, settings;"
        "s = settings.read_settings();"
        "print([probes.session_problem(s, each) for each in probes.running_sessions(s.sessions)])"
    )
    assert run(f'/usr/bin/python3 -sE -c "{code}"') == "['']"
    assert run(f"{PROGRAM} sessions | grep -c running") == "1"
    computing.assert_alive()
    computing.person.stop()
    rotate("finish")
    computing.start()
