# SPDX-License-Identifier: BSD-3-Clause
"""Variables that have a new name or are gone, and breaking changes that a site must know of.

An inventory outlives many releases. A variable of an old name would silently have no effect, and a
breaking change would surprise. So both stop a deployment before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gridhub.site.inventory import Problem

#: The version of this release, as in ``galaxy.yml``, which an installed collection lacks.
VERSION = "1.0.0"


class Change(NamedTuple):
    """What has become of a variable."""

    #: The first version without the old name.
    version: str
    #: The new name; empty if there is none.
    new: str = ""
    #: What to do, for a variable without a new name, or whose values differ.
    note: str = ""


#: The variables that were renamed or removed, by their old names. A pull request that renames a
#: variable adds a line here. A line stays for as long as sites may come from that version.
CHANGED: dict[str, Change] = {}

#: The breaking changes by version, each in a sentence that says what a site must do. They are the
#: same as in CHANGELOG.md, section "Breaking".
BREAKING: dict[str, str] = {}

#: The variable with which a site confirms that it has read about breaking changes.
READ = "jupyterhub_changes_read"


def version_key(version: str) -> tuple[int, ...]:
    """Return a version such as 0.2.10 in a form that can be compared.

    :raises ValueError: for anything else.
    """
    parts = tuple(int(part) for part in version.split("."))
    if len(parts) != 3:
        raise ValueError(version)
    return parts


def changed_problems(
    hosts: Mapping[str, Mapping[str, Any]], changed: Mapping[str, Change] = CHANGED
) -> Iterator[Problem]:
    """Yield the variables of an inventory that have another name now, or are gone.

    :param hosts: the variables of each host.
    """
    for host, variables in hosts.items():
        for old in sorted(variables.keys() & changed.keys()):
            change = changed[old]
            became = f"{old} -> {change.new}" if change.new else f"{old} -> (removed)"
            words = f"{became}, since version {change.version}. {change.note}".strip()
            yield Problem((host,), words)


def breaking_problems(
    read: Any, version: str = VERSION, breaking: Mapping[str, str] = BREAKING
) -> Iterator[str]:
    """Yield the breaking changes that a site has not confirmed, and a version that cannot be one.

    :param read: the value of :data:`READ`; empty if the site has not set it.
    :param version: the version of this release.
    """
    try:
        known = version_key(str(read)) if read else (0, 0, 0)
    except ValueError:
        yield f'{READ} is {read!r}; it must be a version in quotes, such as "{version}"'
        return
    if known > version_key(version):
        yield f"{READ} is {read!r}, but this is version {version}; name one that you have read"
        return
    new = [each for each in breaking if version_key(each) > known]
    if new:
        lines = "; ".join(f"{each}: {breaking[each]}" for each in sorted(new, key=version_key))
        newest = max(new, key=version_key)
        yield (
            f"There are breaking changes since the version that you have read about "
            f"({read or 'none'}): {lines}. When your inventory fits them (CHANGELOG.md), set "
            f'{READ}: "{newest}"'
        )
