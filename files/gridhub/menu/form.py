# SPDX-License-Identifier: BSD-3-Clause
"""Render the form's fields as HTML for one person."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader

from gridhub.menu.items import Item, sentence
from gridhub.menu.kinds import MAX_TEXT, PRESET_FIELD, ChoiceError, Mail
from gridhub.menu.menu import Menu, Preset
from gridhub.words import text


class _Offer(NamedTuple):
    """One entry of a list to choose from."""

    value: str
    label: str
    #: A preset's values, keyed by field; JavaScript fills them in when the preset is chosen.
    fills: Mapping[str, int | str] = MappingProxyType({})


class _Field(NamedTuple):
    """The field that the form shows for an item, or for the presets."""

    name: str
    label: str
    help: Sequence[str]
    #: The entries of a list; empty for an input field.
    options: Sequence[_Offer]
    value: str
    #: Further HTML attributes of an input field.
    attributes: Mapping[str, object]


#: The release's folder with the templates of all pages.
PAGES = Path(__file__).resolve().parents[2] / "pages"

_PAGES = Environment(
    loader=FileSystemLoader(PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def _preset_field(menu: Menu, presets: Sequence[Preset], last: Mapping[str, object]) -> _Field:
    items = {item.name: item for item in menu.items}

    def described(preset: Preset) -> str:
        values = [
            f"{items[name].label}: {items[name].in_words(value) or text('preset.none')}"
            for name, value in preset.choice.items()
        ]
        return " ".join([f"{preset.label} – {', '.join(values)}.", preset.help]).strip()

    names = [preset.name for preset in presets]
    return _Field(
        name=PRESET_FIELD,
        label=text("preset.label"),
        help=[
            text("preset.help"),
            *map(described, presets),
        ],
        options=[
            _Offer("", text("preset.own")),
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
        words.append(sentence(item.allowed_words()))
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
    """Return the value for an item's field: the last input if possible, else the default."""
    raw = last.get(item.name, item.default)
    try:
        return str(item.value(raw, groups))
    except ChoiceError:
        text = str(raw) if isinstance(raw, str | int) and _fits(raw) else ""
        # Show the refused input again beside the error, but only in an input field: a list can show
        # only its entries.
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

    :param groups: the names of the person's Unix groups.
    :param last: the last choice, shown again if it is still allowed.
    :param error: why ``last`` was refused; the form shows the error beside the field of
        ``error.item``.
    :param notes: notes on fields, keyed by field name; the first of these fields gets the focus.
    """
    presets = menu.presets_for(groups)
    for preset in presets:
        if preset.name == last.get(PRESET_FIELD):
            last = {**last, **preset.choice}  # a preset overrides other values
    fields = [
        _item_field(item, groups, _again(item, groups, last, error))
        for item in menu.items_for(groups)
    ]
    if presets:
        fields.insert(0, _preset_field(menu, presets, last))
    return _PAGES.get_template("fields.html").render(fields=fields, error=error, notes=notes)
