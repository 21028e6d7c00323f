# SPDX-License-Identifier: BSD-3-Clause
"""The form of one person: filled in from the last choice or a link, and what to say above it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

#: How many sentences a form has about a link.
MAX_NOTICES = 5

#: In a link to the form: the items, with commas between them, of which there is to be less or more
#: than the last time. No item has such a name.
LESS, MORE = "_less", "_more"


@dataclass(frozen=True)
class Link:
    """What the link to a form says; nothing of it is checked."""

    #: A choice, as the form would send it.
    values: dict[str, object]
    #: The items that a session had too little of, or that were not free, ...
    shifts: tuple[str, ...] = ()
    #: ... and whether there is to be more of them, or less.
    more: bool = False


#: The link that has led to the form. Several requests may be drawing the same spawner's; JupyterHub
#: does so in a task of each, which inherits what the request has set.
followed: ContextVar[Link | None] = ContextVar("followed", default=None)
