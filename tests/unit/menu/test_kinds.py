# SPDX-License-Identifier: BSD-3-Clause
"""Amounts, their units, and the requests to Grid Engine that result from them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.menu.items import Choice, Item
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import ChoiceError
from gridhub.menu.menu import Menu
from menus import (
    ALL,
    CORES,
    GPUS,
    HOURS,
    MEMORY,
    allowed,
    everybody,
    json_values,
    menu_of,
    menus,
    only_checked_values,
    request_of,
)


def item_of(item: dict[str, Any], **changes: Any) -> Item:
    return menu_of(item | changes).items[0]


@st.composite
def menus_with_choices(draw: st.DrawFn, words: bool = True) -> tuple[Menu, dict[str, Any]]:
    menu = draw(menus(words))
    return menu, {item.name: draw(st.sampled_from(allowed(item))) for item in menu.items}


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
    def test_the_message_names_the_allowed_values(self, item: dict[str, Any], words: str) -> None:
        assert item_of(item).allowed_words() == words

    def test_a_range_ends_at_its_last_whole_step(self) -> None:
        item = item_of(MEMORY, range={"minimum": 2, "maximum": 9, "step": 3}, default=2)
        assert [amount for amount in range(20) if item.allows(amount)] == [2, 5, 8]


class TestArithmetic:
    def arguments(self, *items: dict[str, Any], **amounts: int) -> list[str]:
        menu = menu_of(*items)
        return qsub_arguments(menu, menu.choose(amounts, {"gpu"}))

    def test_totals_are_divided_among_the_slots(self) -> None:
        assert self.arguments(*ALL, cores=4, memory=8, gpus=4, hours=8) == [
            "-pe", "smp", "4", "-l", f"h_vmem={2 * 1024 * 1024}K,gpu=1,h_rt=28800",
        ]  # fmt: skip

    def test_resources_per_job_are_requested_whole(self) -> None:
        items = [CORES, request_of(MEMORY, per="job"), request_of(GPUS, per="job")]
        assert self.arguments(*items, cores=4, memory=8, gpus=1) == [
            "-pe", "smp", "4", "-l", f"h_vmem={8 * 1024 * 1024}K,gpu=1",
        ]  # fmt: skip

    def test_memory_that_does_not_divide_is_rounded_up(self) -> None:
        assert self.arguments(CORES, MEMORY, cores=3, memory=2) == [
            "-pe", "smp", "3", "-l", f"h_vmem={2 * 1024 * 1024 // 3 + 1}K",
        ]  # fmt: skip

    def test_one_core_is_requested_through_the_parallel_environment_too(self) -> None:
        assert self.arguments(CORES) == ["-pe", "smp", "1"]

    def test_a_count_of_zero_requests_nothing(self) -> None:
        assert self.arguments(GPUS, gpus=0) == []

    def test_a_job_has_one_slot_if_there_are_none_on_the_menu(self) -> None:
        assert self.arguments(MEMORY, GPUS, gpus=2, memory=6) == ["-l", "h_vmem=6291456K,gpu=2"]

    def test_counts_that_cannot_be_divided_are_refused(self) -> None:
        with pytest.raises(ChoiceError, match=r"1 cannot be .* among 4 CPU cores.*multiple of 4"):
            self.arguments(*ALL, cores=4, gpus=1)

    def test_megabytes_and_minutes_are_converted(self) -> None:
        items = [MEMORY | {"unit": "MB"}, HOURS | {"unit": "minutes"}]
        assert self.arguments(*items, memory=2, hours=1) == ["-l", "h_vmem=2048K,h_rt=60"]

    @given(menus_with_choices(words=False))
    def test_a_job_gets_the_chosen_amounts_and_less_than_a_kilobyte_per_slot_more(
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
        requested = dict(
            part.split("=") for part in (arguments[-1].split(",") if "-l" in arguments else ())
        )
        for item in menu.items:
            amount = amounts[item.name]
            request = item.request
            if request.kind == "slots":
                assert slots == amount
            elif request.kind == "run_time":
                assert int(requested.pop(request.complex)) == amount * request.units[item.unit]
            elif request.kind == "memory":
                share = int(requested.pop(request.complex).removesuffix("K"))
                total = share * (slots if request.per == "slot" else 1)
                over = total - amount * request.units[item.unit]
                assert 0 <= over < (slots if request.per == "slot" else 1)
            elif amount:
                share = int(requested.pop(request.complex))
                assert share * (slots if request.per == "slot" else 1) == amount
        assert not requested

    @given(menus_with_choices())
    def test_qsub_gets_only_our_options_with_checked_values(
        self, chosen: tuple[Menu, dict[str, Any]]
    ) -> None:
        menu, values = chosen
        try:
            choice = menu.choose(values, everybody(menu))
        except ChoiceError as error:
            assert "divided evenly" in str(error)
            return
        assert choice.values == values
        only_checked_values(menu, choice)
