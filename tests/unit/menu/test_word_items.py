# SPDX-License-Identifier: BSD-3-Clause
"""Items whose value is a word."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.menu.items import Choice, Text
from gridhub.menu.job import default_url, qsub_arguments, script_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from menus import (
    ADDRESSES,
    ALL_WORDS,
    CORES,
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
    everybody,
    menu_of,
    only_checked_values,
    options_of,
)

#: Values that qsub or a shell would misunderstand, or that would break a file.
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

    def test_empty_values_add_no_arguments(self) -> None:
        menu, choice = self.chosen(*ALL_WORDS)
        assert qsub_arguments(menu, choice) == ["-pe", "smp", "1"]
        assert script_arguments(menu, choice) == []
        assert default_url(menu, choice) == "/lab"

    def test_absent_items_add_no_arguments(self) -> None:
        menu, choice = self.chosen(CORES)
        assert script_arguments(menu, choice) == []
        assert default_url(menu, choice) == ""

    def test_words_of_a_complex_are_listed_with_the_amounts(self) -> None:
        menu, choice = self.chosen(MEMORY, LICENCE, HOURS, licence="2024")
        assert qsub_arguments(menu, choice) == ["-l", "h_vmem=4194304K,licence=2024,h_rt=14400"]

    @pytest.mark.parametrize("raw", [0, 1, True, None, ["teaching"], {}, "Teaching", "teaching "])
    def test_look_alikes_of_an_option_are_refused_with_all_options(self, raw: object) -> None:
        with pytest.raises(ChoiceError) as caught:
            menu_of(PROJECT).choose({"project": raw}, ())
        assert caught.value.item == "project"
        assert str(caught.value).startswith("Project: “")
        assert str(caught.value).endswith(
            "is not possible; choose “” (My default) or “teaching” (Teaching)."
        )

    @pytest.mark.parametrize("value", HOSTILE_VALUES)
    @pytest.mark.parametrize("item", [PROJECT, QUEUE, WHERE, SOFTWARE, INTERFACE, LICENCE])
    def test_no_menu_can_offer_a_value_that_acts_as_more_than_one(
        self, item: dict[str, Any], value: str
    ) -> None:
        item = {key: word for key, word in options_of(item, value).items() if key != "text"}
        others = [SHARED_CORES] if item["request"]["kind"] == "parallel_environment" else []
        with pytest.raises(MenuError, match="option|options"):
            menu_of(item, *others)

    @pytest.mark.parametrize("value", HOSTILE_VALUES)
    @pytest.mark.parametrize("kind", ["project", "queue", "complex"])
    def test_no_pattern_accepts_a_value_that_acts_as_more_than_one(
        self, kind: str, value: str
    ) -> None:
        request = {"kind": kind} | ({"complex": "c"} if kind == "complex" else {})
        menu = menu_of(
            LICENCE | {"request": request, "text": {"pattern": "(?s).*", "example": "x"}}
        )
        with pytest.raises(ChoiceError, match="give something like “x”"):
            menu.choose({"licence": value}, ())

    @pytest.mark.parametrize("value", HOSTILE_ADDRESSES + HOSTILE_VALUES)
    def test_no_pattern_accepts_anything_but_one_address(self, value: str) -> None:
        with pytest.raises(ChoiceError, match="give something like “alice@example.org”"):
            menu_of(MAIL).choose({"mail": value}, ())

    @pytest.mark.parametrize("value", [*ADDRESSES, "x_1+tag@a-b.c", "a-b@c"])
    def test_usual_addresses_are_accepted(self, value: str) -> None:
        assert menu_of(MAIL).choose({"mail": value}, ()).values == {"mail": value}

    @given(st.text(max_size=30) | st.text("ab@.-+, =\n\"'", max_size=20))
    def test_every_accepted_value_is_one_harmless_value(self, value: str) -> None:
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
    def test_queues_may_be_limited_to_hosts(self, value: str) -> None:
        assert menu_of(options_of(QUEUE, value)).items[0].default == value

    def test_a_menu_cannot_offer_an_unknown_interface(self) -> None:
        with pytest.raises(MenuError, match="option 'rstudio' cannot be a value of kind interface"):
            menu_of(options_of(INTERFACE, "lab", "rstudio"))


class TestText:
    @pytest.mark.parametrize("text", ["matlab", "a", "2024", ""])
    def test_text_that_matches_as_a_whole_is_accepted(self, text: str) -> None:
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
    def test_no_pattern_blocks_the_hub(self, pattern: str) -> None:
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
