# SPDX-License-Identifier: BSD-3-Clause
"""Which sessions an older database takes over, keeps or leaves, and the rows that are copied."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from jupyterhub import orm, roles

from gridhub.broker.protocol import job_name
from gridhub.grid.jobs import Job
from gridhub.hub.database_sessions import Stored, plan, reconcile
from gridhub.hub.database_upgrade import migrate, open_database, revision

MARK = "0123abcd"


def name_of(number: int) -> str:
    return f"{MARK}{number:024x}"


def stored(number: int, user: str = "alice", server: str = "") -> Stored:
    return Stored(user, server, name_of(number), stopping=False, has_address=True)


def job(number: int, letters: str = "r", owner: str = "alice", name: str = "") -> Job:
    return Job(number, name or job_name(name_of(number)), owner, letters, "exec1", 1)


def named(*sessions: Stored) -> dict[str, Stored]:
    return {each.session: each for each in sessions}


def test_a_session_that_only_the_present_database_knows_is_taken_or_left() -> None:
    one = stored(1)
    taken = plan([job(1)], named(one), {}, MARK, adopt=True)
    assert (taken.adopted, taken.left) == ([one], [])
    left = plan([job(1)], named(one), {}, MARK, adopt=False)
    assert (left.adopted, left.left) == ([], [job_name(name_of(1))])


def test_a_job_on_its_way_to_grid_engine_is_left() -> None:
    assert plan([], named(stored(1)), {}, MARK, adopt=True).left == [job_name(name_of(1))]


def test_a_session_of_both_databases_gets_its_newer_address_in_any_case() -> None:
    new = stored(1)
    old = replace(new, has_address=False)
    found = plan([job(1)], named(new), named(old), MARK, adopt=False)
    assert (found.adopted, found.detached, found.left) == ([new], [], [])


def test_an_older_session_that_lives_is_resumed_and_one_that_ended_is_closed() -> None:
    one, two = stored(1), stored(2, "bob")
    found = plan([job(1)], {}, named(one, two), MARK, adopt=True)
    assert (found.resumed, found.ended, found.left) == ([one], [two], [])


@pytest.mark.parametrize(("letters", "is_resumed"), [("qw", True), ("r", False), ("dr", False)])
def test_a_session_without_an_address_is_resumed_only_while_it_waits(
    letters: str, is_resumed: bool
) -> None:
    one = replace(stored(1), has_address=False)
    found = plan([job(1, letters)], {}, named(one), MARK, adopt=True)
    assert (found.resumed == [one]) is is_resumed
    assert (found.detached == [one]) is not is_resumed
    assert found.left == ([] if is_resumed else [job_name(name_of(1))])


def test_a_person_has_one_session_of_a_name_and_the_older_job_is_left() -> None:
    old, new = stored(1), stored(2)
    found = plan([job(1), job(2)], named(new), named(old), MARK, adopt=True)
    assert (found.adopted, found.left) == ([new], [job_name(name_of(1))])


def test_a_session_that_its_person_has_stopped_is_neither_taken_nor_left() -> None:
    found = plan([job(1)], named(replace(stored(1), stopping=True)), {}, MARK, adopt=True)
    assert (found.adopted, found.left) == ([], [])


def test_only_this_hubs_unknown_jobs_are_left() -> None:
    others = job(3, name=job_name("ffffffff" + "0" * 24))
    found = plan([job(1), others, job(4, name="other")], {}, {}, MARK, adopt=True)
    assert found.left == [job_name(name_of(1))]


# -- rows -----------------------------------------------------------------------------------------


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def add_session(path: Path, user: str, number: int, port: int = 28000, server: str = "") -> str:
    """Add a running session as the hub stores it; return its token."""
    token = f"{number:032x}"
    factory = orm.new_session_factory(url(path))
    with factory() as database:
        person = orm.User.find(database, user) or orm.User(name=user)
        database.add(person)
        database.commit()
        roles.assign_default_roles(database, person)
        identifier = f"jupyterhub-user-{user}" + (f"-{server}" if server else "")
        client = database.query(orm.OAuthClient).filter_by(identifier=identifier).first()
        client = client or orm.OAuthClient(identifier=identifier)
        client.secret = f"hash of {token}"
        client.redirect_uri = ""
        base = database.query(orm.OAuthClient).filter_by(identifier="jupyterhub").first()
        database.add_all([client, base or orm.OAuthClient(identifier="jupyterhub")])
        database.commit()
        person.new_api_token(token, note="Server at /user/")
        row = person.orm_spawners.get(server) or orm.Spawner(user=person, name=server)
        database.add(row)
        row.server = orm.Server(proto="https", ip="exec1", port=port, base_url=f"/user/{user}/")
        row.oauth_client = client
        hashed = orm.APIToken.find(database, token).hashed
        row.state = {
            "session": name_of(number),
            "owner": user,
            "job_id": str(number),
            "host": "exec1",
            "port": port,
            "token_hash": hashed,
        }
        database.add(row)
        database.commit()
    factory.kw["bind"].dispose()
    return token


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as link:
        return link.execute(statement).fetchall()


def owner_of(path: Path, token: str) -> str:
    factory = orm.new_session_factory(url(path))
    try:
        with factory() as database:
            found = orm.APIToken.find(database, token)
            return str(found.user.name) if found and found.user else ""
    finally:
        factory.kw["bind"].dispose()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with alice's session 1; made once, because that takes seconds."""
    path = tmp_path_factory.mktemp("hub") / "hub.sqlite"
    factory = orm.new_session_factory(url(path))
    with factory() as database:
        for role in roles.get_default_roles():
            roles.create_role(database, role)
    factory.kw["bind"].dispose()
    add_session(path, "alice", 1)
    return path


