# SPDX-License-Identifier: BSD-3-Clause
"""Every sentence that people can see, from the release or from the site.

``words.toml`` beside the package has all sentences, in English. A site that wants other words or
another language sets ``jupyterhub_words``, a dictionary of sentences. Each of the site's sentences
replaces the release's sentence of the same name. Ansible writes the dictionary to
:data:`SITE_FILE`. Names in braces are placeholders, as in :meth:`str.format`. A site's sentence may
leave out placeholders, but must not add any.
"""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Formatter

log = logging.getLogger("jupyterhub.sge")

#: The sentences of this release.
OWN_FILE = Path(__file__).resolve().parents[1] / "words.toml"

#: The site's own sentences, as ``{"group.name": "words"}``.
SITE_FILE = Path("/etc/jupyterhub/words.json")


class WordsError(ValueError):
    """An error in a site's sentences; the message names the sentence and the correct form."""


def placeholders(text: str) -> set[str]:
    """Return the names that a sentence has in braces.

    :raises WordsError: when the braces do not match, or contain more than a plain name.
    """
    names = set()
    try:
        for _, name, format_spec, conversion in Formatter().parse(text):
            if name is None:
                continue
            if not name.isidentifier() or format_spec or conversion:
                raise WordsError(f"{{{name}}} is not a plain name")
            names.add(name)
    except ValueError as error:
        raise WordsError(str(error)) from error
    return names


def read_own() -> dict[str, str]:
    """Read the sentences of this release, keyed by ``group.name``."""
    groups = tomllib.loads(OWN_FILE.read_text(encoding="utf-8"))
    return {
        f"{group}.{name}": text.strip()
        for group, sentences in groups.items()
        for name, text in sentences.items()
    }


def with_site(own: Mapping[str, str], site: object) -> dict[str, str]:
    """Return all sentences; a site's sentence replaces the release's sentence of the same name.

    :raises WordsError: naming every sentence of the site that cannot be used.
    """
    if not isinstance(site, dict):
        raise WordsError("jupyterhub_words must be a dictionary of sentences by name")
    problems = []
    for name, text in site.items():
        if name not in own:
            problems.append(f"  {name}: there is no such sentence")
        elif not isinstance(text, str) or not text.strip():
            problems.append(f"  {name}: the words must be text, not {text!r}")
        else:
            try:
                unknown = placeholders(text) - placeholders(own[name])
            except WordsError as error:
                problems.append(f"  {name}: {error} (it is {text!r})")
                continue
            if unknown:
                known = ", ".join(f"{{{each}}}" for each in sorted(placeholders(own[name])))
                problems.append(
                    f"  {name}: {{{min(unknown)}}} is not available here; "
                    f"{known or 'this sentence has no name in braces'}"
                )
    if problems:
        where = "Change jupyterhub_words in the inventory; files/words.toml has all sentences."
        raise WordsError("\n".join(["jupyterhub_words cannot be used:", *problems, where]))
    return {**own, **site}


@cache
def sentences() -> dict[str, str]:
    """Return all sentences, keyed by name: the site's sentence, or else the release's."""
    own = read_own()
    try:
        return with_site(own, json.loads(SITE_FILE.read_bytes()))
    except FileNotFoundError:
        return own
    except (OSError, ValueError) as error:
        # Ansible has checked the file. If the file was damaged later, pages show the release's
        # sentences.
        log.error("%s: %s", SITE_FILE, error)
        return own


def text(name: str, /, **values: object) -> str:
    """Return a sentence, such as ``text("waiting.queued", job=42)``.

    :raises KeyError: when there is no such sentence, or a placeholder has no value.
    """
    return sentences()[name].format(**values)


def unfilled(group: str) -> dict[str, str]:
    """Return a group's sentences by name, with their placeholders, for a program that fills them.

    In these sentences, a brace that is not part of a placeholder stands once, not twice.
    """
    own = {name: words for name, words in sentences().items() if name.startswith(f"{group}.")}
    return {
        name.partition(".")[2]: words.format_map(
            {each: f"{{{each}}}" for each in placeholders(words)}
        )
        for name, words in own.items()
    }


def number_text(name: str, number: float, /, **values: object) -> str:
    """Return a sentence about a number of things; for the number 1, use the sentence ``name_one``.

    :raises KeyError: in the same cases as :func:`text`.
    """
    return text(f"{name}_one" if number == 1 else name, number=number, **values)


def one_of(words: Sequence[str]) -> str:
    """Join one or more alternatives, for example into "1, 2 or 4"."""
    *others, last = words
    return text("choice.one_of", others=", ".join(others), last=last) if others else last
