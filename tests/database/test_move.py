"""Moving the hub to SQLite and back, with a session that computes, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgresql
import pytest
from postgresql import POSTGRESQL, SQLITE, TOOL, hub_database, main_process, query

import faults
from faults import run
from playbooks import output, playbook
from sessions import Person, Session

MOVED = "/var/lib/jupyterhub/jupyterhub.sqlite.moved_*"


def hub_sqlite(statement: str, path: str = "/var/lib/jupyterhub/jupyterhub.sqlite") -> str:
    """Run a statement in a file of SQLite on the hub's host, as the hub."""
    program = (
        "import sqlite3, sys; link = sqlite3.connect(sys.argv[1]); "
        "print(*link.execute(sys.argv[2]).fetchall()); link.commit()"
    )
    return str(
        faults.host("hub").check_output(
            "runuser -u jupyterhub -- python3 -c %s %s %s", program, path, statement
        )
    )


def move(url: str, *arguments: str, **variables: object) -> Any:
    return playbook("move_database.yml", *arguments, jupyterhub_database_url=url, **variables)


@pytest.fixture
def token(running: Session) -> Iterator[str]:
    """Make an API token of alice before a move."""
    answer = running.person.rest("POST", "/users/alice/tokens", {"note": "before the move"})
    assert answer.status_code == 201, answer.text
    yield str(answer.json()["token"])
    running.person.rest("DELETE", f"/users/alice/tokens/{answer.json()['id']}")


def works(token: str, person: Person) -> bool:
    # nginx lets only the hub's own pages use its API, so ask from the hub's host.
    script = """
import json, ssl, sys, urllib.request
folder = "/var/lib/jupyterhub/internal-ssl"
context = ssl.create_default_context(cafile=folder + "/hub-ca_trust.crt")
pair = folder + "/hub-internal/hub-internal"
context.load_cert_chain(pair + ".crt", pair + ".key")
request = urllib.request.Request("https://hub:8081/hub/api/user")
request.add_header("Authorization", "token " + sys.argv[1])
print(json.load(urllib.request.urlopen(request, context=context))["name"])
"""
    done = faults.host("hub").run("python3 -c %s %s", script, token)
    return bool(done.stdout.strip() == person.name)


def state(session: Session) -> tuple[str, int]:
    """Return what must be the same before and after a move."""
    return session.value, session.job


def test_a_session_computes_through_a_move_to_sqlite_and_back(
    running: Session, bob: Person, token: str
) -> None:
    old = hub_database()
    before = state(running)
    assert works(token, running.person)

    done = move(SQLITE)
    assert done.returncode == 0, output(done)
    assert "copied" in output(done) and "is now the schema moved_" in output(done)
    assert hub_database() == SQLITE
    running.assert_alive()
    assert state(running) == before and works(token, running.person)
    # The tables are in another schema, complete.
    schema = query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'moved_%'").split()[-1]
    assert query(f"SELECT count(*) FROM {schema}.users WHERE name = 'alice'") == "1"
    assert query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    # The next session gets the next number, not one that is taken.
    Session(bob).start().assert_alive()
    bob.stop()

    done = move(POSTGRESQL)
    assert done.returncode == 0, output(done)
    assert hub_database() == old
    running.assert_alive()
    assert state(running) == before and works(token, running.person)
    assert run("hub", f"ls {MOVED}").strip()
    Session(bob).start().assert_alive()
    bob.stop()
    assert query("SELECT count(*) FROM users WHERE name = 'bob'") == "1"

    # Everything is as site.yml would write it.
    done = playbook("site.yml", "--check", "--tags", "configure", "--limit", "hub")
    assert done.returncode == 0 and "changed=0" in output(done), output(done)
    # Moving to where the hub already is does nothing.
    process = main_process()
    done = move(POSTGRESQL)
    assert done.returncode == 0 and "copied" not in output(done), output(done)
    assert main_process() == process


