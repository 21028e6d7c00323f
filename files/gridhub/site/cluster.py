# SPDX-License-Identifier: BSD-3-Clause
"""Compare the menu and the inventory with Grid Engine's configuration."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from gridhub.grid.qstat_files import HIDING
from gridhub.grid.request_files import find_hindrance, in_effect, parse_options, split_options
from gridhub.menu.items import Item
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import (
    PRESET_FIELD,
    ChoiceError,
    Complex,
    Count,
    Memory,
    ParallelEnvironment,
    RunTime,
    Slots,
)
from gridhub.menu.menu import Menu

#: The types of complexes (complex(5)) that an item of each kind can request.
TYPES = {
    "memory": {"MEMORY"},
    "count": {"INT", "DOUBLE", "RSMAP"},
    "run_time": {"TIME"},
    "complex": {"STRING", "CSTRING", "RESTRING", "HOST", "INT", "BOOL"},
}

#: What ``per`` must be in the menu for each way in which a complex may be counted. ``HOST`` counts
#: once for each host of the job (complex(5) of Open Cluster Scheduler 9.1); a session has one.
PER = {"YES": "slot", "JOB": "job", "HOST": "job"}

#: The rule with which all slots of a job are on one host (sge_pe(5)).
ONE_HOST = "$pe_slots"


#: How many characters of Grid Engine's words a problem shows.
MAX_WORDS = 300


#: What qsub prints if Grid Engine has refused a request. Any other failure proves nothing.
_REFUSAL = re.compile(r"unable to run job|rejected|denied|no suitable queues", re.IGNORECASE)


class Cluster(NamedTuple):
    """Grid Engine's configuration; each object has its attributes as text.

    None means that it is not known: many a cluster shows it to administrative hosts only.
    """

    complexes: Mapping[str, Mapping[str, str]] | None
    environments: Mapping[str, Mapping[str, str]] | None
    queues: Mapping[str, Mapping[str, str]] | None
    projects: Collection[str] | None
    #: The execution hosts.
    hosts: Collection[str] | None
    settings: Mapping[str, str]
    scheduler: Mapping[str, str]
    #: The texts of the cell's files ``sge_request`` and ``sge_qstat``, by path.
    files: Mapping[str, str]


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _complex_problems(item: Item, cluster: Cluster) -> Iterator[str]:
    request = item.request
    assert isinstance(request, Memory | Count | RunTime | Complex)
    where = f"jupyterhub_resource_menu, item {item.name!r}: the complex {request.complex}"
    if cluster.complexes is None:
        return
    found = cluster.complexes.get(request.complex) or next(
        (each for each in cluster.complexes.values() if each["shortcut"] == request.complex), None
    )
    if found is None:
        yield f"{where} does not exist in the cluster (qconf -sc)"
        return
    if found["requestable"] == "NO":
        yield f"{where} cannot be requested (requestable NO, qconf -sc)"
    if found["type"] not in TYPES[request.kind]:
        types = " or ".join(sorted(TYPES[request.kind]))
        yield f"{where} has the type {found['type']}; an item of kind {request.kind} needs {types}"
    if isinstance(request, Memory | Count):
        counted = found["consumable"]
        if PER.get(counted, request.per) != request.per:
            yield f"{where} has consumable {counted}, so the item needs 'per: {PER[counted]}'"


def _environment_problems(names: Collection[str], where: str, cluster: Cluster) -> Iterator[str]:
    if cluster.environments is None:
        return
    for name in names:
        found = cluster.environments.get(name)
        if found is None:
            yield (
                f"{where}: the parallel environment {name} does not exist; the cluster has "
                f"{_listed(cluster.environments)} (qconf -spl)"
            )
            continue
        rule = found.get("allocation_rule", "")
        if rule != ONE_HOST:
            yield (
                f"{where}: the parallel environment {name} has allocation_rule {rule}; a session "
                f"runs on one host, so it needs {ONE_HOST} (qconf -mp {name})"
            )
        queues = (cluster.queues or {}).values()
        lists = [queue.get("pe_list", "").replace(",", " ") for queue in queues]
        if lists and not any(
            name in each.split() or f"={name}" in each or f" {name}]" in each for each in lists
        ):
            yield f"{where}: no queue has the parallel environment {name} (pe_list, qconf -mq)"


def _item_problems(item: Item, cluster: Cluster) -> Iterator[str]:
    where = f"jupyterhub_resource_menu, item {item.name!r}"
    request = item.request
    words = [option.value for option in item.options or () if option.value]
    if isinstance(request, Memory | Count | RunTime | Complex):
        yield from _complex_problems(item, cluster)
    elif isinstance(request, Slots):
        own = [request.parallel_environment] if request.parallel_environment else []
        yield from _environment_problems(own, where, cluster)
    elif isinstance(request, ParallelEnvironment):
        yield from _environment_problems(words, where, cluster)
    elif request.kind in ("queue", "project"):
        known = cluster.queues if request.kind == "queue" else cluster.projects
        for word in words:
            if known is not None and word != request.nothing and word not in known:
                yield (
                    f"{where}: the {request.kind} {word} does not exist; the cluster has "
                    f"{_listed(known)}"
                )


def _argument_problems(arguments: Sequence[str], cluster: Cluster) -> Iterator[str]:
    known: dict[str, tuple[str, Collection[str] | None]] = {
        "-q": ("queue", cluster.queues),
        "-P": ("project", cluster.projects),
        "-pe": ("parallel environment", cluster.environments),
    }
    for option in split_options(arguments):
        kind, names = known.get(option.name, ("", None))
        if names is None or not option.values:
            continue
        for name in option.values[0].split(","):
            if name.partition("@")[0] not in names and "*" not in name:
                yield (
                    f"jupyterhub_qsub_arguments: the {kind} {name} does not exist; the cluster has "
                    f"{_listed(names)}"
                )


def _file_problems(cluster: Cluster) -> Iterator[str]:
    for path, text in cluster.files.items():
        if path.endswith("sge_request"):
            option = find_hindrance(in_effect(parse_options(text, path)), ("-pe",))
            if option:
                yield f"{path}, line {option.line}: no session can have {option}; remove it"
        elif hiding := [word for word in text.split() if word in HIDING]:
            yield f"{path} has {hiding[0]}, which hides jobs from the hub; remove it"


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def worker_problems(
    workers: Collection[str], arguments: Sequence[str], cluster: Cluster
) -> Iterator[str]:
    """Yield the workers that are missing in Grid Engine or in the inventory.

    :param workers: the hosts of the inventory's groups of workers. They may be empty if the workers
        share the notebook environment.
    :param arguments: the site's arguments of qsub for every session.
    """
    if cluster.hosts is None or not workers:
        return
    known = {_short(each) for each in cluster.hosts}
    for worker in workers:
        if _short(worker) not in known:
            yield (
                f"the cluster has no execution host {worker}; it has {_listed(cluster.hosts)} "
                "(qconf -sel). Correct the inventory's groups of workers, or add the host to Grid "
                "Engine"
            )
    ours = {_short(each) for each in workers}
    others = sorted(each for each in cluster.hosts if _short(each) not in ours)
    names = {option.name for option in split_options(arguments)}
    if others and not names & {"-q", "-l"}:
        yield (
            f"Grid Engine may start sessions on {', '.join(others)}, which the inventory does not "
            "name: without the notebook environment, such a session ends at once. Add the hosts "
            "to the inventory's groups of workers, or let sessions run elsewhere only: "
            "jupyterhub_qsub_arguments: [-q, QUEUE]"
        )


def cluster_problems(
    menu: Menu | None, workers: Collection[str], arguments: Sequence[str], cluster: Cluster
) -> Iterator[str]:
    """Yield all in which inventory and cluster do not fit together.

    :param menu: the menu; None if it cannot be read.
    """
    for item in menu.items if menu else ():
        yield from _item_problems(item, cluster)
    yield from _argument_problems(arguments, cluster)
    yield from _file_problems(cluster)
    yield from worker_problems(workers, arguments, cluster)


def parse_hosts(text: str) -> list[str]:
    """Return the execution hosts that ``qhost`` lists (qhost(1)): the first word of each line."""
    lines = [line.split() for line in text.splitlines()[2:]]
    return [words[0] for words in lines if words and words[0] != "global"]


def _values(item: Item) -> list[int | str]:
    """Return the values of an item to try: all that it lists, a range's ends, and its default."""
    if item.range:
        least, step = item.range.minimum, item.range.step
        most = item.range.maximum - (item.range.maximum - least) % step
        return list(dict.fromkeys([least, item.default, most]))
    if item.text:
        return [item.default] if item.default != item.request.nothing else []
    return [*(item.choices or ()), *(option.value for option in item.options or ())]


