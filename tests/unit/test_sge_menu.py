# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what it accepts, what it refuses, and what Grid Engine is asked for."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gridhub.menu.file import (
    LIMITS_VARIABLE,
    MENU_VARIABLE,
    PRESETS_VARIABLE,
    load_menu,
    parse_menu,
)
from gridhub.menu.form import render_form
from gridhub.menu.items import Choice, Item, Text
from gridhub.menu.job import default_url, qsub_arguments, requested, script_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu, ending_within
from gridhub.words import read_own, with_site

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


def item_of(item: dict[str, Any], **changes: Any) -> Item:
    return menu_of(item | changes).items[0]


def request_of(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return item | {"request": item["request"] | changes}


@pytest.fixture
def menu() -> Menu:
    return menu_of(*ALL)


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
        # The maximum need not be on a step.
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
        # With one core everything can be shared out: a menu's defaults must be possible.
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


@st.composite
def menus_with_choices(draw: st.DrawFn, words: bool = True) -> tuple[Menu, dict[str, Any]]:
    menu = draw(menus(words))
    return menu, {item.name: draw(st.sampled_from(allowed(item))) for item in menu.items}


def everybody(menu: Menu) -> frozenset[str]:
    """The groups of somebody who may use everything."""
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


class TestAmounts:
    @given(menus_with_choices())
    def test_every_value_on_the_menu_is_accepted_and_numbers_also_as_digits(
        self, chosen: tuple[Menu, dict[str, Any]]
    ) -> None:
        menu, values = chosen
        for item in menu.items:
            assert item.value(values[item.name], everybody(menu)) == values[item.name]
            assert item.value(str(values[item.name]), everybody(menu)) == values[item.name]

    @given(json_values)
    def test_anything_else_is_refused_with_the_allowed_amounts(self, raw: Any) -> None:
        for item in menu_of(*ALL).items:
            try:
                amount = item.value(raw)
            except ChoiceError as error:
                assert error.item == item.name
                assert item.label in str(error)
                assert item.allowed_words() in str(error)
                assert len(str(error)) < 300
            else:
                assert amount in allowed(item)
                assert type(amount) is int
                assert not isinstance(raw, bool | float)
                assert int(raw) == amount

    @pytest.mark.parametrize(
        "raw",
        [
            True,
            False,
            None,
            4.0,
            "4.0",
            "4\n",
            "\n4",
            " 4",
            "4 ",
            "+4",
            "-4",
            "0x4",
            "4_0",
            "٤",
            "４",
            "²",
            "",
            "4\0",
            "4 GB",
            "-l",
            "9" * 5000,
            "1" * 11,
            [4],
            {"4": 4},
            float("nan"),
            float("inf"),
        ],
    )  # fmt: skip
    def test_look_alikes_of_an_allowed_amount_are_refused(self, raw: object) -> None:
        with pytest.raises(ChoiceError, match="choose from 2 to 64 GB in steps of 2"):
            item_of(MEMORY).value(raw)

    @pytest.mark.parametrize(
        "raw",
        [10**5000, -(10**5000), [10**5000], 10**30, -4, 3, 0, 66],
        ids=["huge", "huge negative", "huge in a list", "large", "-4", "3", "0", "66"],
    )
    def test_numbers_off_the_menu_are_refused_however_long(self, raw: object) -> None:
        with pytest.raises(ChoiceError, match="choose from 2 to 64 GB in steps of 2") as caught:
            item_of(MEMORY).value(raw)
        assert len(str(caught.value)) < 200

    def test_deeply_nested_values_are_refused(self) -> None:
        raw: object = []
        for _ in range(100_000):
            raw = [raw]
        with pytest.raises(ChoiceError):
            item_of(MEMORY).value(raw)

    def test_true_is_not_one_even_where_one_is_on_the_menu(self) -> None:
        with pytest.raises(ChoiceError):
            item_of(CORES).value(True)

    def test_a_long_value_does_not_flood_the_message(self) -> None:
        with pytest.raises(ChoiceError) as caught:
            item_of(CORES).value("x" * 100_000)
        assert "x" * 40 in str(caught.value)
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize(
        ("item", "words"),
        [
            (CORES, "choose 1, 2, 3, 4 or 8"),
            (HOURS, "choose 1, 4 or 8 hours"),
            (HOURS | {"choices": [4]}, "only 4 hours is offered"),
            (MEMORY, "choose from 2 to 64 GB in steps of 2"),
            (MEMORY | {"range": {"minimum": 1, "maximum": 9}}, "choose from 1 to 9 GB"),
        ],
    )
    def test_the_words_name_what_is_allowed(self, item: dict[str, Any], words: str) -> None:
        assert item_of(item).allowed_words() == words

    def test_a_range_ends_at_its_last_whole_step(self) -> None:
        item = item_of(MEMORY, range={"minimum": 2, "maximum": 9, "step": 3}, default=2)
        assert [amount for amount in range(20) if item.allows(amount)] == [2, 5, 8]


class TestChoice:
    def test_what_is_missing_takes_its_default(self, menu: Menu) -> None:
        assert menu.choose({}, {"gpu"}).values == {"cores": 1, "memory": 4, "gpus": 0, "hours": 4}
        assert menu.choose({"cores": "2"}, ()).values == {"cores": 2, "memory": 4, "hours": 4}

    def test_a_member_of_any_of_the_groups_may_ask(self, menu: Menu) -> None:
        assert menu.choose({"gpus": 2}, {"users", "ml-lab"}).values["gpus"] == 2
        assert menu.choose({"gpus": 2}, {"gpu"}).values["gpus"] == 2

    def test_whoever_is_no_member_may_ask_for_nothing_only(self, menu: Menu) -> None:
        for other in (True, False, None, 0.0, "00", [0]):
            with pytest.raises(ChoiceError):
                menu.choose({"gpus": other}, {"users"})
        for none in (0, "0"):
            choice = menu.choose({"gpus": none}, {"users"})
            assert "gpus" not in choice.values
            assert not any("gpu" in argument for argument in qsub_arguments(menu, choice))
        with pytest.raises(ChoiceError, match="members of gpu or ml-lab") as caught:
            menu.choose({"gpus": 1}, {"users"})
        assert caught.value.item == "gpus"

    def test_group_names_are_compared_whole(self, menu: Menu) -> None:
        for groups in ({"gp"}, {"gpus"}, {"GPU"}, {"ml"}, {"gpu "}, set()):
            with pytest.raises(ChoiceError):
                menu.choose({"gpus": 1}, groups)

    @pytest.mark.parametrize("name", ["queue", "", "Cores", "cores ", "cores\n", "_xsrf", "-l"])
    def test_an_unknown_name_is_refused_with_the_names_on_the_menu(
        self, menu: Menu, name: str
    ) -> None:
        with pytest.raises(ChoiceError, match="it has cores, memory, hours") as caught:
            menu.choose({name: 1}, ())
        assert caught.value.item is None

    @given(
        st.dictionaries(
            st.sampled_from(["cores", "memory", "gpus", "hours"]) | st.text(max_size=10),
            json_values,
            max_size=4,
        ),
        st.sets(st.sampled_from(["gpu", "ml-lab", "users"])),
    )
    def test_a_choice_is_checked_or_refused_and_nothing_else(
        self, raw: dict[str, Any], groups: set[str]
    ) -> None:
        menu = menu_of(*ALL)
        try:
            choice = menu.choose(raw, groups)
        except ChoiceError as error:
            assert len(str(error)) < 300
            return
        for item in menu.items_for(groups):
            assert item.allows(choice.values[item.name])
        assert set(choice.values) == {item.name for item in menu.items_for(groups)}
        qsub_arguments(menu, choice)

    def test_things_that_cannot_be_shared_out_are_refused_when_they_are_chosen(
        self, menu: Menu
    ) -> None:
        with pytest.raises(ChoiceError, match="multiple of 4") as caught:
            menu.choose({"cores": 4, "gpus": 1}, {"gpu"})
        assert caught.value.item == "gpus"

    def test_a_checked_choice_is_accepted_again(self, menu: Menu) -> None:
        # The broker checks what the hub has checked.
        choice = menu.choose({"cores": "2", "gpus": "4"}, {"gpu"})
        assert menu.choose(choice.values, {"gpu"}) == choice


class TestArithmetic:
    def arguments(self, *items: dict[str, Any], **amounts: int) -> list[str]:
        menu = menu_of(*items)
        return qsub_arguments(menu, menu.choose(amounts, {"gpu"}))

    def test_totals_become_shares_of_the_slots(self) -> None:
        assert self.arguments(*ALL, cores=4, memory=8, gpus=4, hours=8) == [
            "-pe", "smp", "4", "-l", f"h_vmem={2 * 1024 * 1024}K,gpu=1,h_rt=28800",
        ]  # fmt: skip

    def test_what_is_counted_per_job_is_asked_for_whole(self) -> None:
        items = [CORES, request_of(MEMORY, per="job"), request_of(GPUS, per="job")]
        assert self.arguments(*items, cores=4, memory=8, gpus=1) == [
            "-pe", "smp", "4", "-l", f"h_vmem={8 * 1024 * 1024}K,gpu=1",
        ]  # fmt: skip

    def test_memory_that_does_not_divide_is_rounded_up(self) -> None:
        assert self.arguments(CORES, MEMORY, cores=3, memory=2) == [
            "-pe", "smp", "3", "-l", f"h_vmem={2 * 1024 * 1024 // 3 + 1}K",
        ]  # fmt: skip

    def test_one_core_is_asked_for_through_the_parallel_environment_too(self) -> None:
        assert self.arguments(CORES) == ["-pe", "smp", "1"]

    def test_nothing_is_asked_for_where_the_count_is_zero(self) -> None:
        assert self.arguments(GPUS, gpus=0) == []

    def test_without_slots_on_the_menu_a_job_has_one(self) -> None:
        assert self.arguments(MEMORY, GPUS, gpus=2, memory=6) == ["-l", "h_vmem=6291456K,gpu=2"]

    def test_things_that_cannot_be_shared_out_are_refused(self) -> None:
        with pytest.raises(ChoiceError, match=r"1 cannot be .* among 4 CPU cores.*multiple of 4"):
            self.arguments(*ALL, cores=4, gpus=1)

    def test_megabytes_and_minutes_are_understood(self) -> None:
        items = [MEMORY | {"unit": "MB"}, HOURS | {"unit": "minutes"}]
        assert self.arguments(*items, memory=2, hours=1) == ["-l", "h_vmem=2048K,h_rt=60"]

    @given(menus_with_choices(words=False))
    def test_a_job_gets_what_was_asked_for_and_less_than_a_kilobyte_per_slot_more(
        self, chosen: tuple[Menu, dict[str, int]]
    ) -> None:
        menu, amounts = chosen
        try:
            arguments = qsub_arguments(menu, Choice(values=amounts))
        except ChoiceError as error:
            item = next(item for item in menu.items if item.name == error.item)
            slots = next(amounts[i.name] for i in menu.items if i.request.kind == "slots")
            assert item.request.kind == "count"
            assert item.request.per == "slot"
            assert amounts[item.name] % slots
            return
        slots = int(arguments[arguments.index("-pe") + 2]) if "-pe" in arguments else 1
        asked = dict(
            part.split("=") for part in (arguments[-1].split(",") if "-l" in arguments else ())
        )
        for item in menu.items:
            amount = amounts[item.name]
            request = item.request
            if request.kind == "slots":
                assert slots == amount
            elif request.kind == "run_time":
                assert int(asked.pop(request.complex)) == amount * request.units[item.unit]
            elif request.kind == "memory":
                share = int(asked.pop(request.complex).removesuffix("K"))
                total = share * (slots if request.per == "slot" else 1)
                over = total - amount * request.units[item.unit]
                assert 0 <= over < (slots if request.per == "slot" else 1)
            elif amount:
                share = int(asked.pop(request.complex))
                assert share * (slots if request.per == "slot" else 1) == amount
        assert not asked

    @given(menus_with_choices())
    def test_nothing_reaches_qsub_but_options_of_ours_with_checked_values(
        self, chosen: tuple[Menu, dict[str, Any]]
    ) -> None:
        menu, values = chosen
        try:
            choice = menu.choose(values, everybody(menu))
        except ChoiceError as error:
            assert "shared out" in str(error)
            return
        assert choice.values == values
        only_checked_values(menu, choice)


def only_checked_values(menu: Menu, choice: Choice) -> None:
    """Take qsub's arguments apart, each by the rule of its own option."""
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

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "neither choices nor range": (
        {k: v for k, v in CORES.items() if k != "choices"},
        "give either 'choices' or 'range'",
    ),
    "both choices and range": (
        CORES | {"range": {"minimum": 1, "maximum": 2}},
        "give either 'choices' or 'range'",
    ),
    "default off the choices": (CORES | {"default": 7}, "default 7 is not allowed: choose 1"),
    "default off the steps": (MEMORY | {"default": 5}, "default 5 is not allowed: choose from 2"),
    "default true": (CORES | {"default": True}, "default"),
    "default as text": (CORES | {"default": "1"}, "default"),
    "no default": ({k: v for k, v in CORES.items() if k != "default"}, "default"),
    "no choices": (CORES | {"choices": []}, "choices"),
    "a choice twice": (CORES | {"choices": [1, 2, 1]}, "a choice is listed twice"),
    "a choice that is a boolean": (CORES | {"choices": [1, True]}, "choices"),
    "a choice that is text": (CORES | {"choices": [1, "2"]}, "choices"),
    "a choice that is no whole number": (CORES | {"choices": [1, 2.5]}, "choices"),
    "a negative choice": (CORES | {"choices": [1, -2]}, "choices"),
    "a huge choice": (CORES | {"choices": [1, 10**9 + 1]}, "choices"),
    "too many choices": (CORES | {"choices": list(range(1, 202))}, "choices"),
    "an empty range": (
        MEMORY | {"range": {"minimum": 4, "maximum": 2}},
        "minimum 4 is above maximum 2",
    ),
    "a step of zero": (MEMORY | {"range": {"minimum": 2, "maximum": 4, "step": 0}}, "step"),
    "a range with a typing error": (
        MEMORY | {"range": {"minimum": 2, "maximum": 4, "stop": 1}},
        "stop",
    ),
    "zero cores": (CORES | {"choices": [0, 1]}, "0 is allowed only where kind is count"),
    "zero hours": (HOURS | {"choices": [0, 4]}, "0 is allowed only where kind is count"),
    "zero memory": (
        MEMORY | {"range": {"minimum": 0, "maximum": 4, "step": 2}},
        "0 is allowed only where kind is count",
    ),
    "memory without a unit": (MEMORY | {"unit": ""}, "unit is ''; for kind memory it is MB or GB"),
    "memory in an unknown unit": (MEMORY | {"unit": "GiB"}, "unit is 'GiB'"),
    "cores with a unit": (CORES | {"unit": "GB"}, "unit is 'GB'; for kind slots it is empty"),
    "run time in seconds": (HOURS | {"unit": "s"}, "it is minutes or hours"),
    "memory for a group": (MEMORY | {"groups": ["gpu"]}, "kind memory cannot be limited to groups"),
    "an unknown field": (CORES | {"choises": [1]}, "choises"),
    "an unknown kind": (request_of(CORES, kind="cores"), "kind"),
    "no request": ({k: v for k, v in CORES.items() if k != "request"}, "request"),
    "a request that is text": (CORES | {"request": "smp"}, "request"),
    "count per host": (request_of(GPUS, per="host"), "per"),
    "count without per": (
        GPUS | {"request": {"kind": "count", "complex": "gpu"}},
        "per",
    ),
    "slots of a complex": (request_of(CORES, complex="slots"), "complex"),
    "an empty label": (CORES | {"label": ""}, "label"),
    "a label that is too long": (CORES | {"label": "x" * 1001}, "label"),
    "help that is too long": (CORES | {"help": "x" * 1001}, "help"),
    "a group with a space": (GPUS | {"groups": ["gpu users"]}, "groups"),
}


