"""Who can log in to the database, and what protects the password."""

from __future__ import annotations

import os

import pytest
from postgresql import PASSWORD_FILE, check, hub_database, query

from cluster import host
from faults import run

ADDRESS = f"{os.environ.get('GRIDHUB_NETWORK', '10.213.1')}.50"

#: A client that is not the hub: the server's own host, over the network.
OTHER = (
    "cd /; PGPASSWORD=$(cat {password}) runuser -u postgres --whitelist-environment=PGPASSWORD -- "
    "psql -XAt 'host=database user=jupyterhub dbname=jupyterhub sslmode={mode}' -c 'SELECT 1'"
)


def test_the_hub_uses_tls_and_its_password_is_stored_for_scram() -> None:
    links = query(
        "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
        "WHERE usename = 'jupyterhub' AND application_name = 'jupyterhub'"
    ).splitlines()
    assert links and all(link.startswith("t|TLSv1.") for link in links)
    stored = query("SELECT rolpassword FROM pg_authid WHERE rolname = 'jupyterhub'")
    assert stored.startswith("SCRAM-SHA-256$")
    rights = query(
        "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'jupyterhub'"
    )
    assert rights == "f|f|f"


@pytest.mark.parametrize("mode", ["require", "disable"])
def test_from_another_host_nobody_can_log_in_not_even_with_the_password(mode: str) -> None:
    done = host("database").run(OTHER.format(password=PASSWORD_FILE, mode=mode))
    assert done.rc != 0 and "no pg_hba.conf entry for host" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"password": "wrong"}, "set jupyterhub_database_password"),
        ({"sslmode": "disable"}, "pg_hba.conf on the server needs a line for the hub's address"),
        ({"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}, "the authority that has signed"),
        ({"sslrootcert": "/no/such.crt"}, "jupyterhub_database_ca must name a file"),
        ({"require_auth": "md5"}, "the server must ask for the password with scram-sha-256"),
        ({"host": "exec1"}, "the server must run, listen on this address"),
        ({"host": "no-such-host"}, "correct the name in jupyterhub_database_url"),
        ({"host": ADDRESS}, "use the name in the server's certificate"),
        ({"name": "postgres"}, "pg_hba.conf on the server needs a line"),
    ],
    ids=str,
)
def test_each_reason_why_the_hub_cannot_log_in_has_words(
    changes: dict[str, str], words: str
) -> None:
    problems = check(**changes)
    assert bool(problems) is bool(words), problems
    assert words in " ".join(problems)


def test_rights_that_are_missing_are_named() -> None:
    try:
        query("ALTER TABLE users OWNER TO postgres")
        query("ALTER USER jupyterhub SET default_transaction_read_only = on")
        query("ALTER DATABASE jupyterhub OWNER TO postgres")
        assert "name the primary server in jupyterhub_database_url" in " ".join(check())
        query("ALTER USER jupyterhub RESET default_transaction_read_only")
        words = " ".join(check())
        assert "the user jupyterhub may not use the tables users" in words
        assert "GRANT CREATE ON SCHEMA public TO jupyterhub" in words
    finally:
        query("ALTER DATABASE jupyterhub OWNER TO jupyterhub")
        query("ALTER USER jupyterhub RESET default_transaction_read_only")
        query("ALTER TABLE users OWNER TO jupyterhub")
    assert check() == []


def test_the_password_is_in_two_files_only() -> None:
    password = run("database", f"cat {PASSWORD_FILE}")
    assert len(password) > 20
    assert password not in hub_database()
    for name, files in (
        ("hub", {"/etc/jupyterhub/database/database.pgpass": "jupyterhub 400"}),
        ("database", {PASSWORD_FILE: "root 600"}),
    ):
        # The password comes from a file, so that this search itself has none in its arguments.
        run(name, f"umask 077; cat >/root/pattern <<'END'\n{password}\nEND")
        folders = "/etc /opt /run /srv /tmp /usr/local /var"
        found = host(name).run(f"grep -rlsF -f /root/pattern {folders}").stdout.split()
        processes = (
            host(name)
            .run("grep -lsF -f /root/pattern /proc/[0-9]*/cmdline /proc/[0-9]*/environ")
            .stdout.split()
        )
        logged = host(name).run("journalctl --no-pager | grep -cF -f /root/pattern").stdout.strip()
        run(name, "rm /root/pattern")
        assert {path: run(name, f"stat -c '%U %a' {path}").strip() for path in found} == files
        assert (processes, logged) == ([], "0")
