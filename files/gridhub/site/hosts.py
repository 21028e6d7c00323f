# SPDX-License-Identifier: BSD-3-Clause
"""Compare the inventory with what its hosts know about each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from gridhub.site.inventory import Problem

#: How far the clocks of two hosts may differ, in seconds. Certificates and announced times depend
#: on the clocks; a slow connection to a host looks like a difference of some seconds.
SKEW = 60.0

#: The oldest Python for the environments of hub, proxy and workers.
PYTHON = (3, 11)

#: What to do if a package source does not answer.
SOURCE_HINTS = {
    "apt": "correct /etc/apt/sources.list and sources.list.d there, or apt's proxy",
    "pip": "set PIP_INDEX_URL or HTTPS_PROXY in {name}",
    "npm": "set NPM_CONFIG_REGISTRY or HTTPS_PROXY in {name}",
}
_SOURCE_DOCS = (
    '(docs/administrators/collection.md, "Behind a TLS-inspecting proxy, or with mirrors")'
)

Facts = Mapping[str, Mapping[str, Any]]


def _reach_problems(host: str, facts: Mapping[str, Any]) -> Iterator[Problem]:
    for name, addresses in facts["resolve"].items():
        if not addresses:
            yield Problem(
                (host,), f"the name {name} has no address here; add it to DNS or to /etc/hosts"
            )
    for address, reason in facts["connect"].items():
        if reason:
            yield Problem(
                (host,), f"{address} cannot be reached ({reason}); a firewall must allow it"
            )
    for sentence in facts["taken"]:
        yield Problem((host,), sentence)


def _is_reserved(first: int, last: int, reserved: str) -> bool:
    """Return whether one part of ``ip_local_reserved_ports`` has all ports, such as 28000-28999."""
    parts = [each.partition("-") for each in reserved.split(",") if each]
    return any(int(low) <= first and last <= int(high or low) for low, _, high in parts)


def firewall_problems(
    host: str, facts: Mapping[str, Any], ports: Sequence[int]
) -> Iterator[Problem]:
    """Yield why the firewall would hinder jobs that are no sessions.

    Linux gives outgoing connections and servers without a port of their own, such as those of MPI,
    a port of a range. The firewall rejects connections to the sessions' ports.

    :param ports: the first and the last port of sessions (``jupyterhub_session_ports``).
    """
    if not facts.get("ephemeral"):
        return
    (low, high), reserved = facts["ephemeral"]["range"], facts["ephemeral"]["reserved"]
    first, last = ports
    if first <= high and last >= low and not _is_reserved(first, last, reserved):
        yield Problem(
            (host,),
            f"jupyterhub_session_ports is {first}-{last}, and Linux gives {low}-{high} to programs "
            "that need any port, such as MPI; with firewall_enabled, others could not connect to "
            "them. Set ports outside of that range, or let Linux leave them out: sysctl "
            f"net.ipv4.ip_local_reserved_ports={first}-{last}",
        )


def _clock_problems(facts: Facts) -> Iterator[Problem]:
    # How far each host's clock is ahead of the controller's, in seconds.
    clocks = sorted((each["clock"], host) for host, each in facts.items())
    (early, slow), (late, fast) = clocks[0], clocks[-1]
    if late - early > SKEW:
        yield Problem(
            (), f"the clocks of {fast} and {slow} differ by {late - early:.0f} s; let NTP set them"
        )


def name_notes(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the inventory that do not exist on the hub's host; they have no effect."""
    for kind, word in (("accounts", "account"), ("groups", "Unix group")):
        for name, found in facts[kind].items():
            if found is None:
                yield f"There is no {word} {name} on the hub's host, so it has no effect now"


def password_notes(facts: Mapping[str, Any], family: str) -> Iterator[str]:
    """Yield the accounts whose passwords the hub could not check.

    :param facts: the results of the module ``site_facts`` for the hub's host.
    :param family: the family of the host's distribution; only Debian's lets a group read
        ``/etc/shadow``.
    """
    accounts = {**facts["accounts"], **facts["members"]}
    local = sorted(name for name, found in accounts.items() if found and found.get("local"))
    if local and family not in ("", "Debian"):
        yield (
            f"The hub cannot check the passwords of {', '.join(local)}: these accounts are in "
            "/etc/passwd of the hub's host, where only root may read the hashes of passwords. "
            "Accounts of a directory service (SSSD) can log in "
            '(docs/administrators/systems.md, "Systems")'
        )


