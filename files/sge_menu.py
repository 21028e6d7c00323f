# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what people may ask for, and what that means to Grid Engine.

The administrator declares it in the inventory: the items (``jupyterhub_resource_menu``), ready-made
choices (``jupyterhub_resource_presets``) and rules between items (``jupyterhub_resource_limits``);
Ansible writes them as one JSON file. This module is its one type: the form, the check of every
choice (form, REST API, URL), the broker and the validate playbook all use it. Nothing here does I/O
except :func:`load_menu` and :func:`main`.

People ask for totals ("8 GB, 4 cores, 1 GPU"). Grid Engine counts a consumable declared
``consumable YES`` once for each slot and one declared ``JOB`` once for the job (complex(5)); the
arithmetic between the two is done here (:func:`qsub_arguments`).

Words are checked twice: against the menu, and against what is harmless in an argument of qsub
(``harmless`` of each kind), so that no menu can open a way around it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from jinja2 import Environment, StrictUndefined, meta
from jinja2.environment import TemplateExpression
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import SchemaError, SchemaValidator, core_schema

from sge_words import one_of, say, say_number

MENU_VARIABLE = "jupyterhub_resource_menu"
PRESETS_VARIABLE = "jupyterhub_resource_presets"
LIMITS_VARIABLE = "jupyterhub_resource_limits"
#: Where the parts of the menu's file come from.
VARIABLES = {"items": MENU_VARIABLE, "presets": PRESETS_VARIABLE, "limits": LIMITS_VARIABLE}

#: The field that names a preset, beside the items' own.
PRESET_FIELD = "preset"
#: What JupyterHub itself takes from the form and its address; and how a link may mark what is not.
JUPYTERHUBS_FIELDS = ("next", "display_name", "_xsrf")
LINK_PREFIX = "opt-"
#: Longest text of a choice, in characters.
MAX_TEXT = 200
#: How many amounts are tried for one that the rules let pass.
_MANY_STEPS = 100
#: Where JupyterLab and Jupyter Notebook are in a session.
INTERFACES = {"lab": "/lab", "notebook": "/tree"}

#: Names that reach qsub or HTML attributes; Grid Engine itself refuses most other characters.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
_MOST = 10**9
#: An amount as the menu and the people state it: a whole number in the item's unit.
Amount = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
Groups = tuple[Identifier, ...]


def _value(raw: object) -> int | str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and len(raw) <= MAX_TEXT:
        return raw
    raise ValueError(f"give a whole number, or text of at most {MAX_TEXT} characters")


#: What is chosen of an item; whether the item offers it, the menu says.
Value = Annotated[int | str, PlainValidator(_value)]

_DECIMAL = re.compile(r"\d{1,10}", re.ASCII)


class MenuError(ValueError):
    """The menu itself is wrong; the message names the place and is meant for the administrator."""


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


class _Kind(_Model):
    """What an item means to Grid Engine, and what is true of every item of the kind."""

    #: How values may be offered: the keys of an item, one of which it has.
    ways: ClassVar[tuple[str, ...]] = ("options", "text")
    #: The units an item may have, and how much of Grid Engine's base unit each is.
    units: ClassVar[Mapping[str, int]] = {"": 1}
    #: The value that asks for nothing. None where that would mean: without a limit.
    nothing: ClassVar[int | str | None] = ""
    #: What a word may be, whatever the menu says: it becomes an argument, or part of a list.
    harmless: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
    #: May there be several items of the kind?
    several: ClassVar[bool] = False

    @property
    def counted(self) -> str | None:
        """What a host has so and so much of: ``slots``, or a complex; ``None`` for all else."""
        return None


class Slots(_Kind):
    """CPU cores: ``-pe NAME N``. Also for one core, so that a session's slots always count.

    Without a parallel environment of its own where an item of that kind says it.
    """

    ways = ("choices", "range")
    nothing = None
    kind: Literal["slots"]
    parallel_environment: Identifier | None = None

    @property
    def counted(self) -> str:
        """Queues have slots."""
        return "slots"


class Memory(_Kind):
    """Memory in total, as a consumable such as ``h_vmem``; binary units, in KiB for qsub."""

    ways = ("choices", "range")
    units = {"MB": 1024, "GB": 1024 * 1024}
    nothing = None
    kind: Literal["memory"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """Hosts have memory."""
        return self.complex


class Count(_Kind):
    """A number of things in total, as a consumable such as ``gpu``. Zero asks for nothing."""

    ways = ("choices", "range")
    nothing = 0
    several = True
    kind: Literal["count"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """Hosts have things."""
        return self.complex


class RunTime(_Kind):
    """Wall-clock time, such as ``h_rt``, in seconds for qsub."""

    ways = ("choices", "range")
    units = {"minutes": 60, "hours": 3600}
    nothing = None
    kind: Literal["run_time"]
    complex: Identifier


class Project(_Kind):
    """A project: ``-P NAME``; nothing is Grid Engine's default project."""

    kind: Literal["project"]


class Queue(_Kind):
    """A queue, ``NAME``, ``NAME@HOST`` or ``NAME@@HOSTGROUP``: ``-q QUEUE``; nothing is any."""

    harmless = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}(@@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,97})?")
    kind: Literal["queue"]


