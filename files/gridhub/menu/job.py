# SPDX-License-Identifier: BSD-3-Clause
"""From a checked choice to a job: the arguments of qsub and of the job script.

People ask for totals ("8 GB, 4 cores, 1 GPU"). Grid Engine counts a consumable declared
``consumable YES`` once for each slot and one declared ``JOB`` once for the job (complex(5)); the
arithmetic between the two is done here (:func:`qsub_arguments`).
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
    """A menu, of which only the items matter here."""

    items: tuple[Item, ...]


def _chosen(menu: HasItems, choice: Choice) -> list[tuple[Item, int | str]]:
    items = {item.name: item for item in menu.items}
    return [(items[name], value) for name, value in choice.values.items()]


def _resource(item: Item, amount: int, slots: int) -> str:
    """Return the entry of ``-l`` that asks for a number."""
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
    """Return the arguments of qsub that ask for a checked choice.

    Amounts of memory per slot are rounded up to whole KiB, so that a job never gets less than its
    owner asked for.

    :raises ChoiceError: where things counted per slot cannot be shared out among the slots.
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
                pass  # said with the slots; to the job script; to the session
    if resources:
        arguments += ["-l", ",".join(resources)]
    return arguments


#: The complexes that limit the address space of a job's processes together (queue_conf(5)).
_ADDRESS_SPACE = frozenset({"h_vmem", "s_vmem"})


class Requested(Model):
    """What a session has of one item: for its person, and to compare with what it uses."""

    item: str
    label: str
    value: int | str
    #: The value as the form has it.
    words: str
    kind: str
    #: The complex that stands for it in Grid Engine; empty where none does.
    complex: str = ""
    #: In total, in Grid Engine's base unit: slots, bytes, things, seconds; 0 for words.
    total: float = 0.0

    @property
    def is_address_space(self) -> bool:
        """Whether it is memory of the kind that Grid Engine tells the use of.

        A program may reserve many times the address space that it puts anything in.
        """
        return self.kind == "memory" and self.complex in _ADDRESS_SPACE


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
    """Return what a checked choice asks for, in the order of the form."""
    return [
        _requested(item, value)
        for item, value in _chosen(menu, choice)
        if value != item.request.nothing
    ]


def script_arguments(menu: HasItems, choice: Choice) -> list[str]:
    """Return what the job script gets after the session's name: a software environment, if any."""
    return [
        str(value)
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, SoftwareEnvironment) and value
    ]


def default_url(menu: HasItems, choice: Choice) -> str:
    """Return where the session opens, or nothing where the menu does not say."""
    return "".join(
        INTERFACES[str(value)]
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, Interface)
    )
