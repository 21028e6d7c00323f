# SPDX-License-Identifier: BSD-3-Clause
"""How the inventory is compared with what its hosts know about each other."""

from __future__ import annotations

from typing import Any

import pytest

from gridhub.site.hosts import (
    distribution_problems,
    firewall_problems,
    home_problems,
    host_problems,
    name_notes,
    name_problems,
    password_notes,
    sample_accounts,
    shared_notes,
    shared_problems,
    source_problems,
)

ALICE = {"name": "alice", "uid": 2000, "home": "/home/alice", "folder": {"inode": 7, "uid": 2000}}


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "resolve": {"w1": ["192.0.2.1"]},
        "connect": {"w1:40000": ""},
        "taken": [],
        "accounts": {},
        "groups": {},
        "members": {},
        "folders": {"/home": True},
        "clock": -1.0,
    } | changes


def problems(**changes: Any) -> list[str]:
    return [str(each) for each in host_problems({"hub": facts(), "w1": facts(**changes)})]


def test_hosts_that_fit_have_no_problem() -> None:
    assert problems() == []
    assert list(host_problems({})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolve": {"hub": []}}, "w1: the name hub has no address here"),
        ({"connect": {"hub:8081": "no answer"}}, "w1: hub:8081 cannot be reached (no answer)"),
        (
            {"taken": ["port 443 of :: is taken by apache2"]},
            "w1: port 443 of :: is taken by apache2",
        ),
        ({"folders": {"/users": False}}, "w1: the folder /users is missing"),
        ({"clock": 299.0}, "the clocks of w1 and hub differ by 300 s"),
        ({"certificate": {"missing": "/x.pem"}}, "w1: /x.pem is missing"),
        ({"certificate": {"error": "unable to load"}}, "cannot be read: unable to load"),
        (
            {"certificate": {"invalid": "certificate has expired", "end": "Nov 29 2026"}},
            "cannot be used now: certificate has expired (it ends Nov 29 2026)",
        ),
        ({"certificate": {"key": False}}, "is not the key of"),
        ({"certificate": {"names": {"a.org": True, "b.org": False}}}, "is not for the name b.org"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_named_with_its_host(changes: dict[str, Any], words: str) -> None:
    (found,) = problems(**changes)
    assert words in found


def test_without_openssl_nothing_is_said_of_a_certificate() -> None:
    assert problems(certificate={}) == []


def homes(hub: Any = ALICE, worker: Any = ALICE, paths: tuple[str, ...] = ("/home",)) -> list[str]:
    found = {"hub": facts(accounts={"alice": hub}), "w1": facts(accounts={"alice": worker})}
    found["proxy"] = facts()  # it is not asked about accounts
    return [str(each) for each in home_problems("hub", found, "alice", paths)]


def test_one_account_of_each_folder_with_homes_is_looked_at() -> None:
    def at(home: str) -> dict[str, str]:
        return {"home": home}

    found = {
        "accounts": {"alice": at("/users/physics/alice"), "gone": None},
        "members": {"ann": at("/users/physics/ann"), "bob": at("/users/chemistry/bob")},
    }
    assert sample_accounts(found, ["gone", "alice"]) == ["alice", "bob"]
    assert sample_accounts({"accounts": {}, "members": {}}, ["gone"]) == []


def test_a_home_that_is_the_same_everywhere_is_no_problem() -> None:
    assert homes() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"paths": ("/users", "/data")}, "jupyterhub_home_paths is /users, /data; add /home"),
        ({"hub": ALICE | {"folder": {}}}, "hub: /home/alice, the home of alice, is not there"),
        ({"worker": None}, "w1: there is no account alice, which hub has"),
        ({"worker": ALICE | {"uid": 3}}, "w1: the account alice has uid 3"),
        ({"worker": ALICE | {"home": "/users/alice"}}, "and home /users/alice; on hub it has 2000"),
        (
            {"worker": ALICE | {"folder": {"inode": 8, "uid": 2000}}},
            "is not the same folder as on hub",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_home_that_would_not_do_is_named(changes: dict[str, Any], words: str) -> None:
    found = homes(**changes)
    assert any(words in each for each in found), found


def test_an_account_that_the_hub_does_not_know_has_its_own_note() -> None:
    assert homes(hub=None) == []
    hub = facts(accounts={"nobody1": None, "alice": ALICE}, groups={"team": None})
    assert [note.split(" on ")[0] for note in name_notes(hub)] == [
        "There is no account nobody1",
        "There is no Unix group team",
    ]
    assert list(name_problems(hub, ["team"])) == []  # alice may log in


def test_nobody_could_log_in() -> None:
    hub = facts(groups={"team": None, "staff": None})
    assert list(name_problems(hub, ["team", "staff"])) == [
        "Nobody may log in: the hub's host knows no Unix group team or staff"
    ]


FOLDER = {"account": "sw", "folder": True, "untrusted": "", "writable": True, "python": ""}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"account": "root"}, "sge_common_session_owner is sw"),
        ({"folder": False}, "the folder /shared/jupyter is missing here; mount"),
        ({"untrusted": "every account may write to /shared"}, "every account may write to /shared"),
        ({"writable": False}, "sw cannot write to /shared/jupyter"),
        ({"python": "No such file or directory"}, "cannot be used (No such file or directory)"),
        ({"python": "older than 3.11"}, "it needs Python 3.11 or newer"),
    ],
    ids=str,
)
def test_a_host_that_cannot_build_the_shared_environment_is_named(
    changes: dict[str, Any], words: str
) -> None:
    arguments = "/shared/jupyter", "sw", "/usr/bin/python3.11"
    assert list(shared_problems("b", FOLDER, *arguments)) == []
    (found,) = shared_problems("b", FOLDER | changes, *arguments)
    assert found.hosts == ("b",)
    assert words in found.text