class ParallelEnvironment(_Kind):
    """The parallel environment the item of kind ``slots`` asks in."""

    ways = ("options",)
    nothing = None
    kind: Literal["parallel_environment"]


class SoftwareEnvironment(_Kind):
    """Software the job script loads before the server starts; only its name leaves the menu."""

    ways = ("options",)
    kind: Literal["environment"]


class Interface(_Kind):
    """Where the session opens, see :data:`INTERFACES`; Grid Engine is asked for nothing."""

    ways = ("options",)
    nothing = None
    harmless = re.compile("|".join(INTERFACES))
    kind: Literal["interface"]


class Mail(_Kind):
    """Mail at the end of the job or when it is aborted: ``-m ea -M ADDRESS``; nothing is none."""

    ways = ("text",)
    # Less than RFC 5322 allows. A comma would make it two addresses.
    harmless = re.compile(
        r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*"
        r"@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
    )
    kind: Literal["mail"]


class Complex(_Kind):
    """A complex whose value is a string: ``-l NAME=VALUE``; nothing does not ask for it."""

    # Nothing that ends an entry of -l (comma, =, space) or that Grid Engine reads as an expression
    # over strings (& | ! ( ) * ? [ ]).
    harmless = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:/@+-]{0,199}")
    several = True
    kind: Literal["complex"]
    complex: Identifier


Request = Annotated[
    Slots
    | Memory
    | Count
    | RunTime
    | Project
    | Queue
    | ParallelEnvironment
    | SoftwareEnvironment
    | Interface
    | Mail
    | Complex,
    Field(discriminator="kind"),
]


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


class Option(_Model):
    """One of several words to choose from, under the words of the form."""

    value: Annotated[str, Field(max_length=MAX_TEXT)]
    label: Words
    #: Whose members see it; everybody where empty.
    groups: Groups = ()
    #: Shell lines of a software environment. They go into the job script, never into a request.
    prologue: Annotated[str, Field(max_length=10_000)] = ""


@cache
def _matcher(pattern: str) -> SchemaValidator:
    # Not Python's `re`: that can take years for a pattern such as (a+)+b, and the hub has one
    # thread for everybody. This one takes time in proportion to the text, whatever the pattern.
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


class Text(_Model):
    """Text of one's own, all of which must match the pattern. Letters and digits are ASCII."""

    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    maximum_length: Annotated[int, Field(strict=True, ge=1, le=MAX_TEXT)] = MAX_TEXT
    example: Words

    @property
    def _whole(self) -> str:
        return f"^(?:{self.pattern})$"

    @model_validator(mode="after")
    def _compiles(self) -> Text:
        try:
            # By itself as well: `a)|(?:b` would be two patterns with one end open each.
            for pattern in (self.pattern, self._whole):
                _matcher(pattern)
        except SchemaError as error:
            reason = str(error).strip().splitlines()[-1].removeprefix("error: ")
            raise ValueError(f"the pattern {self.pattern!r} cannot be used: {reason}") from error
        return self

    def matches(self, text: str) -> bool:
        """Tell whether all of the text is allowed."""
        return (
            len(text) <= self.maximum_length
            and text.isascii()
            and _matcher(self._whole).isinstance_python(text)
        )


def _are_for(members: Groups, groups: Collection[str]) -> bool:
    """Tell whether somebody in ``groups`` is meant; without ``members`` everybody is."""
    return not members or not set(members).isdisjoint(groups)


