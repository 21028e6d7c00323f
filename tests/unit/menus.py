# SPDX-License-Identifier: BSD-3-Clause
"""Fixed menus for tests, and menus that hypothesis generates."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from gridhub.menu.file import (
    parse_menu,
)
from gridhub.menu.items import Choice, Item
from gridhub.menu.job import default_url, qsub_arguments, script_arguments
from gridhub.menu.menu import Menu

CORES = {
    "name": "cores",
    "label": "CPU cores",
    "choices": [1, 2, 3, 4, 8],
    "default": 1,
    "request": {"kind": "slots", "parallel_environment": "smp"},
}


MEMORY = {
    "name": "memory",
    "label": "Memory",
    "help": "Your session ends when it uses more.",
    "unit": "GB",
    "range": {"minimum": 2, "maximum": 64, "step": 2},
    "default": 4,
    "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
}


GPUS = {
    "name": "gpus",
    "label": "GPUs",
    "choices": [0, 1, 2, 4],
    "default": 0,
    "groups": ["gpu", "ml-lab"],
    "request": {"kind": "count", "complex": "gpu", "per": "slot"},
}


HOURS = {
    "name": "hours",
    "label": "Run time",
    "unit": "hours",
    "choices": [1, 4, 8],
    "default": 4,
    "request": {"kind": "run_time", "complex": "h_rt"},
}


ALL = [CORES, MEMORY, GPUS, HOURS]


def written(*items: dict[str, Any], **others: Any) -> str:
    return json.dumps({"items": items, **others})


def menu_of(*items: dict[str, Any], **others: Any) -> Menu:
    return parse_menu(written(*items, **others))


def request_of(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return item | {"request": item["request"] | changes}


ADDRESSES = ["alice@example.org", "a.b+jobs@mail.uni-example.ac.uk", "root@hub"]


def allowed(item: Item) -> list[Any]:
    if item.choices is not None:
        return list(item.choices)
    if item.options is not None:
        return [option.value for option in item.options]
    if item.text is not None:
        return ["", *ADDRESSES]
    assert item.range is not None
    return list(range(item.range.minimum, item.range.maximum + 1, item.range.step))


UNITS = {"slots": [""], "count": [""], "memory": ["MB", "GB"], "run_time": ["minutes", "hours"]}


identifiers = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)


@st.composite
def menu_items(draw: st.DrawFn, kind: str, name: str, complex_name: str) -> dict[str, Any]:
    least = 0 if kind == "count" else 1
    if draw(st.booleans()):
        amounts = draw(st.lists(st.integers(least, 10**9), min_size=1, max_size=6, unique=True))
        amounts = sorted({1, *amounts}) if kind == "slots" else amounts
        offer: dict[str, Any] = {"choices": amounts}
    else:
        minimum = 1 if kind == "slots" else draw(st.integers(least, 1000))
        step = draw(st.integers(1, 50))
        count = draw(st.integers(0, 20))
        amounts = [minimum + step * i for i in range(count + 1)]
        # The maximum need not be a whole number of steps above the minimum.
        maximum = amounts[-1] + draw(st.integers(0, step - 1))
        offer = {"range": {"minimum": minimum, "maximum": maximum, "step": step}}
    request: dict[str, Any] = {"kind": kind}
    if kind == "slots":
        request["parallel_environment"] = draw(identifiers)
    else:
        request["complex"] = complex_name
    if kind in ("memory", "count"):
        request["per"] = draw(st.sampled_from(["slot", "job"]))
    return {
        "name": name,
        "label": draw(st.text(min_size=1, max_size=20)),
        "help": draw(st.text(max_size=20)),
        "unit": draw(st.sampled_from(UNITS[kind])),
        # One core by default: the default amounts must be divisible by the number of cores.
        "default": 1 if kind == "slots" else draw(st.sampled_from(amounts)),
        "groups": draw(st.lists(identifiers, max_size=2)) if kind == "count" else [],
        "request": request,
        **offer,
    }


@st.composite
def word_items(draw: st.DrawFn, kind: str, name: str, complex_name: str) -> dict[str, Any]:
    request = {"kind": kind} | ({"complex": complex_name} if kind == "complex" else {})
    words = {"name": name, "label": draw(st.text(min_size=1, max_size=20)), "request": request}
    if kind == "mail":
        text = {"pattern": "[a-z.+@-]*", "example": ADDRESSES[0]}
        return words | {"text": text, "default": draw(st.sampled_from(["", *ADDRESSES]))}
    word = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
    if kind == "interface":
        word = st.sampled_from(["lab", "notebook"])
    elif kind != "parallel_environment":
        word |= st.just("")
    values = draw(st.lists(word, min_size=1, max_size=5, unique=True))
    default = draw(st.sampled_from(values))
    options = [
        {
            "value": value,
            "label": draw(st.text(min_size=1, max_size=20)),
            "groups": [] if value == default else draw(st.lists(identifiers, max_size=2)),
        }
        for value in values
    ]
    return words | {"options": options, "default": default}


NUMBERS = ["slots", "memory", "run_time"]


WORDS = ["project", "queue", "environment", "interface", "mail"]


@st.composite
def menus(draw: st.DrawFn, words: bool = True) -> Menu:
    kinds = draw(
        st.lists(st.sampled_from(NUMBERS + WORDS * words), max_size=5, unique=True)
    ) + draw(st.lists(st.sampled_from(["count"] + ["complex"] * words), max_size=2))
    own = not words or draw(st.booleans())
    if "slots" in kinds and not own:
        kinds.append("parallel_environment")
    assume(kinds)
    names = draw(st.lists(identifiers, min_size=len(kinds), max_size=len(kinds), unique=True))
    complexes = draw(st.lists(identifiers, min_size=len(kinds), max_size=len(kinds), unique=True))
    items = []
    for kind, name, complex_name in zip(kinds, names, complexes, strict=True):
        made = menu_items if kind in [*NUMBERS, "count"] else word_items
        items.append(draw(made(kind, name, complex_name)))
        if kind == "slots" and not own:
            del items[-1]["request"]["parallel_environment"]
    return menu_of(*items)


def everybody(menu: Menu) -> frozenset[str]:
    """Return the groups of a person who may use everything."""
    return menu.people()[-1]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 10).map(str)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["4\n", " 4", "+4", "-4", "4.0", "٤", "４", "4_0", "0x4", "", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def only_checked_values(menu: Menu, choice: Choice) -> None:
    """Check each argument of qsub against the rule for its option."""
    arguments = qsub_arguments(menu, choice)
    words = {str(value) for value in choice.values.values()}
    name = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
    pair = rf"{name}=([0-9]+K?|[A-Za-z0-9_.][A-Za-z0-9_.:/@+-]*)"
    rules = {
        "-pe": [name, r"[1-9][0-9]*"],
        "-P": [name],
        "-q": [rf"{name}(@@?{name})?"],
        "-m": ["ea"],
        "-M": [r"[A-Za-z0-9_][A-Za-z0-9_.+-]*@[A-Za-z0-9][A-Za-z0-9.-]*"],
        "-l": [rf"{pair}(,{pair})*"],
    }
    options = []
    while arguments:
        option, *arguments = arguments
        options.append(option)
        for rule in rules[option]:
            value, *arguments = arguments
            assert re.fullmatch(rule, value)
            if option in ("-P", "-q", "-M"):
                assert value in words
    assert len(options) == len(set(options))
    for word in script_arguments(menu, choice):
        assert re.fullmatch(name, word)
        assert word in words
    assert default_url(menu, choice) in ("", "/lab", "/tree")


HOSTILE_NAMES = [
    "",
    "-l",
    "-pe",
    "--",
    "a b",
    "a\n",
    "a\n-l",
    "\na",
    "a,b",
    "a=b",
    "a;b",
    "a$b",
    "a`b`",
    "a'b",
    'a"b',
    "a/b",
    "a*",
    "a\0",
    "é",
    "а",  # Cyrillic
    "1a",
    ".a",
    "a" * 65,
    5,
    True,
    None,
    ["a"],
]


class Form(HTMLParser):
    """A parsed form: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def named(self, name: str) -> dict[str, str | None]:
        return next(found for _, found in self.elements if found.get("name") == name)

    def selected(self) -> list[str | None]:
        return [found["value"] for tag, found in self.elements if "selected" in found]


