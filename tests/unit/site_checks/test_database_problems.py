# SPDX-License-Identifier: BSD-3-Clause
"""The address of the hub's database, and mistakes in it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import make_url

from gridhub.site.database import (
    complete,
    database_notes,
    database_problems,
    files_of,
    login_problems,
    password_line,
    to_look_at,
)

URL = "postgresql://hub@db.example.org/jupyterhub"
GOOD = {
    "jupyterhub_database_url": URL,
    "jupyterhub_database_password": "5ec4e7",
    "jupyterhub_database_ca": "/etc/ssl/ca.crt",
}


def test_the_address_has_all_that_a_program_needs_but_the_password() -> None:
    found = make_url(complete(URL, "/etc/ssl/ca.crt"))
    assert (found.drivername, found.host, found.username) == (
        "postgresql+psycopg",
        "db.example.org",
        "hub",
    )
    assert found.query["sslmode"] == "verify-full"
    assert found.query["require_auth"] == "scram-sha-256"
    assert found.query["sslrootcert"] == "/etc/ssl/ca.crt"
    assert found.query["passfile"] == "/etc/jupyterhub/database/db.example.org.pgpass"
    assert found.password is None


def test_each_server_has_files_of_its_own() -> None:
    own = complete(URL)
    assert "sslrootcert=/etc/jupyterhub/database/db.example.org.crt" in own
    assert files_of(URL) != files_of(URL.replace("db.", "db2."))
    assert files_of("postgresql://a@[2001:db8::1]/b").endswith("/2001%3Adb8%3A%3A1")


def test_options_in_the_address_replace_ours() -> None:
    found = complete(f"{URL}?connect_timeout=10&target_session_attrs=read-write")
    assert found.count("connect_timeout") == 1
    assert dict(make_url(found).query)["connect_timeout"] == "10"
    assert "target_session_attrs=read-write" in found


@pytest.mark.parametrize("url", ["sqlite:////var/lib/hub.sqlite", "sqlite:///hub.sqlite"])
def test_the_address_of_a_file_stays_as_it_is(url: str) -> None:
    assert complete(url) == url
    assert list(database_problems({"jupyterhub_database_url": url})) == []
    assert to_look_at({"jupyterhub_database_url": url}) == {}


@pytest.mark.parametrize(
    ("password", "line"),
    [("simple", "*:*:*:*:simple\n"), ("a:b\\c", "*:*:*:*:a\\:b\\\\c\n")],
)
def test_a_password_is_written_as_libpq_reads_it(password: str, line: str) -> None:
    assert password_line(password) == line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"jupyterhub_database_url": "mysql://hub@db/hub"}, "begins with mysql:"),
        ({"jupyterhub_database_url": "postgres://hub@db/hub"}, "begins with postgres:"),
        ({"jupyterhub_database_url": "postgresql://hub:x@db/hub"}, "contains a password"),
        ({"jupyterhub_database_url": f"{URL}?password=x"}, "contains a password"),
        ({"jupyterhub_database_url": "postgresql://db/hub"}, "needs a user, a host and a data"),
        ({"jupyterhub_database_url": "postgresql://hub@db"}, "needs a user, a host and a data"),
        ({"jupyterhub_database_url": "postgresql:///hub"}, "needs a user, a host and a data"),
        ({"jupyterhub_database_url": "postgresql://hub@db:x/hub"}, "its port must be a number"),
        ({"jupyterhub_database_url": f"{URL}?sslmode=require"}, "has sslmode=require"),
        ({"jupyterhub_database_password": ""}, "set jupyterhub_database_password"),
        ({"jupyterhub_database_password": "a\nb"}, "has a line break"),
        ({"jupyterhub_database_ca": ""}, "set jupyterhub_database_ca"),
        (
            {
                "jupyterhub_database_url": f"{URL}?passfile=/x&sslrootcert=/y",
                "jupyterhub_database_password": "",
                "jupyterhub_database_ca": "",
            },
            "",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_named_with_what_would_be_right(changes: dict[str, Any], words: str) -> None:
    found = list(database_problems(GOOD | changes))
    assert len(found) == bool(words), found
    assert words in "".join(found)
    assert "5ec4e7" not in "".join(found) and ":x@" not in "".join(found)


@pytest.mark.parametrize(
    ("url", "server", "is_right"),
    [
        ("postgresql://jupyterhub@db1/jupyterhub", {}, True),
        ("postgresql://jupyterhub@db.example.org/jupyterhub", {}, False),
        (
            "postgresql://jupyterhub@db.example.org/jupyterhub",
            {"database_server_name": "db.example.org"},
            True,
        ),
        ("postgresql://other@db1/jupyterhub", {}, False),
        ("postgresql://other@db1/jupyterhub", {"database_user": "other"}, True),
        ("postgresql://jupyterhub@db1/other", {}, False),
        ("postgresql://jupyterhub@db1/other", {"database_name": "other"}, True),
    ],
)
def test_the_address_of_our_own_server_must_be_the_one_it_has(
    url: str, server: dict[str, str], is_right: bool
) -> None:
    found = list(database_problems({"jupyterhub_database_url": url}, "db1", server))
    assert found == [] if is_right else "the group database makes postgresql://" in found[0]


def test_the_hubs_host_looks_at_a_server_of_the_site() -> None:
    assert to_look_at(GOOD) == {
        "host": "db.example.org",
        "port": 5432,
        "authority": "/etc/ssl/ca.crt",
    }
    assert to_look_at(GOOD | {"jupyterhub_database_url": f"{URL}?host=a&host=b"}) == {}


def test_what_the_hubs_program_finds_is_reported_for_its_host() -> None:
    [problem] = login_problems("hub", URL, "", {"problems": ["no such user"]})
    assert str(problem).startswith(f"hub: the database {URL} cannot be used: no such user")
    # What is seen without a login comes first: the login fails for the same reason.
    [problem] = login_problems("hub", URL, "no answer", {"problems": ["no such user"]})
    assert "no answer" in problem.text
    assert list(login_problems("hub", URL, "", None)) == []
    assert list(login_problems("hub", URL, "", {"problems": []})) == []


def test_notes_name_what_was_not_tried_and_a_server_without_use() -> None:
    [note] = database_notes(GOOD, "", None)
    assert "was not tried" in note
    assert list(database_notes(GOOD, "", {"problems": []})) == []
    [note] = database_notes({}, "db1", None)
    assert "the hub keeps SQLite" in note
    assert list(database_notes({}, "", None)) == []
