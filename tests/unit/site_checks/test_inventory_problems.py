# SPDX-License-Identifier: BSD-3-Clause
"""The mistakes that ``playbooks/validate.yml`` finds in an inventory's variables."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from folders import ROOT
from gridhub.site import inventory
from gridhub.site.inventory import Problem, merge
from inventories import GROUPS, PLUGIN, problems, site


def test_a_good_inventory_has_no_problem() -> None:
    assert problems() == []


@pytest.mark.parametrize("folder", ["demo", "example", "example_rich"])
def test_the_inventories_of_the_repository_have_no_problem(folder: str) -> None:
    values: dict[str, Any] = {}
    for path in sorted((ROOT / "inventories" / folder / "group_vars/all").glob("*.yml")):
        values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    plain = {name: value for name, value in values.items() if "{{" not in str(value)}
    assert PLUGIN.inventory_problems(dict.fromkeys(GROUPS["all"], plain), GROUPS) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jupyterhub_port": "80x"}, "jupyterhub_port: "),
        ({"jupyterhub_session_ports": "40000-40999"}, "jupyterhub_session_ports"),
        ({"jupyterhub_session_ports": [41000, 40000]}, "the first port, 41000, is above the last"),
        ({"jupyterhub_allowed_groups": []}, "Nobody may log in"),
        ({"jupyterhub_allowed_groups": "jupyter"}, "is a text; write a list: [jupyter]"),
        ({"jupyterhub_resource_menu": []}, "There is nothing to ask for"),
        ({"jupyterhub_resource_menu": [{"name": "cores"}]}, "item 'cores', label: Field required"),
        ({"jupyterhub_idle_timout": 5}, "write jupyterhub_idle_timeout"),
        ({"jupyterhub_public_url": "http://x"}, "jupyterhub_public_url is 'http://x'"),
        ({"jupyterhub_words": {"no.such": "x"}}, "no.such"),
        ({"jupyterhub_extra_config": "c.Spawner.notebook_dir = '/x'"}, "notebook_dir"),
        ({"jupyterhub_qsub_arguments": ["-now", "y"]}, "a session cannot have -now y"),
        ({"jupyterhub_idle_timeout": 5}, "jupyterhub_idle_notice is 10 minutes"),
        ({"jupyterhub_shortcuts": [{"name": "S", "path": "/scratch"}]}, "cannot open /scratch"),
        ({"proxy_api_port": "x"}, "proxy_api_port"),
        ({"proxy_trusted_networks": ["lb"]}, "proxy_trusted_networks: 'lb' is neither an address"),
        ({"proxy_trusted_networks": "10.0.0.1"}, "is a text; write a list: [10.0.0.1]"),
        ({"proxy_hub_api_networks": ["10.0.0.1/8"]}, "'10.0.0.1/8' must be written as 10.0.0.0/8"),
        ({"proxy_protocol_port": 8444}, "proxy_trusted_networks is empty"),
        ({"jupyterhub_public_url": "https://a.org/hub/"}, "its folder /hub/ may"),
        ({"firewall_enabled": "perhaps"}, "firewall_enabled"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_named_with_its_variable(changes: dict[str, Any], words: str) -> None:
    found = problems(**changes)
    assert any(words in each for each in found), found
    # A mistake of all hosts is reported once, without their names.
    assert not any(each.startswith(("hub", "web", "w1")) for each in found)


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems(
        groups=GROUPS | {"sge_exec": [], "proxy": ["web", "w1"]},
        jupyterhub_port="x",
        jupyterhub_allowed_groups=[],
        jupyterhub_resource_menu=[],
    )
    assert len(found) == 5, found
    assert "group sge_exec has no hosts" in found[0] + found[1]
    assert "group proxy has 2 hosts; it needs 1" in found[0] + found[1]


SHARED = {
    "sge_common_session_path": "/shared/jupyter",
    "sge_exec_python": "/usr/bin/python3.11",
    "sge_exec_glibc": "2.28",
}


def shared_problems(groups: dict[str, list[str]] | None = None, **changes: Any) -> list[str]:
    """Return what is wrong with a site on which w1 builds the environment for all workers."""
    own = {"session_environment": ["w1"], "sge_exec": [], "sge_exec_unmanaged": ["n1"]}
    return problems(GROUPS | own | (groups or {}), **SHARED | changes)


def test_a_site_may_have_no_worker_that_it_manages() -> None:
    assert shared_problems() == []
    assert shared_problems({"sge_exec": ["w2"]}) == []
    assert shared_problems({"sge_exec_unmanaged": []}) == []


@pytest.mark.parametrize(
    ("groups", "changes", "words"),
    [
        ({}, {"sge_exec_python": "python3"}, "w1: sge_exec_python is python3."),
        ({}, {"sge_exec_python": "/usr/bin/python3"}, "a path with the version in it"),
        ({}, {"sge_exec_glibc": "2.3"}, "w1: sge_exec_glibc is 2.3; it must be the oldest"),
        ({}, {"sge_exec_glibc": 2.28}, 'in quotes, such as "2.28"'),
        ({}, {"sge_exec_glibc": "glibc 2.28"}, "w1: sge_exec_glibc is glibc 2.28"),
        ({}, {"sge_common_session_path": "/opt/jupyterhub-session"}, "such as /shared/jupyter"),
        ({}, {"sge_common_session_path": "jupyter"}, "sge_common_session_path is jupyter"),
        ({"session_environment": ["w1", "w2"]}, {}, "session_environment has 2 hosts"),
        ({"session_environment": []}, {}, "sge_exec_unmanaged need a notebook environment"),
        ({"sge_exec": ["n1"]}, {}, "n1: in sge_exec and in sge_exec_unmanaged; choose one"),
        ({"sge_exec_unmanaged": []}, {"firewall_enabled": True}, "would refuse all sessions"),
    ],
    ids=str,
)
def test_a_mistake_about_a_shared_environment_is_named(
    groups: dict[str, list[str]], changes: dict[str, Any], words: str
) -> None:
    (found,) = shared_problems(groups, **changes)
    assert words in found


def test_the_host_that_builds_must_have_the_hubs_folder() -> None:
    variables = site(**SHARED)
    variables["w1"] = variables["w1"] | {"sge_common_session_path": "/other"}
    groups = GROUPS | {"session_environment": ["w1"]}
    (found,) = PLUGIN.inventory_problems(variables, groups)
    assert "sge_common_session_path is /other" in found and "/shared/jupyter for the hub" in found


def test_a_mistake_of_some_hosts_names_them() -> None:
    variables = site()
    variables["w2"] = variables["w2"] | {"sge_exec_slots": "many"}
    (found,) = PLUGIN.inventory_problems(variables, GROUPS)
    assert found.startswith("w2: sge_exec_slots: ")


def test_a_variable_that_cannot_be_evaluated_is_named() -> None:
    class Broken(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "jupyterhub_help":
                raise ValueError("'nobody' is undefined")
            return super().__getitem__(name)

    values = Broken(site()["hub"], jupyterhub_help="{{ nobody }}")
    found = PLUGIN.inventory_problems(dict.fromkeys(GROUPS["all"], values), GROUPS)
    assert found == ["jupyterhub_help cannot be evaluated: 'nobody' is undefined"]


def test_values_that_may_be_secret_are_not_shown() -> None:
    found = problems(
        sge_exec_environment=["https://u:secret@x"], jupyterhub_extra_config=["secret"]
    )
    assert any("sge_exec_environment" in each for each in found)
    assert "secret" not in "".join(found)


@pytest.mark.parametrize("name", ["my_own", "proxy_env", "jupyterhub", "http_proxy"])
def test_a_sites_own_variables_are_left_alone(name: str) -> None:
    assert problems(**{name: "x"}) == []


def test_the_same_problem_of_several_hosts_is_one() -> None:
    assert merge([Problem(("a",), "x"), Problem(("b",), "x"), Problem((), "y")]) == [
        Problem(("a", "b"), "x"),
        Problem((), "y"),
    ]


def test_defaults_of_the_role_are_complete() -> None:
    """The broker's settings are checked with the defaults of the role."""
    assert list(inventory.broker_problems({}, PLUGIN._defaults("jupyterhub"))) == []