class TestMenuErrors:
    @pytest.mark.parametrize(("item", "words"), BAD.values(), ids=BAD)
    def test_a_bad_item_is_named_with_what_is_wrong(self, item: dict[str, Any], words: str) -> None:
        with pytest.raises(MenuError) as caught:
            menu_of(GPUS | {"name": "other"}, item)
        assert f"item {item['name']!r}" in str(caught.value)
        assert words in str(caught.value)
        assert MENU_VARIABLE in str(caught.value)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    @pytest.mark.parametrize("where", ["name", "parallel_environment", "complex", "group"])
    def test_a_name_that_could_be_read_as_something_else_is_refused(
        self, where: str, name: object
    ) -> None:
        item = {
            "name": CORES | {"name": name},
            "parallel_environment": request_of(CORES, parallel_environment=name),
            "complex": request_of(HOURS, complex=name),
            "group": GPUS | {"groups": [name]},
        }[where]
        with pytest.raises(MenuError, match="item"):
            menu_of(item)

    def test_an_item_without_a_name_is_named_by_its_number(self) -> None:
        with pytest.raises(MenuError, match="item number 2, name"):
            menu_of(CORES, {k: v for k, v in HOURS.items() if k != "name"})

    def test_every_fault_is_named_at_once(self) -> None:
        with pytest.raises(MenuError) as caught:
            menu_of(CORES | {"choices": []}, MEMORY | {"unit": "TB"}, HOURS | {"default": 9})
        for words in ("item 'cores', choices", "item 'memory'", "item 'hours'", "TB", "default 9"):
            assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("items", "words"),
        [
            ([CORES, HOURS | {"name": "cores"}], "two items have the same name"),
            ([CORES, CORES | {"name": "slots"}], "two items are of kind slots"),
            (
                [MEMORY, request_of(MEMORY, complex="h_rss") | {"name": "rss"}],
                "two items are of kind memory",
            ),
            ([HOURS, request_of(HOURS, complex="s_rt") | {"name": "soft"}], "of kind run_time"),
            ([GPUS, GPUS | {"name": "cards"}], "two items ask for the same complex"),
            ([MEMORY, request_of(GPUS, complex="h_vmem")], "two items ask for the same complex"),
            ([], "the whole list"),
            (
                [request_of(GPUS, complex=f"c{n}") | {"name": f"g{n}"} for n in range(51)],
                "50 items",
            ),
        ],
        ids=["name", "slots", "memory", "run_time", "complex", "two kinds", "none", "51"],
    )
    def test_items_that_do_not_fit_together_are_refused(
        self, items: list[dict[str, Any]], words: str
    ) -> None:
        with pytest.raises(MenuError, match=words):
            menu_of(*items)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[",
            b"\xff\xfe",
            "null",
            "{}",
            "5",
            '"menu"',
            "[null]",
            "[[]]",
            "[" * 100_000,
            '{"items": []}',
            "[NaN]",
            "[" + "9" * 5000 + "]",
        ],
    )
    def test_what_is_no_list_of_items_is_refused(self, text: str | bytes) -> None:
        with pytest.raises(MenuError):
            parse_menu(text)

    @given(
        st.dictionaries(st.sampled_from([*GPUS, "range", "unit", "help"]), json_values, max_size=3),
        st.sampled_from(ALL),
    )
    def test_any_change_of_an_item_gives_a_menu_or_a_menu_error(
        self, changes: dict[str, Any], item: dict[str, Any]
    ) -> None:
        try:
            text = written(item | changes)
        except ValueError:  # a number too long to be written
            return
        try:
            menu = parse_menu(text)
        except MenuError as error:
            assert "item" in str(error) or "JSON" in str(error)
            return
        choice = menu.choose({}, menu.items[0].groups)
        qsub_arguments(menu, choice)

    def test_the_message_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "menu.json"
        with pytest.raises(MenuError, match=f"{path} cannot be read: No such file"):
            load_menu(path)
        path.write_text("[", encoding="utf-8")
        with pytest.raises(MenuError, match=f"{path} is not JSON"):
            load_menu(path)
        path.write_text(written(*ALL), encoding="utf-8")
        assert load_menu(path) == menu_of(*ALL)

    def test_a_menu_cannot_be_changed_after_its_check(self, menu: Menu) -> None:
        with pytest.raises(ValueError, match="frozen"):
            menu.items[0].default = 1000  # type: ignore[misc]