def name_problems(facts: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[str]:
    """Yield why nobody could log in.

    :param allowed: the Unix groups whose members may log in; empty if only accounts are listed.
    """
    found = [each for kind in ("accounts", "groups") for each in facts[kind].values()]
    if allowed and not any(each is not None for each in found):
        yield f"Nobody may log in: the hub's host knows no Unix group {' or '.join(allowed)}"


def sample_accounts(facts: Mapping[str, Any], allowed: Sequence[str]) -> list[str]:
    """Return accounts that may log in: one of each folder with homes, first those of the workers.

    :param facts: those of the hub's host. ``members`` has one account of each allowed group.
    :param allowed: the accounts that the inventory allows. The workers know about the first
        account of both lists.
    """
    accounts = {**facts["accounts"], **facts["members"]}
    names = [name for name in dict.fromkeys([*allowed, *facts["members"]]) if accounts.get(name)]
    by_folder: dict[PurePosixPath, str] = {}
    for name in names:
        by_folder.setdefault(PurePosixPath(accounts[name]["home"]).parent, name)
    return [*by_folder.values()]


def home_problems(hub: str, facts: Facts, name: str, paths: Sequence[str]) -> Iterator[Problem]:
    """Yield why the home of an account would not do for sessions.

    :param hub: the hub's host. The other hosts in ``facts`` that know the account are workers.
    :param name: the account.
    :param paths: the folders with homes that the broker may write (``jupyterhub_home_paths``).
    """
    own = facts[hub]["accounts"].get(name) or facts[hub]["members"].get(name)
    if not own:
        return
    home = own["home"]
    if not any(PurePosixPath(home).is_relative_to(path) for path in paths):
        yield Problem(
            (),
            f"the home of {name} is {home}, but jupyterhub_home_paths is "
            f"{', '.join(paths)}; add {PurePosixPath(home).parent}",
        )
    if not own["folder"]:
        yield Problem((hub,), f"{home}, the home of {name}, is not there; mount the homes here")
    for host, each in facts.items():
        found = each["accounts"].get(name)
        if host == hub or name not in each["accounts"]:
            continue
        if not found:
            yield Problem((host,), f"there is no account {name}, which {hub} has")
        elif (found["uid"], found["home"]) != (own["uid"], home):
            yield Problem(
                (host,),
                f"the account {name} has uid {found['uid']} and home {found['home']}; on {hub} it "
                f"has {own['uid']} and {home}",
            )
        elif found["folder"] != own["folder"]:
            yield Problem(
                (host,), f"{home}, the home of {name}, is not the same folder as on {hub}"
            )


def shared_problems(
    host: str, found: Mapping[str, Any], path: str, owner: str, python: str
) -> Iterator[Problem]:
    """Yield why a host cannot build the notebook environment that the workers share.

    :param found: what the module ``site_facts`` found out about the folder and about Python.
    :param path, owner, python: ``sge_common_session_path``, ``sge_common_session_owner`` and
        ``sge_exec_python``.
    """
    if found["account"] != owner:
        yield Problem(
            (host,),
            f"the account {found['account']} would build the notebook environment, but "
            f"sge_common_session_owner is {owner}; name the account that builds, or let Ansible "
            f"use {owner} there (ansible_user, ansible_become_user)",
        )
    if not found["folder"]:
        yield Problem(
            (host,),
            f"sge_common_session_path: the folder {path} is missing here; mount the shared file "
            "system, and create the folder",
        )
    elif found["untrusted"]:
        yield Problem(
            (host,),
            f"sge_common_session_path: {found['untrusted']}, so somebody else could replace what "
            f"sessions run; change that, or use another folder than {path}",
        )
    elif not found["writable"]:
        yield Problem(
            (host,),
            f"sge_common_session_path: {found['account']} cannot write to {path}; let an account "
            "that can log in there (ansible_user), or give it the folder",
        )
    if found["python"]:
        yield Problem(
            (host,),
            f"sge_exec_python: {python} cannot be used ({found['python']}); it needs Python 3.11 "
            "or newer with the modules venv and ensurepip, under this path here and on all workers",
        )


def shared_notes(found: Mapping[str, Any], path: str, unmanaged: int) -> Iterator[str]:
    """Yield what could not be checked about workers that share an environment.

    :param unmanaged: how many workers nobody may log in to.
    """
    if found.get("own_disk"):
        yield f"{path} is on the own disk of the host that builds: all workers must mount it"
    if unmanaged:
        yield (
            f"The {unmanaged} hosts of sge_exec_unmanaged were not looked at: whether they mount "
            f"{path}, have its Python, the accounts and homes, and reach the hub"
        )


def _certificate_problems(host: str, found: Mapping[str, Any]) -> Iterator[Problem]:
    if path := found.get("missing"):
        yield Problem(
            (host,), f"{path} is missing (proxy_tls_certificate, proxy_tls_certificate_key)"
        )
    if error := found.get("error"):
        yield Problem((host,), f"proxy_tls_certificate cannot be read: {error}")
    if reason := found.get("invalid"):
        yield Problem(
            (host,), f"proxy_tls_certificate cannot be used now: {reason} (it ends {found['end']})"
        )
    if found.get("key") is False:
        yield Problem((host,), "proxy_tls_certificate_key is not the key of proxy_tls_certificate")
    for name, is_good in found.get("names", {}).items():
        if not is_good:
            yield Problem((host,), f"proxy_tls_certificate is not for the name {name}")


def host_problems(facts: Facts) -> Iterator[Problem]:
    """Yield what is wrong on the hosts, or between them.

    :param facts: the results of the module ``site_facts``, by host.
    """
    for host, each in facts.items():
        yield from _reach_problems(host, each)
        yield from _certificate_problems(host, each.get("certificate", {}))
        for path, exists in each["folders"].items():
            if not exists:
                yield Problem((host,), f"the folder {path} is missing")
    if facts:
        yield from _clock_problems(facts)


def source_problems(host: str, found: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the package sources and interpreters with which the deployment would fail.

    :param found: the result of the module ``package_sources``.
    """
    for each in found["sources"]:
        if each["reason"]:
            hint = SOURCE_HINTS[each["kind"]].format(name=each["name"])
            yield Problem(
                (host,),
                f"{each['kind']}'s package source {each['url']} does not answer "
                f"({each['reason']}); {hint} {_SOURCE_DOCS}",
            )
    for each in found["pythons"]:
        variable = each["name"].replace("_environment", "_python")
        needed = ".".join(map(str, PYTHON))
        if not each["version"]:
            # The deployment installs the distribution's own Python.
            if not each["is_own"]:
                yield Problem((host,), f"{variable}: {each['path']} does not run; install it")
        elif tuple(map(int, each["version"].split(".")[:2])) < PYTHON:
            yield Problem(
                (host,),
                f"{variable}: {each['path']} is Python {each['version']}; {needed} or newer is "
                "needed. Install one, and set its path",
            )


def distribution_problems(
    host: str, facts: Mapping[str, Any], supported: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Yield the roles that do not support the host's distribution.

    :param facts: Ansible's facts of the host; the role ``distribution`` uses the same.
    :param supported: the distributions that each role of the host supports.
    """
    name = facts.get("distribution")
    if not name:
        return
    family, major = facts["os_family"], facts["distribution_major_version"]
    known = {name, f"{name}-{major}", family, f"{family}-{major}"}
    lacking = [role for role, names in supported.items() if not known & set(names)]
    if lacking:
        systems = sorted({each for role in lacking for each in supported[role]})
        yield Problem(
            (host,),
            f"{name} {facts['distribution_version']} (family {family}) is not supported by the "
            f"roles {', '.join(lacking)}; they support {', '.join(systems)} "
            '(docs/administrators/systems.md, "Systems")',
        )