class Item(_Model):
    """One line of the form.

    It offers numbers in its unit (``choices`` or ``range``) or words (``options`` or ``text``).
    """

    name: Identifier
    label: Words
    help: str = Field("", max_length=1000)
    unit: str = ""
    choices: tuple[Amount, ...] | None = Field(None, min_length=1, max_length=200)
    range: Range | None = None
    options: tuple[Option, ...] | None = Field(None, min_length=1, max_length=200)
    text: Text | None = None
    default: Value
    groups: Groups = ()
    request: Request

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == PRESET_FIELD:
            raise ValueError("this name is kept for presets; take another one")
        if name in JUPYTERHUBS_FIELDS or name.startswith(LINK_PREFIX):
            raise ValueError(
                f"JupyterHub takes {name!r} from the form and from links for itself; give the item "
                "another name"
            )
        return name

    @field_validator("choices")
    @classmethod
    def _choices_differ(cls, choices: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if choices and len(set(choices)) != len(choices):
            raise ValueError("a choice is listed twice")
        return choices

    @model_validator(mode="after")
    def _is_consistent(self) -> Item:
        request = self.request
        given = [way for way in ("choices", "range", "options", "text") if getattr(self, way)]
        if len(given) != 1 or given[0] not in request.ways:
            ways = [f"'{way}'" for way in request.ways]
            either = "either " if len(ways) > 1 else ""
            raise ValueError(f"for kind {request.kind} give {either}{' or '.join(ways)}")
        if self.unit not in request.units:
            allowed = " or ".join(unit or "empty" for unit in request.units)
            raise ValueError(f"unit is {self.unit!r}; for kind {request.kind} it is {allowed}")
        if self.options:
            self._check_options(self.options)
        if self.text and not (self.text.example and self.allows(self.text.example)):
            raise ValueError(f"the example {self.text.example!r} is not allowed itself")
        if not self.allows(self.default):
            raise ValueError(f"default {self.default} is not allowed: {self.allowed_words()}")
        if request.nothing is None and self.allows(0):
            raise ValueError("0 is allowed only where kind is count")
        if self.groups and request.nothing is None:
            # Whoever is outside the groups asks for nothing. For memory, cores and run time
            # "nothing" would mean "without a limit".
            raise ValueError(
                f"kind {request.kind} cannot be kept to groups: nobody can do without it. Only "
                "count, project, queue, environment, mail and complex can"
            )
        return self

    def _check_options(self, options: tuple[Option, ...]) -> None:
        if len({option.value for option in options}) != len(options):
            raise ValueError("an option is listed twice")
        for option in options:
            if not self._is_harmless(option.value):
                raise ValueError(
                    f"option {option.value!r} cannot be a value of kind {self.request.kind}; "
                    "docs/menu.md says what can"
                )
            if option.prologue and not (
                isinstance(self.request, SoftwareEnvironment) and option.value
            ):
                raise ValueError(
                    f"option {option.value!r} cannot have a prologue: only a named option of kind "
                    "environment can"
                )
            if option.groups and option.value == self.default:
                raise ValueError(f"default {self.default!r} is kept to groups; everybody needs one")

    def _is_harmless(self, word: str) -> bool:
        return word == self.request.nothing or bool(self.request.harmless.fullmatch(word))

    def is_for(self, groups: Collection[str]) -> bool:
        """Tell whether a member of ``groups`` (names of Unix groups) may use the item."""
        return _are_for(self.groups, groups)

    def options_for(self, groups: Collection[str]) -> list[Option]:
        """Return the options a member of ``groups`` may choose."""
        return [option for option in self.options or () if _are_for(option.groups, groups)]

    def allows(self, value: int | str) -> bool:
        """Tell whether ``value`` is on the menu, for some people at least."""
        if self.options is not None:
            return value in [option.value for option in self.options]
        if self.text is not None:
            return isinstance(value, str) and (
                value == self.request.nothing
                or (self.text.matches(value) and self._is_harmless(value))
            )
        if isinstance(value, str):
            return False
        if self.choices is not None:
            return value in self.choices
        assert self.range is not None
        return (
            self.range.minimum <= value <= self.range.maximum
            and (value - self.range.minimum) % self.range.step == 0
        )

    def allowed_words(self, groups: Collection[str] | None = None) -> str:
        """Say in words what a member of ``groups`` may choose, or what all may together."""
        if self.text is not None:
            return say(
                "choice.text", example=_quoted(self.text.example), most=self.text.maximum_length
            )
        if self.range is not None:
            least, most = self.range.minimum, self._amount(self.range.maximum)
            if self.range.step > 1:
                return say("choice.range_in_steps", least=least, most=most, step=self.range.step)
            return say("choice.range", least=least, most=most)
        options = self.options or () if groups is None else self.options_for(groups)
        words = [_named(option.value, option.label) for option in options]
        if self.choices:
            words = [*map(str, self.choices[:-1]), self._amount(self.choices[-1])]
        return say("choice.list" if len(words) > 1 else "choice.only", values=one_of(words))

    def unit_words(self, number: int) -> str:
        """Say the item's unit as it goes with a number; empty where it has none."""
        return say_number(f"unit.{self.unit}", number) if self.unit else ""

    def _amount(self, number: int) -> str:
        return f"{number} {self.unit_words(number)}".strip()

    def in_words(self, value: int | str) -> str:
        """Say an allowed value as the form does."""
        if self.options is not None:
            return next(option.label for option in self.options if option.value == value)
        return self._amount(value) if isinstance(value, int) else value

    def units_in(self, total: float) -> int:
        """Return how many of the item's unit are in a number of Grid Engine's (bytes, slots, …).

        Where that is infinite, as many as a menu can offer.
        """
        base = self.request.units[self.unit] * (1024 if isinstance(self.request, Memory) else 1)
        return math.floor(min(total / base, _MOST))

    def in_units(self, total: float) -> str:
        """Say a number of Grid Engine's (bytes, slots, things) in the item's unit."""
        return self._amount(self.units_in(total))

    def above(self, value: int) -> Iterator[int]:
        """Yield the numbers on offer that are larger, the next one first."""
        if self.range is not None:
            low, high, step = self.range.minimum, self.range.maximum, self.range.step
            first = low if value < low else value + step - (value - low) % step
            yield from range(first, high + 1, step)
        yield from sorted(each for each in self.choices or () if each > value)

    def below(self, value: int) -> Iterator[int]:
        """Yield the numbers on offer that are smaller, the next one first."""
        if self.range is not None:
            low, high, step = self.range.minimum, self.range.maximum, self.range.step
            last = min(value - 1, high)
            yield from range(last - (last - low) % step, low - 1, -step)
        yield from sorted((each for each in self.choices or () if each < value), reverse=True)

    def value(self, raw: object, groups: Collection[str] = ()) -> int | str:
        """Turn what arrived from a member of ``groups`` into an allowed value.

        :param raw: a word; or a whole number, or its decimal digits as text.
        :raises ChoiceError: with a message that says what is allowed.
        """
        value: int | str | None = None
        if self.options is not None or self.text is not None:
            value = raw if isinstance(raw, str) else None
        elif isinstance(raw, int) and not isinstance(raw, bool):
            value = raw
        elif isinstance(raw, str) and _DECIMAL.fullmatch(raw):
            value = int(raw)
        if value is None or not self.allows(value):
            raise ChoiceError(
                say(
                    "choice.not_possible",
                    label=self.label,
                    value=_shown(raw),
                    allowed=self.allowed_words(groups),
                ),
                self.name,
            )
        for option in self.options or ():
            if option.value == value and not _are_for(option.groups, groups):
                advice = _sentence(self.allowed_words(groups))
                raise self._is_for_members(raw, option.groups, advice)
        return value

    def value_outside(self, raw: object) -> int | str:
        """Turn what arrived from somebody outside the item's groups into nothing.

        :raises ChoiceError: for anything but nothing.
        """
        nothing = self.request.nothing
        assert nothing is not None
        if type(raw) not in (int, str) or raw not in (nothing, str(nothing)):
            advice = say("choice.zero" if nothing == 0 else "choice.empty")
            raise self._is_for_members(raw, self.groups, advice)
        return nothing

    def _is_for_members(self, raw: object, members: Groups, advice: str) -> ChoiceError:
        return ChoiceError(
            say(
                "choice.members",
                label=self.label,
                value=_shown(raw),
                groups=one_of(members),
                advice=advice,
            ),
            self.name,
        )


def _shown(raw: object) -> str:
    """Show a refused value without letting it flood the page."""
    try:
        text = raw if isinstance(raw, str) else repr(raw)
    except (ValueError, RecursionError):  # a number of thousands of digits, a nest of lists
        return say("choice.this_value")
    text = text.encode(errors="replace").decode()  # half a character of UTF-16 is none of UTF-8
    return _quoted(f"{text[:40]}…" if len(text) > 40 else text)


def _quoted(text: str) -> str:
    return say("choice.quoted", text=text)


def _named(name: str, label: str) -> str:
    return say("choice.named", name=_quoted(name), label=label)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."


class Preset(_Model):
    """A ready-made choice: values of some items, by the items' names."""

    name: Identifier
    label: Words
    help: str = Field("", max_length=1000)
    groups: Groups = ()
    choice: dict[str, Value] = Field(min_length=1, max_length=50)


# Rules are the administrator's own, but values in them are not: nothing is reachable but operators,
# Jinja's filters and the items. A misspelt name is an error instead of an empty value.
_RULES = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
_RULES.globals.clear()


@cache
def _rule(source: str) -> TemplateExpression:
    return _RULES.compile_expression(source, undefined_to_none=False)


class Limit(_Model):
    """A rule between items, such as ``memory <= 32 * cores``, that every choice must keep."""

    rule: Annotated[str, Field(min_length=1, max_length=1000)]
    #: The item whose field shows the message.
    item: Identifier
    message: Words

    @field_validator("rule")
    @classmethod
    def _compiles(cls, rule: str) -> str:
        try:
            _rule(rule)
        except Exception as error:  # whatever a compiler can say
            raise ValueError(f"is not an expression: {error}") from error
        return rule

    @property
    def names(self) -> set[str]:
        """The names the rule uses."""
        return meta.find_undeclared_variables(_RULES.parse(f"{{{{ {self.rule} }}}}"))

    def holds(self, values: Mapping[str, int | str]) -> bool:
        """Evaluate the rule, with all errors of the expression."""
        return bool(_rule(self.rule)(values))


class Choice(_Model):
    """A checked choice: an allowed value for each item the person may use.

    Numbers are in the item's unit.
    """

    values: dict[str, int | str]


class Menu(_Model):
    """All items, in the order of the form, with the presets and the limits."""

    items: tuple[Item, ...] = Field(min_length=1, max_length=50)
    presets: tuple[Preset, ...] = Field((), max_length=50)
    limits: tuple[Limit, ...] = Field((), max_length=50)

    @model_validator(mode="after")
    def _fits_together(self) -> Menu:
        names = [item.name for item in self.items]
        if len(set(names)) != len(names):
            raise ValueError("two items have the same name")
        kinds = [item.request.kind for item in self.items if not item.request.several]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            raise ValueError(f"two items are of kind {min(twice)}")
        complexes = [
            item.request.complex
            for item in self.items
            if isinstance(item.request, Memory | Count | RunTime | Complex)
        ]
        if len(set(complexes)) != len(complexes):
            raise ValueError("two items ask for the same complex")
        slots = [item for item in self.items if isinstance(item.request, Slots)]
        if "parallel_environment" in kinds and not slots:
            raise ValueError("an item of kind parallel_environment needs one of kind slots")
        for item in slots:
            assert isinstance(item.request, Slots)
            if bool(item.request.parallel_environment) == ("parallel_environment" in kinds):
                raise ValueError(
                    f"item {item.name!r}: name the parallel_environment either in its request or in"
                    " an item of kind parallel_environment"
                )
        return self

    def complexes(self) -> frozenset[str]:
        """Return the names of the consumables on the menu, of which a host has so and so much."""
        counted = {item.request.counted for item in self.items} - {None, "slots"}
        return frozenset(str(name) for name in counted)

    def items_for(self, groups: Collection[str]) -> tuple[Item, ...]:
        """Return the items a member of ``groups`` (names of Unix groups) may use."""
        return tuple(item for item in self.items if item.is_for(groups))

    def presets_for(self, groups: Collection[str]) -> list[Preset]:
        """Return the presets a member of ``groups`` may choose all of."""

        def is_possible(preset: Preset) -> bool:
            try:
                for name, value in preset.choice.items():
                    self._value(name, value, groups)
            except ChoiceError:
                return False
            return True

        return [
            preset
            for preset in self.presets
            if _are_for(preset.groups, groups) and is_possible(preset)
        ]

    def _value(self, name: str, raw: object, groups: Collection[str]) -> int | str:
        """Check what arrived for one item."""
        item = next((item for item in self.items if item.name == name), None)
        if item is None:
            mine = ", ".join(item.name for item in self.items_for(groups))
            raise ChoiceError(
                say("choice.unknown", name=_shown(name), items=mine)
                if mine
                else say("choice.nothing", name=_shown(name))
            )
        return item.value(raw, groups) if item.is_for(groups) else item.value_outside(raw)

    def _preset(self, raw: object, groups: Collection[str]) -> Preset:
        mine = self.presets_for(groups)
        for preset in mine:
            if preset.name == raw:
                return preset
        words = [_named(preset.name, preset.label) for preset in mine]
        raise ChoiceError(
            say("choice.preset", value=_shown(raw), values=one_of(words))
            if words
            else say("choice.no_preset", value=_shown(raw)),
            PRESET_FIELD,
        )

    def everything(
        self, values: Mapping[str, int | str], groups: Collection[str]
    ) -> dict[str, int | str]:
        """Complete checked values, for the rules of the limits.

        With an item's default, or with nothing where the item is not for the person.
        """
        whole: dict[str, int | str] = {}
        for item in self.items:
            nothing = item.request.nothing
            default = item.default if item.is_for(groups) or nothing is None else nothing
            whole[item.name] = values.get(item.name, default)
        return whole

    def choose(self, raw: Mapping[str, object], groups: Collection[str]) -> Choice:
        """Check a choice, whichever way it came.

        :param raw: values by item name, numbers also as digits; a missing item takes its default.
            A ``preset`` stands for the values of its items, whatever else is said of these.
        :param groups: names of the Unix groups of the person.
        :raises ChoiceError: for the first thing that is wrong, in words for the person.
        """
        asked = dict(raw)
        preset = asked.pop(PRESET_FIELD, "")
        if preset != "":
            asked |= self._preset(preset, groups).choice
        values = {name: self._value(name, value, groups) for name, value in asked.items()}
        whole = self.everything(values, groups)
        for limit in self.limits:
            try:
                held = limit.holds(whole)
            except Exception:  # such as a division by a chosen 0: not known to be right is wrong
                held = False
            if not held:
                raise ChoiceError(limit.message, limit.item)
        choice = Choice(values={item.name: whole[item.name] for item in self.items_for(groups)})
        qsub_arguments(self, choice)  # refuses amounts that do not divide among the slots
        return choice

    def take(
        self, raw: Mapping[str, object], groups: Collection[str]
    ) -> tuple[dict[str, object], list[str]]:
        """Return what a link says that can be filled in, and why the rest of it cannot.

        A preset is taken with its values, whatever else is said of these.
        """
        values: dict[str, object] = {}
        preset: Preset | None = None
        left_out: list[str] = []
        for name, value in raw.items():
            try:
                if name == PRESET_FIELD:
                    preset = self._preset(value, groups) if value != "" else None
                else:
                    values[name] = self._value(name, value, groups)
            except ChoiceError as error:
                left_out.append(str(error))
        if preset:
            values |= {PRESET_FIELD: preset.name, **preset.choice}
        return values, left_out

    def shift(
        self,
        values: Mapping[str, object],
        name: str,
        groups: Collection[str],
        most: int | None = None,
    ) -> int | None:
        """Return the next amount of an item that a person can choose with the rest of a choice.

        :param most: the next smaller one, and at most this; ``None``: the next larger one.
        :returns: ``None`` where there is none.
        """
        item = next((item for item in self.items_for(groups) if item.name == name), None)
        old = values.get(name, item.default if item else None)
        if item is None or not isinstance(old, int):
            return None
        candidates = item.above(old) if most is None else item.below(min(old, most + 1))
        # Rules may refuse them; a range may have a thousand million.
        for new in islice(candidates, _MANY_STEPS):
            with suppress(ChoiceError):
                self.choose({**values, name: new}, groups)
                return new
        return None

    def people(self) -> list[frozenset[str]]:
        """Return the groups of people who may see different menus: none, each one, all."""
        options = [option for item in self.items for option in item.options or ()]
        kept: list[Item | Option | Preset] = [*self.items, *options, *self.presets]
        named = {group for thing in kept for group in thing.groups}
        return [frozenset(), *(frozenset({group}) for group in sorted(named)), frozenset(named)]


def _chosen(menu: Menu, choice: Choice) -> list[tuple[Item, int | str]]:
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
            say("choice.not_shared", label=item.label, amount=amount, cores=slots),
            item.name,
        )
    return f"{request.complex}={base // shares}"


