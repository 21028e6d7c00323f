# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of items: what each means to Grid Engine.

Words are checked twice: against the menu, and against what is harmless in an argument of qsub
(``harmless`` of each kind), so that no menu can open a way around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

#: The field that names a preset, beside the items' own.
PRESET_FIELD = "preset"

#: What JupyterHub itself takes from the form and its address; and how a link may mark what is not.
JUPYTERHUBS_FIELDS = ("next", "display_name", "_xsrf")
LINK_PREFIX = "opt-"

#: Longest text of a choice, in characters.
MAX_TEXT = 200

#: Where JupyterLab and Jupyter Notebook are in a session.
INTERFACES = {"lab": "/lab", "notebook": "/tree"}

#: Names that reach qsub or HTML attributes; Grid Engine itself refuses most other characters.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
MOST = 10**9

#: An amount as the menu and the people state it: a whole number in the item's unit.
Amount = Annotated[int, Field(strict=True, ge=0, le=MOST)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
Groups = tuple[Identifier, ...]


def _value(raw: object) -> int | str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and len(raw) <= MAX_TEXT:
        return raw
    raise ValueError(f"give a whole number, or text of at most {MAX_TEXT} characters")


#: What is chosen of an item; whether the item offers it, the menu says.
Value = Annotated[int | str, PlainValidator(_value)]


class MenuError(ValueError):
    """The menu itself is wrong; the message names the place and is meant for the administrator."""


class ChoiceError(ValueError):
    """A choice is not on the menu.

    ``str(error)`` is a message for the person who chose; ``error.item`` names the menu's item, or
    is ``None`` where the choice as a whole is meant.
    """

    def __init__(self, message: str, item: str | None = None) -> None:
        super().__init__(message)
        self.item = item


class Model(BaseModel):
    """A part of the menu, with the fields it names and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Kind(Model):
    """What an item means to Grid Engine, and what is true of every item of the kind."""

    #: How values may be offered: the keys of an item, one of which it has.
    ways: ClassVar[tuple[str, ...]] = ("options", "text")
    #: The units an item may have, and how much of Grid Engine's base unit each is.
    units: ClassVar[Mapping[str, int]] = {"": 1}
    #: The value that asks for nothing. None where that would mean: without a limit.
    nothing: ClassVar[int | str | None] = ""
    #: What a word may be, whatever the menu says: it becomes an argument, or part of a list.
    harmless: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
    #: May there be several items of the kind?
    several: ClassVar[bool] = False

    @property
    def counted(self) -> str | None:
        """What a host has so and so much of: ``slots``, or a complex; ``None`` for all else."""
        return None


class Slots(_Kind):
    """CPU cores: ``-pe NAME N``. Also for one core, so that a session's slots always count.

    Without a parallel environment of its own where an item of that kind says it.
    """

    ways = ("choices", "range")
    nothing = None
    kind: Literal["slots"]
    parallel_environment: Identifier | None = None

    @property
    def counted(self) -> str:
        """Queues have slots."""
        return "slots"


class Memory(_Kind):
    """Memory in total, as a consumable such as ``h_vmem``; binary units, in KiB for qsub."""

    ways = ("choices", "range")
    units = {"MB": 1024, "GB": 1024 * 1024}
    nothing = None
    kind: Literal["memory"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """Hosts have memory."""
        return self.complex


class Count(_Kind):
    """A number of things in total, as a consumable such as ``gpu``. Zero asks for nothing."""

    ways = ("choices", "range")
    nothing = 0
    several = True
    kind: Literal["count"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """Hosts have things."""
        return self.complex


class RunTime(_Kind):
    """Wall-clock time, such as ``h_rt``, in seconds for qsub."""

    ways = ("choices", "range")
    units = {"minutes": 60, "hours": 3600}
    nothing = None
    kind: Literal["run_time"]
    complex: Identifier


class Project(_Kind):
    """A project: ``-P NAME``; nothing is Grid Engine's default project."""

    kind: Literal["project"]


class Queue(_Kind):
    """A queue, ``NAME``, ``NAME@HOST`` or ``NAME@@HOSTGROUP``: ``-q QUEUE``; nothing is any."""

    harmless = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}(@@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,97})?")
    kind: Literal["queue"]


class ParallelEnvironment(_Kind):
    """The parallel environment the item of kind ``slots`` asks in."""

    ways = ("options",)
    nothing = None
    kind: Literal["parallel_environment"]


class SoftwareEnvironment(_Kind):
    """Software the job script loads before the server starts; only its name leaves the menu."""

    ways = ("options",)
    kind: Literal["environment"]


class Interface(_Kind):
    """Where the session opens, see :data:`INTERFACES`; Grid Engine is asked for nothing."""

    ways = ("options",)
    nothing = None
    harmless = re.compile("|".join(INTERFACES))
    kind: Literal["interface"]


class Mail(_Kind):
    """Mail at the end of the job or when it is aborted: ``-m ea -M ADDRESS``; nothing is none."""

    ways = ("text",)
    # Less than RFC 5322 allows. A comma would make it two addresses.
    harmless = re.compile(
        r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*"
        r"@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
    )
    kind: Literal["mail"]


class Complex(_Kind):
    """A complex whose value is a string: ``-l NAME=VALUE``; nothing does not ask for it."""

    # Nothing that ends an entry of -l (comma, =, space) or that Grid Engine reads as an expression
    # over strings (& | ! ( ) * ? [ ]).
    harmless = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:/@+-]{0,199}")
    several = True
    kind: Literal["complex"]
    complex: Identifier


Request = Annotated[
    Slots
    | Memory
    | Count
    | RunTime
    | Project
    | Queue
    | ParallelEnvironment
    | SoftwareEnvironment
    | Interface
    | Mail
    | Complex,
    Field(discriminator="kind"),
]