class Form(HTMLParser):
    """What a browser sees: elements with their attributes, and the text."""

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


HOSTILE_WORDS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</label></form>&lt;b&gt;&amp;",
]


class TestForm:
    @pytest.mark.parametrize("words", HOSTILE_WORDS)
    def test_words_of_the_menu_are_text_and_never_html(self, words: str) -> None:
        plain = Form(render_form(menu_of(*ALL), {"gpu"}, {}))
        items = [item | {"label": words, "help": words} for item in ALL]
        form = Form(render_form(menu_of(*items), {"gpu"}, {}))
        kinds = [tag for tag, _ in form.elements if tag in ("div", "label")]
        assert kinds.count("label") == len(ALL)
        assert {tag for tag, _ in form.elements} == {tag for tag, _ in plain.elements}
        assert {name for _, found in form.elements for name in found} == {
            name for _, found in plain.elements for name in found
        }
        assert form.text.count(words) == 2 * len(ALL)

    def test_words_of_the_site_are_text_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        words = with_site(read_own(), {"unit.hours": "<b>"})
        monkeypatch.setattr("gridhub.words._sentences", lambda: words)
        html = render_form(menu_of(HOURS), (), {})
        assert "<b>" not in html
        assert "&lt;b&gt;" in html

    @given(st.text(min_size=1, max_size=50))
    def test_any_label_is_shown_as_it_is(self, label: str) -> None:
        html = render_form(menu_of(HOURS | {"label": label}), (), {})
        assume("\r" not in label and "\0" not in label)
        assert f"{label} (hours)" in Form(html).text

    def test_only_what_the_person_may_use_is_drawn(self, menu: Menu) -> None:
        assert 'name="gpus"' in render_form(menu, {"gpu"}, {})
        assert "gpu" not in render_form(menu, {"users"}, {})

    def test_the_last_choice_is_shown_again(self, menu: Menu) -> None:
        form = Form(render_form(menu, (), {"cores": 8, "memory": "16", "hours": 1}))
        assert form.selected() == ["8", "1"]
        assert form.named("memory")["value"] == "16"

    @pytest.mark.parametrize("last", [{}, {"cores": 7, "memory": "<b>", "hours": None, "x": 1}])
    def test_defaults_are_shown_where_there_is_no_usable_last_choice(
        self, menu: Menu, last: dict[str, object]
    ) -> None:
        form = Form(render_form(menu, (), last))
        assert form.selected() == ["1", "4"]
        assert form.named("memory")["value"] == "4"

    def test_the_browser_is_told_the_limits(self, menu: Menu) -> None:
        field = Form(render_form(menu, (), {})).named("memory")
        assert (field["min"], field["max"], field["step"]) == ("2", "64", "2")
        assert [
            found["value"]
            for tag, found in Form(render_form(menu, (), {})).elements
            if tag == "option"
        ] == ["1", "2", "3", "4", "8", "1", "4", "8"]

    def test_every_field_has_a_label_and_its_description(self, menu: Menu) -> None:
        elements = Form(render_form(menu, {"gpu"}, {})).elements
        identities = [found["id"] for _, found in elements if "id" in found]
        assert len(identities) == len(set(identities))
        for _, found in elements:
            for pointer in ("for", "aria-describedby"):
                assert set((found.get(pointer) or "").split()) <= set(identities)

    def test_what_the_form_sends_is_accepted(self, menu: Menu) -> None:
        form = Form(render_form(menu, {"gpu"}, {}))
        select = ""
        for tag, found in form.elements:
            if tag == "select":
                select = found["name"] or ""
            elif tag == "option":
                item = next(item for item in menu.items if item.name == select)
                assert item.allows(item.value(found["value"]))


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

