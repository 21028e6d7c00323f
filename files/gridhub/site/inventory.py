# SPDX-License-Identifier: BSD-3-Clause
"""Find the mistakes in an inventory's variables, all at once.

``playbooks/validate.yml`` calls this module on the controller. Values arrive as Ansible has read
them, and may have any type.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from gridhub.broker.config import ConfigError, parse_config
from gridhub.hub.read_settings import check_lines
from gridhub.menu.file import parse_menu
from gridhub.menu.menu import Menu
from gridhub.words import read_own, with_site

#: How many hosts each group needs: at least, and at most.
GROUPS = {
    "database": (0, 1),
    "hub": (1, 1),
    "proxy": (1, 1),
    "session_environment": (0, 1),
    "sge_qmaster": (0, 1),
}

#: The groups of workers: those that GridHub manages, and those that nobody may log in to.
WORKERS = ("sge_exec", "sge_exec_unmanaged")

#: How similar a name must be to that of a variable to count as a mistyped one, from 0 to 1.
SIMILAR = 0.85

_ADDRESS = re.compile(r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(?P<path>/[^?#]*)?")
#: The path of the public address: each folder has a plain name, and none that the hub uses itself.
_FOLDERS = re.compile(r"(/(?!(hub|user|services)(/|$))[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*/?")
_WITH_SUBDOMAINS = re.compile(
    r"https://([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z]([a-z0-9-]*[a-z0-9])?(:(?!443(/|$))[0-9]+)?/?"
)


class Problem(NamedTuple):
    """A mistake: the hosts that have it, and a sentence with the value and what would be right."""

    hosts: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        """Return the problem as one text, with the hosts first."""
        return f"{', '.join(self.hosts)}: {self.text}" if self.hosts else self.text


def merge(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems, each once, with all hosts that have it."""
    hosts: dict[str, list[str]] = {}
    for each in problems:
        hosts.setdefault(each.text, []).extend(each.hosts)
    return [Problem(tuple(dict.fromkeys(names)), text) for text, names in hosts.items()]


