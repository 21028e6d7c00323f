# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of menu items, and how a session requests each kind from Grid Engine.

Text is checked twice: against the menu, and against the kind's pattern ``harmless``, which allows
only text that is safe in an argument of qsub. No menu can bypass the second check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

#: The name of the field for the preset; the other fields have the names of items.
PRESET_FIELD = "preset"

#: The fields that JupyterHub itself reads from the form and from the form's URL.
JUPYTERHUBS_FIELDS = ("next", "display_name", "_xsrf")
#: A link may add this prefix to the names of other fields.
LINK_PREFIX = "opt-"

#: The longest text value in a choice, in characters.
MAX_TEXT = 200

#: The paths of JupyterLab and Jupyter Notebook in a session.
INTERFACES = {"lab": "/lab", "notebook": "/tree"}

#: A name that is used in the arguments of qsub or in HTML attributes. Grid Engine refuses most
#: other characters.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
MOST = 10**9

#: An amount as menus and people write it: a whole number in the item's unit.
Amount = Annotated[int, Field(strict=True, ge=0, le=MOST)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]

#: A name that a Unix group can have (group(5)), such as ``domain users`` in a directory service.
GroupName = Annotated[
    str,
    Field(
        pattern=r"^[^\s:\x00-\x1f\x7f]([^:\x00-\x1f\x7f]*[^\s:\x00-\x1f\x7f])?$",
        max_length=256,
    ),
]
Groups = tuple[GroupName, ...]


def _value(raw: object) -> int | str:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and len(raw) <= MAX_TEXT:
        return raw
    raise ValueError(f"give a whole number, or text of at most {MAX_TEXT} characters")


#: A chosen value of an item; the menu checks whether the item offers it.
Value = Annotated[int | str, PlainValidator(_value)]


class MenuError(ValueError):
    """An error in the menu itself; the message tells the administrator where the error is."""


class ChoiceError(ValueError):
    """A choice that the menu does not allow.

    ``str(error)`` is a message for the person who chose; ``error.item`` names the menu's item, or
    is ``None`` if the error is about the whole choice.
    """

    def __init__(self, message: str, item: str | None = None) -> None:
        super().__init__(message)
        self.item = item


class Model(BaseModel):
    """A part of the menu that accepts only the fields that it declares."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Kind(Model):
    """A kind of item: how it is requested, and what all items of this kind have in common."""

    #: The keys that can define the values of an item; each item has exactly one of these keys.
    ways: ClassVar[tuple[str, ...]] = ("options", "text")
    #: The units that an item may have, each with its size in Grid Engine's base unit.
    units: ClassVar[Mapping[str, int]] = {"": 1}
    #: The value that requests nothing; None if the kind has no such value.
    nothing: ClassVar[int | str | None] = ""
    #: Text must match this pattern even if the menu allows more, because the text becomes part of a
    #: command.
    harmless: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
    #: Whether a menu may have several items of the kind.
    several: ClassVar[bool] = False

    @property
    def counted(self) -> str | None:
        """The kind's consumable: ``slots`` or a complex; ``None`` if the kind has no consumable."""
        return None


class Slots(_Kind):
    """CPU cores, requested with ``-pe NAME N``.

    Even a single core is requested in this way, so that a session's slots are always counted.
    Either this item or an item of kind ``parallel_environment`` names the parallel environment.
    """

    ways = ("choices", "range")
    nothing = None
    kind: Literal["slots"]
    parallel_environment: Identifier | None = None

    @property
    def counted(self) -> str:
        """The complex ``slots``, which Grid Engine counts for each queue."""
        return "slots"


class Memory(_Kind):
    """Total memory, requested as a consumable such as ``h_vmem``.

    MB and GB are binary units: 1024² and 1024³ bytes. The amount is passed to qsub in KiB.
    """

    ways = ("choices", "range")
    units = {"MB": 1024, "GB": 1024 * 1024}
    nothing = None
    kind: Literal["memory"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """The item's complex, a consumable that Grid Engine counts for each host."""
        return self.complex


class Count(_Kind):
    """A number of things, requested as a consumable such as ``gpu``. Zero requests nothing."""

    ways = ("choices", "range")
    nothing = 0
    several = True
    kind: Literal["count"]
    complex: Identifier
    per: Literal["slot", "job"]

    @property
    def counted(self) -> str:
        """The item's complex, a consumable that Grid Engine counts for each host."""
        return self.complex

    @property
    def is_gpus(self) -> bool:
        """Whether the things are GPUs, by the name of the complex."""
        return "gpu" in self.complex.lower()


class RunTime(_Kind):
    """Wall-clock time, requested in seconds as a complex such as ``h_rt``."""

    ways = ("choices", "range")
    units = {"minutes": 60, "hours": 3600}
    nothing = None
    kind: Literal["run_time"]
    complex: Identifier


class Project(_Kind):
    """A project: ``-P NAME``; empty means Grid Engine's default project."""

    kind: Literal["project"]


class Queue(_Kind):
    """A queue: ``-q QUEUE``; empty means any queue.

    ``QUEUE`` is ``NAME``, ``NAME@HOST`` or ``NAME@@HOSTGROUP``.
    """

    harmless = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}(@@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,97})?")
    kind: Literal["queue"]


class ParallelEnvironment(_Kind):
    """The parallel environment for the item of kind ``slots``."""

    ways = ("options",)
    nothing = None
    kind: Literal["parallel_environment"]


class SoftwareEnvironment(_Kind):
    """A software environment, which the job script loads before the server starts."""

    ways = ("options",)
    kind: Literal["environment"]


class Interface(_Kind):
    """The interface in which the session opens (:data:`INTERFACES`); qsub gets no such value."""

    ways = ("options",)
    nothing = None
    harmless = re.compile("|".join(INTERFACES))
    kind: Literal["interface"]


class Mail(_Kind):
    """Mail when the job ends or is aborted: ``-m ea -M ADDRESS``; empty means no mail."""

    ways = ("text",)
    # This pattern is stricter than RFC 5322. For example, it excludes the comma, which separates
    # addresses in an argument of qsub.
    harmless = re.compile(
        r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*"
        r"@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
    )
    kind: Literal["mail"]


class Complex(_Kind):
    """A complex whose value is a string: ``-l NAME=VALUE``; empty means no request."""

    # This pattern excludes characters that end an entry of -l (comma, =, space) or that are
    # operators or wildcards in Grid Engine (& | ! ( ) * ? [ ]).
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