#: What would be something else as an argument of qsub, in a list of it, in the shell or in a file.
HOSTILE_VALUES = [
    "-l", "-q", "--", "-", "a b", " a", "a ", "a\n", "a\n-l", "\na", "a\tb", "a,b", "a,", ",",
    "a=b", "a;b", "a$b", "$(id)", "`id`", "a'b", 'a"b', "a\\b", "a|b", "a&b", "a*", "a?b", "!a",
    "a!", "(a)", "[a]", "a\0", "a\x1b", "é", "а", "ａ", "a\u2028b", "a\ud800", "{a}", "a<b", "a>b",
    "#a", "~", "%a", "x" * 201,
]  # fmt: skip
HOSTILE_ADDRESSES = [
    "a@b,c@d", "a@b,c", "a,b@c", "a@b.c,d", "a@b c@d", "-a@b", "a@-b", "a@b-", "a@", "@b", "a",
    "a@@b", "a@b@c", "a@b..c", ".a@b", "a.@b", "a..b@c", "a@b\n", "a@b;id", '"a b"@c',
    "a@[127.0.0.1]", "a@b,", "<a@b>", "a(x)@b", "a!b@c", "ä@b.c", "a@ö.c", "a@b/c", "|id@b",
    "$HOME@b", "a%b@c", "none\n-M x@y",
]  # fmt: skip


def options_of(item: dict[str, Any], *values: object, **others: Any) -> dict[str, Any]:
    options = [{"value": value, "label": f"Option {n}"} for n, value in enumerate(values)]
    return item | {"options": options, "default": values[0], **others}


class TestWords:
    def chosen(self, *items: dict[str, Any], **values: object) -> tuple[Menu, Choice]:
        menu = menu_of(*items)
        return menu, menu.choose(values, everybody(menu))

    def test_every_kind_becomes_its_own_arguments(self) -> None:
        menu, choice = self.chosen(
            *ALL_WORDS,
            project="genomics",
            queue="gpu.q",
            mail="a.b@example.org",
            cores=4,
            where="mpi",
            software="conda",
            interface="notebook",
            licence="matlab",
        )
        assert qsub_arguments(menu, choice) == [
            "-P", "genomics",
            "-q", "gpu.q",
            "-m", "ea", "-M", "a.b@example.org",
            "-pe", "mpi", "4",
            "-l", "licence=matlab",
        ]  # fmt: skip
        assert script_arguments(menu, choice) == ["conda"]
        assert default_url(menu, choice) == "/tree"

    def test_nothing_asks_for_nothing(self) -> None:
        menu, choice = self.chosen(*ALL_WORDS)
        assert qsub_arguments(menu, choice) == ["-pe", "smp", "1"]
        assert script_arguments(menu, choice) == []
        assert default_url(menu, choice) == "/lab"

    def test_without_the_items_nothing_is_said(self) -> None:
        menu, choice = self.chosen(CORES)
        assert script_arguments(menu, choice) == []
        assert default_url(menu, choice) == ""

    def test_words_of_a_complex_stand_beside_amounts(self) -> None:
        menu, choice = self.chosen(MEMORY, LICENCE, HOURS, licence="2024")
        assert qsub_arguments(menu, choice) == ["-l", "h_vmem=4194304K,licence=2024,h_rt=14400"]

    @pytest.mark.parametrize("raw", [0, 1, True, None, ["teaching"], {}, "Teaching", "teaching "])
    def test_look_alikes_of_an_option_are_refused_with_all_that_there_is(self, raw: object) -> None:
        with pytest.raises(ChoiceError) as caught:
            menu_of(PROJECT).choose({"project": raw}, ())
        assert caught.value.item == "project"
        assert str(caught.value).startswith("Project: “")
        assert str(caught.value).endswith(
            "is not possible; choose “” (My default) or “teaching” (Teaching)."
        )

    @pytest.mark.parametrize("value", HOSTILE_VALUES)
    @pytest.mark.parametrize("item", [PROJECT, QUEUE, WHERE, SOFTWARE, INTERFACE, LICENCE])
    def test_no_menu_can_offer_a_value_that_is_more_than_one(
        self, item: dict[str, Any], value: str
    ) -> None:
        item = {key: word for key, word in options_of(item, value).items() if key != "text"}
        others = [SHARED_CORES] if item["request"]["kind"] == "parallel_environment" else []
        with pytest.raises(MenuError, match="option|options"):
            menu_of(item, *others)

    @pytest.mark.parametrize("value", HOSTILE_VALUES)
    @pytest.mark.parametrize("kind", ["project", "queue", "complex"])
    def test_no_pattern_lets_a_value_through_that_is_more_than_one(
        self, kind: str, value: str
    ) -> None:
        request = {"kind": kind} | ({"complex": "c"} if kind == "complex" else {})
        menu = menu_of(
            LICENCE | {"request": request, "text": {"pattern": "(?s).*", "example": "x"}}
        )
        with pytest.raises(ChoiceError, match="give something like “x”"):
            menu.choose({"licence": value}, ())

    @pytest.mark.parametrize("value", HOSTILE_ADDRESSES + HOSTILE_VALUES)
    def test_no_pattern_lets_anything_but_one_address_through(self, value: str) -> None:
        with pytest.raises(ChoiceError, match="give something like “alice@example.org”"):
            menu_of(MAIL).choose({"mail": value}, ())

    @pytest.mark.parametrize("value", [*ADDRESSES, "x_1+tag@a-b.c", "a-b@c"])
    def test_usual_addresses_are_taken(self, value: str) -> None:
        assert menu_of(MAIL).choose({"mail": value}, ()).values == {"mail": value}

    @given(st.text(max_size=30) | st.text("ab@.-+, =\n\"'", max_size=20))
    def test_whatever_is_accepted_is_one_harmless_value(self, value: str) -> None:
        free = {"pattern": "(?s).*", "example": "x"}
        items = [
            MAIL,
            LICENCE | {"text": free},
            PROJECT | {"options": None, "text": free},
            QUEUE | {"options": None, "text": free},
        ]
        menu = menu_of(*items)
        for item in menu.items:
            try:
                choice = menu.choose({item.name: value}, everybody(menu))
            except ChoiceError:
                continue
            only_checked_values(menu, choice)

    @pytest.mark.parametrize("value", ["all.q", "gpu.q@node1", "gpu.q@@fat", "1_q"])
    def test_queues_may_be_kept_to_hosts(self, value: str) -> None:
        assert menu_of(options_of(QUEUE, value)).items[0].default == value

    def test_a_menu_offers_no_interface_that_is_not_there(self) -> None:
        with pytest.raises(MenuError, match="option 'rstudio' cannot be a value of kind interface"):
            menu_of(options_of(INTERFACE, "lab", "rstudio"))


class TestText:
    @pytest.mark.parametrize("text", ["matlab", "a", "2024", ""])
    def test_text_that_matches_as_a_whole_is_taken(self, text: str) -> None:
        assert menu_of(LICENCE).choose({"licence": text}, ()).values == {"licence": text}

    @pytest.mark.parametrize(
        "text",
        [
            "2024a",
            "a2024",
            "mat lab",
            "matlab\n",
            "\nmatlab",
            "ab0",
            "20245",
            "abcdefghi",
            "MATLAB",
        ],
    )
    def test_text_that_matches_in_part_is_refused(self, text: str) -> None:
        with pytest.raises(ChoiceError, match="something like “matlab”, at most 8 char") as caught:
            menu_of(LICENCE).choose({"licence": text}, ())
        assert caught.value.item == "licence"

    def test_digits_and_letters_are_ascii(self) -> None:
        text = Text(pattern=r"\w\d", example="a1")
        assert text.matches("b2")
        for other in ("a٤", "é1", "aˊ"):
            assert not text.matches(other)

    @pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "(.*){20}b"])
    def test_no_pattern_holds_the_hub_up(self, pattern: str) -> None:
        menu = menu_of(LICENCE | {"text": {"pattern": pattern, "example": "aab"}})
        began = time.process_time()
        with pytest.raises(ChoiceError):
            menu.choose({"licence": "a" * 200}, ())
        assert time.process_time() - began < 1

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"pattern": "("}, "unclosed group"),
            ({"pattern": "a)|(?:b"}, "unopened group"),
            ({"pattern": "(?=a)a"}, "look-around"),
            ({"pattern": r"(a)\1"}, "backreferences"),
            ({"pattern": ""}, "pattern"),
            ({"pattern": "a" * 501}, "pattern"),
            ({"example": "x9"}, "the example 'x9' is itself not allowed"),
            ({"example": ""}, "example"),
            ({"maximum_length": 201}, "maximum_length"),
            ({"maximum_length": 0}, "maximum_length"),
            ({"maximum_length": 3}, "the example 'matlab' is itself not allowed"),
            ({"minimum_length": 3}, "minimum_length"),
        ],
    )
    def test_a_wrong_text_is_named(self, change: dict[str, Any], words: str) -> None:
        with pytest.raises(MenuError) as caught:
            menu_of(LICENCE | {"text": LICENCE["text"] | change})  # type: ignore[operator]
        assert "item 'licence'" in str(caught.value)
        assert words in str(caught.value)

    def test_the_default_must_be_allowed(self) -> None:
        with pytest.raises(MenuError, match="default X is not allowed: give something like"):
            menu_of(LICENCE | {"default": "X"})


