# SPDX-License-Identifier: BSD-3-Clause
"""Which choices from a menu are accepted, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.menu.file import (
    MENU_VARIABLE,
)
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from menus import ALL, CORES, GPUS, allowed, json_values, menu_of, menus, only_checked_values


class TestChoice:
    def test_a_missing_item_gets_its_default(self, menu: Menu) -> None:
        assert menu.choose({}, {"gpu"}).values == {"cores": 1, "memory": 4, "gpus": 0, "hours": 4}
        assert menu.choose({"cores": "2"}, ()).values == {"cores": 2, "memory": 4, "hours": 4}

    def test_a_member_of_any_of_the_groups_may_ask(self, menu: Menu) -> None:
        assert menu.choose({"gpus": 2}, {"users", "ml-lab"}).values["gpus"] == 2
        assert menu.choose({"gpus": 2}, {"gpu"}).values["gpus"] == 2

    def test_people_outside_the_groups_may_choose_only_zero(self, menu: Menu) -> None:
        for other in (True, False, None, 0.0, "00", [0]):
            with pytest.raises(ChoiceError):
                menu.choose({"gpus": other}, {"users"})
        for zero in (0, "0"):
            choice = menu.choose({"gpus": zero}, {"users"})
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
    def test_any_choice_is_either_checked_or_refused(
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

    def test_counts_that_cannot_be_divided_are_refused_when_chosen(self, menu: Menu) -> None:
        with pytest.raises(ChoiceError, match="multiple of 4") as caught:
            menu.choose({"cores": 4, "gpus": 1}, {"gpu"})
        assert caught.value.item == "gpus"

    def test_a_checked_choice_is_accepted_again(self, menu: Menu) -> None:
        # The hub checks a choice, and then the broker checks the same choice again.
        choice = menu.choose({"cores": "2", "gpus": "4"}, {"gpu"})
        assert menu.choose(choice.values, {"gpu"}) == choice


class TestDefaults:
    def test_impossible_defaults_are_refused(self) -> None:
        with pytest.raises(MenuError, match=f"{MENU_VARIABLE}, the defaults: .*divided evenly"):
            menu_of(CORES | {"default": 4}, GPUS | {"default": 1})


@given(menus(), st.dictionaries(st.text(max_size=5), json_values, max_size=3), st.data())
def test_any_choice_from_any_menu_is_either_checked_or_refused(
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
