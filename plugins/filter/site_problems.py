# SPDX-License-Identifier: BSD-3-Clause
"""Filters of ``playbooks/validate.yml``: they return the problems that ``gridhub.site`` finds.

They run on the controller, whose Python has the packages of ``requirements/controller.txt``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import (
    parse_complexes,
    parse_names,
    parse_object,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "files"))

from gridhub.grid.dialect import Dialect  # noqa: E402
from gridhub.site import changes, database, inventory  # noqa: E402
from gridhub.site.cluster import (  # noqa: E402
    Cluster,
    cluster_notes,
    cluster_problems,
    parse_hosts,
    request_problems,
    requests_of,
)
from gridhub.site.dialect import (  # noqa: E402
    dialect_notes,
    dialect_problems,
    managed_problems,
    no_answer,
)
from gridhub.site.hosts import (  # noqa: E402
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
from gridhub.site.inventory import Problem, merge  # noqa: E402
from gridhub.site.login import (  # noqa: E402
    openid_inventory_problems,
    openid_notes,
    openid_problems,
    sssd_notes,
    sssd_problems,
)

#: The roles whose variables an inventory sets.
ROLES = (
    *("database", "distribution", "firewall", "jupyterhub", "maintenance", "monitoring", "patch"),
    *("proxy", "python_env", "sge_common", "sge_exec", "sge_qmaster"),
)

#: The roles that install programs on the hosts of each group, and differ between distributions.
ROLES_OF = {
    "sge_qmaster": ("sge_qmaster", "sge_common"),
    "sge_exec": ("sge_exec", "python_env", "firewall"),
    "session_environment": ("python_env",),
    "hub": ("jupyterhub", "python_env", "firewall", "maintenance"),
    "proxy": ("proxy", "python_env", "firewall", "maintenance"),
    "database": ("database",),
    "maintenance": ("maintenance",),
}

#: The ends of the names of variables whose values may contain secrets.
_MAY_BE_SECRET = ("_config", "_environment", "_password", "_secret", "_url")


def _options() -> dict[str, Any]:
    """Return the declared options of all roles' entry points, by name."""
    found: dict[str, Any] = {}
    for role in ROLES:
        path = ROOT / "roles" / role / "meta/argument_specs.yml"
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        for spec in specs.values():
            found |= spec.get("options", {})
    return found


