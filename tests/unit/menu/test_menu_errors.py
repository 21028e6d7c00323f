# SPDX-License-Identifier: BSD-3-Clause
"""A menu with a mistake is refused, and the message names the item."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.menu.file import (
    MENU_VARIABLE,
    load_menu,
    parse_menu,
)
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from menus import (
    ALL,
    CORES,
    GPUS,
    HOSTILE_NAMES,
    HOURS,
    INTERFACE,
    LICENCE,
    MAIL,
    MEMORY,
    PROJECT,
    QUEUE,
    SHARED_CORES,
    SOFTWARE,
    WHERE,
    json_values,
    menu_of,
    only_checked_values,
    options_of,
    request_of,
    written,
)

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
    "a group with a colon": (GPUS | {"groups": ["gpu:users"]}, "groups"),
    "a group with a blank at its end": (GPUS | {"groups": ["gpu "]}, "groups"),
}


class TestMenuErrors:
    @pytest.mark.parametrize(("item", "words"), BAD.values(), ids=BAD)
    def test_a_bad_item_is_named_with_its_fault(self, item: dict[str, Any], words: str) -> None:
        with pytest.raises(MenuError) as caught:
            menu_of(GPUS | {"name": "other"}, item)
        assert f"item {item['name']!r}" in str(caught.value)
        assert words in str(caught.value)
        assert MENU_VARIABLE in str(caught.value)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    @pytest.mark.parametrize("where", ["name", "parallel_environment", "complex"])
    def test_a_name_that_could_be_mistaken_for_something_else_is_refused(
        self, where: str, name: object
    ) -> None:
        item = {
            "name": CORES | {"name": name},
            "parallel_environment": request_of(CORES, parallel_environment=name),
            "complex": request_of(HOURS, complex=name),
        }[where]
        with pytest.raises(MenuError, match="item"):
            menu_of(item)

    @pytest.mark.parametrize("name", ["", " ", "a ", " a", "a\n", "a\nb", "a:b", "a\0", 1, None])
    def test_a_name_that_no_group_can_have_is_refused(self, name: object) -> None:
        with pytest.raises(MenuError, match="groups"):
            menu_of(GPUS | {"groups": [name]})

    @pytest.mark.parametrize(
        "name",
        ["domain users", "GPU@EXAMPLE.ORG", "EXAMPLE\\gpu", "gpu$", "Größe", "1", "a,b", "<b>"],
    )
    def test_a_group_may_have_any_other_name(self, name: str) -> None:
        menu = menu_of(CORES, GPUS | {"groups": [name]})
        assert menu.groups() == {name}
        assert menu.choose({"gpus": 1}, {name}).values["gpus"] == 1
        with pytest.raises(ChoiceError, match=re.escape(f"only members of {name} may")):
            menu.choose({"gpus": 1}, {"others"})

    def test_an_item_without_a_name_is_named_by_its_number(self) -> None:
        with pytest.raises(MenuError, match="item number 2, name"):
            menu_of(CORES, {k: v for k, v in HOURS.items() if k != "name"})

    def test_all_faults_are_named_at_once(self) -> None:
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
    def test_anything_but_a_list_of_items_is_refused(self, text: str | bytes) -> None:
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
        except ValueError:  # Python refuses to print a number of so many digits
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
def test_a_bad_word_item_is_named_with_its_fault(items: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(MenuError) as caught:
        menu_of(*items)
    assert words in str(caught.value)
    assert f"Change {MENU_VARIABLE} in" in str(caught.value)


@given(
    st.sampled_from([PROJECT, QUEUE, MAIL, SOFTWARE, INTERFACE, LICENCE]),
    st.dictionaries(st.sampled_from([*PROJECT, "groups", "text", "help"]), json_values, max_size=2),
    st.dictionaries(st.sampled_from(["presets", "limits", "menu"]), json_values, max_size=1),
)
def test_any_change_of_a_word_item_gives_a_menu_or_a_menu_error(
    item: dict[str, Any], changes: dict[str, Any], others: dict[str, Any]
) -> None:
    try:
        menu = parse_menu(written(item | changes, **others))
    except MenuError as error:
        assert "jupyterhub_resource_" in str(error) or "JSON" in str(error)
        return
    for groups in menu.people():
        only_checked_values(menu, menu.choose({}, groups))


def test_the_same_text_is_parsed_only_once(menu: Menu) -> None:
    assert parse_menu(written(*ALL)) is parse_menu(written(*ALL))
