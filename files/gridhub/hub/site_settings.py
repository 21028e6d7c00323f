# SPDX-License-Identifier: BSD-3-Clause
"""Refuse lines of ``jupyterhub_extra_config`` that cannot take effect.

JupyterHub silently ignores settings of classes that it does not use, and settings that GridHub's
spawner does not read. The hub's configuration therefore notes its own settings before the site's
lines, and checks afterwards what these have changed. The role tests a new configuration in this way
before it installs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jupyter_events.logger import EventLogger
from jupyterhub.app import JupyterHub
from jupyterhub.crypto import CryptKeeper
from traitlets import HasTraits, TraitError
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from gridhub.hub.account_rules import AccountRules
from gridhub.hub.known_settings import (
    ADDABLE,
    did_you_mean,
    is_classified,
    kind_of,
    objection,
    sentence,
)
from gridhub.hub.login import ClusterAuthenticator
from gridhub.hub.openid import ClusterOpenID
from gridhub.hub.routes import WatchedProxy
from sge_spawner import SGESpawner

Settings = Mapping[str, Mapping[str, Any]]


def copied(value: Any) -> Any:
    """Return a copy of containers; keep all other values, which may not be copied."""
    if isinstance(value, dict):
        return {name: copied(each) for name, each in value.items()}
    if isinstance(value, list):
        return [copied(each) for each in value]
    return set(value) if isinstance(value, set) else value


def note(config: Config) -> Settings:
    """Return a copy of the settings so far."""
    return {name: copied(dict(section)) for name, section in config.items()}


def changed(config: Config, before: Settings) -> Iterator[tuple[str, str, Any]]:
    """Yield class, name and value of each setting that has changed."""
    missing = object()
    for section, settings in config.items():
        if not isinstance(settings, Config):
            continue
        for name, value in settings.items():
            # JupyterHub's configuration makes an empty value for each setting that is only read.
            if isinstance(value, LazyConfigValue) and not value.to_dict():
                continue
            old = before.get(section, {}).get(name, missing)
            if old is not value and old != value:
                yield section, name, value


def _lost(old: Any, new: Any) -> str:
    """Return which of GridHub's values a setting has lost; empty if it has lost none."""
    if isinstance(new, LazyConfigValue):
        return ""
    if type(old) is not type(new):
        return "all"
    if isinstance(old, dict):
        gone = [name for name, value in old.items() if name not in new or new[name] != value]
        return ", ".join(map(str, gone))
    gone = [each for each in old if each not in new]
    return ", ".join(str(each["name"]) if isinstance(each, dict) else str(each) for each in gone)


def _authenticator(value: object) -> type[HasTraits]:
    """Return the class that the setting ``authenticator_class`` names."""
    try:
        trait = JupyterHub.class_traits()["authenticator_class"]
        found = trait._validate(JupyterHub.__new__(JupyterHub), value)
    except (TraitError, ImportError):  # reported with the value's type
        return ClusterAuthenticator
    return found if isinstance(found, type) else ClusterAuthenticator


class Judge:
    """Judges the settings that a site's lines have changed."""

    def __init__(self, config: Config, before: Settings) -> None:
        self._config, self._before = config, before
        authenticator = _authenticator(config.JupyterHub.get("authenticator_class"))
        self._classes: list[type[HasTraits]] = [SGESpawner, authenticator, WatchedProxy, JupyterHub]
        self._classes += [CryptKeeper, EventLogger]

    def _class(self, section: str) -> type[HasTraits] | None:
        """Return the class of the hub that reads a section."""
        names = {"GridHub": "JupyterHub"}
        for each in self._classes:
            if names.get(section, section) in (base.__name__ for base in each.__mro__):
                return each
        return None

    def objection(self, section: str, name: str, value: Any) -> str:
        """Return why a setting cannot be used; empty if it can."""
        reader = self._class(section)
        if reader is None:
            bases = {base.__name__ for each in self._classes for base in each.__mro__}
            return f"the hub uses no such class, so it has no effect.{did_you_mean(section, bases)}"
        traits = reader.class_traits(config=True)
        kind = "openid" if issubclass(reader, ClusterOpenID) else kind_of(section)
        # A site's own authenticator may read all settings of its classes.
        ours = kind not in ("authenticator", "openid") or issubclass(reader, AccountRules)
        if ours and kind and name not in traits:
            return f"there is no such setting.{did_you_mean(name, traits)}"
        if ours and kind and not is_classified(kind, name):
            return (
                "GridHub does not know this setting of a newer JupyterHub; it may have no effect."
            )
        if ours and (why := objection(section, name, kind)):
            return why
        if name not in traits:
            return f"there is no such setting.{did_you_mean(name, traits)}"
        return (
            self._shadow(reader, section, name)
            or self._loss(kind, section, name, value)
            or _wrong_type(reader, name, value)
        )

    def _shadow(self, reader: type, section: str, name: str) -> str:
        for base in reader.__mro__:
            if base.__name__ == section:
                return ""
            if name in self._config.get(base.__name__, {}):
                return f"c.{base.__name__}.{name} is set too, and overrides it. Set that one."
        return ""

    def _loss(self, kind: str, section: str, name: str, value: Any) -> str:
        how = ADDABLE.get(kind, {}).get(name)
        old = self._before.get(section, {}).get(name)
        if not how or old is None or not (lost := _lost(old, value)):
            return ""
        return f"this loses or changes GridHub's own values ({lost}). Add to them instead: {how}."


def _wrong_type(reader: type[HasTraits], name: str, value: Any) -> str:
    """Return of which type a value should be; empty if it is of that type.

    The message shows only simple values: others may be long or secret.
    """
    if isinstance(value, LazyConfigValue):
        return ""
    trait = reader.class_traits()[name]
    try:
        trait._validate(reader.__new__(reader), value)
    except (TraitError, ImportError, ValueError, TypeError):
        shown = f"{value!r}" if isinstance(value, int | float) or value is None else "the value"
        return f"{shown} is of type {type(value).__name__}; it must be {trait.info()}."
    return ""


def problems(config: Config, before: Settings) -> list[str]:
    """Return a sentence for each setting that cannot take effect."""
    judge = Judge(config, before)
    return [
        sentence(section, name, why)
        for section, name, value in changed(config, before)
        if (why := judge.objection(section, name, value))
    ]


def check(config: Config, before: Settings) -> None:
    """Exit with a message if a setting that has changed since :func:`note` cannot take effect."""
    if found := problems(config, before):
        sys.exit("\n".join(found))