def test_a_move_that_fails_leaves_the_old_database_in_use(running: Session, bob: Person) -> None:
    # SQLite has no limit for the length of a text, PostgreSQL has.
    assert move(SQLITE).returncode == 0
    try:
        hub_sqlite(
            "INSERT INTO users (name, admin, cookie_id) "
            "VALUES (hex(zeroblob(200)), 0, hex(randomblob(8)))"
        )
        done = move(POSTGRESQL)
        assert done.returncode != 0
        assert "The database was not moved, and the hub goes on with the old one" in output(done)
        assert "value too long" in output(done)
        assert hub_database() == SQLITE
        running.assert_alive()
        # Nothing is left in the new one.
        assert query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    finally:
        hub_sqlite("DELETE FROM users WHERE length(name) > 255")
        done = move(POSTGRESQL)
    assert done.returncode == 0, output(done)
    running.assert_alive()


def test_a_database_that_is_not_empty_is_refused_before_the_hub_is_stopped(
    running: Session,
) -> None:
    process = main_process()
    other = "/var/lib/jupyterhub/other.sqlite"
    config = faults.HUB_CONFIG
    run("hub", f"cd /; {TOOL} copy {config} sqlite:///{other}")
    try:
        done = move(f"sqlite:///{other}")
        assert done.returncode != 0
        assert "it is not empty: it is the database of a hub with" in output(done)
        assert main_process() == process
    finally:
        run("hub", f"rm {other}")


def test_another_database_in_the_inventory_is_refused_until_it_was_moved(
    running: Session,
) -> None:
    process, old = main_process(), hub_database()
    done = playbook("site.yml", "--tags", "configure", jupyterhub_database_url=SQLITE)
    assert done.returncode != 0
    assert "playbooks/move_database.yml" in output(done), output(done)
    assert (main_process(), hub_database()) == (process, old)


def test_check_shows_a_move_and_does_nothing(running: Session) -> None:
    process, old = main_process(), hub_database()
    done = move(SQLITE, "--check", "--diff")
    assert done.returncode == 0, output(done)
    assert f'+c.JupyterHub.db_url = "{SQLITE}"' in output(done)
    assert (main_process(), hub_database()) == (process, old)


def test_a_backup_can_be_restored(running: Session, bob: Person, token: str) -> None:
    done = playbook("backup.yml", "--limit", "hub")
    assert done.returncode == 0, output(done)
    backup = run("hub", "ls /var/backups/gridhub").split()[-1]
    newer = Session(bob).start()
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'replaced_%'"
    before = int(query(schemas))
    done = playbook("restore.yml", restore_from=backup)
    assert done.returncode == 0, output(done)
    faults.wait_for_the_hub()
    postgresql.wait_for_the_database(bob)
    running.assert_alive()
    newer.assert_alive()
    assert works(token, running.person)
    assert int(query(schemas)) == before + 1
    # The next rows get numbers that are not taken.
    bob.stop()
    Session(bob).start().assert_alive()


class TestOwnServer:
    """The same server, as if it were the site's own: the group ``database`` is empty."""

    @pytest.fixture
    def site(self, tmp_path: Path) -> Any:
        inventory = postgresql.site_inventory(tmp_path)
        password = run("database", f"cat {postgresql.PASSWORD_FILE}").strip()

        def validate(**variables: object) -> Any:
            given = {
                "jupyterhub_database_password": password,
                "jupyterhub_database_ca": "/etc/jupyterhub/database/database.crt",
            }
            done = playbook("validate.yml", inventory=str(inventory), **(given | variables))
            assert password not in output(done)
            return done

        return validate

    def test_a_server_that_can_be_used_is_accepted(self, site: Any) -> None:
        done = site()
        assert done.returncode == 0, output(done)

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"jupyterhub_database_password": "wrong"}, "set jupyterhub_database_password to"),
            ({"jupyterhub_database_password": ""}, "set jupyterhub_database_password, encrypted"),
            (
                {"jupyterhub_database_ca": "/etc/ssl/certs/ca-certificates.crt"},
                "must be the authority that has signed it",
            ),
            (
                {"jupyterhub_database_url": "postgresql://jupyterhub@exec1/jupyterhub"},
                "exec1:5432 cannot be reached",
            ),
        ],
        ids=["wrong password", "no password", "wrong authority", "no server"],
    )
    def test_each_problem_is_reported_before_anything_is_changed(
        self, variables: dict[str, object], words: str, site: Any
    ) -> None:
        done = site(**variables)
        assert done.returncode != 0 and words in output(done), output(done)
        assert "Nothing was changed" in output(done)