def _shown(item: Item, value: object) -> str:
    return f"{item.name}: {value}" + (f" {item.unit}" if item.unit else "")


def _added(menu: Menu, values: Mapping[str, int]) -> str:
    named = [_shown(item, values[item.name]) for item in menu.items if item.name in values]
    return f" (with {', '.join(named)})" if named else ""


def requests_of(menu: Menu) -> Iterator[tuple[str, list[str]]]:
    """Yield a name and the arguments of qsub for each choice and each preset of the menu.

    The other items have their defaults. If a rule of the menu asks for more, another item has a
    larger value, which the name then states.
    """
    groups = menu.people()[-1]
    numbers = {
        item.name: [each for each in _values(item) if isinstance(each, int)] for item in menu.items
    }
    most = {name: max(values) for name, values in numbers.items() if values}
    for item in menu.items:
        # First the defaults, then one other number, then all.
        others: list[dict[str, int]] = [
            {},
            *({name: value} for name, values in numbers.items() for value in sorted(values)),
            most,
        ]
        for value in _values(item):
            for each in others:
                if item.name in each and each is not most:
                    continue
                try:
                    choice = menu.choose({**each, item.name: value}, groups)
                    arguments = qsub_arguments(menu, choice)
                except ChoiceError:
                    continue
                added = {name: number for name, number in each.items() if name != item.name}
                yield f"{_shown(item, value)}{_added(menu, added)}", arguments
                break
    for preset in menu.presets:
        with suppress(ChoiceError):
            choice = menu.choose({PRESET_FIELD: preset.name}, groups)
            yield f"preset {preset.name!r}", qsub_arguments(menu, choice)


