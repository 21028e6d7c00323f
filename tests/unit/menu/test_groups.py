# SPDX-License-Identifier: BSD-3-Clause
"""Items and options that are offered only to members of groups."""

from __future__ import annotations

from typing import Any

import pytest

from gridhub.menu.form import render_form
from gridhub.menu.job import qsub_arguments
from gridhub.menu.kinds import ChoiceError, MenuError
from menus import (
    CORES,
    GPUS,
    HOURS,
    INTERFACE,
    LICENCE,
    MAIL,
    MEMORY,
    PROJECT,
    QUEUE,
    SOFTWARE,
    Form,
    menu_of,
    options_of,
)


class TestGroups:
    def test_options_of_a_group_are_for_its_members(self) -> None:
        menu = menu_of(PROJECT)
        assert menu.choose({"project": "genomics"}, {"guests"}).values["project"] == "genomics"
        with pytest.raises(ChoiceError) as caught:
            menu.choose({"project": "genomics"}, {"gpu"})
        assert str(caught.value) == (
            "Project: your account may not ask for “genomics”; only members of genomics or "
            "guests may. Choose “” (My default) or “teaching” (Teaching)."
        )
        assert caught.value.item == "project"

    def test_an_item_does_not_exist_outside_its_groups(self) -> None:
        menu = menu_of(CORES, options_of(QUEUE, "gpu.q", "all.q"))
        assert qsub_arguments(menu, menu.choose({}, {"gpu"})) == ["-pe", "smp", "1", "-q", "gpu.q"]
        for raw in ({}, {"queue": ""}):
            choice = menu.choose(raw, ())
            assert choice.values == {"cores": 1}
            assert qsub_arguments(menu, choice) == ["-pe", "smp", "1"]
        with pytest.raises(ChoiceError, match="“all.q”; only members of gpu may. Leave it empty."):
            menu.choose({"queue": "all.q"}, ())

    @pytest.mark.parametrize("item", [GPUS, PROJECT, QUEUE, MAIL, SOFTWARE, LICENCE])
    def test_optional_items_can_be_limited_to_groups(self, item: dict[str, Any]) -> None:
        menu = menu_of(item | {"groups": ["some"]})
        assert menu.choose({}, ()).values == {}

    @pytest.mark.parametrize("item", [CORES, MEMORY, HOURS, INTERFACE])
    def test_items_that_everyone_needs_cannot_be_limited_to_groups(
        self, item: dict[str, Any]
    ) -> None:
        with pytest.raises(MenuError, match="cannot be limited to groups: everyone needs it"):
            menu_of(item | {"groups": ["some"]})

    def test_the_default_cannot_be_limited_to_groups(self) -> None:
        with pytest.raises(MenuError, match="default 'genomics' is limited to groups"):
            menu_of(PROJECT | {"default": "genomics"})

    def test_people_outside_the_groups_do_not_see_the_option(self) -> None:
        assert "genomics" not in render_form(menu_of(PROJECT), {"gpu"}, {"project": "genomics"})
        form = Form(render_form(menu_of(PROJECT), {"guests"}, {"project": "genomics"}))
        assert form.selected() == ["genomics"]
