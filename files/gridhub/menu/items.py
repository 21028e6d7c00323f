# SPDX-License-Identifier: BSD-3-Clause
"""The items of the menu: each item is one line of the form, and checks the input on this line."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from gridhub.menu.kinds import (
    JUPYTERHUBS_FIELDS,
    LINK_PREFIX,
    MAX_TEXT,
    MOST,
    PRESET_FIELD,
    Amount,
    ChoiceError,
    Groups,
    Identifier,
    Memory,
    Model,
    Request,
    SoftwareEnvironment,
    Value,
    Words,
)
from gridhub.words import number_text, one_of, text

_DECIMAL = re.compile(r"\d{1,10}", re.ASCII)


class Range(Model):
    """The numbers ``minimum``, ``minimum + step``, … up to and including ``maximum``."""

    minimum: Amount
    maximum: Amount
    step: Annotated[int, Field(strict=True, ge=1)] = 1

    @model_validator(mode="after")
    def _is_not_empty(self) -> Range:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class Option(Model):
    """One entry of a list to choose from: its value, and the label that the form shows."""

    value: Annotated[str, Field(max_length=MAX_TEXT)]
    label: Words
    #: Only members of these groups see the option; if no group is given, everyone sees it.
    groups: Groups = ()
    #: Shell lines that set up a software environment. These lines go into the job script, never
    #: into the arguments of qsub.
    prologue: Annotated[str, Field(max_length=10_000)] = ""


@cache
def _matcher(pattern: str) -> SchemaValidator:
    # Do not use Python's `re`: with a pattern such as (a+)+b, a match can take years, and the hub
    # has one thread for all users. With Rust's engine, the time is always proportional to the
    # length of the text.
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


class Text(Model):
    """Free text. The whole text must match the pattern and consist of ASCII characters."""

    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    maximum_length: Annotated[int, Field(strict=True, ge=1, le=MAX_TEXT)] = MAX_TEXT
    example: Words

    @property
    def _whole(self) -> str:
        return f"^(?:{self.pattern})$"

    @model_validator(mode="after")
    def _compiles(self) -> Text:
        try:
            # Compile the bare pattern too: `a)|(?:b` is invalid by itself, but wrapping would make
            # it the valid pattern `^(?:a)|(?:b)$`, in which neither alternative has to match the
            # whole text.
            for pattern in (self.pattern, self._whole):
                _matcher(pattern)
        except SchemaError as error:
            reason = str(error).strip().splitlines()[-1].removeprefix("error: ")
            raise ValueError(f"the pattern {self.pattern!r} cannot be used: {reason}") from error
        return self

    def matches(self, text: str) -> bool:
        """Return whether ``text`` is allowed."""
        return (
            len(text) <= self.maximum_length
            and text.isascii()
            and _matcher(self._whole).isinstance_python(text)
        )


def are_for(members: Groups, groups: Collection[str]) -> bool:
    """Return whether ``groups`` contains one of ``members``; true if ``members`` is empty."""
    return not members or not set(members).isdisjoint(groups)


class Item(Model):
    """One item of the menu, which is one line of the form.

    An item offers either numbers in the item's unit (``choices`` or ``range``) or words
    (``options`` or ``text``).
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
            raise ValueError("this name is reserved for presets; choose another one")
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
            raise ValueError(f"the example {self.text.example!r} is itself not allowed")
        if not self.allows(self.default):
            raise ValueError(f"default {self.default} is not allowed: {self.allowed_words()}")
        if request.nothing is None and self.allows(0):
            raise ValueError("0 is allowed only where kind is count")
        if self.groups and request.nothing is None:
            # People outside the groups request nothing. For memory, cores and run time, requesting
            # nothing would mean "without a limit".
            raise ValueError(
                f"kind {request.kind} cannot be limited to groups: everyone needs it. Only "
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
                    "docs/menu.md describes the allowed values"
                )
            if option.prologue and not (
                isinstance(self.request, SoftwareEnvironment) and option.value
            ):
                raise ValueError(
                    f"option {option.value!r} cannot have a prologue: only a named option of kind "
                    "environment can"
                )
            if option.groups and option.value == self.default:
                raise ValueError(
                    f"default {self.default!r} is limited to groups; everyone needs one"
                )

    def _is_harmless(self, word: str) -> bool:
        return word == self.request.nothing or bool(self.request.harmless.fullmatch(word))

    def is_for(self, groups: Collection[str]) -> bool:
        """Return whether a member of ``groups`` (names of Unix groups) may use the item."""
        return are_for(self.groups, groups)

    def options_for(self, groups: Collection[str]) -> list[Option]:
        """Return the options that a member of ``groups`` may choose."""
        return [option for option in self.options or () if are_for(option.groups, groups)]

    def allows(self, value: int | str) -> bool:
        """Return whether ``value`` is on the menu, at least for some people."""
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
        """Describe the values that a member of ``groups`` may choose; ``None`` means all values."""
        if self.text is not None:
            return text(
                "choice.text", example=_quoted(self.text.example), most=self.text.maximum_length
            )
        if self.range is not None:
            least, most = self.range.minimum, self._amount(self.range.maximum)
            if self.range.step > 1:
                return text("choice.range_in_steps", least=least, most=most, step=self.range.step)
            return text("choice.range", least=least, most=most)
        options = self.options or () if groups is None else self.options_for(groups)
        words = [named(option.value, option.label) for option in options]
        if self.choices:
            words = [*map(str, self.choices[:-1]), self._amount(self.choices[-1])]
        return text("choice.list" if len(words) > 1 else "choice.only", values=one_of(words))

    def unit_words(self, number: int) -> str:
        """Return the item's unit, if any, in the singular or plural to match ``number``."""
        return number_text(f"unit.{self.unit}", number) if self.unit else ""

    def _amount(self, number: int) -> str:
        return f"{number} {self.unit_words(number)}".strip()

    def in_words(self, value: int | str) -> str:
        """Return an allowed value as the form shows it."""
        if self.options is not None:
            return next(option.label for option in self.options if option.value == value)
        return self._amount(value) if isinstance(value, int) else value

    def units_in(self, total: float) -> int:
        """Convert an amount from Grid Engine's base unit (bytes, slots, …) to the item's unit.

        The result is rounded down to a whole number. An infinite amount becomes the largest number
        that a menu can offer.
        """
        base = self.request.units[self.unit] * (1024 if isinstance(self.request, Memory) else 1)
        return math.floor(min(total / base, MOST))

    def in_units(self, total: float) -> str:
        """Convert an amount from Grid Engine's base unit to text in the item's unit."""
        return self._amount(self.units_in(total))

    def above(self, value: int) -> Iterator[int]:
        """Yield the offered numbers that are larger than ``value``, the nearest first."""
        if self.range is not None:
            low, high, step = self.range.minimum, self.range.maximum, self.range.step
            first = low if value < low else value + step - (value - low) % step
            yield from range(first, high + 1, step)
        yield from sorted(each for each in self.choices or () if each > value)

    def below(self, value: int) -> Iterator[int]:
        """Yield the offered numbers that are smaller than ``value``, the nearest first."""
        if self.range is not None:
            low, high, step = self.range.minimum, self.range.maximum, self.range.step
            last = min(value - 1, high)
            yield from range(last - (last - low) % step, low - 1, -step)
        yield from sorted((each for each in self.choices or () if each < value), reverse=True)

    def value(self, raw: object, groups: Collection[str] = ()) -> int | str:
        """Convert unchecked input from a member of ``groups`` into an allowed value.

        :param raw: text, or, for an item with numbers, a whole number or its decimal digits.
        :raises ChoiceError: with a message that describes the allowed values.
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
                text(
                    "choice.not_possible",
                    label=self.label,
                    value=shown(raw),
                    allowed=self.allowed_words(groups),
                ),
                self.name,
            )
        for option in self.options or ():
            if option.value == value and not are_for(option.groups, groups):
                advice = sentence(self.allowed_words(groups))
                raise self._is_for_members(raw, option.groups, advice)
        return value

    def value_outside(self, raw: object) -> int | str:
        """Check that a person outside the item's groups requests nothing.

        :returns: the item's value that means "request nothing".
        :raises ChoiceError: when the input requests something.
        """
        nothing = self.request.nothing
        assert nothing is not None
        if type(raw) not in (int, str) or raw not in (nothing, str(nothing)):
            advice = text("choice.zero" if nothing == 0 else "choice.empty")
            raise self._is_for_members(raw, self.groups, advice)
        return nothing

    def _is_for_members(self, raw: object, members: Groups, advice: str) -> ChoiceError:
        return ChoiceError(
            text(
                "choice.members",
                label=self.label,
                value=shown(raw),
                groups=one_of(members),
                advice=advice,
            ),
            self.name,
        )


def shown(raw: object) -> str:
    """Return a refused value in quotes, shortened so that it cannot flood the page."""
    try:
        value = raw if isinstance(raw, str) else repr(raw)
    except (ValueError, RecursionError):  # too many digits, or lists nested too deeply
        return text("choice.this_value")
    value = value.encode(errors="replace").decode()  # replace what UTF-8 cannot encode
    return _quoted(f"{value[:40]}…" if len(value) > 40 else value)


def _quoted(value: str) -> str:
    return text("choice.quoted", text=value)


def named(name: str, label: str) -> str:
    """Return a name and its label as messages show them."""
    return text("choice.named", name=_quoted(name), label=label)


def sentence(words: str) -> str:
    """Return words as a sentence, with a capital letter and a full stop."""
    return words[:1].upper() + words[1:] + "."


class Choice(Model):
    """A checked choice: an allowed value for each item that the person may use.

    Numbers are in the item's unit.
    """

    values: dict[str, int | str]
