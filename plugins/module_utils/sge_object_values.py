# SPDX-License-Identifier: BSD-3-Clause
"""Check an attribute's requested value, and write it in the form that Grid Engine reads."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BOOLEAN,
    HOSTS,
    KINDS,
    LISTS,
    NAMES,
    PAIRS,
    PARAMS,
    SUBORDINATES,
    TEXT,
    BadRequestError,
    Kind,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SEPARATORS = re.compile(r"[\s,]+")
_OUTER_COMMA = re.compile(r"\s*,\s*(?![^()]*\))")
_WITH_MAP = re.compile(r"([^\s,()=]+=[^\s,()]+)\(([^()]*)\)")
PER_HOST = re.compile(r"\[([^\[\]=]+)=([^\[\]]+)\]")
_DEFAULT_AND_PER_HOST = re.compile(r"([^\[\]]+?)\s*((?:,\s*\[[^\[\]=]+=[^\[\]]+\]\s*)*)")
TRUE_WORDS = ("TRUE", "YES", "Y")
FALSE_WORDS = ("FALSE", "NO", "N")


def _one_line(spec: Kind, attribute: str, value: Any) -> str:
    """Return one value as text on one line.

    :raises BadRequestError: for a type without a text form, and for text that would break the
        format.
    """
    if isinstance(value, bool):
        return spec.booleans[value]
    if not isinstance(value, (str, int, float)):
        problem = "has no value" if value is None else f"is a {type(value).__name__}"
        raise BadRequestError(
            f"attribute {attribute} {problem}; give a string, a number, a boolean or a "
            f"list of strings ({spec.none} or [] to clear it)"
        )
    text = str(value).strip()
    if not text:
        raise BadRequestError(f"attribute {attribute} is empty; write {spec.none} to clear it")
    if _CONTROL.search(text):
        raise BadRequestError(
            f"attribute {attribute} contains a newline or another control character, which would "
            f"break Grid Engine's file format: {text!r}"
        )
    if text.endswith("\\"):
        raise BadRequestError(
            f"attribute {attribute} ends with a backslash, which would join the next line to "
            f"it: {text!r}"
        )
    return text


def split_pairs(text: str) -> list[str]:
    """Split a value of the form PAIRS at the commas outside of parentheses.

    A complex of type RSMAP has a map of its things in parentheses, with blanks and, in Gridware
    Cluster Scheduler, properties: ``gpu=2(gpu0[device=/dev/nvidia0,memory=80G] gpu1[…])``.
    """
    return [item for item in _OUTER_COMMA.split(text.strip()) if item]


def _check_item(attribute: str, item: str, form: str = NAMES) -> str:
    """Return an element of a list; refuse an element that contains separators."""
    if form == PAIRS and (found := _WITH_MAP.fullmatch(item)):
        return f"{found[1]}({' '.join(found[2].split())})"
    if SEPARATORS.search(item):
        raise BadRequestError(
            f"attribute {attribute}: {item!r} contains a blank or a comma, but these separate the "
            "elements of this list; write each element separately"
        )
    return item


def _list_value(spec: Kind, attribute: str, form: str, texts: list[str], split: bool) -> str:
    """Return a list in Grid Engine's form.

    With ``split``, ``texts`` has only one string, which this function splits into the elements.
    """
    if form == SUBORDINATES and "(" in texts[0]:
        # slots=N(queue:order:action, ...) is one expression, although it contains commas.
        if len(texts) > 1:
            raise BadRequestError(f"attribute {attribute}: slots=N(...) must be the only element")
        return texts[0]
    if split:
        split_list = split_pairs if form == PAIRS else SEPARATORS.split
        texts = [item for item in split_list(texts[0]) if item]
    items = [_check_item(attribute, text, form) for text in texts]
    if not items:
        raise BadRequestError(f"attribute {attribute} contains only separators")
    nothing = [item for item in items if item.upper() == "NONE"]
    if nothing and len(items) > 1:
        raise BadRequestError(f"attribute {attribute}: {nothing[0]} must be the only element")
    if form == PAIRS and not nothing:
        for item in items:
            name, equals, value = item.partition("=")
            if not (name and equals and value):
                raise BadRequestError(f"attribute {attribute}: {item!r} must be NAME=VALUE")
    return (" " if form in (NAMES, HOSTS, PARAMS, SUBORDINATES) else ",").join(items)


def _one_value(spec: Kind, attribute: str, texts: list[str], split: bool) -> str:
    """Return a value in Grid Engine's form.

    If the attribute has different values for different hosts, ``texts`` has one of these.
    """
    form = spec.forms.get(attribute, spec.default_form)
    if form in LISTS:
        return _list_value(spec, attribute, form, texts, split)
    if len(texts) != 1:
        raise BadRequestError(f"attribute {attribute} must be one value, not a list: {texts}")
    text = texts[0]
    if form == BOOLEAN and text.upper() in TRUE_WORDS + FALSE_WORDS:
        text = spec.booleans[text.upper() in TRUE_WORDS]
    elif form == TEXT:
        text = " ".join(text.split())
    elif SEPARATORS.search(text):
        raise BadRequestError(
            f"attribute {attribute} must be one word, without blanks or commas: {text!r}"
        )
    check = spec.checks.get(attribute)
    if check and not re.fullmatch(check.pattern, text):
        raise BadRequestError(f"attribute {attribute} must be {check.description}, not {text!r}")
    return text


def wire_value(kind: str, attribute: str, value: Any) -> str:
    """Return a requested value in the form that Grid Engine reads.

    :raises BadRequestError: for a value that would break the format or that Grid Engine would
        misread; the message names the attribute.
    """
    spec = KINDS[kind]
    per_host = spec.per_host and attribute != "hostlist"
    if isinstance(value, (list, tuple)):
        texts = []
        for element in value:
            if isinstance(element, bool):
                raise BadRequestError(
                    f"attribute {attribute}: quote the list's elements, {element} is a boolean"
                )
            texts.append(_one_line(spec, attribute, element))
        if not texts:
            return spec.none
        split = False
    else:
        texts = [_one_line(spec, attribute, value)]
        split = True
    if not per_host or not any("[" in text or "]" in text for text in texts):
        return _one_value(spec, attribute, texts, split)

    wrong = BadRequestError(
        f"attribute {attribute}: {', '.join(texts)!r} must be the default value, and then "
        "[HOST=VALUE] for each host or host group that differs, separated by commas"
    )
    if split:
        found = _DEFAULT_AND_PER_HOST.fullmatch(texts[0])
        if not found:
            raise wrong
        defaults, overrides = [found.group(1)], PER_HOST.findall(found.group(2))
    else:
        defaults, overrides = [], []
        for text in texts:
            match = PER_HOST.fullmatch(text)
            if match:
                overrides.append(match.groups())
            elif "[" in text or "]" in text:
                raise wrong
            else:
                defaults.append(text)
        if not defaults:
            raise wrong
    hosts = [host.strip().lower() for host, _value in overrides]
    if len(set(hosts)) != len(hosts):
        raise BadRequestError(f"attribute {attribute} names a host twice: {', '.join(hosts)}")
    pieces = [_one_value(spec, attribute, defaults, split)]
    for host, host_value in overrides:
        piece = _one_value(spec, attribute, [host_value.strip()], True)
        pieces.append(f"[{_check_item(attribute, host.strip())}={piece}]")
    return ",".join(pieces)