class TestGroups:
    def test_options_of_a_group_are_for_its_members(self) -> None:
        menu = menu_of(PROJECT)
        assert menu.choose({"project": "genomics"}, {"guests"}).values["project"] == "genomics"
        with pytest.raises(ChoiceError) as caught:
            menu.choose({"project": "genomics"}, {"gpu"})
        assert str(caught.value) == (
            "Project: your account may not ask for “genomics”; it is for members of genomics or "
            "guests. Choose “” (My default) or “teaching” (Teaching)."
        )
        assert caught.value.item == "project"

    def test_outside_its_groups_an_item_is_nothing(self) -> None:
        menu = menu_of(CORES, options_of(QUEUE, "gpu.q", "all.q"))
        assert qsub_arguments(menu, menu.choose({}, {"gpu"})) == ["-pe", "smp", "1", "-q", "gpu.q"]
        for raw in ({}, {"queue": ""}):
            choice = menu.choose(raw, ())
            assert choice.values == {"cores": 1}
            assert qsub_arguments(menu, choice) == ["-pe", "smp", "1"]
        with pytest.raises(ChoiceError, match="“all.q”; it is for members of gpu. Leave it empty."):
            menu.choose({"queue": "all.q"}, ())

    @pytest.mark.parametrize("item", [GPUS, PROJECT, QUEUE, MAIL, SOFTWARE, LICENCE])
    def test_what_people_can_do_without_can_be_kept_to_groups(self, item: dict[str, Any]) -> None:
        menu = menu_of(item | {"groups": ["some"]})
        assert menu.choose({}, ()).values == {}

    @pytest.mark.parametrize("item", [CORES, MEMORY, HOURS, INTERFACE])
    def test_what_nobody_can_do_without_cannot(self, item: dict[str, Any]) -> None:
        with pytest.raises(MenuError, match="cannot be limited to groups: everyone needs it"):
            menu_of(item | {"groups": ["some"]})

    def test_the_default_is_for_everybody(self) -> None:
        with pytest.raises(MenuError, match="default 'genomics' is limited to groups"):
            menu_of(PROJECT | {"default": "genomics"})

    def test_others_do_not_see_the_option(self) -> None:
        assert "genomics" not in render_form(menu_of(PROJECT), {"gpu"}, {"project": "genomics"})
        form = Form(render_form(menu_of(PROJECT), {"guests"}, {"project": "genomics"}))
        assert form.selected() == ["genomics"]


BAD_WORDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "choices for a project": (
        [{k: v for k, v in PROJECT.items() if k != "options"} | {"choices": [1]}],
        "for kind project give either 'options' or 'text'",
    ),
    "text for an environment": (
        [{k: v for k, v in SOFTWARE.items() if k != "options"} | {"text": MAIL["text"]}],
        "for kind environment give 'options'",
    ),
    "options for mail": ([options_of(MAIL, "a@b") | {"text": None}], "for kind mail give 'text'"),
    "options for cores": (
        [options_of(CORES, "1") | {"choices": None}],
        "for kind slots give either 'choices' or 'range'",
    ),
    "both": ([LICENCE | {"options": PROJECT["options"]}], "give either 'options' or 'text'"),
    "no options": ([PROJECT | {"options": []}], "options"),
    "an option twice": ([options_of(QUEUE, "a", "a")], "an option is listed twice"),
    "a number as a value": ([options_of(QUEUE, 1)], "options, 0, value"),
    "a default that is not there": ([PROJECT | {"default": "x"}], "default x is not allowed"),
    "a default that is a number": ([PROJECT | {"default": 0}], "default 0 is not allowed"),
    "a default that is not there, of options for groups": (
        [options_of(QUEUE, "a") | {"options": PROJECT["options"][2:]}],  # type: ignore[index]
        "default a is not allowed: only “genomics” (Genomics) is offered",
    ),
    "an unknown key": ([options_of(QUEUE, "a") | {"values": []}], "values"),
    "no parallel environment": ([SHARED_CORES], "name the parallel_environment either in"),
    "two parallel environments": ([CORES, WHERE], "name the parallel_environment either in"),
    "a parallel environment without cores": ([WHERE], "needs one of kind slots"),
    "no word for cores on one host": ([SHARED_CORES, options_of(WHERE, "")], "option ''"),
    "no interface": ([options_of(INTERFACE, "")], "option '' cannot be a value"),
    "two projects": ([PROJECT, PROJECT | {"name": "p"}], "two items are of kind project"),
    "two environments": ([SOFTWARE, SOFTWARE | {"name": "p"}], "two items are of kind environment"),
    "a complex twice": ([LICENCE, LICENCE | {"name": "p"}], "two items ask for the same complex"),
    "a prologue for a queue": (
        [QUEUE | {"options": [{"value": "", "label": "Any", "prologue": "x"}]}],
        "option '' cannot have a prologue",
    ),
    "a prologue for nothing": (
        [SOFTWARE | {"options": [{"value": "", "label": "None", "prologue": "x"}]}],
        "option '' cannot have a prologue",
    ),
    "the name of the presets' field": ([PROJECT | {"name": "preset"}], "reserved for presets"),
    "a name of JupyterHub's": (
        [PROJECT | {"name": "next"}],
        "JupyterHub takes 'next' from the form and from links for itself; give the item another",
    ),
    "another name of JupyterHub's": ([PROJECT | {"name": "display_name"}], "'display_name'"),
    "a name that begins as a link's": ([PROJECT | {"name": "opt-x"}], "takes 'opt-x'"),
}