def qsub_arguments(menu: Menu, choice: Choice) -> list[str]:
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


class Asked(_Model):
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


def _asked(item: Item, value: int | str) -> Asked:
    request = item.request
    total = value * request.units[item.unit] if isinstance(value, int) else 0
    return Asked(
        item=item.name,
        label=item.label,
        value=value,
        words=item.in_words(value),
        kind=request.kind,
        complex=getattr(request, "complex", ""),
        total=total * 1024 if isinstance(request, Memory) else total,
    )


def asked(menu: Menu, choice: Choice) -> list[Asked]:
    """Return what a checked choice asks for, in the order of the form."""
    return [
        _asked(item, value)
        for item, value in _chosen(menu, choice)
        if value != item.request.nothing
    ]


def ending_within(
    menu: Menu, choice: Choice, groups: Collection[str], seconds: float
) -> tuple[Item, Choice | None] | None:
    """Return the item of the run time, and the choice with the longest one that is over in time.

    That may be the choice itself; where no run time on the menu is short enough, it is ``None``.
    Where the menu has no run time at all, all of the answer is.
    """
    item = next((item for item in menu.items if isinstance(item.request, RunTime)), None)
    if item is None:
        return None
    most = min(int(choice.values[item.name]), int(seconds // item.request.units[item.unit]))
    if item.range:
        longest = item.range.maximum, item.range.minimum - 1, -1
        offered: Collection[int] = range(*longest)
    else:
        offered = sorted(item.choices or (), reverse=True)
    for value in offered:
        if value <= most and item.allows(value):
            try:
                return item, menu.choose(choice.values | {item.name: value}, groups)
            except ChoiceError:  # a limit of the menu is against it
                continue
    return item, None


def script_arguments(menu: Menu, choice: Choice) -> list[str]:
    """Return what the job script gets after the session's name: a software environment, if any."""
    return [
        str(value)
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, SoftwareEnvironment) and value
    ]


def default_url(menu: Menu, choice: Choice) -> str:
    """Return where the session opens, or nothing where the menu does not say."""
    return "".join(
        INTERFACES[str(value)]
        for item, value in _chosen(menu, choice)
        if isinstance(item.request, Interface)
    )


class _Offer(NamedTuple):
    """One line of a list to choose from."""

    value: str
    label: str
    #: What it fills in with JavaScript, by field: the values of a preset.
    fills: Mapping[str, int | str] = MappingProxyType({})


class _Field(NamedTuple):
    """What the form shows of an item, or of the presets."""

    name: str
    label: str
    help: Sequence[str]
    #: What a list offers; nothing for a field to write in.
    options: Sequence[_Offer]
    value: str
    #: What a field to write in has besides.
    attributes: Mapping[str, object]


_FORM = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """\
{% for field in fields %}
{% set id = "menu-" ~ field.name %}
{% set wrong = error is not none and error.item == field.name %}
{% set note = notes[field.name] %}
{% set attributes = {
  "class": ("form-select" if field.options else "form-control") ~ (" is-invalid" if wrong else "")
    ~ (" is-changed" if note else ""),
  "autofocus": "" if note and note == (notes.values() | first) else none,
  "id": id,
  "name": field.name,
  "aria-invalid": "true" if wrong else none,
  "aria-describedby":
    (["error-" ~ id] + (["note-" ~ id] if note else [])
     + (["help-" ~ id] if field.help else [])) | join(" "),
} %}
<div class="mb-3">
  <label class="form-label" for="{{ id }}">{{ field.label }}</label>
  {% if field.options %}
  <select{{ attributes | xmlattr }}>
    {% for offer in field.options %}
    <option value="{{ offer.value }}"{% if offer.value == field.value %} selected{% endif %}{% if offer.fills %} data-fills='{{ offer.fills | tojson }}'{% endif %}>{{ offer.label }}</option>
    {% endfor %}
  </select>
  {% else %}
  <input{{ attributes | xmlattr }} value="{{ field.value }}"{{ field.attributes | xmlattr }}>
  {% endif %}
  <div class="invalid-feedback" id="error-{{ id }}">{{ error if wrong }}</div>
  {% if note %}
  <div class="changed" id="note-{{ id }}">{{ note }}</div>
  {% endif %}
  {% if field.help %}
  <div class="form-text" id="help-{{ id }}">{% for line in field.help %}{{ line }}{% if not loop.last %}<br>{% endif %}{% endfor %}</div>
  {% endif %}
</div>
{% endfor %}
"""  # noqa: E501  # HTML is easier to read with an element to a line
)