PROJECT = {
    "name": "project",
    "label": "Project",
    "options": [
        {"value": "", "label": "My default"},
        {"value": "teaching", "label": "Teaching"},
        {"value": "genomics", "label": "Genomics", "groups": ["genomics", "guests"]},
    ],
    "default": "",
    "request": {"kind": "project"},
}


QUEUE = {
    "name": "queue",
    "label": "Queue",
    "options": [{"value": "", "label": "Any"}, {"value": "gpu.q", "label": "GPU"}],
    "default": "",
    "groups": ["gpu"],
    "request": {"kind": "queue"},
}


MAIL = {
    "name": "mail",
    "label": "Mail to",
    "text": {"pattern": ".*", "example": "alice@example.org"},
    "default": "",
    "request": {"kind": "mail"},
}


SHARED_CORES = CORES | {"request": {"kind": "slots"}}


WHERE = {
    "name": "where",
    "label": "Cores are",
    "options": [{"value": "smp", "label": "on one host"}, {"value": "mpi", "label": "on any"}],
    "default": "smp",
    "request": {"kind": "parallel_environment"},
}


SOFTWARE = {
    "name": "software",
    "label": "Software",
    "options": [
        {"value": "", "label": "None"},
        {"value": "conda", "label": "Anaconda", "prologue": "module load anaconda\n"},
    ],
    "default": "",
    "request": {"kind": "environment"},
}


INTERFACE = {
    "name": "interface",
    "label": "Opens in",
    "options": [{"value": "lab", "label": "Lab"}, {"value": "notebook", "label": "Notebook"}],
    "default": "lab",
    "request": {"kind": "interface"},
}


LICENCE = {
    "name": "licence",
    "label": "Licence",
    "text": {"pattern": "[a-z]+|[0-9]{4}", "maximum_length": 8, "example": "matlab"},
    "default": "",
    "request": {"kind": "complex", "complex": "licence"},
}


ALL_WORDS = [PROJECT, QUEUE, MAIL, SHARED_CORES, WHERE, SOFTWARE, INTERFACE, LICENCE]


def options_of(item: dict[str, Any], *values: object, **others: Any) -> dict[str, Any]:
    options = [{"value": value, "label": f"Option {n}"} for n, value in enumerate(values)]
    return item | {"options": options, "default": values[0], **others}


SMALL = {"name": "small", "label": "Small", "choice": {"cores": 1, "memory": 2}}


FAST = {"name": "fast", "label": "Fast", "help": "With GPUs.", "choice": {"cores": 2, "gpus": 2}}


RULE = {"rule": "memory <= 32 * cores", "item": "memory", "message": "Too much for the cores."}
