# SPDX-License-Identifier: BSD-3-Clause
"""Ready-made choices."""

from __future__ import annotations

from typing import Any

import pytest

from gridhub.menu.file import (
    PRESETS_VARIABLE,
)
from gridhub.menu.form import render_form
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from menus import ALL, FAST, HOSTILE_NAMES, SMALL, Form, menu_of


class TestPresets:
    def menu(self, *presets: dict[str, Any], **others: Any) -> Menu:
        return menu_of(*ALL, presets=presets, **others)

    def test_a_preset_sets_its_values(self) -> None:
        menu = self.menu(SMALL, FAST)
        raw = {"preset": "small", "cores": "8", "memory": "<nonsense>", "hours": "1"}
        assert menu.choose(raw, ()).values == {"cores": 1, "memory": 2, "hours": 1}
        assert menu.choose({"preset": "fast"}, {"gpu"}).values["gpus"] == 2

    def test_without_a_preset_the_fields_count(self) -> None:
        for menu in (self.menu(SMALL), self.menu()):
            assert menu.choose({"preset": "", "cores": 8}, ()).values["cores"] == 8

    @pytest.mark.parametrize("raw", ["large", "Small", None, 0, True, ["small"], {}, "small\n"])
    def test_an_unknown_preset_is_refused_with_the_known_ones(self, raw: object) -> None:
        with pytest.raises(
            ChoiceError, match="choose “small” .Small., or leave it empty"
        ) as caught:
            self.menu(SMALL, FAST).choose({"preset": raw}, ())
        assert caught.value.item == "preset"

    def test_a_preset_is_for_people_who_may_choose_all_of_it(self) -> None:
        menu = self.menu(SMALL | {"groups": ["some"]}, FAST)
        for groups, names in (((), []), ({"gpu"}, ["fast"]), ({"some"}, ["small"])):
            assert [preset.name for preset in menu.presets_for(groups)] == names
            form = render_form(menu, groups, {})
            assert ("small" in form, "fast" in form) == ("small" in names, "fast" in names)
        with pytest.raises(ChoiceError, match="“fast” is not possible; leave it empty"):
            menu.choose({"preset": "fast"}, ())

    def test_a_preset_may_set_an_item_that_people_may_not_use_to_zero(self) -> None:
        menu = self.menu(SMALL | {"choice": {"cores": 1, "gpus": 0}})
        assert [preset.name for preset in menu.presets_for(())] == ["small"]
        assert menu.choose({"preset": "small"}, ()).values == {"cores": 1, "memory": 4, "hours": 4}

    def test_presets_come_first_in_the_form_with_their_values(self) -> None:
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

    def test_the_last_preset_is_shown_again_and_overrides_other_values(self) -> None:
        last = {"preset": "small", "cores": "8", "memory": "16", "hours": "1"}
        form = Form(render_form(self.menu(SMALL, FAST), (), last))
        assert form.selected() == ["small", "1", "1"]
        assert form.named("memory")["value"] == "2"
        # A preset that the user may no longer use is ignored.
        form = Form(render_form(self.menu(FAST), (), last | {"preset": "fast"}))
        assert form.selected() == ["8", "1"]

    def test_the_browser_gets_the_values_of_a_preset(self) -> None:
        small = SMALL | {"choice": {"cores": 1}, "label": "It's <small>"}
        form = Form(render_form(self.menu(small), (), {}))
        fills = [found.get("data-fills") for tag, found in form.elements if tag == "option"]
        assert fills[:2] == [None, '{"cores": 1}']

    def test_without_presets_there_is_no_field_for_them(self) -> None:
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
            (SMALL | {"choice": {"cores": 4, "gpus": 1}}, "cannot be divided evenly"),
            (SMALL | {"label": ""}, "label"),
            (SMALL | {"item": "x"}, "item"),
            (SMALL | {"groups": ["a:b"]}, "groups"),
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

    def test_two_presets_cannot_have_the_same_name(self) -> None:
        with pytest.raises(MenuError, match="preset 'small': two presets have this name"):
            self.menu(SMALL, SMALL)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_the_name_of_a_preset_must_be_plain(self, name: object) -> None:
        with pytest.raises(MenuError, match=PRESETS_VARIABLE):
            self.menu(SMALL | {"name": name})