def _preset_field(menu: Menu, presets: Sequence[Preset], last: Mapping[str, object]) -> _Field:
    items = {item.name: item for item in menu.items}

    def described(preset: Preset) -> str:
        values = [
            f"{items[name].label}: {items[name].in_words(value) or say('preset.none')}"
            for name, value in preset.choice.items()
        ]
        return " ".join([f"{preset.label} – {', '.join(values)}.", preset.help]).strip()

    names = [preset.name for preset in presets]
    return _Field(
        name=PRESET_FIELD,
        label=say("preset.label"),
        help=[
            say("preset.help"),
            *map(described, presets),
        ],
        options=[
            _Offer("", say("preset.own")),
            *(_Offer(preset.name, preset.label, preset.choice) for preset in presets),
        ],
        value=next((name for name in names if name == last.get(PRESET_FIELD)), ""),
        attributes={},
    )


def _item_field(item: Item, groups: Collection[str], value: str) -> _Field:
    options = [_Offer(option.value, option.label) for option in item.options_for(groups)]
    options += [_Offer(str(choice), str(choice)) for choice in item.choices or ()]
    attributes: dict[str, object] = {}
    if item.range is not None:
        attributes = {
            "type": "number",
            "inputmode": "numeric",
            "required": "",
            "min": item.range.minimum,
            "max": item.range.maximum,
            "step": item.range.step,
        }
    elif item.text is not None:
        attributes = {
            "type": "email" if isinstance(item.request, Mail) else "text",
            "maxlength": item.text.maximum_length,
            "placeholder": item.text.example,
        }
    words = [item.help] if item.help else []
    if not options:
        words.append(_sentence(item.allowed_words()))
    return _Field(
        name=item.name,
        label=f"{item.label} ({item.unit_words(0)})" if item.unit else item.label,
        help=[" ".join(words)] if words else [],
        options=options,
        value=value,
        attributes=attributes,
    )


