# SPDX-License-Identifier: BSD-3-Clause
"""Read the broker's configuration, ``/etc/jupyterhub/broker.json``, which Ansible writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator, model_validator

from gridhub.broker.folders import Folder, Shortcut, hidden_root, unreachable
from gridhub.broker.protocol import Model
from gridhub.grid.engine import GridEngine
from gridhub.grid.request_files import unsuitable_arguments
from gridhub.grid.submit import session_arguments

Port = Annotated[int, Field(strict=True, ge=1024, le=65535)]
Minutes = Annotated[int, Field(strict=True, ge=0, le=10**6)]


class ConfigError(ValueError):
    """An error in the configuration; the message names the wrong values."""


class Config(Model):
    """The broker's configuration, which the broker reads while it still runs as root."""

    hub_user: str
    menu: Path
    job_script: Path
    minimum_uid: Annotated[int, Field(ge=1)]
    allowed_users: frozenset[str] = frozenset()
    allowed_groups: frozenset[str] = frozenset()
    qsub_arguments: tuple[str, ...] = ()
    sge_root: Path
    sge_cell: str
    sge_bin_dir: Path
    sge_ports: dict[
        Annotated[str, Field(pattern="^SGE_(QMASTER|EXECD)_PORT$")],
        Annotated[int, Field(ge=1, le=65535)],
    ] = Field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0)]
    #: The first and the last port that a session may use.
    ports: tuple[Port, Port]
    #: A session warns the person this many minutes before its run time ends, once for each number.
    run_time_warnings: tuple[Minutes, ...] = ()
    #: A session ends after ``idle_timeout`` minutes without use (0: never). The session warns the
    #: person ``idle_notice`` minutes before this end (0: no warning).
    idle_timeout: Minutes = 0
    idle_notice: Minutes = 0
    #: Seconds between a session's reports to the hub about its last use.
    idle_report: Annotated[int, Field(strict=True, ge=0)] = 0

    #: Time limit of the site's start-up lines on the worker, in seconds, and whether a session must
    #: not start if they stop.
    prologue_timeout: Annotated[int, Field(strict=True, ge=1, le=3600)] = 60
    prologue_required: bool = False
    #: Names of kernels that may use TCP ports, as patterns (``fnmatch``).
    tcp_kernels: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        (), max_length=100
    )
    #: The file browser's root folders (a person gets the first one that is for their groups), and
    #: shortcuts to folders below them.
    root_folders: tuple[Folder, ...] = Field((), max_length=30)
    shortcuts: tuple[Shortcut, ...] = Field((), max_length=30)

    @model_validator(mode="after")
    def _warns_in_time(self) -> Config:
        if self.idle_timeout and self.idle_notice >= self.idle_timeout:
            raise ValueError(
                f"jupyterhub_idle_notice is {self.idle_notice} minutes; it must be less than "
                f"jupyterhub_idle_timeout, which is {self.idle_timeout}"
            )
        return self

    @model_validator(mode="after")
    def _folders_are_reachable(self) -> Config:
        if late := hidden_root(self.root_folders):
            raise ValueError(
                f"jupyterhub_root_folders: {late.path} is never used, because the folder before it"
                " is for everyone; give that one groups, or move it to the end"
            )
        if wrong := unreachable(self.root_folders, self.shortcuts):
            raise ValueError(
                "jupyterhub_shortcuts: the file browser cannot open "
                + ", ".join(f"{each.path} ({each.name})" for each in wrong)
                + ", because no folder of jupyterhub_root_folders contains it; add {path: /}"
            )
        return self

    @field_validator("qsub_arguments")
    @classmethod
    def _suit_sessions(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        own = session_arguments("", home="/", log="", context={"hub": ""})
        if wrong := unsuitable_arguments(arguments, own):
            raise ValueError(
                f"jupyterhub_qsub_arguments: a session cannot have {', '.join(map(str, wrong))}; "
                "remove that. The list is for options such as -q, -P, -l, -p and -pe"
            )
        return arguments

    @field_validator("ports")
    @classmethod
    def _is_a_range(cls, ports: tuple[int, int]) -> tuple[int, int]:
        if ports[0] > ports[1]:
            raise ValueError(f"the first port, {ports[0]}, is above the last, {ports[1]}")
        return ports

    @property
    def grid(self) -> GridEngine:
        """The Grid Engine installation."""
        return GridEngine(
            self.sge_root, self.sge_cell, self.sge_bin_dir, self.timeout, self.sge_ports
        )


def parse_config(content: bytes) -> Config:
    """Parse a configuration.

    :raises ConfigError: when a value is wrong; the message names every wrong value.
    """
    try:
        return Config.model_validate_json(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            f" (it is {problem['input']!r})"
            for problem in error.errors(include_url=False)
        ]
        lines.append("The values come from the variables of the role jupyterhub.")
        raise ConfigError("\n".join(lines)) from error
