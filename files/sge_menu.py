# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what people may ask for, and what that means to Grid Engine.

The administrator declares the menu in the inventory (``jupyterhub_resource_menu``); Ansible writes
it as JSON. This module is its one type: the form, the check of every choice (form, REST API, URL),
the broker and the validate playbook all use it. Nothing here does I/O except :func:`load_menu`
and :func:`main`.

People ask for totals ("8 GB, 4 cores, 1 GPU"). Grid Engine counts a consumable declared
``consumable YES`` once for each slot and one declared ``JOB`` once for the job (complex(5)); the
arithmetic between the two is done here (:func:`qsub_arguments`).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from jinja2 import Environment
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

MENU_VARIABLE = "jupyterhub_resource_menu"

#: Names that reach qsub or HTML attributes; Grid Engine itself refuses most other characters.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
#: An amount as the menu and the people state it: a whole number in the item's unit.
Amount = Annotated[int, Field(strict=True, ge=0, le=10**9)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]

_DECIMAL = re.compile(r"\d{1,10}", re.ASCII)


class MenuError(ValueError):
    """The menu itself is wrong; the message names the item and is meant for the administrator."""


class ChoiceError(ValueError):
    """A choice is not on the menu.

    ``str(error)`` is a message for the person who chose; ``error.item`` names the menu's item, or
    is ``None`` where the choice as a whole is meant.
    """

    def __init__(self, message: str, item: str | None = None) -> None:
        super().__init__(message)
        self.item = item


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Slots(_Model):
    """CPU cores: ``-pe NAME N``. Also for one core, so that a session's slots always count."""

    kind: Literal["slots"]
    parallel_environment: Identifier


class Memory(_Model):
    """Memory in total, as a consumable such as ``h_vmem``; the item's unit is MB or GB (binary)."""

    kind: Literal["memory"]
    complex: Identifier
    per: Literal["slot", "job"]


class Count(_Model):
    """A number of things in total, as a consumable such as ``gpu``. Zero asks for nothing."""

    kind: Literal["count"]
    complex: Identifier
    per: Literal["slot", "job"]


class RunTime(_Model):
    """Wall-clock time, such as ``h_rt``; the item's unit is minutes or hours."""

    kind: Literal["run_time"]
    complex: Identifier


Request = Annotated[Slots | Memory | Count | RunTime, Field(discriminator="kind")]

#: The units an item of each kind may have, and how much of Grid Engine's base unit each is
#: (slots and things: 1; memory: KiB; run time: seconds).
UNITS: dict[str, dict[str, int]] = {
    "slots": {"": 1},
    "count": {"": 1},
    "memory": {"MB": 1024, "GB": 1024 * 1024},
    "run_time": {"minutes": 60, "hours": 3600},
}