def _again(
    item: Item, groups: Collection[str], last: Mapping[str, object], error: ChoiceError | None
) -> str:
    """Return what the field shows of the last choice."""
    raw = last.get(item.name, item.default)
    try:
        return str(item.value(raw, groups))
    except ChoiceError:
        text = str(raw) if isinstance(raw, str | int) and _fits(raw) else ""
        # Beside the reason people see what they wrote; a list cannot show what is not in it.
        if error is not None and text and (item.range or item.text):
            return text
        return str(item.default)


def _fits(raw: str | int) -> bool:
    return len(raw) <= MAX_TEXT and raw.isprintable() if isinstance(raw, str) else abs(raw) < 10**10


def render_form(
    menu: Menu,
    groups: Collection[str],
    last: Mapping[str, object],
    error: ChoiceError | None = None,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the form's fields as HTML, for one person.

    :param groups: names of the Unix groups of the person.
    :param last: the last choice, shown again where it is still allowed.
    :param error: why ``last`` was refused; shown at the field it is about, if that is on the form.
    :param notes: what there is to say about fields, by name; the first of them gets the focus.
    """
    presets = menu.presets_for(groups)
    for preset in presets:
        if preset.name == last.get(PRESET_FIELD):
            last = {**last, **preset.choice}  # as it counts
    fields = [
        _item_field(item, groups, _again(item, groups, last, error))
        for item in menu.items_for(groups)
    ]
    if presets:
        fields.insert(0, _preset_field(menu, presets, last))
    return _FORM.render(fields=fields, error=error, notes=notes)


def _limit_problems(menu: Menu) -> Iterator[str]:
    names = {item.name for item in menu.items}
    for number, limit in enumerate(menu.limits, 1):
        where = f"{LIMITS_VARIABLE}, limit number {number} ({limit.rule})"
        used = limit.names
        unknown = sorted(used - names) + sorted({limit.item} - names)
        if unknown:
            yield (
                f"{where}: {', '.join(map(repr, unknown))} is no item; the menu has "
                f"{', '.join(sorted(names))}. A name with '.' or '-' cannot be used in a rule"
            )
            continue
        for groups in menu.people():
            values = menu.everything({}, groups)
            told = ", ".join(f"{name} = {values[name]!r}" for name in sorted(used))
            try:
                if not limit.holds(values):
                    yield f"{where}: the menu's own defaults break it: {told}"
                    break
            except Exception as error:  # whatever an expression can do
                yield f"{where}: it cannot be evaluated for the menu's defaults, {told}: {error}"
                break


def _preset_problems(menu: Menu) -> Iterator[str]:
    names = [preset.name for preset in menu.presets]
    everybody = menu.people()[-1]
    for preset in menu.presets:
        where = f"{PRESETS_VARIABLE}, preset {preset.name!r}"
        if names.count(preset.name) > 1:
            yield f"{where}: two presets have this name"
        wrong = False
        for name, value in preset.choice.items():
            try:
                menu._value(name, value, everybody)
            except ChoiceError as error:
                wrong = True
                yield f"{where}, choice: {error}"
        if wrong:
            continue
        for groups in menu.people():
            if preset in menu.presets_for(groups):
                try:
                    menu.choose({PRESET_FIELD: preset.name}, groups)
                except ChoiceError as error:
                    yield f"{where}: a limit does not let it pass: {error}"
                    break


def _problems(menu: Menu) -> list[str]:
    """Return what is wrong between the parts of a menu, one line for each problem."""
    if lines := list(_limit_problems(menu)):
        return lines  # presets are checked against limits that can be evaluated
    for groups in menu.people():
        try:
            menu.choose({}, groups)
        except ChoiceError as error:
            return [f"{MENU_VARIABLE}, the defaults: {error}"]
    return list(_preset_problems(menu))


_MENU: TypeAdapter[Menu] = TypeAdapter(Menu)


# The same text is the same menu: hub and broker read the file anew for every form and every start.
@lru_cache(maxsize=8)
def parse_menu(text: str | bytes, source: str = "The menu in the inventory") -> Menu:
    """Read a menu from JSON: an object of items, presets and limits.

    :raises MenuError: naming every item and value that is wrong.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MenuError(f"{source} is not JSON: {error}") from error
    try:
        menu = _MENU.validate_python(content)
        lines = _problems(menu)
    except ValidationError as error:
        lines = list(_faults(error, content))
    if lines:
        named = [name for name in VARIABLES.values() if any(name in line for line in lines)]
        raise MenuError(
            "\n  ".join([f"{source} is wrong:", *lines])
            + f"\nChange {' and '.join(named or [MENU_VARIABLE])} in the inventory; "
            "docs/menu.md describes what they hold."
        )
    return menu


def _faults(error: ValidationError, content: object) -> Iterator[str]:
    """Say what is wrong with the parts of a menu by themselves, one line for each problem."""
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["loc"] == ("items",) and problem["type"] == "too_short" and len(problems) > 1:
            continue  # said of the whole list because every item in it was refused
        value = problem["input"]
        shown = f" (it is {value!r})" if isinstance(value, str | int | float) else ""
        words = problem["msg"].removeprefix("Value error, ")
        yield f"{_place(problem['loc'], content)}: {words}{shown}"


def _place(location: tuple[int | str, ...], content: object) -> str:
    """Name the place of a problem as the administrator knows it: by variable and name."""
    if not location:
        return f"{MENU_VARIABLE}, the menu"
    part, *path = location
    variable = VARIABLES.get(str(part))
    if variable is None or not isinstance(content, dict):
        return str(part)
    if not path:
        return f"{variable}, the whole list"
    noun = str(part).removesuffix("s")
    entries = content[part]
    if isinstance(path[0], int) and isinstance(entries, list) and path[0] < len(entries):
        entry = entries[path[0]]
        name = entry.get("name") if isinstance(entry, dict) else None
        path[0] = f"{noun} {name!r}" if name else f"{noun} number {path[0] + 1}"
    return ", ".join(str(part) for part in (variable, *path))


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