@pytest.fixture
def older(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "older.sqlite"))


@pytest.fixture
def present(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "present.sqlite"))


def running(path: Path) -> list[tuple[object, ...]]:
    return query(
        path,
        "SELECT users.name, servers.port FROM spawners JOIN servers ON servers.id = server_id "
        "JOIN users ON users.id = user_id ORDER BY users.name",
    )


def test_a_new_persons_session_comes_with_person_role_address_token_and_client(
    older: Path, present: Path
) -> None:
    token = add_session(present, "bob", 2, 28002)
    found = reconcile(url(older), url(present), [job(1), job(2)], MARK, adopt=True, write=True)
    assert found["left"] == [] and found["unreadable"] == ""
    assert {each["user"] for each in found["adopted"]} == {"alice", "bob"}
    assert running(older) == [("alice", 28000), ("bob", 28002)]
    assert owner_of(older, token) == "bob"
    assert query(older, "SELECT secret FROM oauth_clients WHERE identifier='jupyterhub-user-bob'")
    assert query(
        older,
        "SELECT roles.name FROM user_role_map JOIN roles ON roles.id = role_id "
        "JOIN users ON users.id = user_id WHERE users.name = 'bob'",
    ) == [("user",)]
    assert query(older, "PRAGMA foreign_key_check") == []
    assert open_database(url(older))["sessions"] == 2


def test_a_newer_session_replaces_an_older_one_that_has_ended(older: Path, present: Path) -> None:
    token = add_session(present, "alice", 3, 28003)
    reconcile(url(older), url(present), [job(3)], MARK, adopt=True, write=True)
    assert running(older) == [("alice", 28003)]
    assert owner_of(older, token) == "alice"
    assert query(older, "SELECT count(*) FROM servers") == [(1,)]
    client = "SELECT secret FROM oauth_clients WHERE identifier = 'jupyterhub-user-alice'"
    assert query(older, client) == query(present, client)


def test_a_plan_changes_nothing(older: Path, present: Path) -> None:
    add_session(present, "bob", 2)
    before = older.read_bytes()
    found = reconcile(url(older), url(present), [job(2)], MARK, adopt=True, write=False)
    assert [each["user"] for each in found["adopted"]] == ["bob"]
    assert older.read_bytes() == before


def test_a_damaged_present_database_leaves_the_jobs_alone(older: Path, tmp_path: Path) -> None:
    (damaged := tmp_path / "damaged.sqlite").write_bytes(b"no database" * 1000)
    found = reconcile(url(older), url(damaged), [job(1), job(2)], MARK, adopt=True, write=True)
    assert found["unreadable"] and found["left"] == [job_name(name_of(2))]
    assert [each["user"] for each in found["resumed"]] == ["alice"]


def test_a_database_of_an_older_jupyterhub_is_migrated_and_a_newer_one_refused(older: Path) -> None:
    head = revision(url(older))
    assert migrate(url(older)) == (head, head)
    with closing(sqlite3.connect(older)) as link, link:
        # As JupyterHub 5.5 makes it.
        link.execute("ALTER TABLE oauth_codes DROP COLUMN code_challenge")
        link.execute("ALTER TABLE oauth_codes DROP COLUMN code_challenge_method")
        link.execute("ALTER TABLE users DROP COLUMN user_info")
        link.execute("ALTER TABLE spawners DROP COLUMN display_name")
        link.execute("UPDATE alembic_version SET version_num = 'be8ecf03ddac'")
    assert migrate(url(older)) == ("be8ecf03ddac", head)
    assert open_database(url(older))["users"] == 1
    with closing(sqlite3.connect(older)) as link, link:
        link.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(Exception, match="A newer JupyterHub has made it"):
        migrate(url(older))
