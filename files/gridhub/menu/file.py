# SPDX-License-Identifier: BSD-3-Clause
"""Read and check the menu file; error messages name the inventory variable to correct.

The administrator declares the menu in the inventory: the items (``jupyterhub_resource_menu``),
ready-made choices (``jupyterhub_resource_presets``) and rules between items
(``jupyterhub_resource_limits``). Ansible writes all three into one JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gridhub.menu.kinds import PRESET_FIELD, ChoiceError, MenuError
from gridhub.menu.menu import Menu

MENU_VARIABLE = "jupyterhub_resource_menu"
PRESETS_VARIABLE = "jupyterhub_resource_presets"
LIMITS_VARIABLE = "jupyterhub_resource_limits"

#: The inventory variable for each part of the menu file.
VARIABLES = {"items": MENU_VARIABLE, "presets": PRESETS_VARIABLE, "limits": LIMITS_VARIABLE}


def _limit_problems(menu: Menu) -> Iterator[str]:
    names = {item.name for item in menu.items}
    for number, limit in enumerate(menu.limits, 1):
        where = f"{LIMITS_VARIABLE}, limit number {number} ({limit.rule})"
        used = limit.names
        unknown = sorted(used - names) + sorted({limit.item} - names)
        if unknown:
            yield (
                f"{where}: {', '.join(map(repr, unknown))} is not an item; the menu has "
                f"{', '.join(sorted(names))}. A name with '.' or '-' cannot be used in a rule"
            )
            continue
        for groups in menu.people():
            values = menu.everything({}, groups)
            shown = ", ".join(f"{name} = {values[name]!r}" for name in sorted(used))
            try:
                if not limit.is_met(values):
                    yield f"{where}: the menu's own defaults break it: {shown}"
                    break
            except Exception as error:  # an expression can raise any error
                yield f"{where}: it cannot be evaluated for the menu's defaults, {shown}: {error}"
                break


def _preset_problems(menu: Menu) -> Iterator[str]:
    names = [preset.name for preset in menu.presets]
    everybody = menu.people()[-1]
    for preset in menu.presets:
        where = f"{PRESETS_VARIABLE}, preset {preset.name!r}"
        if names.count(preset.name) > 1:
            yield f"{where}: two presets have this name"
        is_wrong = False
        for name, value in preset.choice.items():
            try:
                menu._value(name, value, everybody)
            except ChoiceError as error:
                is_wrong = True
                yield f"{where}, choice: {error}"
        if is_wrong:
            continue
        for groups in menu.people():
            if preset in menu.presets_for(groups):
                try:
                    menu.choose({PRESET_FIELD: preset.name}, groups)
                except ChoiceError as error:
                    yield f"{where}: a limit forbids it: {error}"
                    break


def _problems(menu: Menu) -> list[str]:
    """Return the conflicts between the parts of a menu, one line for each conflict."""
    if lines := list(_limit_problems(menu)):
        return lines  # without valid limits, presets cannot be checked
    for groups in menu.people():
        try:
            menu.choose({}, groups)
        except ChoiceError as error:
            return [f"{MENU_VARIABLE}, the defaults: {error}"]
    return list(_preset_problems(menu))


_MENU: TypeAdapter[Menu] = TypeAdapter(Menu)


# Cache the menu: the hub reads the file for every form and every start, but the text rarely
# changes.
@lru_cache(maxsize=8)
def parse_menu(text: str | bytes, source: str = "The menu in the inventory") -> Menu:
    """Parse a menu from JSON: an object of items, presets and limits.

    :raises MenuError: when the menu is wrong; the message names every wrong item and value.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MenuError(f"{source} is not JSON: {error}") from error
    try:
        menu = _MENU.validate_python(content)
        lines = _problems(menu)
    except ValidationError as error:
        lines = list(_faults(error, content))
    if lines:
        named = [name for name in VARIABLES.values() if any(name in line for line in lines)]
        raise MenuError(
            "\n  ".join([f"{source} is wrong:", *lines])
            + f"\nChange {' and '.join(named or [MENU_VARIABLE])} in the inventory; "
            "docs/menu.md describes what they hold."
        )
    return menu


def _faults(error: ValidationError, content: object) -> Iterator[str]:
    """Yield the problems that lie within one part of a menu, one line for each problem."""
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["loc"] == ("items",) and problem["type"] == "too_short" and len(problems) > 1:
            continue  # the list is "too short" only because every item in it was refused
        value = problem["input"]
        shown = f" (it is {value!r})" if isinstance(value, str | int | float) else ""
        words = problem["msg"].removeprefix("Value error, ")
        yield f"{_place(problem['loc'], content)}: {words}{shown}"


def _place(location: tuple[int | str, ...], content: object) -> str:
    """Describe a problem's location for the administrator: the variable and the entry's name."""
    if not location:
        return f"{MENU_VARIABLE}, the menu"
    part, *path = location
    variable = VARIABLES.get(str(part))
    if variable is None or not isinstance(content, dict):
        return str(part)
    if not path:
        return f"{variable}, the whole list"
    noun = str(part).removesuffix("s")
    entries = content[part]
    if isinstance(path[0], int) and isinstance(entries, list) and path[0] < len(entries):
        entry = entries[path[0]]
        name = entry.get("name") if isinstance(entry, dict) else None
        path[0] = f"{noun} {name!r}" if name else f"{noun} number {path[0] + 1}"
    return ", ".join(str(part) for part in (variable, *path))


def load_menu(path: Path) -> Menu:
    """Load the menu file.

    :raises MenuError: when the file cannot be read or is not a menu.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise MenuError(f"The menu file {path} cannot be read: {error.strerror}") from error
    return parse_menu(text, str(path))