def test_what_cannot_be_known_of_shared_workers_is_a_note() -> None:
    assert list(shared_notes({"own_disk": False}, "/shared", 0)) == []
    (disk,) = shared_notes({"own_disk": True}, "/shared", 0)
    assert "all workers must mount it" in disk
    (workers,) = shared_notes({}, "/shared", 4)
    assert "The 4 hosts of sge_exec_unmanaged were not looked at" in workers


def answers(**source: str) -> dict[str, Any]:
    given = {"kind": "pip", "url": "https://pypi.example.org/simple/jupyterhub/", "reason": ""}
    return {"sources": [given | {"name": "jupyterhub_environment"} | source], "pythons": []}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("apt", "correct /etc/apt/sources.list and sources.list.d there, or apt's proxy"),
        ("pip", "set PIP_INDEX_URL or HTTPS_PROXY in jupyterhub_environment"),
        ("npm", "set NPM_CONFIG_REGISTRY or HTTPS_PROXY in jupyterhub_environment"),
    ],
)
def test_a_silent_package_source_is_named_with_its_reason_and_its_variable(
    kind: str, words: str
) -> None:
    assert list(source_problems("hub", answers(kind=kind))) == []
    (found,) = source_problems("hub", answers(kind=kind, reason="timed out"))
    assert str(found).startswith(f"hub: {kind}'s package source https://pypi.example.org/simple/")
    assert "does not answer (timed out)" in str(found) and words in str(found)


@pytest.mark.parametrize(
    ("path", "version", "words"),
    [
        ("python3", "3.11.2", ""),
        ("python3", "", ""),  # the deployment installs it
        ("/opt/python/bin/python3", "", "sge_exec_python: /opt/python/bin/python3 does not run"),
        ("python3", "3.9.18", "sge_exec_python: python3 is Python 3.9.18; 3.11 or newer is needed"),
    ],
)
def test_an_interpreter_that_is_missing_or_too_old_is_named(
    path: str, version: str, words: str
) -> None:
    python: dict[str, Any] = {"name": "sge_exec_environment", "path": path, "version": version}
    python["is_own"] = path == "python3"
    found = [str(each) for each in source_problems("w1", {"sources": [], "pythons": [python]})]
    assert len(found) == bool(words) and words in "".join(found)


def distribution(name: str, version: str, family: str) -> list[str]:
    facts = {"distribution": name, "distribution_version": version, "os_family": family}
    facts["distribution_major_version"] = version.partition(".")[0]
    supported = {"proxy": ["Debian"], "sge_exec": ["Debian", "Fedora", "Rocky-9", "RedHat-10"]}
    return [str(each) for each in distribution_problems("w1", facts, supported)]


def test_an_unsupported_distribution_is_named_with_the_roles_and_what_they_support() -> None:
    assert distribution("Ubuntu", "24.04", "Debian") == []
    assert distribution("AlmaLinux", "9.4", "RedHat") == [
        "w1: AlmaLinux 9.4 (family RedHat) is not supported by the roles proxy, sge_exec; they "
        'support Debian, Fedora, RedHat-10, Rocky-9 (docs/administrators/systems.md, "Systems")'
    ]
    for name, version in (("Rocky", "9.4"), ("Fedora", "44"), ("AlmaLinux", "10.0")):
        (found,) = distribution(name, version, "RedHat")
        assert "by the roles proxy; they support Debian (" in found
    assert list(distribution_problems("w1", {}, {"proxy": []})) == []  # not known


@pytest.mark.parametrize(
    ("ports", "reserved", "is_good"),
    [
        ([28000, 28999], "", True),
        ([61000, 61999], "", True),
        ([40000, 40999], "", False),
        ([32000, 32768], "", False),
        ([60999, 62000], "", False),
        ([30000, 62000], "", False),
        # Linux leaves these ports out.
        ([40000, 40999], "8080,40000-40999", True),
        ([40000, 40999], "40000-40500", False),
        ([40000, 40000], "40000", True),
    ],
)
def test_with_the_firewall_the_ports_of_sessions_are_none_that_linux_gives_to_others(
    ports: list[int], reserved: str, is_good: bool
) -> None:
    linux = {"range": [32768, 60999], "reserved": reserved}
    found = [str(each) for each in firewall_problems("w1", facts(ephemeral=linux), ports)]
    assert (found == []) is is_good
    for words in found:
        assert words.startswith(f"w1: jupyterhub_session_ports is {ports[0]}-{ports[1]}, and Linux")
        assert "32768-60999" in words
    assert list(firewall_problems("w1", facts(ephemeral={}), ports)) == []


@pytest.mark.parametrize(
    ("family", "is_local", "count"),
    [("RedHat", True, 1), ("RedHat", False, 0), ("Debian", True, 0), ("", True, 0)],
)
def test_accounts_whose_passwords_the_hub_cannot_check_are_named(
    family: str, is_local: bool, count: int
) -> None:
    facts = {"accounts": {"ann": {"local": is_local}, "bob": None}, "members": {}}
    found = list(password_notes(facts, family))
    assert len(found) == count
    assert all("passwords of ann:" in each for each in found)
