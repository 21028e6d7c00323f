# SPDX-License-Identifier: BSD-3-Clause
"""The folders that JupyterLab's file browser offers to a person, by Unix group."""

from __future__ import annotations

import pwd
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gridhub.broker.protocol import Model


def _is_template(path: str) -> str:
    bare = path.replace("{user}", "user").replace("{home}", "/home/user")
    if "{" in bare or "}" in bare:
        raise ValueError("a path may contain only the placeholders {user} and {home}")
    if not path.startswith(("/", "{home}")) or not bare.isprintable():
        raise ValueError("a path starts with / or {home}, and has no control characters")
    if any(part.startswith(".") for part in bare.split("/")):
        raise ValueError("Jupyter Server opens no hidden folders, so no part starts with a dot")
    return path


Template = Annotated[str, Field(max_length=1_000), AfterValidator(_is_template)]
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]


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
        return str(PurePosixPath(path))


class Shortcut(Folder):
    """A folder with the name that users see."""

    name: Name


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

    :returns: ``root_folder``, a path; and ``shortcuts``, paths below it by name. The user gets the
        first root folder that is for their groups, or else the home; and of several shortcuts with
        the same name, the first one.
    """
    home = str(PurePosixPath(user.pw_dir))
    root = next((each.path_for(user) for each in roots if each.is_for(groups)), home)
    paths: dict[str, str] = {}
    for each in shortcuts:
        path = each.path_for(user)
        if each.is_for(groups) and PurePosixPath(path).is_relative_to(root):
            paths.setdefault(each.name, path)
    return {"root_folder": root, "shortcuts": paths}