def _spec(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a specification, in which no value is required and none has a default."""
    kept = ("type", "elements", "choices", "options")
    return {
        name: {key: value for key, value in option.items() if key in kept}
        for name, option in options.items()
    }


def _defaults(role: str) -> dict[str, Any]:
    text = (ROOT / "roles" / role / "defaults/main.yml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _plain(value: Any) -> Any:
    """Return a value of Ansible's own types as one of Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _read(variables: Any, names: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a host's variables, and sentences about those that cannot be evaluated."""
    values: dict[str, Any] = {}
    problems = []
    for name in sorted(names & set(variables)):
        try:
            values[name] = _plain(variables[name])
        except Exception as error:  # Ansible raises errors of many kinds
            problems.append(f"{name} cannot be evaluated: {error}")
    return values, problems


def _types(host: str, values: Mapping[str, Any], spec: dict[str, Any]) -> Iterator[Problem]:
    for name, value in values.items():
        if name in spec and value is not None:
            # Ansible would accept a text here, but the roles need a list.
            if spec[name]["type"] == "list" and isinstance(value, str):
                words = ", ".join(value.replace(",", " ").split())
                yield Problem((host,), f"{name} is a text; write a list: [{words}]")
            result = ArgumentSpecValidator({name: spec[name]}).validate({name: value})
            for message in result.error_messages:
                words = "it has the wrong type" if name.endswith(_MAY_BE_SECRET) else message
                yield Problem((host,), f"{name}: {words}")


def inventory_problems(hostvars: Any, groups: Mapping[str, list[str]]) -> list[str]:
    """Return all that is wrong with the variables of an inventory, as sentences.

    :param hostvars, groups: Ansible's variables of these names.
    """
    options = _options()
    spec = _spec(options)
    hosts: dict[str, dict[str, Any]] = {}
    found: list[Problem] = list(inventory.group_problems(groups))
    for host in groups.get("all", []):
        names = {str(name) for name in hostvars[host]}
        hosts[host] = dict.fromkeys(names)
        values, problems = _read(hostvars[host], names & set(options))
        hosts[host] |= values
        found += [Problem((host,), each) for each in problems]
        found += _types(host, values, spec)
    found += changes.changed_problems(hosts)
    # A variable of an old name is not mistyped.
    current = {
        host: {name: each for name, each in values.items() if name not in changes.CHANGED}
        for host, values in hosts.items()
    }
    found += inventory.name_problems(current, options)
    for host in groups.get("hub", [])[:1]:
        own = {name: value for name, value in hosts[host].items() if value is not None}
        workers = [host for name in inventory.WORKERS for host in groups.get(name, [])]
        server = next(iter(groups.get("database", [])), "")
        texts = [
            *changes.breaking_problems(own.get(changes.READ, "")),
            *inventory.hub_problems(own, _defaults("jupyterhub")),
            *openid_inventory_problems(own, _defaults("jupyterhub")),
            *database.database_problems(own, server, hosts.get(server)),
            *inventory.firewall_problems(own, workers),
            *(managed_problems(own.get("sge_common_dialect")) if groups.get("sge_qmaster") else ()),
        ]
        found += [Problem((), each) for each in texts]
    for host in groups.get("session_environment", [])[:1]:
        own = next((hosts[name] for name in groups.get("hub", [])), {})
        shared = inventory.shared_problems(hosts[host], own)
        found += [Problem((host,), each) for each in shared]
    for host in groups.get("proxy", [])[:1]:
        own = {name: value for name, value in hosts[host].items() if value is not None}
        found += [Problem((), each) for each in inventory.network_problems(own)]
    everywhere = tuple(hosts)
    return [each.text if each.hosts == everywhere else str(each) for each in merge(found)]


def _cluster(found: Mapping[str, Any]) -> Cluster:
    """Return what Grid Engine shows of its configuration; None for the rest."""

    def parsed(kind: str, parse: Callable[[str], Any]) -> Any:
        return None if found[kind] is None else parse(found[kind])

    def each(kind: str) -> dict[str, dict[str, str]] | None:
        if found[kind] is None or None in found[kind].values():
            return None
        return {name: parse_object(text) for name, text in found[kind].items()}

    return Cluster(
        complexes=parsed("complexes", parse_complexes),
        environments=each("environments"),
        queues=each("queues"),
        projects=parsed("projects", parse_names),
        hosts=parsed("hosts", parse_hosts),
        settings=parsed("global", parse_object) or {},
        scheduler=parsed("scheduler", parse_object) or {},
        files=found["files"],
    )


def _grid_problems(
    hub: str, variables: Mapping[str, Any], workers: list[str], found: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    try:
        dialect = Dialect(variables.get("sge_common_dialect") or Dialect.SGE)
    except ValueError:  # `inventory_problems` has reported it
        return [], []
    answer, shown = found["qstat"], found["help"]
    if answer["rc"]:
        return [
            *dialect_problems(dialect, shown),
            no_answer(hub, dialect, shown, answer),
        ], []
    try:
        menu = inventory.read_menu(variables)
    except ValueError:  # `inventory_problems` has reported it
        menu = None
    cluster = _cluster(found)
    arguments = variables.get("jupyterhub_qsub_arguments") or []
    problems = [
        *dialect_problems(dialect, shown),
        *cluster_problems(menu, workers, arguments, cluster),
        *request_problems(found["requests"]),
    ]
    notes = [
        *cluster_notes(cluster, found["requests"]),
        *dialect_notes(dialect, shown, menu, cluster.settings, cluster.scheduler),
    ]
    return problems, notes


def menu_requests(hostvars: Any, groups: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Return the requests of qsub that show whether each choice of the menu is possible.

    :param hostvars, groups: Ansible's variables of these names.
    """
    values, _ = _read(hostvars[groups["hub"][0]], set(_options()))
    try:
        menu = inventory.read_menu(values)
    except ValueError:  # `inventory_problems` has reported it
        return []
    arguments = values.get("jupyterhub_qsub_arguments") or []
    return [
        {"name": name, "arguments": [*map(str, arguments), *own]} for name, own in requests_of(menu)
    ]


def _own_python(facts: Mapping[str, Any]) -> str:
    """Return the Python of a distribution that the role ``python_env`` uses."""
    family, major = facts.get("os_family"), facts.get("distribution_major_version")
    for name in (f"{family}-{major}", family):
        path = ROOT / "roles/python_env/vars" / f"{name}.yml"
        if path.is_file():
            values: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return values["__python_env_python"]
    return "python3"


def python_environments(
    environments: list[dict[str, Any]], names: list[str], facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the Python environments of a host, with the folders that the role python_env uses.

    :param names: the groups of the host.
    :param facts: Ansible's facts of the host.
    """
    found = []
    for each in _plain(environments):
        if each["group"] in names:
            lock = Path(each["lock"])
            text = lock.read_text(encoding="utf-8").rstrip() if lock.is_file() else ""
            each["is_own"] = each["python"] == "python3"
            if each["is_own"]:
                each["python"] = _own_python(facts)
            kind = f"{each['python']}{each.get('glibc', '')}"
            content = f"{text}{kind}{facts.get('distribution_release', '')}"
            number = hashlib.sha256(content.encode()).hexdigest()[:12]
            found.append(each | {"folder": f"{each['path']}/environments/{number}"})
    return found


def _deployment_problems(hostvars: Any, groups: Mapping[str, list[str]]) -> Iterator[Problem]:
    """Yield the hosts on which nothing could be installed."""
    for host in groups.get("all", []):
        mine = [names for group, names in ROLES_OF.items() if host in groups.get(group, [])]
        roles = dict.fromkeys(role for names in mine for role in names)
        if groups.get("sge_qmaster") and host in groups.get("sge_exec", []) + groups["hub"]:
            roles["sge_common"] = None
        files = {role: (ROOT / "roles" / role / "vars").glob("*.yml") for role in roles}
        supported = {
            role: [path.stem for path in paths if path.stem != "main"]
            for role, paths in files.items()
        }
        facts = _plain(hostvars[host].get("ansible_facts", {}))
        yield from distribution_problems(host, facts, supported)
        sources = _plain(hostvars[host].get("__validate_sources", {}))
        if "sources" in sources:
            yield from source_problems(host, sources)


def _login_to_database(variables: Any) -> dict[str, Any] | None:
    """Return what the hub's program found out about the database; None if it did not run."""
    result = _plain(variables.get("__validate_login", {}))
    try:
        found = json.loads(result["stdout"])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def database_server(hostvars: Any, groups: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what the hub's host is asked about the site's own database server.

    :param hostvars, groups: Ansible's variables of these names.
    """
    values, _ = _read(hostvars[groups["hub"][0]], set(_options()))
    return {} if groups.get("database") else database.to_look_at(values)


def _reason(result: Mapping[str, Any]) -> str:
    return str(result.get("msg") or result.get("failed_when_suppressed_exception") or "no reason")


def site_problems(hostvars: Any, groups: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return ``problems`` and ``notes`` about the hosts and their Grid Engine, as sentences.

    :param hostvars, groups: Ansible's variables of these names. Hosts that were not asked, or did
        not answer, are left out.
    """
    facts: dict[str, Any] = {}
    problems: list[str] = []
    workers = [host for name in inventory.WORKERS for host in groups.get(name, [])]
    if not all(groups.get(name) for name in ("hub", "proxy")):
        return {"problems": [], "notes": []}  # `inventory_problems` has reported it
    for host in groups.get("all", []):
        result = _plain(hostvars[host].get("__validate_facts", {}))
        if "site" in result:
            facts[host] = result["site"]
        elif result and not result.get("unreachable"):
            problems.append(f"{host} cannot be looked at: {_reason(result)}")
    found = list(_deployment_problems(hostvars, groups))
    hub = next((host for host in groups.get("hub", []) if host in facts), "")
    if not hub:
        return {"problems": [*problems, *(str(each) for each in merge(found))], "notes": []}
    names = set(_options())
    values, _ = _read(hostvars[hub], names)
    values = _defaults("jupyterhub") | values
    found += host_problems(facts)
    ports = values["jupyterhub_session_ports"]
    for host in groups["sge_exec"]:
        variables = _read(hostvars[host], {"firewall_enabled"})[0]
        if host in facts and inventory.is_true(variables.get("firewall_enabled", False)):
            found += firewall_problems(host, facts[host], ports)
    problems += name_problems(facts[hub], values["jupyterhub_allowed_groups"])
    paths = values["jupyterhub_home_paths"]
    for name in sample_accounts(facts[hub], values["jupyterhub_allowed_users"]):
        found += home_problems(hub, facts, name, paths)
    family = str(_plain(hostvars[hub].get("ansible_facts", {})).get("os_family", ""))
    notes = [*name_notes(facts[hub]), *password_notes(facts[hub], family)]
    if sssd := facts[hub].get("sssd"):
        problems += sssd_problems(sssd, values)
        notes += sssd_notes(sssd, values)
    if provider := facts[hub].get("openid"):
        problems += openid_problems(provider, values)
        notes += openid_notes(provider, values)
    for host in groups.get("session_environment", [])[:1]:
        own = _defaults("sge_common") | _defaults("sge_exec") | _read(hostvars[host], names)[0]
        path = own["sge_common_session_path"]
        shared = facts.get(host, {}).get("shared")
        if shared:
            owner, python = own["sge_common_session_owner"], own["sge_exec_python"]
            found += shared_problems(host, shared, path, owner, python)
        unmanaged = len(groups.get("sge_exec_unmanaged", []))
        notes += shared_notes(shared or {}, path, unmanaged)
    own_server = next(iter(groups.get("database", [])), "")
    tried = _login_to_database(hostvars[hub])
    if not own_server:
        url = str(values["jupyterhub_database_url"])
        seen = _plain(hostvars[hub].get("__validate_database_tls", {})).get("problem", "")
        found += database.login_problems(hub, url, seen, tried)
    notes += database.database_notes(values, own_server, tried)
    problems += [str(each) for each in merge(found)]
    if grid := facts[hub].get("grid"):
        more, remarks = _grid_problems(hub, values, workers, grid)
        problems += more
        notes += remarks
    return {"problems": problems, "notes": notes}


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "database_server": database_server,
            "hub_database_url": database.complete,
            "inventory_problems": inventory_problems,
            "menu_requests": menu_requests,
            "python_environments": python_environments,
            "site_problems": site_problems,
        }
