# SPDX-License-Identifier: BSD-3-Clause
"""The messages between the hub and the broker: one JSON object in each direction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from gridhub.menu.kinds import INTERFACES, Value

#: The variables that the hub may set in a session. Other variables (``LD_PRELOAD``, ``PATH``,
#: ``BASH_ENV``, …) would let the hub run code as the person.
SESSION_VARIABLES = frozenset(
    {
        "JUPYTERHUB_ACTIVITY_URL",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_API_URL",
        "JUPYTERHUB_BASE_URL",
        "JUPYTERHUB_CLIENT_ID",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED",
        "JUPYTERHUB_COOKIE_OPTIONS",
        "JUPYTERHUB_DEFAULT_URL",
        "JUPYTERHUB_DISABLE_USER_CONFIG",
        "JUPYTERHUB_HOST",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES",
        "JUPYTERHUB_OAUTH_CALLBACK_URL",
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES",
        "JUPYTERHUB_OAUTH_SCOPES",
        "JUPYTERHUB_PUBLIC_HUB_URL",
        "JUPYTERHUB_PUBLIC_URL",
        "JUPYTERHUB_SERVER_NAME",
        "JUPYTERHUB_SERVICE_PREFIX",
        "JUPYTERHUB_USER",
    }
)

#: A name that an account can have (passwd(5)). The broker explains why it refuses one.
UserName = Annotated[str, Field(pattern=r"^[^:/\x00-\x1f\x7f]{1,256}$")]

#: The name that the hub gives a session.
Session = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

#: The name of a JupyterHub named server; empty for the default server. Commas are not allowed,
#: because the name goes into a job's context, where commas separate the entries.
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~-]{0,255}$")]

#: A host name in Grid Engine. Characters such as ``*`` and ``|`` are not allowed, because they have
#: a special meaning in a resource request (complex(5)).
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,253}$")]


class Model(BaseModel):
    """A message that accepts only the fields that it declares."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Pem = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=\n -]*$", max_length=16_384)]


class Tls(Model):
    """A session's key, its certificate, and the authorities that the session trusts, all as PEM."""

    key: Pem
    certificate: Pem
    authorities: Pem


class Start(Model):
    """A request to submit a session. ``choice`` maps the menu items' names to the chosen values."""

    action: Literal["start"] = "start"
    user: UserName
    session: Session
    server: ServerName = ""
    choice: dict[str, Value] = Field(max_length=50)
    environment: dict[str, Annotated[str, Field(max_length=8192)]] = Field(max_length=50)
    #: None if the hub and its sessions use plain HTTP.
    tls: Tls | None = None
    #: Workers on which the session must not start: an earlier attempt there found no free port.
    avoid: tuple[HostName, ...] = Field((), max_length=4)

    @field_validator("environment")
    @classmethod
    def _is_known(cls, environment: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(environment) - SESSION_VARIABLES)
        if unknown:
            raise ValueError(f"not a variable of a session: {unknown[0][:40]!r}")
        if any("\0" in value for value in environment.values()):
            raise ValueError("a value contains a NUL character")
        if environment.get("JUPYTERHUB_DEFAULT_URL", "/lab") not in INTERFACES.values():
            raise ValueError("JUPYTERHUB_DEFAULT_URL is not the address of an interface")
        return environment


class Stop(Model):
    """A request to delete a session's job; it succeeds even if the job does not exist."""

    action: Literal["stop"] = "stop"
    user: UserName
    session: Session


class Check(Model):
    """A request to check whether a session could start; no job is submitted."""

    action: Literal["check"] = "check"
    user: UserName
    choice: dict[str, Value] = Field(max_length=50)


class Log(Model):
    """A request for the last lines of the log that a session's job has written."""

    action: Literal["log"] = "log"
    user: UserName
    job: int = Field(strict=True, ge=1, lt=10**10)


class Look(Model):
    """A request to check whether an account can have sessions at all, whatever the choice."""

    action: Literal["look"] = "look"
    user: UserName


Request = Start | Stop | Check | Log | Look
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="action")])


class Answer(Model):
    """The broker's answer. ``job_id`` is set after a start; the person reads ``error``."""

    ok: bool
    job_id: int | None = None
    #: After a check: when a session with the choice can start.
    verdict: Literal["now", "later", "never", ""] = ""
    #: Grid Engine's message about the verdict or the refusal.
    words: str = ""
    #: A sentence for the person that may explain the verdict or the refusal.
    note: str = ""
    #: After a request for a log: its last lines; empty if the log is empty, and ``None`` if the log
    #: does not exist.
    log: str | None = None
    error: str = ""
    #: What the error is about. ``refused``: the account or the caller may not do this; ``choice``:
    #: the choice is not on the menu; ``home``: the person's home cannot be used; ``no_home``: it
    #: does not exist; ``grid``: Grid Engine refused, or did not answer; ``request``, ``broker``: an
    #: error in GridHub, or on the hub's host.
    kind: str = ""


def job_name(session: str) -> str:
    """Return the name of a session's job.

    qstat without options shows only the first ten characters of a name: ``jupyterhub``.
    """
    return f"jupyterhub-{session}"
