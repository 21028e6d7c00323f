# SPDX-License-Identifier: BSD-3-Clause
"""Check a requested object: its kind, its name and its attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    COMPLEX_COLUMNS,
    COMPLEX_DEFAULTS,
    COMPLEX_TEXT_TYPES,
    GLOBAL_CONFIGURATION,
    KINDS,
    LOCAL_CONFIGURATION,
    RESERVED_NAMES,
    Attributes,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_values import wire_value


def check_description(wanted: Mapping[str, Any], number: int) -> None:
    """Check one entry of ``objects``; Ansible checks only that the entry is a dictionary.

    :raises BadRequestError: if the entry is wrong; the message names the entry and its error.
    """
    place = f"objects, entry {number}"
    unknown = sorted(set(wanted) - {"kind", "name", "attributes", "state"})
    if unknown:
        raise BadRequestError(f"{place}: unknown key {unknown[0]!r}")
    if wanted.get("kind") not in KINDS:
        raise BadRequestError(
            f"{place}: kind is {wanted.get('kind')!r}; it must be one of {', '.join(KINDS)}"
        )
    if wanted.get("state", "present") not in ("present", "absent"):
        raise BadRequestError(
            f"{place}: state is {wanted['state']!r}; it must be present or absent"
        )
    if not isinstance(wanted.get("attributes") or {}, Mapping):
        raise BadRequestError(f"{place}: attributes must be a dictionary")


def check_name(kind: str, name: str | None) -> str:
    """Check the object's name, and return it.

    :raises BadRequestError: for a name that qconf would misread, for example as a pattern.
    """
    if kind == "scheduler":
        if name:
            raise BadRequestError(f"kind scheduler has no name; leave out name: {name}")
        return kind
    spec = KINDS[kind]
    if not name:
        raise BadRequestError(f"kind {kind} needs a name")
    if not re.fullmatch(spec.name_pattern, name) or name.lower() in RESERVED_NAMES:
        # For example, "qconf -dq" would take "*" as a pattern, and remove all queues.
        extra = " starting with @" if kind == "host_group" else ""
        raise BadRequestError(
            f"{name!r} cannot be the name of a {kind}: use letters, digits and _ . + -{extra}, "
            f"but none of {', '.join(RESERVED_NAMES)}"
        )
    return name


def _describe_attributes(kind: str, known: list[str]) -> str:
    return f"kind {kind} has: {', '.join(known)}" if known else f"kind {kind} has no attributes"


def wire_attributes(
    kind: str, wanted: Mapping[str, Any], known: list[str], name: str = ""
) -> Attributes:
    """Return all requested attributes in the form that Grid Engine reads.

    :raises BadRequestError: for an attribute that the kind does not have or that cannot be set, and
        for a value that cannot be written.
    """
    spec = KINDS[kind]
    allowed = sorted(key for key in known if key != spec.key and key not in spec.read_only)
    for attribute in wanted:
        if attribute in spec.read_only:
            raise BadRequestError(
                f"attribute {attribute} is reported by the host and cannot be set; "
                f"{_describe_attributes(kind, allowed)}"
            )
        if spec.key and attribute == spec.key:
            raise BadRequestError(f"attribute {attribute} is the object's name; use name instead")
        if attribute not in allowed:
            which = f" of {name}" if kind == "configuration" else ""
            raise BadRequestError(
                f"unknown attribute {attribute!r}; {_describe_attributes(kind + which, allowed)}"
            )
    return {key: wire_value(kind, key, value) for key, value in wanted.items()}


def known_attributes(
    kind: str, name: str, base: Mapping[str, str], columns: Sequence[str] = COMPLEX_COLUMNS
) -> list[str]:
    """Return the names of the attributes that the object can have.

    ``base`` is the existing object or, for a new object, the template. ``columns`` are those of the
    table of complexes.
    """
    if kind == "complex":
        return list(columns)
    if kind == "configuration":
        documented = GLOBAL_CONFIGURATION if name == "global" else LOCAL_CONFIGURATION
        return list(dict.fromkeys([*base, *documented]))
    return list(base)


def new_complex(
    name: str, wanted: Mapping[str, str], columns: Sequence[str] = COMPLEX_COLUMNS
) -> Attributes:
    """Return a new row for the table of complexes: the wanted columns, and defaults for the rest.

    :raises BadRequestError: if ``wanted`` has no type, on which the defaults depend, or lacks a
        column that only this Grid Engine has.
    """
    if "type" not in wanted:
        raise BadRequestError(
            f"complex {name} does not exist yet: its attribute type is required to create it"
        )
    type_ = wanted["type"].upper()
    textual = type_ in COMPLEX_TEXT_TYPES
    entry = {
        "shortcut": name,
        "type": type_,
        "relop": "==" if textual or type_ == "BOOL" else "<=",
        "requestable": "YES",
        "consumable": "NO",
        "default": "NONE" if textual else "0:0:0" if type_ == "TIME" else "0",
        "urgency": "0",
    }
    lacking = [each for each in columns if each not in entry and each not in wanted]
    if lacking:
        raise BadRequestError(
            f"complex {name} does not exist yet: this Grid Engine's complexes also have "
            f"{', '.join(lacking)} (qconf -sc); give these attributes too"
        )
    return {**entry, **wanted}


def check_complex(entry: Mapping[str, str]) -> None:
    """Refuse a default that is invalid for the complex's type; Grid Engine would accept any word.

    :raises BadRequestError: if the default is invalid; the message names the required form.
    """
    check = COMPLEX_DEFAULTS.get(entry["type"].upper())
    default = entry["default"]
    if check and default.upper() != "NONE" and not re.fullmatch(check.pattern, default):
        raise BadRequestError(
            f"attribute default of a complex of type {entry['type']} must be {check.description}, "
            f"not {default!r}"
        )
