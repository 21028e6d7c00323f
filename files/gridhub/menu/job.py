# SPDX-License-Identifier: BSD-3-Clause
"""Convert a checked choice into the arguments of qsub and of the job script.

People request totals ("8 GB, 4 cores, 1 GPU"). Grid Engine counts a consumable once for each slot
if its definition says ``consumable YES``, and once for the whole job if its definition says
``consumable JOB`` (complex(5)). :func:`qsub_arguments` converts the totals accordingly.
"""

from __future__ import annotations

from typing import Protocol

from gridhub.menu.items import Choice, Item
from gridhub.menu.kinds import (
    INTERFACES,
    ChoiceError,
    Complex,
    Count,
    Interface,
    Mail,
    Memory,
    Model,
    ParallelEnvironment,
    Project,
    Queue,
    RunTime,
    Slots,
    SoftwareEnvironment,
)
from gridhub.words import text


class HasItems(Protocol):
    """A menu; only its items matter here."""

    items: tuple[Item, ...]


def _chosen(menu: HasItems, choice: Choice) -> list[tuple[Item, int | str]]:
    items = {item.name: item for item in menu.items}
    return [(items[name], value) for name, value in choice.values.items()]


def _resource(item: Item, amount: int, slots: int) -> str:
    """Return the entry of ``-l`` that requests an amount."""
    request = item.request
    assert isinstance(request, Memory | Count | RunTime)
    base = amount * request.units[item.unit]
    if isinstance(request, RunTime):
        return f"{request.complex}={base}"
    shares = slots if request.per == "slot" else 1
    if isinstance(request, Memory):
        return f"{request.complex}={-(-base // shares)}K"
    if base % shares:
        raise ChoiceError(
            text("choice.not_shared", label=item.label, amount=amount, cores=slots),
            item.name,
        )
    return f"{request.complex}={base // shares}"


def qsub_arguments(menu: HasItems, choice: Choice) -> list[str]:
    """Return the qsub arguments that request a checked choice.

    Memory per slot is rounded up to whole KiB, so that a job never gets less than its owner
    requested.

    :raises ChoiceError: when an amount that Grid Engine counts for each slot cannot be divided
        evenly among the slots.
    """
    chosen = _chosen(menu, choice)
    by_kind = {item.request.kind: value for item, value in chosen}
    slots = by_kind.get("slots", 1)
    assert isinstance(slots, int)
    arguments: list[str] = []
    resources: list[str] = []
    for item, value in chosen:
        if value == item.request.nothing:
            continue
        match item.request:
            case Slots(parallel_environment=own):
                arguments += ["-pe", own or str(by_kind["parallel_environment"]), str(value)]
            case Project():
                arguments += ["-P", str(value)]
            case Queue():
                arguments += ["-q", str(value)]
            case Mail():
                arguments += ["-m", "ea", "-M", str(value)]
            case Complex(complex=name):
                resources.append(f"{name}={value}")
            case Memory() | Count() | RunTime():
                assert isinstance(value, int)
                resources.append(_resource(item, value, slots))
            case ParallelEnvironment() | SoftwareEnvironment() | Interface():
                pass  # used elsewhere: in -pe, in the job script's arguments, or in the URL
    if resources:
        arguments += ["-l", ",".join(resources)]
    return arguments


#: The complexes that limit what Grid Engine reports as a job's ``vmem`` (queue_conf(5)).
_VMEM = frozenset({"h_vmem", "s_vmem"})

#: The complexes that limit the resident memory. Linux alone does not enforce them; Open Cluster
#: Scheduler 9.1 does, with systemd (its public source; not seen).
_RSS = frozenset({"h_rss", "s_rss"})


class Requested(Model):
    """The request of a session for one item. Pages compare the request with the actual usage."""

    item: str
    label: str
    value: int | str
    #: The value as the form shows it.
    words: str
    kind: str
    #: The item's complex in Grid Engine; empty if the item has no complex.
    complex: str = ""
    #: The total in Grid Engine's base unit: slots, bytes, things or seconds; 0 for text.
    total: float = 0.0

    @property
    def is_vmem(self) -> bool:
        """Whether the request is for memory whose use Grid Engine reports, as ``vmem``."""
        return self.kind == "memory" and self.complex in _VMEM

    @property
    def is_rss(self) -> bool:
        """Whether the request is for resident memory, whose use some Grid Engines report."""
        return self.kind == "memory" and self.complex in _RSS


def _requested(item: Item, value: int | str) -> Requested:
    request = item.request
    total = value * request.units[item.unit] if isinstance(value, int) else 0
    return Requested(
        item=item.name,
        label=item.label,
        value=value,
        words=item.in_words(value),
        kind=request.kind,
        complex=getattr(request, "complex", ""),
        total=total * 1024 if isinstance(request, Memory) else total,
    )


def requested(menu: HasItems, choice: Choice) -> list[Requested]:
    """Return the requests of a checked choice, in the order of the form."""
    return [
        _requested(item, value)
        for item, value in _chosen(menu, choice)
        if value != item.request.nothing
    ]


def script_arguments(menu: HasItems, choice: Choice) -> list[str]:
    """Return the job script's further arguments: the name of the software environment, if any."""
    return [
        str(value)
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, SoftwareEnvironment) and value
    ]


def gpus(menu: HasItems, choice: Choice) -> dict[str, int]:
    """Return how many GPUs a choice requests, for each complex of the menu that counts GPUs."""
    chosen = choice.values
    return {
        item.request.complex: int(chosen.get(item.name, 0))
        for item in menu.items
        if isinstance(item.request, Count) and item.request.is_gpus
    }


def default_url(menu: HasItems, choice: Choice) -> str:
    """Return the path at which the session opens; empty if the menu does not set it."""
    return "".join(
        INTERFACES[str(value)]
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, Interface)
    )
