# SPDX-License-Identifier: BSD-3-Clause
"""The folders that JupyterLab's file browser offers to a person, by Unix group."""

from __future__ import annotations

import pwd
import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gridhub.broker.protocol import Model


def _one_slash(path: str) -> str:
    """Return a path without repeated slashes, and without one at its end."""
    return str(PurePosixPath(re.sub("/+", "/", path)))


def _template(path: str) -> str:
    bare = path.replace("{user}", "user").replace("{home}", "/home/user")
    if "{" in bare or "}" in bare:
        raise ValueError("a path may contain only the placeholders {user} and {home}")
    if not re.match(r"/|\{home\}(/|$)", path) or not bare.isprintable():
        raise ValueError("a path starts with / or {home}, and has no control characters")
    if any(part.startswith(".") for part in bare.split("/")):
        raise ValueError("Jupyter Server opens no hidden folders, so no part starts with a dot")
    return _one_slash(path)


#: A session's file has 64 kB at most (contract.py), so paths and names have limits.
Template = Annotated[str, Field(max_length=300), AfterValidator(_template)]
Name = Annotated[
    str, Field(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")
]


class Folder(Model):
    """A folder for the members of some Unix groups; for everyone if no group is given."""

    path: Template
    groups: tuple[str, ...] = ()

    def is_for(self, groups: Collection[str]) -> bool:
        """Return whether a member of ``groups`` (names of Unix groups) gets the folder."""
        return not self.groups or not set(self.groups).isdisjoint(groups)

    def path_for(self, user: pwd.struct_passwd) -> str:
        """Return the folder's path for an account."""
        path = self.path.replace("{user}", user.pw_name).replace("{home}", user.pw_dir)
        return _one_slash(path)


class Shortcut(Folder):
    """A folder with the name that users see."""

    name: Name


def hidden_root(roots: Sequence[Folder]) -> Folder | None:
    """Return a root folder that no user gets, because the one before it is for everyone."""
    return next((late for early, late in pairwise(roots) if not early.groups), None)


def unreachable(roots: Collection[Folder], shortcuts: Collection[Shortcut]) -> list[Shortcut]:
    """Return the shortcuts that no user can open: they lie outside every root folder.

    Whether a path lies in the user's home is only known for each user.
    """
    paths = [PurePosixPath(each.path) for each in roots]
    return [
        each
        for each in shortcuts
        if not each.path.startswith("{home}")
        and not any(PurePosixPath(each.path).is_relative_to(path) for path in paths)
    ]


def folders_for(
    user: pwd.struct_passwd,
    groups: Collection[str],
    roots: Collection[Folder],
    shortcuts: Collection[Shortcut],
) -> dict[str, Any]:
    """Return a user's root folder and shortcuts, for the rules of a session.

    :returns: ``root_folder``, a path, unless it is the home; and ``shortcuts``, paths below it by
        name, if there are any. The user gets the first root folder that is for their groups, and of
        several shortcuts with the same name, the first one.
    """
    root = next((each.path_for(user) for each in roots if each.is_for(groups)), "")
    above = root or _one_slash(user.pw_dir)
    paths: dict[str, str] = {}
    for each in shortcuts:
        path = each.path_for(user)
        if each.is_for(groups) and PurePosixPath(path).is_relative_to(above):
            paths.setdefault(each.name, path)
    return ({"root_folder": root} if root else {}) | ({"shortcuts": paths} if paths else {})
