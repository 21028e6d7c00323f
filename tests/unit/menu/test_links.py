# SPDX-License-Identifier: BSD-3-Clause
"""Links that fill in the form."""

from __future__ import annotations

import time

import pytest

from menus import ALL, CORES, MEMORY, SMALL, menu_of


class TestLinks:
    def test_possible_values_are_filled_in_and_the_rest_is_reported(self) -> None:
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

    def test_a_preset_overrides_the_other_values_of_a_link(self) -> None:
        menu = menu_of(*ALL, presets=[SMALL])
        for link in ({"preset": "small", "cores": "8"}, {"cores": "8", "preset": "small"}):
            values, left_out = menu.take(link, ())
            assert values == {"preset": "small", "cores": 1, "memory": 2}
            assert left_out == []
        assert menu.take({"preset": ""}, ()) == ({}, [])
        assert menu.take({"preset": "huge"}, ())[0] == {}


class TestShift:
    """``shift`` finds the next larger or smaller value of one item."""

    @pytest.mark.parametrize(
        ("old", "more", "less"), [(2, 4, None), (4, 6, 2), (5, 6, 4), (64, None, 62), (1, 2, None)]
    )
    def test_a_range_moves_by_its_steps(self, old: int, more: int | None, less: int | None) -> None:
        menu = menu_of(MEMORY)  # from 2 to 64 in steps of 2
        assert menu.shift({"memory": old}, "memory", ()) == more
        assert menu.shift({"memory": old}, "memory", (), most=old) == less

    def test_choices_are_ordered_by_size_and_not_by_position(self) -> None:
        menu = menu_of(CORES | {"choices": [8, 1, 4], "default": 1})
        assert menu.shift({"cores": 1}, "cores", ()) == 4
        assert menu.shift({"cores": 8}, "cores", (), most=8) == 4
        assert menu.shift({"cores": 8}, "cores", (), most=3) == 1
        assert menu.shift({}, "cores", ()) == 4, "without a choice the default counts"

    def test_values_that_a_rule_or_the_menu_refuses_are_not_offered(self) -> None:
        rule = {"rule": "memory in (2, 10)", "item": "memory", "message": "No."}
        menu = menu_of(*ALL, limits=[rule | {"rule": "memory < 10 or cores > 1"}])
        assert menu.shift({"memory": 8, "cores": 1}, "memory", ()) is None
        assert menu.shift({"memory": 8, "cores": 2}, "memory", ()) == 10
        assert menu.shift({"gpus": 0}, "gpus", ()) is None, "limited to groups"
        assert menu.shift({"gpus": 0}, "gpus", {"gpu"}) is not None
        assert menu.shift({}, "disk", ()) is None
        # The search skips values that a rule refuses.
        menu = menu_of(MEMORY | {"default": 2}, limits=[rule])
        assert menu.shift({"memory": 2}, "memory", ()) == 10

    def test_a_huge_range_is_searched_quickly(self) -> None:
        wide = MEMORY | {"range": {"minimum": 1, "maximum": 10**9}, "default": 1}
        rule = {"rule": "memory == 1", "item": "memory", "message": "No."}
        menu = menu_of(wide, limits=[rule])
        start = time.monotonic()
        assert menu.shift({"memory": 1}, "memory", ()) is None
        assert time.monotonic() - start < 5
