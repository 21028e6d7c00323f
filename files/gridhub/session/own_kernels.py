# SPDX-License-Identifier: BSD-3-Clause
"""Offer the kernels of the user and of the site's start-up lines, and name those with faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gridhub.session.packages import PLACE
from gridhub.session.person import Person
from gridhub.session.rules import Rules

#: At most this many kernels are named in notices.
MAX_NAMED = 3

#: The largest description of a kernel to read, in bytes.
MAX_SIZE = 65_536

#: The names of kernels that Jupyter accepts (``jupyter_client.kernelspec``).
_NAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE | re.ASCII)


def add_kernels(kernels: Any, person: Person, rules: Rules) -> list[str]:
    """Let the server offer more kernels; return sentences about those that it cannot offer.

    Because this server ignores the user's settings, it would not find the user's kernels either. It
    is safe to add the folders of these kernels: kernels, unlike settings, run no code in the
    server. The folders come last, so that their kernels cannot replace the site's kernels.

    :param kernels: the server's ``KernelSpecManager``.
    """
    paths = [each for each in person.environment.get("JUPYTER_PATH", "").split(":") if each]
    # The user's folder can be read even where the session must use another one instead.
    own = [
        kernels.user_kernel_dir,
        *(str(person.home / each) for each in (".local/share/jupyter/kernels", ".ipython/kernels")),
    ]
    # A package that pip has installed may bring a kernel.
    brought = str(person.home / PLACE / "share/jupyter/kernels")
    known = [each for each in kernels.kernel_dirs if each not in own]
    of_site = [str(Path(path, "kernels")) for path in paths]
    kernels.kernel_dirs = list(dict.fromkeys([*known, *own, brought, *of_site]))
    site = {path.name.lower() for folder in known for path in _folders(folder)}
    troubles = dict.fromkeys(
        words for folder in dict.fromkeys(own) for words in _troubles(Path(folder), site, rules)
    )
    return list(troubles)[:MAX_NAMED]


def _folders(parent: str | Path) -> list[Path]:
    """Return the folders that describe kernels."""
    try:
        return sorted(path.parent for path in Path(parent).glob("*/kernel.json"))
    except OSError:
        return []


def _troubles(parent: Path, site: set[str], rules: Rules) -> Iterator[str]:
    for folder in _folders(parent):
        if problem := _problem(folder):
            path = folder / "kernel.json"
            yield rules.text("kernel_broken", kernel=folder.name, path=path, reason=problem)
        elif folder.name.lower() in site:
            yield rules.text("kernel_hidden", kernel=folder.name, path=folder)


def _problem(folder: Path) -> str:
    """Return what is wrong with the description of a kernel; empty if nothing is."""
    if not _NAME.fullmatch(folder.name):
        return "a kernel's name has only letters, digits, '.', '_' and '-'"
    path = folder / "kernel.json"
    try:
        if not path.is_file() or path.stat().st_size > MAX_SIZE:
            return f"it is not a file of at most {MAX_SIZE} bytes"
        spec = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        return str(error)
    arguments = spec.get("argv") if isinstance(spec, dict) else None
    if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
        return "it has no list of words named argv"
    return ""
