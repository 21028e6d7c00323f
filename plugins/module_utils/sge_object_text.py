# SPDX-License-Identifier: BSD-3-Clause
"""Parse the text that qconf prints, and write the text that qconf reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    COMPLEX_COLUMNS,
    KINDS,
    Attributes,
    BadRequestError,
)

_CONTINUATION = re.compile(r"(,?)[ \t]*\\\r?\n[ \t]*")


def join_continuations(text: str) -> str:
    """Join the lines of each value that qconf has broken into several lines."""
    # qconf breaks "a,b" into "a, \<newline>  b". These spaces are not part of the value.
    return _CONTINUATION.sub(lambda found: found.group(1) or " ", text)


def parse_object(text: str) -> Attributes:
    """Parse lines of the form "attribute value", and keep their order."""
    attributes: Attributes = {}
    for line in join_continuations(text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _blank, value = line.strip().partition(" ")
        attributes[name] = value.strip()
    return attributes


def render_object(attributes: Mapping[str, str]) -> str:
    """Return lines of the form "attribute value", which qconf can read."""
    width = max(map(len, attributes), default=0)
    return "".join(f"{name:<{width}} {value}\n" for name, value in attributes.items())


def parse_complexes(text: str) -> dict[str, Attributes]:
    """Parse the table of complexes that ``qconf -sc`` prints.

    Return the columns of each complex, keyed by the complex's name. The first line names the
    columns: some Grid Engines have more than 8.1.9.

    :raises BadRequestError: for a line with a wrong number of columns. Without this error, the next
        change would remove the complex in that line.
    """
    table: dict[str, Attributes] = {}
    columns = complex_columns(text)
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != len(columns) + 1:
            raise BadRequestError(f"cannot read this line of 'qconf -sc': {line!r}")
        table[fields[0]] = dict(zip(columns, fields[1:]))
    return table


def complex_columns(text: str) -> tuple[str, ...]:
    """Return the columns of the table of complexes after the name.

    :raises BadRequestError: if those of 8.1.9 are not the first ones.
    """
    heading = next((line for line in text.splitlines() if line.startswith("#name")), "")
    columns = tuple(heading.split()[1:]) or COMPLEX_COLUMNS
    if columns[: len(COMPLEX_COLUMNS)] != COMPLEX_COLUMNS:
        raise BadRequestError(f"cannot read the columns of 'qconf -sc': {heading!r}")
    return columns


def render_complexes(table: Mapping[str, Mapping[str, str]]) -> str:
    """Return the given complexes as the table that ``qconf -Mc`` reads."""
    more = tuple(next((list(row) for row in table.values()), [])[len(COMPLEX_COLUMNS) :])
    columns = (*COMPLEX_COLUMNS, *more)
    rows: list[tuple[str, ...]] = [("#name", *columns)]
    rows += [(name, *(row[column] for column in columns)) for name, row in table.items()]
    form = "{:<19} {:<10} {:<9} {:<5} {:<11} {:<10} {:<8} {}" + " {}" * len(more) + "\n"
    return "".join(form.format(*row) for row in rows)


def parse_names(text: str) -> list[str]:
    """Parse a list of names, one per line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def file_form(kind: str, name: str, attributes: Mapping[str, str] | None) -> str:
    """Return one object in qconf's format, without the load that a host reports.

    The result is empty for an object that does not exist (``attributes`` is None).
    """
    if attributes is None:
        return ""
    spec = KINDS[kind]
    if kind == "complex":
        return render_complexes({name: attributes})
    if kind in ("admin_host", "submit_host"):
        return f"{name}\n"
    shown = {key: value for key, value in attributes.items() if key not in spec.read_only}
    return render_object(shown)
