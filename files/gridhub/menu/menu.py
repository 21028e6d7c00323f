# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: its items, ready-made choices (presets) and rules (limits).

The form, the broker and the validate playbook all use :class:`Menu`. It checks every choice,
whether the choice comes from the form, the REST API or a URL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Annotated

from jinja2 import StrictUndefined, meta
from jinja2.environment import TemplateExpression
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, field_validator, model_validator

from gridhub.menu.items import Choice, Item, Option, are_for, named, shown
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import (
    PRESET_FIELD,
    ChoiceError,
    Complex,
    Count,
    Groups,
    Identifier,
    Memory,
    Model,
    RunTime,
    Slots,
    Value,
    Words,
)
from gridhub.words import one_of, text

#: Try at most this many amounts to find one that the rules allow.
_MAX_STEPS = 100


class Preset(Model):
    """A ready-made choice: the values of some items, keyed by item name."""

    name: Identifier
    label: Words
    help: str = Field("", max_length=1000)
    groups: Groups = ()
    choice: dict[str, Value] = Field(min_length=1, max_length=50)


# Administrators write the rules, but users choose the values. As a precaution, a rule can use only
# operators, Jinja's filters and the items. A misspelt name is an error, not an empty value.
_RULES = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
_RULES.globals.clear()


@cache
def _rule(source: str) -> TemplateExpression:
    return _RULES.compile_expression(source, undefined_to_none=False)


class Limit(Model):
    """A rule between items, such as ``memory <= 32 * cores``, that every choice must satisfy."""

    rule: Annotated[str, Field(min_length=1, max_length=1000)]
    #: The item whose field shows the message.
    item: Identifier
    message: Words

    @field_validator("rule")
    @classmethod
    def _compiles(cls, rule: str) -> str:
        try:
            _rule(rule)
        except Exception as error:  # a compiler can raise any error
            raise ValueError(f"is not an expression: {error}") from error
        return rule

    @property
    def names(self) -> set[str]:
        """The names that the rule uses."""
        return meta.find_undeclared_variables(_RULES.parse(f"{{{{ {self.rule} }}}}"))

    def is_met(self, values: Mapping[str, int | str]) -> bool:
        """Return whether values satisfy the rule; raise any error that the expression raises."""
        return bool(_rule(self.rule)(values))


