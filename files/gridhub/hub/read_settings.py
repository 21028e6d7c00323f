# SPDX-License-Identifier: BSD-3-Clause
"""Find the settings in a site's lines without running them.

``playbooks/validate.yml`` does this before anything is changed. The hub's environment may not exist
yet, so only names are checked; :mod:`gridhub.hub.site_settings` also checks values.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gridhub.hub.known_settings import CLASSES, did_you_mean, kind_of, objection, sentence

#: The methods that change a setting.
CHANGING = {"add", "append", "extend", "insert", "prepend", "setdefault", "update"}


class SettingsError(ValueError):
    """Some lines cannot be used; the message has one line for each problem."""


def _setting(node: ast.expr) -> tuple[str, str] | None:
    """Return class and name of the setting ``c.CLASS.NAME``, or of a part of it."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id == "c"
    ):
        return node.value.attr, node.attr
    return None


def settings_in(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, class and name of each setting that Python lines change.

    :raises SettingsError: when the lines are not Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise SettingsError(
            f"jupyterhub_extra_config, line {error.lineno}, is not Python: {error.msg}"
        ) from error
    for node in ast.walk(tree):
        places: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            places = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            places = [node.target]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGING
        ):
            places = [node.func.value]
        for place in places:
            parts = place.elts if isinstance(place, ast.Tuple | ast.List) else [place]
            for part in parts:
                if found := _setting(part):
                    yield part.lineno, *found


def check_lines(source: str) -> None:
    """Check a site's lines.

    :raises SettingsError: naming each setting that cannot be used, and what to use instead.
    """
    found = list(settings_in(source))
    own_login = any(name == "authenticator_class" for _, _, name in found)
    problems = []
    for line, section, name in found:
        kind = kind_of(section)
        why = objection(section, name)
        if kind in ("authenticator", "openid") and own_login:
            why = ""  # the site's own class may use it
        if not kind and not (own_login and section.endswith("Authenticator")):
            why = _unused(section)
        if why:
            problems.append(f"{sentence(section, name, why)} (line {line})")
    if problems:
        raise SettingsError("\n".join(problems))


def _unused(section: str) -> str:
    """Return why a class has no effect; empty if only the hub's environment can show that."""
    ours = [name for names in CLASSES.values() for name in names]
    for kind, suffix in (("spawner", "Spawner"), ("authenticator", "Authenticator")):
        if section.endswith(suffix):
            return f"the hub uses {CLASSES[kind][0]}, so this class has no effect."
    question = did_you_mean(section, ours)
    return f"the hub has no such class.{question}" if question else ""