class Range(_Model):
    """Every whole step from ``minimum`` to ``maximum``, both included."""

    minimum: Amount
    maximum: Amount
    step: Annotated[int, Field(strict=True, ge=1)] = 1

    @model_validator(mode="after")
    def _is_not_empty(self) -> Range:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class Item(_Model):
    """One line of the form. Exactly one of ``choices`` and ``range`` says what is allowed."""

    name: Identifier
    label: Words
    help: str = Field("", max_length=1000)
    unit: str = ""
    choices: tuple[Amount, ...] | None = Field(None, min_length=1, max_length=200)
    range: Range | None = None
    default: Amount
    groups: tuple[Identifier, ...] = ()
    request: Request

    @field_validator("choices")
    @classmethod
    def _choices_differ(cls, choices: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if choices and len(set(choices)) != len(choices):
            raise ValueError("a choice is listed twice")
        return choices

    @model_validator(mode="after")
    def _is_consistent(self) -> Item:
        if (self.choices is None) == (self.range is None):
            raise ValueError("give either 'choices' or 'range'")
        units = UNITS[self.request.kind]
        if self.unit not in units:
            allowed = " or ".join(unit or "empty" for unit in units)
            raise ValueError(f"unit is {self.unit!r}; for kind {self.request.kind} it is {allowed}")
        if not self.allows(self.default):
            raise ValueError(f"default {self.default} is not allowed: {self.allowed_words()}")
        if self.request.kind != "count" and self.allows(0):
            raise ValueError("0 is allowed only where kind is count")
        if self.groups and self.request.kind != "count":
            # Whoever is outside the groups asks for nothing. For memory, cores and run time
            # "nothing" would mean "without a limit".
            raise ValueError("only an item of kind count can be kept to groups")
        return self

    def allows(self, amount: int) -> bool:
        """Tell whether ``amount`` (in the item's unit) is on the menu."""
        if self.choices is not None:
            return amount in self.choices
        assert self.range is not None
        return (
            self.range.minimum <= amount <= self.range.maximum
            and (amount - self.range.minimum) % self.range.step == 0
        )

    def allowed_words(self) -> str:
        """Say in words which amounts are allowed."""
        unit = f" {self.unit}" if self.unit else ""
        if self.choices is not None:
            head = ", ".join(str(choice) for choice in self.choices[:-1])
            last = self.choices[-1]
            return f"choose {head} or {last}{unit}" if head else f"only {last}{unit} is offered"
        assert self.range is not None
        step = f" in steps of {self.range.step}" if self.range.step > 1 else ""
        return f"choose from {self.range.minimum} to {self.range.maximum}{unit}{step}"

    def amount(self, raw: object) -> int:
        """Turn what arrived into an allowed amount.

        :param raw: a whole number, or its decimal digits as text.
        :raises ChoiceError: with a message that says what is allowed.
        """
        amount: int | None = None
        if isinstance(raw, int) and not isinstance(raw, bool):
            amount = raw
        elif isinstance(raw, str) and _DECIMAL.fullmatch(raw):
            amount = int(raw)
        if amount is None or not self.allows(amount):
            raise ChoiceError(
                f"{self.label}: {_shown(raw)} is not possible; {self.allowed_words()}.", self.name
            )
        return amount


def _shown(raw: object) -> str:
    """Show a refused value without letting it flood the page."""
    try:
        text = raw if isinstance(raw, str) else repr(raw)
    except (ValueError, RecursionError):  # a number of thousands of digits, a nest of lists
        return "this value"
    return f"“{text[:40]}…”" if len(text) > 40 else f"“{text}”"


class Menu(_Model):
    """All items, in the order of the form."""

    items: tuple[Item, ...] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _fits_together(self) -> Menu:
        names = [item.name for item in self.items]
        if len(set(names)) != len(names):
            raise ValueError("two items have the same name")
        for kind in ("slots", "memory", "run_time"):
            if sum(item.request.kind == kind for item in self.items) > 1:
                raise ValueError(f"two items are of kind {kind}")
        complexes = [item.request.complex for item in self.items if item.request.kind != "slots"]
        if len(set(complexes)) != len(complexes):
            raise ValueError("two items ask for the same complex")
        return self

    def complexes(self) -> frozenset[str]:
        """Return the names of the consumables on the menu, of which a host has so and so much."""
        kinds = (Memory, Count)
        return frozenset(r.complex for i in self.items if isinstance(r := i.request, kinds))

    def items_for(self, groups: Collection[str]) -> tuple[Item, ...]:
        """Return the items a member of ``groups`` (names of Unix groups) may use."""
        return tuple(
            item for item in self.items if not item.groups or set(item.groups) & set(groups)
        )

    def choose(self, raw: Mapping[str, object], groups: Collection[str]) -> Choice:
        """Check a choice, whichever way it came.

        :param raw: amounts by item name, as numbers or digits; a missing item takes its default.
        :param groups: names of the Unix groups of the person.
        :raises ChoiceError: for the first thing that is wrong, in words for the person.
        """
        mine = {item.name: item for item in self.items_for(groups)}
        for name in raw:
            if name in mine:
                continue
            hidden = next((item for item in self.items if item.name == name), None)
            if hidden is None:
                raise ChoiceError(
                    f"{_shown(name)} is not on the menu; it has {', '.join(mine) or 'nothing'}.",
                    None,
                )
            if hidden.amount(raw[name]) != 0:
                raise ChoiceError(
                    f"{hidden.label}: your account may not ask for this; it is for members of "
                    f"{' or '.join(hidden.groups)}.",
                    name,
                )
        choice = Choice(
            amounts={name: item.amount(raw.get(name, item.default)) for name, item in mine.items()}
        )
        qsub_arguments(self, choice)  # refuses amounts that do not divide among the slots
        return choice


class Choice(_Model):
    """A checked choice: an allowed amount, in the item's unit, for each item the person may use."""

    amounts: dict[str, int]


def qsub_arguments(menu: Menu, choice: Choice) -> list[str]:
    """Return the arguments of qsub that ask for a checked choice.

    Amounts of memory per slot are rounded up to whole KiB, so that a job never gets less than its
    owner asked for.

    :raises ChoiceError: where things counted per slot cannot be shared out among the slots.
    """
    items = {item.name: item for item in menu.items}
    chosen = [(items[name], amount) for name, amount in choice.amounts.items()]
    slots = next((amount for item, amount in chosen if item.request.kind == "slots"), 1)
    arguments: list[str] = []
    resources: list[str] = []
    for item, amount in chosen:
        request = item.request
        base = amount * UNITS[request.kind][item.unit]
        if isinstance(request, Slots):
            arguments += ["-pe", request.parallel_environment, str(amount)]
        elif isinstance(request, RunTime):
            resources.append(f"{request.complex}={base}")
        elif isinstance(request, Memory):
            share = -(-base // slots) if request.per == "slot" else base
            resources.append(f"{request.complex}={share}K")
        elif amount:
            if request.per == "slot" and amount % slots:
                raise ChoiceError(
                    f"{item.label}: {amount} cannot be shared out evenly among {slots} CPU cores; "
                    f"choose a multiple of {slots}.",
                    item.name,
                )
            resources.append(
                f"{request.complex}={amount // slots if request.per == 'slot' else amount}"
            )
    if resources:
        arguments += ["-l", ",".join(resources)]
    return arguments


class Asked(_Model):
    """What a session has of one item: for its person, and to compare with what it uses."""

    item: str
    label: str
    #: The amount with its unit, as the form has it.
    words: str
    kind: str
    #: The complex that stands for it in Grid Engine; empty for slots.
    complex: str
    #: In total, in Grid Engine's base unit: slots, bytes, things, seconds.
    total: float


def asked(menu: Menu, choice: Choice) -> list[Asked]:
    """Return what a checked choice asks for, in the order of the form."""
    items = {item.name: item for item in menu.items}
    return [
        Asked(
            item=name,
            label=items[name].label,
            words=f"{amount} {items[name].unit}".strip(),
            kind=request.kind,
            complex="" if isinstance(request, Slots) else request.complex,
            total=amount
            * UNITS[request.kind][items[name].unit]
            * (1024 if request.kind == "memory" else 1),
        )
        for name, amount in choice.amounts.items()
        for request in (items[name].request,)
    ]


_FORM = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """\
{% for item in items %}
{% set id = "menu-" ~ item.name %}
<div class="mb-3">
  <label class="form-label" for="{{ id }}">{{ item.label }}{% if item.unit %} ({{ item.unit }}){% endif %}</label>
  {% if item.choices is not none %}
  <select class="form-select" id="{{ id }}" name="{{ item.name }}"{% if item.help %} aria-describedby="{{ id }}-help"{% endif %}>
    {% for amount in item.choices %}
    <option value="{{ amount }}"{% if amount == chosen[item.name] %} selected{% endif %}>{{ amount }}</option>
    {% endfor %}
  </select>
  {% else %}
  <input class="form-control" type="number" inputmode="numeric" required id="{{ id }}" name="{{ item.name }}" value="{{ chosen[item.name] }}" min="{{ item.range.minimum }}" max="{{ item.range.maximum }}" step="{{ item.range.step }}" aria-describedby="{{ id }}-help">
  {% endif %}
  {% if item.help or item.range %}
  <div class="form-text" id="{{ id }}-help">{{ item.help }}{% if item.range %} {{ sentence(item.allowed_words()) }}{% endif %}</div>
  {% endif %}
</div>
{% endfor %}
"""  # noqa: E501  # HTML is easier to read with an element to a line
)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."


def render_form(menu: Menu, groups: Collection[str], last: Mapping[str, object]) -> str:
    """Return the form's fields as HTML, for one person.

    :param groups: names of the Unix groups of the person.
    :param last: the last choice, shown again where it is still allowed.
    """
    items = menu.items_for(groups)
    chosen: dict[str, int] = {}
    for item in items:
        try:
            chosen[item.name] = item.amount(last.get(item.name, item.default))
        except ChoiceError:
            chosen[item.name] = item.default
    return _FORM.render(items=items, chosen=chosen, sentence=_sentence)


_ITEMS: TypeAdapter[Menu] = TypeAdapter(Menu)


def parse_menu(text: str | bytes, source: str = MENU_VARIABLE) -> Menu:
    """Read a menu from JSON: a list of items.

    :raises MenuError: naming every item and value that is wrong.
    """
    try:
        items: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MenuError(f"{source} is not JSON: {error}") from error
    try:
        return _ITEMS.validate_python({"items": items})
    except ValidationError as error:
        lines = [f"{source} is not a menu:"]
        problems = error.errors(include_url=False)
        for problem in problems:
            if (
                problem["loc"] == ("items",)
                and problem["type"] == "too_short"
                and len(problems) > 1
            ):
                continue  # said of the whole list because every item in it was refused
            where = _item_path(problem["loc"], items)
            value = problem["input"]
            shown = f" (it is {value!r})" if isinstance(value, str | int | float) else ""
            lines.append(f"  {where}: {problem['msg'].removeprefix('Value error, ')}{shown}")
        lines.append(f"Change {MENU_VARIABLE} in the inventory; docs/menu.md describes its items.")
        raise MenuError("\n".join(lines)) from error


def _item_path(location: tuple[int | str, ...], items: object) -> str:
    """Name the place of a problem as the administrator knows it: by item name, not by number."""
    path = list(location[1:])
    if not path:
        return "the menu"
    if isinstance(path[0], int) and isinstance(items, list) and path[0] < len(items):
        item = items[path[0]]
        name = item.get("name") if isinstance(item, dict) else None
        path[0] = f"item {name!r}" if name else f"item number {path[0] + 1}"
    return ", ".join(str(part) for part in path)


def load_menu(path: Path) -> Menu:
    """Load the menu file.

    :raises MenuError: where the file cannot be read or is not a menu.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise MenuError(f"The menu file {path} cannot be read: {error.strerror}") from error
    return parse_menu(text, str(path))


def main() -> int:
    """``sge_menu.py FILE``: check a menu file (``-``: standard input); say what is wrong."""
    if len(sys.argv) != 2:
        print("usage: sge_menu.py FILE", file=sys.stderr)
        return 2
    try:
        if sys.argv[1] == "-":
            parse_menu(sys.stdin.read())
        else:
            load_menu(Path(sys.argv[1]))
    except MenuError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