def request_problems(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the choices and presets of the menu that Grid Engine would refuse, with its reason.

    :param results: ``name``, ``rc`` and ``words`` of ``qsub -w v`` for each choice.
    """
    refused: dict[str, list[str]] = {}
    for each in results:
        if each["rc"] and _REFUSAL.search(each["words"]):
            lines = [line.strip() for line in each["words"].splitlines() if line.strip()]
            shown = [line for line in lines if not line.startswith(("Exiting", "verification:"))]
            words = re.sub(r"\bJob \d+\b", "the job", " ".join(shown)[:MAX_WORDS])
            refused.setdefault(words, []).append(each["name"])
    for words, names in refused.items():
        if 1 < len(names) == len(results):
            yield (
                "jupyterhub_qsub_arguments or jupyterhub_resource_menu: Grid Engine would refuse "
                f"every choice: {words}"
            )
            continue
        presets = any(name.startswith("preset ") for name in names)
        where = "jupyterhub_resource_menu" + (", jupyterhub_resource_presets" if presets else "")
        yield f"{where}: Grid Engine would refuse {', '.join(names)}: {words}"


def cluster_notes(cluster: Cluster, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what works but may surprise, and what could not be checked.

    :param results: as for :func:`request_problems`.
    """
    failed = [each for each in results if each["rc"] and not _REFUSAL.search(each["words"])]
    if failed:
        yield (
            f"{len(failed)} choices of the menu were not checked, because qsub failed: "
            f"{failed[0]['words'].strip()[:MAX_WORDS]}"
        )
    elif not results:
        yield (
            "The menu was not checked with Grid Engine: no account of jupyterhub_allowed_users or "
            "jupyterhub_allowed_groups is known on the hub's host"
        )
    if cluster.complexes is None:
        yield (
            "Grid Engine shows its configuration to administrative hosts only, so these were not "
            "compared with the inventory: how complexes are counted, allocation rules, queues, "
            "projects, and a program that changes or refuses requests (jsv_url). To have them "
            "compared, make the hub's host an administrative host (qconf -ah) while you validate"
        )
    jsv = cluster.settings.get("jsv_url", "none")
    if jsv.lower() != "none":
        yield (
            f"Grid Engine changes or refuses requests with the program {jsv} (jsv_url). Dry runs "
            "do not call it: users read its words when they start a session"
        )
    if cluster.scheduler.get("schedd_job_info", "true") != "true":
        yield "Pages cannot show why a session waits: schedd_job_info is not true (qconf -msconf)"
    if cluster.scheduler.get("flush_submit_sec", "1") == "0":
        interval = cluster.scheduler.get("schedule_interval", "")
        yield (
            f"Sessions wait up to {interval} for the scheduler: set flush_submit_sec to 1 "
            "(qconf -msconf)"
        )
