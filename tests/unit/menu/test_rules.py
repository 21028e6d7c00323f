# SPDX-License-Identifier: BSD-3-Clause
"""Rules between items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.menu.file import (
    LIMITS_VARIABLE,
    PRESETS_VARIABLE,
)
from gridhub.menu.kinds import ChoiceError, MenuError
from gridhub.menu.menu import Menu
from menus import ALL, CORES, FAST, GPUS, QUEUE, RULE, menu_of

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

    def test_an_item_that_a_person_may_not_use_counts_as_empty(self) -> None:
        menu = self.menu(IN_QUEUE)
        assert "gpus" not in menu.choose({}, ()).values
        assert menu.choose({"gpus": 1, "queue": "gpu.q"}, {"gpu"}).values["gpus"] == 1
        for groups in ({"gpu"}, {"ml-lab"}):
            with pytest.raises(ChoiceError, match="Wrong queue"):
                menu.choose({"gpus": 1}, groups)

    def test_limits_apply_to_a_preset_together_with_the_other_fields(self) -> None:
        menu = self.menu(RULE, presets=[{"name": "p", "label": "P", "choice": {"cores": 1}}])
        with pytest.raises(ChoiceError, match="Too much"):
            menu.choose({"preset": "p", "cores": 4, "memory": 64}, ())

    def test_a_rule_that_cannot_be_evaluated_counts_as_broken(self) -> None:
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

    def test_limits_apply_to_the_defaults_of_members_too(self) -> None:
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
