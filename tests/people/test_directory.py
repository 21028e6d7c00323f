"""Accounts from a real directory service (slapd, with nslcd): its names, and its failures."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from cluster import BASE_URL, PREFIX, host
from hub_client import HubClient, page_text, wait_for
from newcomer import ALLOWED

NAME, PASSWORD, UID = "leda", "swan-and-egg", 55_501

PACKAGES = "slapd libnss-ldapd libpam-ldapd nslcd"

SERVER = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "dc=example,dc=org"
directory /srv/directory/db
access to * by * read
"""

DATA = f"""
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: uid={NAME},dc=example,dc=org
objectClass: account
objectClass: posixAccount
objectClass: shadowAccount
uid: {NAME}
cn: Leda
uidNumber: {UID}
gidNumber: {UID}
homeDirectory: /home/{NAME}
loginShell: /bin/bash
userPassword: {PASSWORD}

dn: cn=Domain Users,dc=example,dc=org
objectClass: posixGroup
cn: Domain Users
gidNumber: {UID}
"""

CLIENT = """
uid nslcd
gid nslcd
uri ldap://127.0.0.1:3890/
base dc=example,dc=org
ignorecase yes
bind_timelimit 2
timelimit 2
reconnect_sleeptime 1
reconnect_retrytime 2
"""

SET_UP = f"""
set -e
cp -a /etc/nsswitch.conf /root/before-directory
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {PACKAGES}
systemctl disable --now slapd
mkdir -p /srv/directory/db
cd /srv/directory
cat >slapd.conf <<'END'{SERVER}END
cat >data.ldif <<'END'{DATA}END
cat >/etc/nslcd.conf <<'END'{CLIENT}END
slapadd -f slapd.conf -l data.ldif
sed -i -E 's/^(passwd|group|shadow):.*/\\1: files ldap/' /etc/nsswitch.conf
sed -i -E 's/^{ALLOWED}:.*[^:]$/&,{NAME}/' /etc/group
install -d -o {UID} -g {UID} -m 700 /home/{NAME}
"""

START = """
systemctl is-active -q directory || systemd-run -q --unit=directory \
  slapd -d 0 -f /srv/directory/slapd.conf -h ldap://127.0.0.1:3890
systemctl restart nslcd
"""

REMOVE = f"""
systemctl stop directory nslcd
cp -a /root/before-directory /etc/nsswitch.conf
DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq {PACKAGES}
DEBIAN_FRONTEND=noninteractive apt-get autoremove -y -qq --purge
rm -rf /root/before-directory /srv/directory /home/{NAME}
sed -i 's/,{NAME}$//' /etc/group
"""


def run(lines: str) -> None:
    """Run shell lines as root on the hub's host."""
    found = subprocess.run(
        ["podman", "exec", "--interactive", f"{PREFIX}-hub", "bash", "-s"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """A directory service on the hub's host, and its accounts."""
    try:
        run(SET_UP)
        yield
    finally:
        run(REMOVE)


@pytest.fixture
def directory(installed: None) -> Iterator[None]:
    """A directory service that answers, also again after the test."""
    run(START)
    wait_for("the directory answers", lambda: host("hub").run(f"id {NAME}").rc == 0)
    yield
    run(START)


def log_in(name: str, password: str = PASSWORD) -> tuple[int, str]:
    """Log in; return the status and the text of the page that follows."""
    browser = HubClient(BASE_URL, name)
    page = browser.log_in(password)
    return page.status_code, page_text(page)


#: What is done to the directory service. While it is down, its clients wait some seconds.
FAILURES = {
    "its server is down": "systemctl stop directory",
    "its server does not answer": "systemctl kill -s STOP directory",
    "its client is down": "systemctl stop nslcd",
}


@pytest.mark.usefixtures("directory")
def test_the_directorys_spelling_is_the_name_of_the_user() -> None:
    """LDAP ignores the case of names."""
    for name in (NAME, NAME.upper(), NAME.title()):
        browser = HubClient(BASE_URL, name)
        assert "My sessions" in page_text(browser.log_in(PASSWORD))
        assert browser.rest("GET", f"/users/{NAME}").json()["name"] == NAME
    assert log_in(NAME, "wrong")[0] == 403
    assert "Invalid username or password" in log_in("nobody-here")[1]


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("failure", FAILURES)
def test_people_read_that_the_directory_does_not_answer(failure: str) -> None:
    run(FAILURES[failure])
    try:
        status, page = log_in(NAME)
        assert status == 503
        assert "The hub cannot look up accounts at the moment" in page
        assert "Your password may be right" in page
    finally:
        run("systemctl kill -s CONT directory || true")


@pytest.mark.usefixtures("directory")
def test_a_directory_that_does_not_answer_stops_nobody_else(passwords: dict[str, str]) -> None:
    alice = HubClient(BASE_URL, "alice")
    alice.log_in(passwords["alice"])
    run("systemctl kill -s STOP directory")
    try:
        with ThreadPoolExecutor(4) as pool:
            logins = [pool.submit(log_in, NAME) for _ in range(4)]
            longest = 0.0
            while wait(logins, 0.5).not_done:
                began = time.monotonic()
                assert alice.get("/hub/home").status_code == 200
                longest = max(longest, time.monotonic() - began)
            assert {each.result()[0] for each in logins} == {503}
        assert longest < 3, longest
        assert log_in("alice", passwords["alice"])[0] == 200
    finally:
        run("systemctl kill -s CONT directory || true")


@pytest.mark.usefixtures("directory")
def test_a_restarted_hub_serves_pages_without_the_directory(passwords: dict[str, str]) -> None:
    log_in(NAME)  # the hub knows the user
    run("systemctl stop directory; systemctl restart jupyterhub")
    wait_for("the hub answers", lambda: HubClient(BASE_URL, "alice").get("/hub/login").ok)
    assert log_in("alice", passwords["alice"])[0] == 200
    assert log_in(NAME)[0] == 503


@pytest.fixture
def pam() -> Iterator[Callable[[str], None]]:
    """Let the hub's PAM service return a result, as a module for a directory service may."""
    run("cp -a /etc/pam.d/jupyterhub /root/before-pam")
    line = "auth required pam_debug.so auth="
    yield lambda result: run(f"echo '{line}{result}' >/etc/pam.d/jupyterhub")
    run("mv /root/before-pam /etc/pam.d/jupyterhub")


@pytest.mark.parametrize("result", ["authinfo_unavail", "system_err", "service_err", "abort"])
def test_pam_without_an_answer_is_no_wrong_password(
    pam: Callable[[str], None], passwords: dict[str, str], result: str
) -> None:
    pam(result)
    status, page = log_in("alice", passwords["alice"])
    assert (status, "Your password may be right" in page) == (503, True), page


@pytest.mark.parametrize("result", ["auth_err", "user_unknown", "maxtries"])
def test_a_refusal_by_pam_is_a_wrong_password(
    pam: Callable[[str], None], passwords: dict[str, str], result: str
) -> None:
    pam(result)
    status, page = log_in("alice", passwords["alice"])
    assert (status, "Invalid username or password" in page) == (403, True), page
