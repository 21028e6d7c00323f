# SPDX-License-Identifier: BSD-3-Clause
"""Compare an object with what was requested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BOOLEAN,
    COMPLEX_TEXT_TYPES,
    HOSTS,
    KINDS,
    LISTS,
    PAIRS,
    PARAMS,
    SUBORDINATES,
    Attributes,
    BadRequestError,
    Kind,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_values import (
    FALSE_WORDS,
    PER_HOST,
    SEPARATORS,
    TRUE_WORDS,
    split_pairs,
)

_NUMERIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIME = re.compile(r"(\d+):(\d+):(\d+)")
#: One thing of a map, and its properties in square brackets.
_THING = re.compile(r"([^\s\[\]]+)(?:\[([^\]]*)\])?")
_CONSTANTS = ("NONE", "INFINITY", "UNDEFINED", "TRUE", "FALSE")


def _normal_word(word: str) -> str:
    """Return the same spelling for all words that mean the same number, time or constant."""
    found = _TIME.fullmatch(word)
    if found:
        hours, minutes, seconds = (int(part) for part in found.groups())
        return repr(float(hours * 3600 + minutes * 60 + seconds))
    if _NUMERIC.fullmatch(word):
        return repr(float(word))
    # Case matters except in constants. For example, 1g is 1000^3, but 1G is 1024^3.
    return word.upper() if word.upper() in _CONSTANTS else word


def _normal_amount(value: str) -> Any:
    """Return the normal form of a value, which may have a map of the things it counts.

    Grid Engine writes a range such as ``1-3`` as single numbers (sge_complex(5) of Open Cluster
    Scheduler 9).
    """
    amount, opened, things = value.partition("(")
    if not opened:
        return _normal_word(value)
    names: list[tuple[str, ...]] = []
    for name, properties in _THING.findall(things.rstrip(")")):
        first, _dash, last = name.partition("-")
        if first.isdecimal() and last.isdecimal() and not properties:
            names += [(str(number),) for number in range(int(first), int(last) + 1)]
        else:
            given = "".join(properties.split()).split(",")
            names.append((name, *sorted(filter(None, given))))
    return _normal_word(amount.strip()), tuple(sorted(names))


def _normal_piece(spec: Kind, attribute: str, text: str) -> Any:
    """Return the normal form of a value that has no overrides for single hosts."""
    form = spec.forms.get(attribute, spec.default_form)
    if text.strip().upper() == "NONE":
        return "NONE"
    if form == SUBORDINATES and "(" in text:
        return "".join(text.split())
    if form in (PAIRS, PARAMS):
        items = split_pairs(text) if form == PAIRS else SEPARATORS.split(text)
        pairs = (item.partition("=") for item in items if item.strip())
        return frozenset((key.strip(), _normal_amount(value.strip())) for key, _, value in pairs)
    if form in LISTS:
        names = [name for name in SEPARATORS.split(text) if name]
        return frozenset(name.lower() if form == HOSTS else name for name in names)
    if form == BOOLEAN and spec.folds_booleans:
        word = text.upper()
        return "TRUE" if word in TRUE_WORDS else "FALSE" if word in FALSE_WORDS else word
    return _normal_word(" ".join(text.split()))


def normal_value(kind: str, attribute: str, text: str) -> Any:
    """Return a value's normal form, which is the same for all spellings of the value."""
    spec = KINDS[kind]
    if kind == "complex" and attribute in ("type", "relop"):
        return text.upper()
    if not spec.per_host or attribute == "hostlist":
        return _normal_piece(spec, attribute, text)
    per_host = frozenset(
        (host.strip().lower(), _normal_piece(spec, attribute, value.strip()))
        for host, value in PER_HOST.findall(text)
    )
    default = PER_HOST.sub("", text).strip().strip(", ")
    return (_normal_piece(spec, attribute, default), per_host)


def keep_maps(kind: str, current: Mapping[str, str], wanted: Mapping[str, str]) -> Attributes:
    """Return the wanted values, with the current map of each thing that is requested without one.

    With an amount alone, ``gpu=2``, the names of the things in ``gpu=2(gpu0 gpu1)`` stay.

    :raises BadRequestError: if the amount differs, so that the map would no longer be right.
    """
    spec = KINDS[kind]
    kept = dict(wanted)
    for attribute, value in wanted.items():
        if spec.forms.get(attribute) != PAIRS or PER_HOST.search(value):
            continue
        items = (item.partition("=") for item in split_pairs(current.get(attribute, "")))
        maps = {name: text for name, _, text in items if "(" in text}
        pairs = []
        for item in split_pairs(value):
            name, _equals, amount = item.partition("=")
            found = maps.get(name)
            if found and "(" not in amount:
                if _normal_word(amount) != _normal_word(found.partition("(")[0]):
                    raise BadRequestError(
                        f"attribute {attribute}: {name} is {found} now. Name each of the {amount} "
                        f"things too, as in {name}={found}"
                    )
                item = f"{name}={found}"
            pairs.append(item)
        kept[attribute] = ",".join(pairs)
    return kept


def differing(kind: str, current: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return the names of the attributes whose current value differs from the wanted value."""
    literal = {"default"} if current.get("type", "").upper() in COMPLEX_TEXT_TYPES else set()
    names = []
    for name, value in wanted.items():
        found = current.get(name)
        if found is None:
            names.append(name)
        elif kind == "complex" and name in literal:
            # For a complex of a text type, "01" and "1" are different defaults.
            if found != value and {found.upper(), value.upper()} != {"NONE"}:
                names.append(name)
        elif normal_value(kind, name, found) != normal_value(kind, name, value):
            names.append(name)
    return names


def merge(
    kind: str, current: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[Attributes, list[str]]:
    """Return the object with the wanted values, and the names of the attributes that change."""
    changed = differing(kind, current, wanted)
    return {**current, **{name: wanted[name] for name in changed}}, changed