def test_the_folders_of_the_plugin_exist() -> None:
    assert Path(PLUGIN.ROOT) == ROOT


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("192.0.2.10", ""),
        ("192.0.2.0/24", ""),
        ("2001:db8::/64", ""),
        ("2001:DB8::1", ""),
        ("192.0.2.1/24", "must be written as 192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "must be written as 192.0.2.0/24"),
        ("192.0.2.0/33", "neither an address nor a network"),
        ("balancer.example.org", "neither an address nor a network"),
        ("", "neither an address nor a network"),
        (1234, "neither an address nor a network"),
        (None, "neither an address nor a network"),
        ("fe80::1%eth0", "zone"),
        ("0.0.0.0/0", "contains everybody"),
        ("::/0", "contains everybody"),
    ],
)
def test_only_networks_that_nginx_understands_are_trusted(network: Any, words: str) -> None:
    found = list(inventory.network_problems({"proxy_trusted_networks": [network]}))
    assert len(found) == bool(words)
    assert all(repr(network) in each and words in each for each in found)


def test_a_network_with_the_api_may_contain_everybody() -> None:
    assert list(inventory.network_problems({"proxy_hub_api_networks": ["0.0.0.0/0"]})) == []


@pytest.mark.parametrize("port", ["x", -1, 70_000, 80, 443, "443", 8001])
def test_a_port_that_cannot_be_used_is_named(port: Any) -> None:
    values = {"proxy_trusted_networks": ["192.0.2.1"], "proxy_protocol_port": port}
    (found,) = inventory.network_problems(values)
    assert f"proxy_protocol_port is {port}" in found.replace("'", "")
    assert list(inventory.network_problems(values | {"proxy_protocol_port": 8444})) == []