@pytest.mark.parametrize(("items", "words"), BAD_WORDS.values(), ids=BAD_WORDS)
def test_a_bad_item_of_words_is_named_with_what_is_wrong(
    items: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(MenuError) as caught:
        menu_of(*items)
    assert words in str(caught.value)
    assert f"Change {MENU_VARIABLE} in" in str(caught.value)


SMALL = {"name": "small", "label": "Small", "choice": {"cores": 1, "memory": 2}}
FAST = {"name": "fast", "label": "Fast", "help": "With GPUs.", "choice": {"cores": 2, "gpus": 2}}


class TestLinks:
    def test_what_can_be_filled_in_is_and_the_rest_is_said(self) -> None:
        menu = menu_of(*ALL, presets=[SMALL])
        link = {"cores": "8", "memory": "3", "gpus": "1", "disk": "9", "hours": ["1", "2"]}
        values, left_out = menu.take(link, ())
        assert values == {"cores": 8}
        assert [words.partition(":")[0].partition(" is")[0] for words in left_out] == [
            "Memory",
            "GPUs",
            "“disk”",
            "Run time",
        ]

    def test_a_preset_is_taken_with_its_values_whatever_else_is_said(self) -> None:
        menu = menu_of(*ALL, presets=[SMALL])
        for link in ({"preset": "small", "cores": "8"}, {"cores": "8", "preset": "small"}):
            values, left_out = menu.take(link, ())
            assert values == {"preset": "small", "cores": 1, "memory": 2}
            assert left_out == []
        assert menu.take({"preset": ""}, ()) == ({}, [])
        assert menu.take({"preset": "huge"}, ())[0] == {}


class TestShift:
    """More or less of one thing, with the rest of the choice as it is."""

    @pytest.mark.parametrize(
        ("old", "more", "less"), [(2, 4, None), (4, 6, 2), (5, 6, 4), (64, None, 62), (1, 2, None)]
    )
    def test_a_range_goes_by_its_steps(self, old: int, more: int | None, less: int | None) -> None:
        menu = menu_of(MEMORY)  # from 2 to 64 in steps of 2
        assert menu.shift({"memory": old}, "memory", ()) == more
        assert menu.shift({"memory": old}, "memory", (), most=old) == less

    def test_choices_are_taken_by_size_and_not_by_place(self) -> None:
        menu = menu_of(CORES | {"choices": [8, 1, 4], "default": 1})
        assert menu.shift({"cores": 1}, "cores", ()) == 4
        assert menu.shift({"cores": 8}, "cores", (), most=8) == 4
        assert menu.shift({"cores": 8}, "cores", (), most=3) == 1
        assert menu.shift({}, "cores", ()) == 4, "what is not chosen is the default"

    def test_nothing_that_a_rule_or_the_menu_refuses_is_offered(self) -> None:
        rule = {"rule": "memory in (2, 10)", "item": "memory", "message": "No."}
        menu = menu_of(*ALL, limits=[rule | {"rule": "memory < 10 or cores > 1"}])
        assert menu.shift({"memory": 8, "cores": 1}, "memory", ()) is None
        assert menu.shift({"memory": 8, "cores": 2}, "memory", ()) == 10
        assert menu.shift({"gpus": 0}, "gpus", ()) is None, "not theirs"
        assert menu.shift({"gpus": 0}, "gpus", {"gpu"}) is not None
        assert menu.shift({}, "disk", ()) is None
        # What a rule refuses is passed over.
        menu = menu_of(MEMORY | {"default": 2}, limits=[rule])
        assert menu.shift({"memory": 2}, "memory", ()) == 10

    def test_a_huge_range_keeps_nobody_waiting(self) -> None:
        wide = MEMORY | {"range": {"minimum": 1, "maximum": 10**9}, "default": 1}
        rule = {"rule": "memory == 1", "item": "memory", "message": "No."}
        menu = menu_of(wide, limits=[rule])
        start = time.monotonic()
        assert menu.shift({"memory": 1}, "memory", ()) is None
        assert time.monotonic() - start < 5


class TestPresets:
    def menu(self, *presets: dict[str, Any], **others: Any) -> Menu:
        return menu_of(*ALL, presets=presets, **others)

    def test_a_preset_stands_for_its_values(self) -> None:
        menu = self.menu(SMALL, FAST)
        raw = {"preset": "small", "cores": "8", "memory": "<nonsense>", "hours": "1"}
        assert menu.choose(raw, ()).values == {"cores": 1, "memory": 2, "hours": 1}
        assert menu.choose({"preset": "fast"}, {"gpu"}).values["gpus"] == 2

    def test_without_a_preset_the_fields_count(self) -> None:
        for menu in (self.menu(SMALL), self.menu()):
            assert menu.choose({"preset": "", "cores": 8}, ()).values["cores"] == 8

    @pytest.mark.parametrize("raw", ["large", "Small", None, 0, True, ["small"], {}, "small\n"])
    def test_an_unknown_preset_is_refused_with_those_there_are(self, raw: object) -> None:
        with pytest.raises(
            ChoiceError, match="choose “small” .Small., or leave it empty"
        ) as caught:
            self.menu(SMALL, FAST).choose({"preset": raw}, ())
        assert caught.value.item == "preset"

    def test_a_preset_is_for_who_may_choose_all_of_it(self) -> None:
        menu = self.menu(SMALL | {"groups": ["some"]}, FAST)
        for groups, names in (((), []), ({"gpu"}, ["fast"]), ({"some"}, ["small"])):
            assert [preset.name for preset in menu.presets_for(groups)] == names
            form = render_form(menu, groups, {})
            assert ("small" in form, "fast" in form) == ("small" in names, "fast" in names)
        with pytest.raises(ChoiceError, match="“fast” is not possible; leave it empty"):
            menu.choose({"preset": "fast"}, ())

    def test_a_preset_may_name_what_somebody_may_not_use_if_it_asks_for_none_of_it(self) -> None:
        menu = self.menu(SMALL | {"choice": {"cores": 1, "gpus": 0}})
        assert [preset.name for preset in menu.presets_for(())] == ["small"]
        assert menu.choose({"preset": "small"}, ()).values == {"cores": 1, "memory": 4, "hours": 4}

    def test_presets_come_first_in_the_form_with_what_they_set(self) -> None:
        menu = self.menu(SMALL, FAST)
        form = Form(render_form(menu, {"gpu"}, {}))
        names = [found["name"] for _, found in form.elements if "name" in found]
        assert names == ["preset", "cores", "memory", "gpus", "hours"]
        assert [found["value"] for tag, found in form.elements if tag == "option"][:3] == [
            "",
            "small",
            "fast",
        ]
        assert form.selected()[0] == ""
        assert "Small – CPU cores: 1, Memory: 2 GB." in form.text
        assert "Fast – CPU cores: 2, GPUs: 2. With GPUs." in form.text

    def test_a_preset_is_shown_again_with_its_values_whatever_else_was_said(self) -> None:
        last = {"preset": "small", "cores": "8", "memory": "16", "hours": "1"}
        form = Form(render_form(self.menu(SMALL, FAST), (), last))
        assert form.selected() == ["small", "1", "1"]
        assert form.named("memory")["value"] == "2"
        # One that is not theirs any more counts for nothing.
        form = Form(render_form(self.menu(FAST), (), last | {"preset": "fast"}))
        assert form.selected() == ["8", "1"]

    def test_the_browser_is_told_what_a_preset_fills_in(self) -> None:
        small = SMALL | {"choice": {"cores": 1}, "label": "It's <small>"}
        form = Form(render_form(self.menu(small), (), {}))
        fills = [found.get("data-fills") for tag, found in form.elements if tag == "option"]
        assert fills[:2] == [None, '{"cores": 1}']

    def test_without_presets_there_is_no_such_field(self) -> None:
        assert "preset" not in render_form(self.menu(FAST), (), {}).lower()

    @pytest.mark.parametrize(
        ("preset", "words"),
        [
            (SMALL | {"choice": {"cores": 7}}, "choice: CPU cores: “7” is not possible; choose 1"),
            (SMALL | {"choice": {"disk": 7}}, "choice: “disk” is not on the menu; it has cores"),
            (SMALL | {"choice": {}}, "choice"),
            (SMALL | {"choice": {"cores": True}}, "choice, cores"),
            (SMALL | {"choice": {"cores": 1.5}}, "choice, cores"),
            (SMALL | {"choice": {"preset": "small"}}, "“preset” is not on the menu"),
            (SMALL | {"choice": {"cores": 4, "gpus": 1}}, "cannot be shared out evenly"),
            (SMALL | {"label": ""}, "label"),
            (SMALL | {"item": "x"}, "item"),
            (SMALL | {"groups": ["a b"]}, "groups"),
        ],
    )
    def test_a_wrong_preset_is_named_with_its_variable(
        self, preset: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(MenuError) as caught:
            self.menu(FAST, preset)
        assert f"{PRESETS_VARIABLE}, preset 'small'" in str(caught.value)
        assert words in str(caught.value)
        assert f"Change {PRESETS_VARIABLE} in" in str(caught.value)

    def test_names_of_presets_differ(self) -> None:
        with pytest.raises(MenuError, match="preset 'small': two presets have this name"):
            self.menu(SMALL, SMALL)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_names_of_presets_are_names(self, name: object) -> None:
        with pytest.raises(MenuError, match=PRESETS_VARIABLE):
            self.menu(SMALL | {"name": name})


RULE = {"rule": "memory <= 32 * cores", "item": "memory", "message": "Too much for the cores."}
IN_QUEUE = {"rule": "gpus == 0 or queue == 'gpu.q'", "item": "queue", "message": "Wrong queue."}


class TestLimits:
    def menu(self, *limits: dict[str, Any], **others: Any) -> Menu:
        return menu_of(*ALL, QUEUE, limits=limits, **others)

    def test_a_choice_that_breaks_a_rule_is_refused_at_its_item(self) -> None:
        menu = self.menu(RULE)
        assert menu.choose({"cores": 1, "memory": 32}, ()).values["memory"] == 32
        assert menu.choose({"cores": 2, "memory": 64}, ()).values["memory"] == 64
        with pytest.raises(ChoiceError, match="^Too much for the cores.$") as caught:
            menu.choose({"cores": 1, "memory": 34}, ())
        assert caught.value.item == "memory"

    def test_what_somebody_may_not_use_counts_as_nothing(self) -> None:
        menu = self.menu(IN_QUEUE)
        assert "gpus" not in menu.choose({}, ()).values
        assert menu.choose({"gpus": 1, "queue": "gpu.q"}, {"gpu"}).values["gpus"] == 1
        for groups in ({"gpu"}, {"ml-lab"}):
            with pytest.raises(ChoiceError, match="Wrong queue"):
                menu.choose({"gpus": 1}, groups)

    def test_a_preset_keeps_the_limits_with_the_other_fields_too(self) -> None:
        menu = self.menu(RULE, presets=[{"name": "p", "label": "P", "choice": {"cores": 1}}])
        with pytest.raises(ChoiceError, match="Too much"):
            menu.choose({"preset": "p", "cores": 4, "memory": 64}, ())

    def test_a_rule_that_cannot_be_evaluated_is_not_kept(self) -> None:
        menu = self.menu(RULE | {"rule": "gpus == 0 or 2 / (gpus - 1) > 0"})
        assert menu.choose({"gpus": 2}, {"gpu"})
        with pytest.raises(ChoiceError, match="Too much"):
            menu.choose({"gpus": 1}, {"gpu"})

    @pytest.mark.parametrize(
        ("limit", "words"),
        [
            (RULE | {"rule": "memory <="}, "rule: is not an expression"),
            (RULE | {"rule": "memory =< 3"}, "rule: is not an expression"),
            (RULE | {"rule": ""}, "rule"),
            (RULE | {"rule": "memory }} {{ cores"}, "rule: is not an expression"),
            (RULE | {"rule": "memory | no_such_filter"}, "rule: is not an expression"),
            (RULE | {"rule": "memory <= 32 * core"}, "'core' is not an item; the menu has cores"),
            (RULE | {"rule": "range(3)"}, "'range' is not an item"),
            (RULE | {"rule": "memory <= run-time"}, "'run', 'time' is not an item"),
            (RULE | {"item": "ram"}, "'ram' is not an item"),
            (RULE | {"rule": "memory > 4"}, "own defaults break it: memory = 4"),
            (RULE | {"rule": "cores / gpus > 0"}, "cannot be evaluated"),
            (RULE | {"rule": "queue > 1"}, "cannot be evaluated"),
            (RULE | {"rule": "memory.total <= 3"}, "cannot be evaluated"),
            (RULE | {"rule": "''.__class__.__mro__"}, "cannot be evaluated"),
            (RULE | {"rule": "memory.__class__"}, "cannot be evaluated"),
            (RULE | {"message": ""}, "message"),
            (RULE | {"why": "x"}, "why"),
            ({"rule": "cores > 0", "item": "cores"}, "message"),
        ],
    )
    def test_a_wrong_limit_is_named_with_its_variable(
        self, limit: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(MenuError) as caught:
            self.menu(IN_QUEUE, limit)
        assert f"{LIMITS_VARIABLE}, limit number 2" in str(caught.value)
        assert words in str(caught.value)
        assert f"Change {LIMITS_VARIABLE} in" in str(caught.value)

    def test_defaults_of_members_keep_the_limits_too(self) -> None:
        gpus = GPUS | {"default": 1}
        with pytest.raises(MenuError, match="own defaults break it: gpus = 1, queue = ''"):
            menu_of(CORES, gpus, QUEUE, limits=[IN_QUEUE])

    def test_a_preset_that_breaks_a_limit_is_refused(self) -> None:
        with pytest.raises(MenuError) as caught:
            self.menu(IN_QUEUE, presets=[FAST])
        assert f"{PRESETS_VARIABLE}, preset 'fast': a limit forbids it: Wrong queue." in (
            str(caught.value)
        )

    @given(st.text(max_size=30) | st.text("memorycs<>=()+-*/ '|.{}%#~0123", max_size=25))
    def test_any_rule_gives_a_menu_or_a_menu_error(self, rule: str) -> None:
        try:
            menu = self.menu(RULE | {"rule": rule})
        except MenuError as error:
            assert LIMITS_VARIABLE in str(error) or "JSON" in str(error)
            return
        menu.choose({}, ())


class TestDefaults:
    def test_defaults_that_nobody_could_take_are_refused(self) -> None:
        with pytest.raises(MenuError, match=f"{MENU_VARIABLE}, the defaults: .*shared out evenly"):
            menu_of(CORES | {"default": 4}, GPUS | {"default": 1})


class TestFormErrors:
    def refused(self, menu: Menu, raw: dict[str, Any], groups: Any = ()) -> tuple[Form, str]:
        with pytest.raises(ChoiceError) as caught:
            menu.choose(raw, groups)
        html = render_form(menu, groups, raw, caught.value)
        return Form(html), str(caught.value)

    def test_the_reason_stands_at_the_field_with_what_was_written(self) -> None:
        form, words = self.refused(menu_of(*ALL), {"memory": "5", "cores": "8"})
        field = form.named("memory")
        assert field["class"] == "form-control is-invalid"
        assert field["aria-invalid"] == "true"
        assert field["value"] == "5"
        described = (field["aria-describedby"] or "").split()
        texts = {found.get("id"): found.get("class") for _, found in form.elements}
        assert [texts[identity] for identity in described] == ["invalid-feedback", "form-text"]
        assert form.text.count(words) == 1
        assert form.selected() == ["8", "4"]
        assert [found for _, found in form.elements if "aria-invalid" in found] == [field]

    def test_lists_are_marked_too(self) -> None:
        form, words = self.refused(menu_of(*ALL), {"cores": "7"})
        assert form.named("cores")["class"] == "form-select is-invalid"
        assert form.selected()[0] == "1"
        assert words in form.text

    def test_a_broken_limit_keeps_all_that_was_chosen(self) -> None:
        menu = menu_of(*ALL, limits=[RULE])
        form, words = self.refused(menu, {"cores": "1", "memory": "64", "hours": "8"})
        assert form.named("memory")["value"] == "64"
        assert form.named("memory")["aria-invalid"] == "true"
        assert form.selected() == ["1", "8"]
        assert words in form.text

    def test_a_wrong_preset_is_told_at_the_presets(self) -> None:
        form, words = self.refused(menu_of(*ALL, presets=[SMALL]), {"preset": "large"})
        assert form.named("preset")["aria-invalid"] == "true"
        assert words in form.text

    def test_what_is_about_no_field_marks_none(self) -> None:
        for raw in ({"disk": 1}, {"gpus": 1}):
            form, _ = self.refused(menu_of(*ALL), raw)
            assert not [found for _, found in form.elements if "aria-invalid" in found]

    def test_without_an_error_nothing_is_marked(self) -> None:
        html = render_form(menu_of(*ALL, *ALL_WORDS[:3]), {"gpu"}, {"memory": "5"})
        form = Form(html)
        assert "is-invalid" not in html
        assert not [found for _, found in form.elements if "aria-invalid" in found]
        assert form.named("memory")["value"] == "4"

    def test_every_field_has_a_place_where_the_browser_can_explain_what_is_wrong(self) -> None:
        menu = menu_of(*ALL, *ALL_WORDS[:3], presets=[SMALL])
        html = render_form(menu, {"gpu"}, {})
        for field in re.findall(r'<(?:select|input) [^>]*name="([^"]+)"[^>]*>', html):
            assert f'<div class="invalid-feedback" id="error-menu-{field}"></div>' in html
            described = Form(html).named(field)["aria-describedby"] or ""
            assert f"error-menu-{field}" in described.split()

    @pytest.mark.parametrize(
        "raw", ["x" * 100_000, "a\0b", 10**5000, -(10**5000), ["x"], None, {}], ids=range(7)
    )
    def test_what_a_field_cannot_show_is_not_shown(self, raw: object) -> None:
        for item, shown in ((MEMORY, "4"), (LICENCE, "")):
            form, _ = self.refused(menu_of(item), {item["name"]: raw})
            assert form.named(item["name"])["value"] == shown

    @given(st.text(min_size=1, max_size=60) | st.sampled_from(HOSTILE_WORDS))
    def test_refused_words_are_text_and_never_html(self, words: str) -> None:
        menu = menu_of(MEMORY, LICENCE, presets=[SMALL | {"choice": {"memory": 2}}])
        kinds = {"div", "label", "input", "select", "option", "br"}
        names = {
            "class", "for", "id", "name", "value", "selected", "type", "inputmode", "required",
            "min", "max", "step", "maxlength", "placeholder", "aria-describedby", "aria-invalid",
            "data-fills",
        }  # fmt: skip
        for field in ("memory", "licence", "preset"):
            try:
                menu.choose({field: words}, ())
            except ChoiceError as error:
                html = render_form(menu, (), {field: words}, error)
                form = Form(html)
                assert {tag for tag, _ in form.elements} <= kinds
                assert {name for _, found in form.elements for name in found} <= names
                if field != "preset" and words.isprintable():
                    assert form.named(field)["value"] == words

    @pytest.mark.parametrize("words", HOSTILE_WORDS)
    def test_words_of_options_presets_and_limits_are_text_too(self, words: str) -> None:
        def menu(words: str) -> Menu:
            options = [{"value": "", "label": words}, {"value": "a", "label": words}]
            return menu_of(
                CORES,
                PROJECT | {"options": options, "label": words},
                LICENCE | {"text": LICENCE["text"] | {"pattern": ".*"}, "help": words},  # type: ignore[operator]
                presets=[{"name": "p", "label": words, "help": words, "choice": {"project": "a"}}],
                limits=[{"rule": "cores < 8", "item": "cores", "message": words}],
            )

        plain, _ = self.refused(menu("plain words"), {"cores": 8})
        form, told = self.refused(menu(words), {"cores": 8})
        assert told == words
        assert [tag for tag, _ in form.elements] == [tag for tag, _ in plain.elements]
        assert [list(found) for _, found in form.elements] == [
            list(found) for _, found in plain.elements
        ]
        assert form.text.count(words) == plain.text.count("plain words") >= 8

    @given(menus(), st.data())
    def test_what_any_form_sends_is_accepted(self, menu: Menu, data: st.DataObject) -> None:
        # As a browser does: what is selected, or else the first option.
        form = Form(render_form(menu, everybody(menu), {}))
        sent: dict[str, str] = {}
        name = ""
        for tag, found in form.elements:
            if tag == "select":
                name = found["name"] or ""
            elif tag == "input":
                sent[found["name"] or ""] = found["value"] or ""
            elif tag == "option" and (name not in sent or "selected" in found):
                sent[name] = found["value"] or ""
        assert menu.choose(sent, everybody(menu)) == menu.choose({}, everybody(menu))


@given(menus(), st.dictionaries(st.text(max_size=5), json_values, max_size=3), st.data())
def test_of_any_menu_a_choice_is_checked_or_refused_and_nothing_else(
    menu: Menu, more: dict[str, Any], data: st.DataObject
) -> None:
    groups = data.draw(st.sampled_from(menu.people()))
    raw = more | {
        item.name: data.draw(st.sampled_from([*allowed(item), str(item.default)]) | json_values)
        for item in menu.items
        if data.draw(st.booleans())
    }
    try:
        choice = menu.choose(raw, groups)
    except ChoiceError:
        return
    assert list(choice.values) == [item.name for item in menu.items_for(groups)]
    for item in menu.items_for(groups):
        value = choice.values[item.name]
        assert value in allowed(item) or (item.text and item.allows(value))
        for option in item.options or ():
            assert option.value != value or not option.groups or set(option.groups) & groups
    only_checked_values(menu, choice)
    assert menu.choose(choice.values, groups) == choice


@given(
    st.sampled_from([PROJECT, QUEUE, MAIL, SOFTWARE, INTERFACE, LICENCE]),
    st.dictionaries(st.sampled_from([*PROJECT, "groups", "text", "help"]), json_values, max_size=2),
    st.dictionaries(st.sampled_from(["presets", "limits", "menu"]), json_values, max_size=1),
)
def test_any_change_of_a_menu_of_words_gives_a_menu_or_a_menu_error(
    item: dict[str, Any], changes: dict[str, Any], others: dict[str, Any]
) -> None:
    try:
        menu = parse_menu(written(item | changes, **others))
    except MenuError as error:
        assert "jupyterhub_resource_" in str(error) or "JSON" in str(error)
        return
    for groups in menu.people():
        only_checked_values(menu, menu.choose({}, groups))


def test_a_menu_is_read_once_for_the_same_text(menu: Menu) -> None:
    assert parse_menu(written(*ALL)) is parse_menu(written(*ALL))


def test_what_a_choice_asks_for_is_told_with_its_totals() -> None:
    menu = parse_menu(
        json.dumps(
            {
                "items": [
                    {
                        "name": "cores",
                        "label": "CPU cores",
                        "range": {"minimum": 1, "maximum": 4},
                        "default": 2,
                        "request": {"kind": "slots", "parallel_environment": "smp"},
                    },
                    {
                        "name": "memory",
                        "label": "Memory",
                        "unit": "GB",
                        "choices": [3],
                        "default": 3,
                        "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
                    },
                    {
                        "name": "gpus",
                        "label": "GPUs",
                        "choices": [0, 1],
                        "default": 0,
                        "request": {"kind": "count", "complex": "gpu", "per": "job"},
                    },
                    {
                        "name": "run_time",
                        "label": "Run time",
                        "unit": "minutes",
                        "choices": [90],
                        "default": 90,
                        "request": {"kind": "run_time", "complex": "h_rt"},
                    },
                    {
                        "name": "queue",
                        "label": "Queue",
                        "options": [{"value": "gpu.q", "label": "Graphics"}],
                        "default": "gpu.q",
                        "request": {"kind": "queue"},
                    },
                ],
                "presets": [],
                "limits": [],
            }
        )
    )
    told = [(a.item, a.words, a.complex, a.total) for a in requested(menu, menu.choose({}, ()))]
    assert told == [
        ("cores", "2", "", 2),
        ("memory", "3 GB", "h_vmem", 3 * 2**30),  # in total, whatever it is counted by
        ("run_time", "90 minutes", "h_rt", 5400),
        ("queue", "Graphics", "", 0),
    ]
    assert menu.complexes() == {"h_vmem", "gpu"}


@pytest.mark.parametrize(
    ("chosen", "hours", "left"),
    [(4, 4.0, 4), (4, 8.0, 4), (4, 3.99, 1), (8, 7.0, 4), (8, 0.5, None), (1, -2.0, None)],
)
def test_a_run_time_that_is_too_long_has_one_that_is_over_in_time(
    chosen: int, hours: float, left: int | None
) -> None:
    menu = menu_of(*ALL)
    choice = menu.choose({"hours": chosen}, ())
    found = ending_within(menu, choice, (), hours * 3600)
    assert found is not None
    item, fitting = found
    assert item.name == "hours"
    expected = None if left is None else choice.values | {"hours": left}
    assert (fitting and fitting.values) == expected


def test_a_run_time_that_is_over_in_time_keeps_to_the_limits_of_the_menu() -> None:
    limit = {"rule": "cores < 8 or hours != 4", "item": "hours", "message": "Not four."}
    menu = menu_of(*ALL, limits=[limit])
    choice = menu.choose({"hours": 8, "cores": 8}, ())
    found = ending_within(menu, choice, (), 5 * 3600)
    assert found and found[1] and found[1].values["hours"] == 1


def test_minutes_in_a_range_are_cut_to_its_steps() -> None:
    steps = {"minimum": 10, "maximum": 60, "step": 25}
    item = {key: value for key, value in HOURS.items() if key != "choices"}
    menu = menu_of(item | {"range": steps, "unit": "minutes", "default": 60})
    choice = menu.choose({}, ())
    found = ending_within(menu, choice, (), 50 * 60)
    assert found and found[1] and found[1].values == {"hours": 35}


def test_a_menu_without_a_run_time_cannot_be_over_in_time() -> None:
    menu = menu_of(CORES)
    assert ending_within(menu, menu.choose({}, ()), (), 60) is None