def group_problems(groups: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """Yield the groups of the inventory that have too few or too many hosts."""
    for name, (least, most) in GROUPS.items():
        size = len(groups.get(name, ()))
        if not least <= size <= most:
            limit = f"at least {least}" if size < least else f"at most {most}"
            needed = str(least) if least == most else limit
            yield Problem(
                (),
                f"The inventory's group {name} has {size} hosts; it needs {needed} "
                "(inventories/example/hosts.yml)",
            )
    if not any(groups.get(name) for name in ("session_environment", *WORKERS)):
        yield Problem(
            (),
            "The inventory's group sge_exec has no hosts; name the workers there, or, if you may "
            "not manage them, the host of the group session_environment "
            "(inventories/example/hosts.yml)",
        )
    if both := sorted(set(groups.get(WORKERS[0], ())) & set(groups.get(WORKERS[1], ()))):
        yield Problem((), f"{', '.join(both)}: in sge_exec and in sge_exec_unmanaged; choose one")
    if groups.get("sge_exec_unmanaged") and not groups.get("session_environment"):
        yield Problem(
            (),
            "The hosts of sge_exec_unmanaged need a notebook environment in a shared folder: name "
            "the host that builds it in the group session_environment "
            '(docs/administrators/unmanaged-workers.md, "Workers that you may not manage")',
        )


#: A Python whose path names its version.
_VERSIONED = re.compile(r"/.*3\.[0-9]+.*")
_GLIBC = re.compile(r"2\.(1[7-9]|[2-9][0-9])")


def shared_problems(values: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the variables of the host that builds the shared environment.

    :param hub: the variables of the hub's host, which writes the folder into the job script.
    """
    for name in ("sge_common_session_path", "sge_common_session_owner"):
        if values.get(name) != hub.get(name):
            yield (
                f"{name} is {values.get(name)} for the host that builds the notebook environment, "
                f"and {hub.get(name)} for the hub; set it in group_vars/all"
            )
    python = values.get("sge_exec_python", "python3")
    if not _VERSIONED.fullmatch(str(python)):
        yield (
            f"sge_exec_python is {python}. For a shared environment, it must be a path with the "
            "version in it, which exists on all workers and on the host that builds, such as "
            "/usr/bin/python3.11 "
            '(docs/administrators/unmanaged-workers.md, "Workers that you may not manage")'
        )
    glibc = values.get("sge_exec_glibc", "")
    if glibc != "" and not (isinstance(glibc, str) and _GLIBC.fullmatch(glibc)):
        yield (
            f"sge_exec_glibc is {glibc}; it must be the oldest version of glibc among the workers, "
            'in quotes, such as "2.28"'
        )
    path = str(values.get("sge_common_session_path", "/opt/jupyterhub-session"))
    if not path.startswith("/") or path == "/opt/jupyterhub-session":
        yield (
            f"sge_common_session_path is {path}; for a shared environment, name the folder that "
            "the workers mount, in group_vars/all, such as /shared/jupyter"
        )


#: What roles tell those that use them.
RESULTS = ("python_env_switched", "maintenance_new_host")


def name_problems(
    hosts: Mapping[str, Mapping[str, Any]], known: Collection[str]
) -> Iterator[Problem]:
    """Yield the variables whose names are probably mistyped.

    Names with two underscores in front are the roles' own: in a longer run, such as that of
    ``playbooks/restore.yml``, the roles before have left some, and :data:`RESULTS`.

    :param hosts: the variables of each host.
    :param known: the names of all variables that the roles declare.
    """
    for host, variables in hosts.items():
        for name in sorted(variables.keys() - {*known, *RESULTS}):
            if name.startswith("__"):
                continue
            if close := difflib.get_close_matches(name, known, 1, SIMILAR):
                yield Problem((host,), f"{name} is no variable of GridHub; write {close[0]}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def is_true(value: Any) -> bool:
    """Return whether Ansible's filter ``bool`` takes a value as true."""
    return str(value).lower() in ("true", "yes", "on", "1")


def login_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield why nobody could log in."""
    names = ("jupyterhub_allowed_users", "jupyterhub_allowed_groups")
    if not any(_list(hub.get(name)) for name in names):
        yield (
            "Nobody may log in: set jupyterhub_allowed_users or jupyterhub_allowed_groups in the "
            "inventory (roles/jupyterhub/README.md)"
        )


def address_problems(url: Any, subdomains: Any) -> Iterator[str]:
    """Yield what is wrong with the address that users type (``jupyterhub_public_url``)."""
    found = _ADDRESS.fullmatch(url) if isinstance(url, str) else None
    if url != "" and not found:
        yield (
            f"jupyterhub_public_url is '{url}'; it must be the address that users type, beginning "
            "with https:// and without a user name or a query, such as "
            "https://jupyter.example.org/ (roles/jupyterhub/README.md)"
        )
    elif found and not _FOLDERS.fullmatch(found["path"] or ""):
        yield (
            f"jupyterhub_public_url is '{url}'; its folder {found['path']} may have letters, "
            "digits and the characters _ . ~ - only, and no part of it may be hub, user or "
            "services, such as https://www.example.org/jupyter/ "
            '(docs/administrators/addresses.md, "Below a folder")'
        )
    elif is_true(subdomains) and not _WITH_SUBDOMAINS.fullmatch(url):
        yield (
            f"jupyterhub_user_subdomains is true and jupyterhub_public_url is '{url}'. Users' host "
            "names are made from it: it must contain the hub's own, in small letters and with a "
            "dot in it, no address, no folder, and the port only if that is not 443, such as "
            "https://jupyter.example.org/ "
            '(docs/administrators/addresses.md, "A host name for each person")'
        )


def _network_problem(network: Any) -> str:
    """Return why nginx could not use an address or network as it is written."""
    try:
        found = ipaddress.ip_network(network if isinstance(network, str) else "", strict=False)
        address, _, prefix = network.partition("/")
        if ipaddress.ip_address(address) != found.network_address or not f"{prefix}0".isdecimal():
            return f"must be written as {found}"
    except ValueError:
        return "is neither an address nor a network, such as 192.0.2.10 or 2001:db8::/64"
    return "" if "%" not in network else "has a zone, which no network has"


def network_problems(proxy: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the networks that the proxy treats differently."""
    trusted = _list(proxy.get("proxy_trusted_networks"))
    for name in ("proxy_trusted_networks", "proxy_hub_api_networks", "proxy_metrics_networks"):
        for network in _list(proxy.get(name)):
            if problem := _network_problem(network):
                yield f"{name}: {network!r} {problem} (roles/proxy/README.md)"
    for network in trusted:
        if not _network_problem(network) and not ipaddress.ip_network(network).prefixlen:
            yield (
                f"proxy_trusted_networks: {network!r} contains everybody, who could then state any "
                "address; list only your load balancers "
                '(docs/administrators/addresses.md, "Behind a load balancer")'
            )
    port = proxy.get("proxy_protocol_port", 0)
    if str(port) == "0":
        return
    if not (str(port).isdecimal() and 0 < int(port) < 65536):
        yield f"proxy_protocol_port is {port!r}; it must be a port, such as 8443, or 0"
    elif str(port) in ("80", "443", str(proxy.get("proxy_api_port", 8001))):
        yield f"proxy_protocol_port is {port}, which the proxy already uses; choose another port"
    elif not trusted:
        yield (
            f"proxy_protocol_port is {port}, but proxy_trusted_networks is empty: list your load "
            'balancers there (docs/administrators/addresses.md, "Behind a load balancer")'
        )


def read_menu(hub: Mapping[str, Any]) -> Menu:
    """Return the menu of the inventory.

    :raises ValueError: naming all that is wrong with the menu, its presets and its limits.
    """
    if not hub.get("jupyterhub_resource_menu"):
        raise ValueError("There is nothing to ask for: set jupyterhub_resource_menu (docs/menu.md)")
    content = {
        "items": hub["jupyterhub_resource_menu"],
        "presets": hub.get("jupyterhub_resource_presets", []),
        "limits": hub.get("jupyterhub_resource_limits", []),
    }
    return parse_menu(json.dumps(content).encode(), "The menu in the inventory")


def menu_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the menu, its presets and its limits."""
    try:
        read_menu(hub)
    except ValueError as error:
        yield str(error)


def word_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the site's own sentences."""
    try:
        with_site(read_own(), json.loads(json.dumps(hub.get("jupyterhub_words", {}))))
    except ValueError as error:
        yield str(error)


def settings_problems(hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings in the site's own lines of the configuration that cannot take effect.

    The deployment of the hub also checks the values, before it replaces the configuration.
    """
    try:
        check_lines(str(hub.get("jupyterhub_extra_config", "")))
    except ValueError as error:
        yield str(error)


def broker_problems(hub: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the settings that the broker reads.

    :param defaults: the default values of the role ``jupyterhub``.
    """
    values = dict(defaults) | dict(hub)
    content = {
        "hub_user": "jupyterhub",
        "menu": "/etc/jupyterhub/menu.json",
        "job_script": "/etc/jupyterhub/session.sh",
        "sge_root": "/",
        "sge_cell": "default",
        "sge_bin_dir": "/",
        "timeout": values["jupyterhub_sge_timeout"],
        "ports": values["jupyterhub_session_ports"],
        "prologue_timeout": values["jupyterhub_job_prologue_timeout"],
    } | {
        name: values[f"jupyterhub_{name}"]
        for name in (
            *("minimum_uid", "allowed_users", "allowed_groups", "qsub_arguments"),
            *("run_time_warnings", "idle_timeout", "idle_notice", "tcp_kernels"),
            *("root_folders", "shortcuts"),
        )
    }
    try:
        parse_config(json.dumps(content).encode())
    except ConfigError as error:
        yield str(error)


def firewall_problems(values: Mapping[str, Any], workers: Collection[str]) -> Iterator[str]:
    """Yield why the firewall would keep workers from the hub.

    :param workers: the hosts of the inventory's groups of workers.
    """
    is_closed = is_true(values.get("firewall_enabled", False))
    if is_closed and not workers and not values.get("firewall_more_sources"):
        yield (
            "firewall_enabled is true, but the inventory names no worker, so the hub would refuse "
            "all sessions; name the workers in sge_exec_unmanaged, or their networks in "
            "firewall_more_sources"
        )


def hub_problems(hub: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield all that is wrong with the variables of the hub's host."""
    yield from login_problems(hub)
    yield from address_problems(
        hub.get("jupyterhub_public_url", ""), hub.get("jupyterhub_user_subdomains", False)
    )
    yield from menu_problems(hub)
    yield from word_problems(hub)
    yield from settings_problems(hub)
    yield from broker_problems(hub, defaults)