@pytest.mark.parametrize(
    ("path", "is_good"),
    [(path, True) for path in ("", "/", "/jupyter", "/jupyter/", "/a/b-c_d.e~1/", "/hubs/")]
    + [
        (path, False)
        for path in ("/hub/", "/x/user/", "/services", "//", "/x//", "/../x", "/x y/", "/%41/")
    ],
)
def test_a_folder_has_a_plain_name(path: str, is_good: bool) -> None:
    found = list(inventory.address_problems(f"https://www.example.org{path}", False))
    assert (not found) is is_good, found
    # Users' own host names have no folder.
    assert bool(list(inventory.address_problems(f"https://www.example.org{path}", True))) is (
        path not in ("", "/")
    )


@pytest.mark.parametrize(
    ("family", "major", "own"),
    [("Debian", "12", "python3"), ("RedHat", "9", "/usr/bin/python3.12")],
)
def test_the_folder_of_an_environment_is_that_of_the_role_that_installs_it(
    family: str, major: str, own: str
) -> None:
    """The expression of ``roles/python_env`` gives the same name as the filter."""
    path = ROOT / "roles/python_env/vars/main.yml"
    expression = yaml.safe_load(path.read_text(encoding="utf-8"))["__python_env_id"]
    lock = ROOT / "roles/proxy/files/requirements.txt"
    jinja = jinja2.Environment()
    jinja.filters["hash"] = lambda text, kind: hashlib.new(kind, text.encode()).hexdigest()
    facts = {"distribution_release": "x", "os_family": family, "distribution_major_version": major}
    expected = jinja.from_string(expression).render(
        __python_env_lock=lock.read_text(encoding="utf-8").rstrip(),
        __python_env_interpreter=own,
        python_env_glibc="2.28",
        ansible_facts=facts,
    )
    given = [
        {
            "group": "proxy",
            "path": "/opt/p",
            "lock": str(lock),
            "python": "python3",
            "glibc": "2.28",
        },
        {"group": "hub", "path": "/opt/h", "lock": str(lock), "python": "python3"},
    ]
    (found,) = PLUGIN.python_environments(given, ["proxy"], facts)
    assert found["folder"] == f"/opt/p/environments/{expected.strip()}"
    assert (found["python"], found["is_own"]) == (own, True)


def test_the_report_has_the_distributions_and_the_package_sources() -> None:
    silent = {"kind": "pip", "url": "https://p.org/", "name": "proxy_environment", "reason": "no"}
    alma = {"distribution": "AlmaLinux", "distribution_version": "8.10", "os_family": "RedHat"}
    hostvars: dict[str, Any] = {name: {} for name in GROUPS["all"]} | {
        "w1": {"ansible_facts": alma | {"distribution_major_version": "8"}},
        "web": {"__validate_sources": {"sources": [silent], "pythons": []}},
    }
    found = PLUGIN.site_problems(hostvars, GROUPS)["problems"]
    assert [each.partition(" (")[0] for each in found] == [
        "web: pip's package source https://p.org/ does not answer",
        "w1: AlmaLinux 8.10",
    ]


@pytest.mark.parametrize(("enabled", "count"), [(True, 1), ("true", 1), ("false", 0), (None, 0)])
def test_the_range_of_ports_matters_only_with_the_firewall(enabled: Any, count: int) -> None:
    asked = {"resolve": {}, "connect": {}, "taken": [], "accounts": {}, "groups": {}, "members": {}}
    linux = {"range": [32768, 60999], "reserved": ""}
    site = asked | {"folders": {}, "clock": 1.0, "ephemeral": linux}
    values = {"__validate_facts": {"site": site}, "jupyterhub_session_ports": [40000, 40999]}
    if enabled is not None:
        values["firewall_enabled"] = enabled
    found = PLUGIN.site_problems(dict.fromkeys(GROUPS["all"], values), GROUPS)["problems"]
    assert len(found) == count
    assert all(each.startswith("w1, w2: jupyterhub_session_ports is 40000") for each in found)
