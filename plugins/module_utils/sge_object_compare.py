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
    Kind,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_values import (
    FALSE_WORDS,
    PER_HOST,
    SEPARATORS,
    TRUE_WORDS,
)

_NUMERIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIME = re.compile(r"(\d+):(\d+):(\d+)")
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


def _normal_piece(spec: Kind, attribute: str, text: str) -> Any:
    """Return the normal form of a value that has no overrides for single hosts."""
    form = spec.forms.get(attribute, spec.default_form)
    if text.strip().upper() == "NONE":
        return "NONE"
    if form == SUBORDINATES and "(" in text:
        return "".join(text.split())
    if form in (PAIRS, PARAMS):
        pattern = "," if form == PAIRS else r"[\s,]+"
        pairs = (item.partition("=") for item in re.split(pattern, text) if item.strip())
        return frozenset((key.strip(), _normal_word(value.strip())) for key, _, value in pairs)
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