class Menu(Model):
    """A whole menu: all items in the order of the form, all presets and all limits."""

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
        """Return the complexes of all consumables on the menu, except ``slots``."""
        counted = {item.request.counted for item in self.items} - {None, "slots"}
        return frozenset(str(name) for name in counted)

    def items_for(self, groups: Collection[str]) -> tuple[Item, ...]:
        """Return the items that a member of ``groups`` (names of Unix groups) may use."""
        return tuple(item for item in self.items if item.is_for(groups))

    def presets_for(self, groups: Collection[str]) -> list[Preset]:
        """Return the presets in which a member of ``groups`` may choose every value."""

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
            if are_for(preset.groups, groups) and is_possible(preset)
        ]

    def _value(self, name: str, raw: object, groups: Collection[str]) -> int | str:
        """Check the input for one item and return its value."""
        item = next((item for item in self.items if item.name == name), None)
        if item is None:
            mine = ", ".join(item.name for item in self.items_for(groups))
            raise ChoiceError(
                text("choice.unknown", name=shown(name), items=mine)
                if mine
                else text("choice.nothing", name=shown(name))
            )
        return item.value(raw, groups) if item.is_for(groups) else item.value_outside(raw)

    def _preset(self, raw: object, groups: Collection[str]) -> Preset:
        mine = self.presets_for(groups)
        for preset in mine:
            if preset.name == raw:
                return preset
        words = [named(preset.name, preset.label) for preset in mine]
        raise ChoiceError(
            text("choice.preset", value=shown(raw), values=one_of(words))
            if words
            else text("choice.no_preset", value=shown(raw)),
            PRESET_FIELD,
        )

    def everything(
        self, values: Mapping[str, int | str], groups: Collection[str]
    ) -> dict[str, int | str]:
        """Complete checked values, so that the rules can be evaluated.

        A missing item gets its default, or the value that requests nothing if the person may not
        use the item.
        """
        whole: dict[str, int | str] = {}
        for item in self.items:
            nothing = item.request.nothing
            default = item.default if item.is_for(groups) or nothing is None else nothing
            whole[item.name] = values.get(item.name, default)
        return whole

    def choose(self, raw: Mapping[str, object], groups: Collection[str]) -> Choice:
        """Check a choice from any source and return it.

        :param raw: the values, keyed by item name; a number may be given as digits, and a missing
            item gets its default. The values of a ``preset`` override the other values in ``raw``.
        :param groups: the names of the person's Unix groups.
        :raises ChoiceError: for the first mistake, in words for the person.
        """
        given = dict(raw)
        preset = given.pop(PRESET_FIELD, "")
        if preset != "":
            given |= self._preset(preset, groups).choice
        values = {name: self._value(name, value, groups) for name, value in given.items()}
        whole = self.everything(values, groups)
        for limit in self.limits:
            try:
                is_met = limit.is_met(whole)
            except Exception:  # such as a division by 0
                is_met = False
            if not is_met:
                raise ChoiceError(limit.message, limit.item)
        choice = Choice(values={item.name: whole[item.name] for item in self.items_for(groups)})
        # This call refuses amounts that cannot be divided among the slots.
        qsub_arguments(self, choice)
        return choice

    def take(
        self, raw: Mapping[str, object], groups: Collection[str]
    ) -> tuple[dict[str, object], list[str]]:
        """Return the allowed values of a link, and a message about each other value.

        The values of an allowed preset override the other values.
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
        """Return the next amount of an item that makes the whole choice allowed.

        :param most: if given, search for a smaller amount that does not exceed ``most``; if
            ``None``, search for a larger amount.
        :returns: ``None`` if there is no such amount.
        """
        item = next((item for item in self.items_for(groups) if item.name == name), None)
        old = values.get(name, item.default if item else None)
        if item is None or not isinstance(old, int):
            return None
        candidates = item.above(old) if most is None else item.below(min(old, most + 1))
        # Limit the number of attempts: a range may have a billion amounts, and the rules may refuse
        # all of them.
        for new in islice(candidates, _MAX_STEPS):
            with suppress(ChoiceError):
                self.choose({**values, name: new}, groups)
                return new
        return None

    def smallest(self, groups: Collection[str] = ()) -> Choice:
        """Return the choice that asks for the least, beginning with the defaults.

        Each amount in turn becomes the smallest with which the whole choice is still allowed.

        :raises ChoiceError: when the rules do not allow the defaults.
        """
        choice = self.choose({}, groups)
        for item in self.items_for(groups):
            old = choice.values[item.name]
            if not isinstance(old, int):
                continue
            # Upwards from the smallest, so that a range with a billion amounts costs little.
            for new in islice(item.above(-1), _MAX_STEPS):
                if new >= old:
                    break
                with suppress(ChoiceError):
                    choice = self.choose({**choice.values, item.name: new}, groups)
                    break
        return choice

    def people(self) -> list[frozenset[str]]:
        """Return sets of groups that may see different menus: no group, each group, all groups."""
        named = self.groups()
        return [frozenset(), *(frozenset({group}) for group in sorted(named)), named]

    def groups(self) -> frozenset[str]:
        """Return the groups that the menu names."""
        options = [option for item in self.items for option in item.options or ()]
        parts: list[Item | Option | Preset] = [*self.items, *options, *self.presets]
        return frozenset(group for part in parts for group in part.groups)


def ending_within(
    menu: Menu, choice: Choice, groups: Collection[str], seconds: float
) -> tuple[Item, Choice | None] | None:
    """Shorten a choice's run time to fit ``seconds``; return the run-time item and the new choice.

    The new run time is the longest that fits, but never longer than the old run time. The new
    choice is ``None`` if every run time on the menu is too long. If the menu has no run time, the
    function returns ``None`` instead of a pair.

    :param seconds: the time that is left.
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
            except ChoiceError:  # a rule forbids this run time
                continue
    return item, None
